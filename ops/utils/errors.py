"""Errors that users read, and the exit statuses of the commands."""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator

from ops.utils.signals import kill_children
from ops.utils.text import escape_controls, protect_output

DEFECT_STATUS = 1  # an exception that the program does not expect
ERROR_STATUS = 2  # a UserError
STOPPED_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command may be tried again
INTERRUPTED_STATUS = 130  # what shells report for a program that Ctrl-C ended
CLOSED_PIPE_STATUS = 141  # what shells report for a program that SIGPIPE ended

# No space is left: on the disk, of the user's quota, of the largest size of a file.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """An error that the user can fix.

    The message is one line: what is wrong, where (``file:line``), how to fix it. Commands print it
    as ``error: <line>`` on standard error and exit with status 2, without a traceback.
    """


class Stopped(Exception):
    """The work was asked to stop, and can be resumed from the state on the disk.

    Attributes:
        status: exit status of the process.
    """

    def __init__(self, message: str, status: int = STOPPED_STATUS) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Context of work that the same command continues: Ctrl-C ends it with a line that says so.

    Raises:
        Stopped: instead of ``KeyboardInterrupt``.
    """
    try:
        yield
    except KeyboardInterrupt:
        message = "interrupted; continue with the same command"
        raise Stopped(message, INTERRUPTED_STATUS) from None


def explain(error: BaseException) -> tuple[str, int]:
    """What an exception that ends a run prints on standard error, and the exit status."""
    if isinstance(error, Stopped):
        return str(error), error.status
    if _is_interrupt(error):
        return "interrupted", INTERRUPTED_STATUS
    if isinstance(error, UserError):
        return f"error: {_one_line(str(error))}", ERROR_STATUS
    if isinstance(error, BrokenPipeError):
        return "output pipe closed", CLOSED_PIPE_STATUS
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        path = _one_line(str(error.filename or "a file"))
        message = (
            f"error: {path}: {error.strerror}; files written before are complete: free some space "
            f"and repeat the command (a training: with --resume auto)"
        )
        return message, ERROR_STATUS
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else DEFECT_STATUS
        return f"ended with status {error.code}", status
    return "".join(traceback.format_exception(error)).rstrip(), DEFECT_STATUS


def _one_line(message: str) -> str:
    return escape_controls(message).replace("\n", "\\n")


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused the exception.

    torch, interrupted while it writes a file, raises an exception about the file.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main`` and turn its exceptions into an exit status.

    A ``UserError`` becomes ``error: <line>`` and status 2, Ctrl-C status 130, a closed pipe
    (``... | head``) 141, a run that was asked to stop and has saved its state 75. A defect keeps
    its traceback. Under torchrun the error is recorded, so that the launcher's summary shows it.
    From here on, all output is safe for the terminal (``protect_output``).
    """
    protect_output()
    try:
        main()
    except BrokenPipeError:
        # Or Python would report the closed pipe again as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE_STATUS)
    except (Exception, KeyboardInterrupt) as error:
        text, status = explain(error)
        if status != STOPPED_STATUS:
            _record_for_launcher(error)
        if status == DEFECT_STATUS:
            raise
        print(text, file=sys.stderr)
        kill_children()
        sys.exit(status)


def _record_for_launcher(error: BaseException) -> None:
    """Record an error where torchrun looks for it, without the traceback of a ``UserError``."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ or not isinstance(error, Exception):
        return
    from torch.distributed.elastic.multiprocessing.errors import record  # takes seconds

    def fail() -> None:
        if isinstance(error, UserError):
            raise UserError(str(error)) from None
        raise error

    with contextlib.suppress(Exception):
        record(fail)()
