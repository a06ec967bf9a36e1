"""One process at a time in a directory, on all machines that share its disk."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ops.errors import UserError


@contextlib.contextmanager
def sole_user(directory: str | Path, what: str, flag: str) -> Iterator[None]:
    """Context in which no other process is in this context of the same directory, which is made.

    The lock is a file ``.lock`` in it, there while the context lasts. What a killed process leaves of it locks nobody out. On
    a disk without locks nobody is refused. Raises ``UserError``, in the words ``what`` (of the processes: a "test", a "run")
    and ``flag`` (that names the directory), if another process is at it, and if the directory cannot be made or written.
    """
    directory = Path(directory)
    path = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except BlockingIOError:
        raise UserError(
            f"{directory}: another {what} is writing there; wait for it, or give another {flag}"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); give another {flag}"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it does no harm where it stays
            path.unlink()
        file.close()


def _locked(path: Path) -> IO:
    """The file, made where it is not there, open and locked. Raises BlockingIOError if another process has it."""
    while True:
        file = open(path, "a")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            pass  # some network disks have no locks
        # Who had it before may have removed it since it was opened; then the next one makes, and locks, another file.
        with contextlib.suppress(FileNotFoundError), open(path) as there:
            if os.path.sameopenfile(file.fileno(), there.fileno()):
                return file
        file.close()
