"""The one exception a user is meant to read, and how the front scripts show it."""

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable

from ops.utils.signals import INTERRUPTED, STATUS, Stopped, kill_children
from ops.utils.text import escape_controls, protect_output

_FULL = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # the disk, the user's share of it, what a file may have


class UserError(Exception):
    """Something the user can mend: the message is one line that says what, where (``file:line``) and what to do.

    The front scripts print it as ``error: <line>`` on standard error and exit with status 2, without a traceback.
    """


def explain(error: BaseException) -> tuple[str, int]:
    """What an exception that ends a run prints on standard error, and the status that the run ends with: 1 for a defect."""
    if isinstance(error, Stopped):
        return str(error), error.status
    if _is_interrupt(error):
        return "interrupted", INTERRUPTED
    if isinstance(error, UserError):
        return f"error: {_one_line(str(error))}", 2
    if isinstance(error, BrokenPipeError):
        return "the reader of its output has left", 141
    if isinstance(error, OSError) and error.errno in _FULL:
        path = _one_line(str(error.filename or "a file"))
        return (
            f"error: {path}: {error.strerror}; what was written before is whole: make room, and give "
            f"the same command again (a training: with --resume auto)"
        ), 2
    if isinstance(error, SystemExit):
        return f"ended with status {error.code}", error.code if isinstance(error.code, int) else 1
    return "".join(traceback.format_exception(error)).rstrip(), 1


def _one_line(message: str) -> str:
    return escape_controls(message).replace("\n", "\\n")


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it began with a Ctrl-C: torch, interrupted while it writes a file, complains of the file."""
    while error and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def run_cli(main: Callable[[], None]) -> None:
    """Run ``main`` and turn its exceptions into an exit status.

    A ``UserError`` becomes ``error: <line>`` and status 2, Ctrl-C status 130, a closed pipe
    (``... | head``) 141, a run that was asked to stop and has saved its state 75. A defect keeps its
    traceback. Under torchrun the error is recorded, so that the summary of the launcher shows it.
    Whatever the process prints from here on is safe for the terminal (``protect_output``).
    """
    protect_output()
    try:
        main()
    except BrokenPipeError:
        # Or Python complains once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (Exception, KeyboardInterrupt) as error:
        text, status = explain(error)
        if status != STATUS:
            _record_for_launcher(error)
        if status == 1:
            raise
        print(text, file=sys.stderr)
        kill_children()
        sys.exit(status)


def _record_for_launcher(error: BaseException) -> None:
    """Leave an error where torchrun looks for it, without the traceback of a ``UserError``."""
    if "TORCHELASTIC_ERROR_FILE" not in os.environ or not isinstance(error, Exception):
        return
    from torch.distributed.elastic.multiprocessing.errors import record  # seconds, and torch

    def fail() -> None:
        if isinstance(error, UserError):
            raise UserError(str(error)) from None
        raise error

    with contextlib.suppress(Exception):
        record(fail)()
