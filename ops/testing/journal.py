"""Scores on the disk while a test runs: each video is there as soon as it is finished, so that a stopped test goes on.

``OUTPUT_DIR/unfinished/`` holds ``scores.json`` (``ops/scores/metadata.py``: what is being tested) and logs, one for each
process that worked on it, named by a number that grows. A log is a row of records::

    tag (4 bytes), row of the list (int64), bytes of content (uint32), CRC-32 of all this (uint32), content

where the content is the logits of all views of a video (float32, tag ``SCOR``), or the reason why it could not be read
(UTF-8, filled up with blanks to a multiple of 4, tag ``FAIL``). A process that is killed leaves at most one broken record,
the last one of its log; it is left out, and the video is scored again.
"""

import contextlib
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ops.utils.errors import UserError

FOLDER = "unfinished"
_HEAD = struct.Struct("<4sqI")
_CRC = struct.Struct("<I")
SCORES, FAILURE = b"SCOR", b"FAIL"
_LINE = str.maketrans("\n\r\0", "   ")
_SYNC_SECONDS = 10  # a machine that loses power loses the scores of so many seconds


class ScoreLog:
    """The log of this process: ``add`` and ``fail`` return when the record is with the operating system."""

    def __init__(self, folder: str | Path, number: int) -> None:
        """A new log in ``folder``; ``number`` is one that no log there has. Raises ``UserError``."""
        self.path = Path(folder) / f"{number}.log"
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        self._synced = time.monotonic()

    def add(self, row: int, logits: np.ndarray) -> None:
        """float32 logits of all views of the video in this row of the list."""
        self._append(SCORES, row, np.ascontiguousarray(logits, dtype="<f4").tobytes())

    def fail(self, row: int, reason: str) -> None:
        """The video in this row could not be read."""
        content = reason.encode()
        self._append(FAILURE, row, content.ljust(-len(content) % 4 + len(content)))

    def _append(self, tag: bytes, row: int, content: bytes) -> None:
        head = _HEAD.pack(tag, row, len(content))
        data = head + _CRC.pack(zlib.crc32(content, zlib.crc32(head))) + content
        try:
            while data:
                data = data[os.write(self._file, data) :]
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); the scores so far are kept: make room, and "
                f"start the same command again"
            ) from None

    def close(self) -> None:
        """Sync and close; a log without records is removed."""
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if empty:
            self.path.unlink()

    def __enter__(self) -> "ScoreLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Finished:
    """What all logs of a folder hold together, mapped into memory, not read.

    ``videos`` rows of the list and ``values`` float32 in each of its records are expected. Raises ``UserError`` for a log
    that holds something else: a broken record is let pass, a sound one of another test is not.
    """

    def __init__(self, folder: str | Path, videos: int, values: int) -> None:
        paths = sorted(
            Path(folder).glob("*.log"),
            key=lambda path: int(path.stem) if path.stem.isdecimal() else -1,
        )
        self.next_number = 1 + max(
            (int(path.stem) for path in paths if path.stem.isdecimal()), default=-1
        )
        self.failures: dict[int, str] = {}
        self._maps: list[np.ndarray] = []
        self._log = np.full(videos, -1, np.int32)
        self._start = np.zeros(videos, np.int64)
        self._values = values
        for path in paths:
            if not path.stat().st_size:
                continue
            data = np.memmap(path, np.uint8, "r")
            for tag, row, start, size in _records(data):
                if row >= videos or (tag == SCORES and size != 4 * values):
                    raise UserError(f"{path}: holds scores of another test; remove {folder}")
                self._log[row], self._start[row] = len(self._maps), start
                if tag == FAILURE:
                    reason = data[start : start + size].tobytes().decode(errors="replace")
                    self.failures[row] = reason.translate(_LINE).rstrip(" ")
                else:
                    self.failures.pop(row, None)
            self._maps.append(data)

    def missing(self) -> np.ndarray:
        """The rows that are not finished, int64, in order."""
        return np.flatnonzero(self._log < 0)

    def logits(self, row: int) -> np.ndarray | None:
        """float32 ``[values]`` of one row, or None for a video that could not be read."""
        if row in self.failures:
            return None
        start = self._start[row]
        return self._maps[self._log[row]][start : start + 4 * self._values].view("<f4")


def _records(data: np.ndarray) -> Iterator[tuple[bytes, int, int, int]]:
    """(tag, row, start of the content, its bytes) of each sound record, up to the first broken one."""
    at, first = 0, _HEAD.size + _CRC.size
    while at + first <= len(data):
        head = data[at : at + _HEAD.size].tobytes()
        tag, row, size = _HEAD.unpack(head)
        start = at + first
        if tag not in (SCORES, FAILURE) or row < 0 or start + size > len(data):
            return
        (crc,) = _CRC.unpack(data[at + _HEAD.size : start].tobytes())
        if crc != zlib.crc32(data[start : start + size], zlib.crc32(head)):
            return
        yield tag, row, start, size
        at = start + size


def remove(folder: str | Path) -> None:
    """Remove the logs of a test that is finished, if they are there."""
    shutil.rmtree(folder, ignore_errors=True)
