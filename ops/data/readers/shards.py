"""Shard sets: many videos in a few large tar files, read at random places from a disk or a URL.

A shard set is a folder whose name ends in ``.shards``, written by tools/make_shards.py::

    k400.shards/index.tsv             where each video is
    k400.shards/shard-000000.tar ...  webdataset samples: 000000012.json, .cls, and .mp4 or the
                                      images of a folder

Paths into a set are resolved by ops/data/readers/shard_paths.py. A video's id is only looked up in
the index, and a shard is only named by its number: neither can name another file.

The first line of the index is JSON, ``{"version": 1, "shards": [[bytes, sha256], ...]}``. Each
further line is an entry: id, ``video`` or ``folder``, number of the shard, offset and size in it,
and CRC-32 in hexadecimal. Fields are separated by tabs, lines are sorted by the bytes of the id.
The entry of a folder locates its JSON, whose ``files`` lists name, offset (from the block after the
JSON), size and CRC-32 of each file.
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

_ENTRY = re.compile(
    rb"([^\t\n]+)\t(video|folder)\t([0-9]{1,6})\t([0-9]{1,18})\t([0-9]{1,18})\t([0-9a-f]{8})"
)
# The JSON of a folder has about 100 bytes per file: this is enough for far more files than any has.
_MAX_TABLE_BYTES = 64 * 2**20
# Byte ranges separated by no more than the headers of one file are read together.
_MAX_GAP = 4 * BLOCK


class ByteRange(NamedTuple):
    """A part of a shard, in bytes, and the CRC-32 of its content."""

    offset: int
    size: int
    crc: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class Entry(NamedTuple):
    """A video in the index; of a folder, `location` is that of the JSON with its files."""

    is_folder: bool
    shard: int
    location: ByteRange


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def padded(size: int) -> int:
    """The bytes that a file of `size` bytes takes in a tar file: whole blocks."""
    return -(-size // BLOCK) * BLOCK


class ShardSet:
    """The index of a shard set, and random access to the bytes of its shards.

    The index is kept as the bytes of its file, which forked data-loading workers share. Each
    process opens the file system for itself.
    """

    def __init__(self, root: str) -> None:
        """Read and check the index.

        Args:
            root: the folder, or its URL.

        Raises:
            UserError: the index is missing or damaged, or the URL cannot be opened.
        """
        self.root = root
        self._systems: dict[int, Any] = {}  # process id -> file system
        self._actual_sizes: dict[int, int] = {}
        with self._errors(INDEX):
            self._check_local(INDEX)
            self._data = self.file_system().cat_file(self._path(INDEX))
        self._shard_sizes = self._read_header()
        self._starts = np.array(self._find_lines(), dtype=np.int64)

    def _read_header(self) -> list[int]:
        """The size of each shard, in bytes."""
        line, newline, _ = self._data.partition(b"\n")
        try:
            header = json.loads(line)
            if header["version"] != 1 or not newline:
                raise ValueError
            sizes = []
            for size, digest in header["shards"]:
                if type(size) is not int or type(digest) is not str:
                    raise ValueError
                sizes.append(size)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(
                f"{self.root}/{INDEX}:1: not the index of a shard set; make it with "
                f"tools/make_shards.py"
            ) from None
        return sizes

    def _find_lines(self) -> list[int]:
        """Where in the data each entry starts; all entries are checked."""
        starts = []
        previous_id = b""
        start = self._data.index(b"\n") + 1
        while start < len(self._data):
            match = _ENTRY.match(self._data, start)
            if not match or not self._is_valid(match, previous_id):
                line = len(starts) + 2
                raise UserError(
                    f"{self.root}/{INDEX}:{line}: malformed line; make the set again with "
                    f"tools/make_shards.py"
                )
            starts.append(start)
            previous_id = match[1]
            start = match.end() + 1
        return starts

    def _is_valid(self, match: re.Match[bytes], previous_id: bytes) -> bool:
        if self._data[match.end() : match.end() + 1] != b"\n":
            return False
        # In any other order, what a binary search finds would depend on where it looks.
        if match[1] <= previous_id:
            return False
        entry = _to_entry(match)
        if entry.shard >= len(self._shard_sizes):
            return False
        if entry.location.end > self._shard_sizes[entry.shard]:
            return False
        return not entry.is_folder or entry.location.size <= _MAX_TABLE_BYTES

    def find(self, video: str) -> Entry | None:
        """The entry of a video, or None if the set does not contain this id."""
        wanted = video.encode(errors="surrogateescape")
        line = bisect_left(self._starts, wanted, key=self._id_at)
        if line == len(self._starts):
            return None
        match = _ENTRY.match(self._data, self._starts[line])
        if match[1] != wanted:
            return None
        return _to_entry(match)

    def _id_at(self, start: int) -> bytes:
        return self._data[start : self._data.index(b"\t", start)]

    def read(self, video: str, shard: int, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read parts of a shard in one request.

        Args:
            video: the video that they belong to, for messages.
            shard: number of the shard.
            ranges: the parts, in any order.

        Returns:
            The content of each part.

        Raises:
            UnreadableVideo: the shard is truncated, or a part has another CRC-32.
            UserError: the shard is missing or cannot be read.
        """
        name = shard_name(shard)
        actual_size = self._actual_size(shard)
        is_cut_off = any(part.end > actual_size for part in ranges)
        # Overlapping parts of a damaged table could otherwise fill the memory.
        if is_cut_off or sum(part.size for part in ranges) > actual_size:
            raise UnreadableVideo(
                video, f"{name} is truncated or damaged: it has {actual_size} bytes"
            )
        runs = _merge(ranges)
        data_of_runs = self._read_runs(name, runs)
        contents = []
        for part in ranges:
            content = b""
            if part.size:
                run = bisect_left(runs, part.offset + 1, key=lambda run: run[0]) - 1
                start = part.offset - runs[run][0]
                content = bytes(data_of_runs[run][start : start + part.size])
            if len(content) != part.size or zlib.crc32(content) != part.crc:
                raise UnreadableVideo(video, f"{name} is damaged at byte {part.offset}")
            contents.append(content)
        return contents

    def _actual_size(self, shard: int) -> int:
        """The size of a shard's file; that of the index where the file system has none."""
        if shard not in self._actual_sizes:
            name = shard_name(shard)
            with self._errors(name):
                self._check_local(name)
                size = self.file_system().size(self._path(name))
            self._actual_sizes[shard] = self._shard_sizes[shard] if size is None else size
        return self._actual_sizes[shard]

    def _read_runs(self, name: str, runs: list[tuple[int, int]]) -> list[bytes]:
        if not runs:
            return []
        starts = [start for start, _ in runs]
        ends = [end for _, end in runs]
        paths = [self._path(name)] * len(runs)
        with self._errors(name):
            return self.file_system().cat_ranges(paths, starts, ends, on_error="raise")

    def file_system(self) -> Any:
        """The fsspec file system of this process.

        Connections do not survive a fork, and those of the parent process must not be closed: s3fs
        would report each of them.
        """
        process = os.getpid()
        if process not in self._systems:
            self._systems[process], self._base = self._open_file_system()
        return self._systems[process]

    def _open_file_system(self) -> tuple[Any, str]:
        """The file system, and the folder of the set in it."""
        try:
            from fsspec.core import url_to_fs

            return url_to_fs(self.root)
        except ImportError as error:
            raise UserError(
                f"{self.root}: {_one_line(error)}; pip install fsspec, and s3fs for s3://, gcsfs "
                f"for gs://, adlfs for az://, aiohttp for https://"
            ) from None
        except Exception as error:  # each package of fsspec has its own
            raise UserError(
                f"{self.root}: {_one_line(error)}; correct the URL or the settings of its package"
            ) from None

    def _path(self, name: str) -> str:
        self.file_system()  # sets the folder
        return f"{self._base}/{name}"

    def _check_local(self, name: str) -> None:
        """Raise OSError for a file on a disk that is not a regular one, such as a FIFO."""
        from fsspec.implementations.local import LocalFileSystem

        if isinstance(self.file_system(), LocalFileSystem):
            check_regular(self._path(name))

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Report errors of the file system as UserErrors that name the file."""
        try:
            yield
        except UserError:
            raise
        except FileNotFoundError:
            raise UserError(
                f"{self.root}/{name}: no such file; copy it there, or make the set again with "
                f"tools/make_shards.py"
            ) from None
        except Exception as error:  # each package has its own; not all of them are OSErrors
            raise UserError(
                f"{self.root}/{name}: cannot be read ({_one_line(error)}); check the connection "
                f"and the permissions, then resume"
            ) from None


def _to_entry(match: re.Match[bytes]) -> Entry:
    location = ByteRange(offset=int(match[4]), size=int(match[5]), crc=int(match[6], 16))
    return Entry(is_folder=match[2] == b"folder", shard=int(match[3]), location=location)


def _merge(ranges: Sequence[ByteRange]) -> list[tuple[int, int]]:
    """The runs ``(start, end)`` to read, ascending: ranges with small gaps are read together."""
    runs: list[tuple[int, int]] = []
    for part in sorted(part for part in ranges if part.size):
        if runs and part.offset - runs[-1][1] <= _MAX_GAP:
            start, end = runs[-1]
            runs[-1] = (start, max(end, part.end))
        else:
            runs.append((part.offset, part.end))
    return runs


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
