"""Exclusive locks, held by one process among all machines that share a disk."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ops.utils.errors import UserError
from ops.utils.files import remove_stale_temporaries

LOCK_NAME = ".lock"


@contextlib.contextmanager
def exclusive_lock(directory: str | Path, what: str, flag: str) -> Iterator[None]:
    """Hold the exclusive lock of a directory, which is created if needed.

    The lock is the file ``.lock`` in it, which exists while the context lasts. The operating system
    releases the lock of a killed process. A disk without locks accepts every process. With the lock
    held, the temporary files that killed processes left in the directory are removed.

    Args:
        directory: the directory to lock.
        what: the kind of process, for the message ("test", "training").
        flag: the option that names the directory, for the message.

    Raises:
        UserError: another process holds the lock, or the directory cannot be created or written.
    """
    directory = Path(directory)
    path = directory / LOCK_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = _acquire(path)
    except Timeout:
        raise UserError(
            f"{directory}: another {what} is writing there; wait for it, or give another {flag}"
        ) from None
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); give another {flag}"
        ) from None
    try:
        remove_stale_temporaries(directory)
        yield
    finally:
        # Removed while the lock is held: a process that has opened the file meanwhile notices.
        # Windows does not remove an open file; there it stays, which does no harm.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


@contextlib.contextmanager
def waiting_lock(path: str | Path, message: str) -> Iterator[None]:
    """Hold the exclusive lock of a file, which exists while the context lasts.

    The operating system releases the lock of a killed process. A disk without locks accepts every
    process.

    Args:
        path: the file; its folder exists.
        message: printed on standard error if another process holds the lock and is waited for.

    Raises:
        OSError: the file cannot be created.
    """
    path = Path(path)
    try:
        lock = _acquire(path)
    except Timeout:
        print(message, file=sys.stderr, flush=True)
        lock = _acquire(path, timeout=-1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _acquire(path: Path, timeout: float = 0) -> FileLock:
    """The acquired lock, or one that is not held where the disk has no locks.

    Args:
        path: the file of the lock.
        timeout: seconds to wait; -1 waits for as long as it takes.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be created; ``filename`` is set.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        path.touch()  # some network disks have no locks: the call on the open file fails
    return lock
