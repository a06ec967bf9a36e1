"""The journal of a running test, which keeps the scores of each finished video on the disk.

An interrupted test resumes from it. ``OUTPUT_DIR/unfinished/`` contains ``scores.json``
(``ops/scores/metadata.py``), which describes the test, and log files, one for each process that
worked on it, named by an increasing number. A log file is a sequence of records::

    tag (4 bytes), row of the list (int64), bytes of content (uint32), CRC-32 of all this (uint32),
    content

The content is the logits of all views of a video (float32, tag ``SCOR``), or the reason why it
cannot be read (UTF-8, padded with blanks to a multiple of 4, tag ``FAIL``). A killed process leaves
at most one broken record, the last one of its log file. It is ignored, and the video is scored
again.
"""

import contextlib
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ops.utils.errors import UserError

FOLDER = "unfinished"
SCORES, FAILURE = b"SCOR", b"FAIL"
_HEAD = struct.Struct("<4sqI")
_CRC = struct.Struct("<I")
_RECORD_START = _HEAD.size + _CRC.size
_FLOAT_BYTES = 4
_LINE_BREAKS = str.maketrans("\n\r\0", "   ")
_SYNC_SECONDS = 10  # a machine that loses power loses the scores of at most this time
_NOT_SCORED = -1


class JournalWriter:
    """The log file of this process. A record survives it once ``add`` or ``fail`` returns."""

    def __init__(self, folder: str | Path, number: int) -> None:
        """Create a log file.

        Args:
            folder: the folder of the journal.
            number: the number of the log file, which must not exist.

        Raises:
            UserError: it cannot be created.
        """
        self.path = Path(folder) / f"{number}.log"
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._synced = time.monotonic()

    def add(self, row: int, logits: np.ndarray) -> None:
        """Record the logits of all views of the video in this row of the list."""
        self._append(SCORES, row, np.ascontiguousarray(logits, dtype="<f4").tobytes())

    def fail(self, row: int, reason: str) -> None:
        """Record that the video in this row cannot be read."""
        content = reason.encode()
        padding = -len(content) % _FLOAT_BYTES
        self._append(FAILURE, row, content + b" " * padding)

    def _append(self, tag: bytes, row: int, content: bytes) -> None:
        head = _HEAD.pack(tag, row, len(content))
        data = head + _CRC.pack(_checksum(head, content)) + content
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); the scores so far are kept: "
                "free some space, and start the same command again"
            ) from None

    def close(self) -> None:
        """Sync and close. A log file without records is removed."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if empty:
            self.path.unlink()

    def __enter__(self) -> "JournalWriter":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Journal:
    """The content of all log files of a folder, mapped into memory.

    Attributes:
        failures: the reason for each row that cannot be read.
        next_number: the first number that no log file has.
    """

    def __init__(self, folder: str | Path, videos: int, values: int) -> None:
        """Open a journal. Broken records are ignored.

        Args:
            folder: the folder of the journal.
            videos: number of rows of the list.
            values: float32 values per video.

        Raises:
            UserError: a log file contains a valid record of another test.
        """
        self.failures: dict[int, str] = {}
        self._maps: list[np.ndarray] = []
        self._map_of_row = np.full(videos, _NOT_SCORED, np.int32)
        self._start_of_row = np.zeros(videos, np.int64)
        self._values = values
        paths = sorted(Path(folder).glob("*.log"), key=_number_of)
        self.next_number = 1 + max(map(_number_of, paths), default=-1)
        for path in paths:
            if path.stat().st_size:
                self._add_file(path)

    def _add_file(self, path: Path) -> None:
        data = np.memmap(path, np.uint8, "r")
        for tag, row, content in _records(data):
            size = content.stop - content.start
            wrong_size = tag == SCORES and size != _FLOAT_BYTES * self._values
            if row >= len(self._map_of_row) or wrong_size:
                raise UserError(f"{path}: contains scores of another test; remove {path.parent}")
            self._map_of_row[row] = len(self._maps)
            self._start_of_row[row] = content.start
            if tag == FAILURE:
                reason = data[content].tobytes().decode(errors="replace")
                self.failures[row] = reason.translate(_LINE_BREAKS).rstrip(" ")
            else:
                self.failures.pop(row, None)
        self._maps.append(data)

    def missing(self) -> np.ndarray:
        """The rows that are not finished, int64, in order."""
        return np.flatnonzero(self._map_of_row == _NOT_SCORED)

    def logits(self, row: int) -> np.ndarray | None:
        """float32 ``[values]`` of a finished row, None if the video cannot be read."""
        if row in self.failures:
            return None
        start = self._start_of_row[row]
        data = self._maps[self._map_of_row[row]]
        return data[start : start + _FLOAT_BYTES * self._values].view("<f4")


class _Record(NamedTuple):
    tag: bytes
    row: int
    content: slice  # bytes of the log file


def _number_of(path: Path) -> int:
    """The number of a log file; -1 for a file with another name."""
    return int(path.stem) if path.stem.isdecimal() else -1


def _checksum(head: bytes, content: bytes | np.ndarray) -> int:
    return zlib.crc32(content, zlib.crc32(head))


def _records(data: np.ndarray) -> Iterator[_Record]:
    """The records up to the first broken one."""
    start = 0
    while start + _RECORD_START <= len(data):
        head = data[start : start + _HEAD.size].tobytes()
        tag, row, size = _HEAD.unpack(head)
        content = slice(start + _RECORD_START, start + _RECORD_START + size)
        if tag not in (SCORES, FAILURE) or row < 0 or content.stop > len(data):
            return
        (crc,) = _CRC.unpack(data[start + _HEAD.size : content.start].tobytes())
        if crc != _checksum(head, data[content]):
            return
        yield _Record(tag, row, content)
        start = content.stop


def remove(folder: str | Path) -> None:
    """Remove the journal of a finished test, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
