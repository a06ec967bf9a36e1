"""Atomic writes, reading of regular files only, digests.

After a crash or a kill, the old or the new file exists as a whole, never a part of it.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal

from ops.utils.errors import UserError

# The largest file read at once: more than any list or table of scores, and less than memory.
_MAX_BYTES = 2**30
# NAME.HOST-PID-RANDOM.tmp: the host and the process show whether it is still being written. Earlier
# versions wrote NAME.RANDOM.tmp.
_TEMPORARY = re.compile(r".*\.((?P<host>[\w-]+)-(?P<pid>\d+)-)?[0-9a-f]{8}\.tmp")
# A temporary file whose process cannot be looked up is abandoned after this time without a write.
_ABANDONED_SECONDS = 24 * 3600
_WEB_PAGE = re.compile(
    rb"\s*(<!--.*?-->\s*)*(<\?xml|<!doctype html|<html|<head|<body)", re.IGNORECASE | re.DOTALL
)
_WEB_PAGE_START = 512  # bytes at the start of a file that show a web page


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO]:
    """Write a temporary file beside ``path``, and rename it to ``path`` when the block ends.

    The data are on the disk (fsync) before the file is renamed, and the folder is synced after it.
    An exception in the block, ``KeyboardInterrupt`` included, removes the temporary file and leaves
    ``path`` as it was.

    Args:
        path: the file; a link stays, and the file that it points to is replaced.
        mode: ``"wb"``, or ``"w"`` for text in UTF-8 with ``\\n``.

    Raises:
        ValueError: another mode.
        OSError: the file cannot be written; ``filename`` is ``path``.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode must be 'wb' or 'w', not {mode!r}")
    target = os.path.realpath(path)
    # Not tempfile.mkstemp: its files are readable by their owner only, also after the rename.
    temporary = f"{target}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    text = {}
    if mode == "w":
        text = {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        is_about_temporary = isinstance(error, OSError) and error.filename in (None, temporary)
        if is_about_temporary and error.errno:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise
    # Some network file systems cannot sync a folder; the file has been renamed by then.
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_regular(path: str | os.PathLike) -> None:
    """Check that a path is a regular file, or a link to one.

    Raises:
        OSError: it does not exist, or is something else: opening a FIFO waits for a writer, and
            ``/dev/zero`` has no end. ``strerror`` is the reason in a few words.
    """
    _check_kind(os.stat(path), path)


def _check_kind(status: os.stat_result, path: str | os.PathLike) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a file whose path comes from a user or from a file, for reading bytes.

    Raises:
        OSError: as `check_regular` does, or the file cannot be opened.
    """
    check_regular(path)
    # Do not block if it has become a FIFO in the meantime.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_kind(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike, max_bytes: int = _MAX_BYTES) -> bytes:
    """Read a file whose path comes from a user or from a file.

    Args:
        path: a regular file, or a link to one.
        max_bytes: the largest size.

    Raises:
        OSError: as `open_regular` does, or the file is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EINVAL, f"too large: {size} bytes", os.fspath(path))
        return file.read()


def is_web_page(start: bytes) -> bool:
    """Whether the first bytes of a file are those of a web page, as failed downloads leave it."""
    return _WEB_PAGE.match(start[:_WEB_PAGE_START]) is not None


def is_temporary(name: str) -> bool:
    """Whether a file name, without folder, is that of a temporary file of `atomic_write`."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_stale_temporaries(folder: str | Path) -> None:
    """Remove the temporary files of `atomic_write` that killed processes left in a folder.

    A file of this machine is stale if its process is gone. One of another machine, or of an earlier
    version, whose name contains no process, is stale if nothing was written to it for a day. Files
    with other names are never touched, and a file that cannot be removed stays.

    Args:
        folder: the folder, whose subfolders are not searched.
    """
    for path in Path(folder).glob("*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError):
            if match["host"] == _host():  # None in names of earlier versions
                stale = not _is_running(int(match["pid"]))
            else:
                stale = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
            if stale:
                path.unlink()


def _host() -> str:
    """The name of this machine, in letters that every file system allows."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname())[:32] or "host"


def _is_running(pid: int) -> bool:
    """Whether a process of this machine exists; True where that cannot be determined."""
    if os.name != "posix":
        return True  # os.kill would end the process on Windows
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        UserError: the file cannot be read.
    """
    total = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while part := file.read(2**20):
                total.update(part)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return total.hexdigest()
