"""Atomic file writes: after a crash or a kill the old file or the new one is there, whole, and never a part. Digests."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

from ops.errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO]:
    """Open a temporary file beside ``path`` and rename it to ``path`` once the block ends without an exception.

    ``mode`` is ``"wb"`` or ``"w"`` (UTF-8, ``\\n``). The data are on the disk (fsync) before the name is; the folder is
    synced after it. An exception in the block, ``KeyboardInterrupt`` included, removes the temporary file and leaves
    ``path`` as it was. Raises ``ValueError`` for another mode and ``OSError``, which names ``path``, when it cannot be written.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode must be 'wb' or 'w', not {mode!r}")
    # A link stays a link: it is the file behind it that is replaced.
    target = os.path.realpath(path)
    # Not tempfile.mkstemp: its files are readable by their owner only, and the rename would keep that.
    temporary = f"{target}.{secrets.token_hex(4)}.tmp"
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if (
            isinstance(error, OSError)
            and error.errno
            and (error.filename is None or error.filename == temporary)
        ):
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise
    # Some network file systems cannot sync a folder; the rename has been made by then.
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises ``UserError`` if it cannot be read."""
    total = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while part := file.read(2**20):
                total.update(part)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return total.hexdigest()
