"""Shard sets: many videos in a few large tar files, read at random places from a disk or from any URL of fsspec.

A shard set is a folder whose name ends in ``.shards``; tools/make_shards.py writes it::

    k400.shards/index.tsv             where each video is
    k400.shards/shard-000000.tar ...  samples as webdataset has them: 000000012.json, .cls, and .mp4 or the pictures of a folder

Paths into a set are resolved by ops/data/readers/shard_paths.py. An id is only looked up in the
index and a shard is only called by its number: neither ever becomes the name of another file.

The first line of the index is JSON, ``{"version": 1, "shards": [[bytes, sha256], ...]}``. Each line after it is a video: id,
``video`` or ``folder``, number of the shard, offset and size in it, and CRC-32 in hexadecimal, separated by tabs and
sorted by the bytes of the id. Of a folder this is the place of its JSON, in which ``files`` tells name, offset (from the block
after the JSON), size and CRC-32 of each.
"""

import json
import os
import re
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ops.data.readers.base import UnreadableVideo
from ops.utils.errors import UserError
from ops.utils.files import check_regular

INDEX = "index.tsv"
BLOCK = 512  # bytes of a block of a tar file (POSIX ustar)

_ROW = re.compile(
    rb"([^\t\n]+)\t(video|folder)\t([0-9]{1,6})\t([0-9]{1,18})\t([0-9]{1,18})\t([0-9a-f]{8})"
)
# The JSON of a folder: 100 bytes a file, so for far more files than a folder of frames has.
_TABLE_BYTES = 64 * 2**20
# Pictures with no more between them than the headers of one file are one read.
_GAP = 4 * BLOCK


class Part(NamedTuple):
    """A stretch of a shard, in bytes."""

    offset: int
    size: int
    crc: int


class Row(NamedTuple):
    """A line of the index."""

    is_folder: bool
    shard: int
    part: Part


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def padded(size: int) -> int:
    """`size` bytes in whole blocks of a tar file."""
    return -(-size // BLOCK) * BLOCK


class ShardSet:
    """The index of the shard set in the folder or at the URL `root`, and the bytes of its shards.

    The index is held as the bytes of its file, which forked loader workers share. The file system is opened by
    each process for itself. Raises UserError if the index is not there or not sound, or the URL cannot be used.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._systems: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}
        files = self._files()
        with self._errors(INDEX):
            self._check_local(files, INDEX)
            self._data = files.cat_file(f"{self._base}/{INDEX}")
        self._shards, starts, last = self._read_header(), [], b""
        start = self._data.index(b"\n") + 1
        while start < len(self._data):
            row = _ROW.match(self._data, start)
            # The order as well: what is found must not depend on where the search happens to look.
            if (
                not row
                or self._data[row.end() : row.end() + 1] != b"\n"
                or row[1] <= last
                or not self._sound(row)
            ):
                raise UserError(
                    f"{self.root}/{INDEX}:{len(starts) + 2}: malformed line; make the set again with "
                    "tools/make_shards.py"
                )
            starts.append(start)
            start, last = row.end() + 1, row[1]
        self._starts = np.array(starts, dtype=np.int64)

    def _read_header(self) -> list[int]:
        """The size of each shard, in bytes."""
        try:
            header = json.loads(self._data.partition(b"\n")[0])
            sizes = [
                size
                for size, digest in header["shards"]
                if type(size) is int and type(digest) is str
            ]
            if (
                header["version"] != 1
                or len(sizes) != len(header["shards"])
                or b"\n" not in self._data
            ):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(
                f"{self.root}/{INDEX}:1: not the index of a shard set; make it with tools/make_shards.py"
            ) from None
        return sizes

    def _sound(self, match: re.Match[bytes]) -> bool:
        row = _row(match)
        return (
            row.shard < len(self._shards)
            and row.part.offset + row.part.size <= self._shards[row.shard]
            and not (row.is_folder and row.part.size > _TABLE_BYTES)
        )

    def row(self, video: str) -> Row | None:
        """The line of the index for the id `video`, or None."""
        wanted = video.encode(errors="surrogateescape")
        place = bisect_left(
            self._starts,
            wanted,
            key=lambda start: self._data[start : self._data.index(b"\t", start)],
        )
        match = _ROW.match(self._data, self._starts[place]) if place < len(self._starts) else None
        return _row(match) if match and match[1] == wanted else None

    def read(self, video: str, shard: int, parts: Sequence[Part]) -> list[bytes]:
        """The bytes of each of the `parts` of a shard. Raises UnreadableVideo, naming `video`, if the shard ends before them
        or holds other bytes, and UserError if it is not there or cannot be read."""
        files, name = self._files(), shard_name(shard)
        with self._errors(name):
            if shard not in self._sizes:
                self._check_local(files, name)
                size = files.size(f"{self._base}/{name}")
                self._sizes[shard] = self._shards[shard] if size is None else size
        there = self._sizes[shard]
        if (
            any(part.offset + part.size > there for part in parts)
            or sum(part.size for part in parts) > there
        ):
            raise UnreadableVideo(video, f"{name} is truncated or damaged: it has {there} bytes")
        runs: list[list[int]] = []
        for part in sorted(part for part in parts if part.size):
            if runs and part.offset - runs[-1][1] <= _GAP:
                runs[-1][1] = max(runs[-1][1], part.offset + part.size)
            else:
                runs.append([part.offset, part.offset + part.size])
        with self._errors(name):
            read = (
                files.cat_ranges(
                    [f"{self._base}/{name}"] * len(runs),
                    *(list(ends) for ends in zip(*runs, strict=True)),
                    on_error="raise",
                )
                if runs
                else []
            )
        found = []
        for part in parts:
            data = b""
            if part.size:
                run = bisect_left(runs, part.offset + 1, key=lambda run: run[0]) - 1
                start = part.offset - runs[run][0]
                data = bytes(read[run][start : start + part.size])
            if len(data) != part.size or zlib.crc32(data) != part.crc:
                raise UnreadableVideo(video, f"{name} is damaged at byte {part.offset}")
            found.append(data)
        return found

    def _check_local(self, files: Any, name: str) -> None:
        """Raises OSError for a file on a disk that is not a regular one, such as a FIFO."""
        from fsspec.implementations.local import LocalFileSystem

        if isinstance(files, LocalFileSystem):
            check_regular(f"{self._base}/{name}")

    def _files(self) -> Any:
        """The file system of this process; sets ``_base``, the folder in it."""
        # Connections do not survive a fork, and the parent's must not be closed: s3fs would complain of each.
        process = os.getpid()
        if process not in self._systems:
            try:
                from fsspec.core import url_to_fs

                self._systems[process], self._base = url_to_fs(self.root)
            except ImportError as error:
                raise UserError(
                    f"{self.root}: {_line(error)}; pip install fsspec, and s3fs for s3://, gcsfs for gs://, adlfs "
                    "for az://, aiohttp for https://"
                ) from None
            except Exception as error:  # of any package
                raise UserError(
                    f"{self.root}: {_line(error)}; mend the URL or the settings of its package"
                ) from None
        return self._systems[process]

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise UserError(
                f"{self.root}/{name}: no such file; copy it there, or make the set again with "
                "tools/make_shards.py"
            ) from None
        except Exception as error:  # of any package; not all of them are OSErrors
            raise UserError(
                f"{self.root}/{name}: cannot be read ({_line(error)}); mend the connection or the rights and go "
                "on"
            ) from None


def _row(match: re.Match[bytes]) -> Row:
    return Row(
        match[2] == b"folder", int(match[3]), Part(int(match[4]), int(match[5]), int(match[6], 16))
    )


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
