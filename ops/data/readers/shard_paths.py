"""Videos by their paths, on the disk or in a shard set.

A path that leads into a folder ``NAME.shards`` (ops/data/readers/shards.py), such as
``s3://bucket/k400.shards/abseiling/v.mp4``, means the video ``abseiling/v.mp4`` of that set:
``--root_path`` may be a shard set, and lists stay as they are.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import BinaryIO

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.shards import INDEX, Part, Row, ShardSet, padded, shard_name
from ops.utils.errors import UserError

_SET = re.compile(r"(.*?[^/]\.shards)(?:/+(.*))?", re.DOTALL)
_sets: dict[str, ShardSet] = {}
_lock = threading.Lock()


def exists(path: str) -> bool:
    """Whether `path` is there, on the disk or in the index of a shard set. Raises UserError for another URL, and as ShardSet
    does."""
    found = _split(path)
    return os.path.exists(path) if found is None else found[0].row(found[1]) is not None


def find(path: str) -> "Stored | None":
    """The video that `path` names in a shard set; None for a path that leads into none. Raises UnreadableVideo if the set
    has no such video, UserError for another URL, and as ShardSet does."""
    found = _split(path)
    if found is None:
        return None
    row = found[0].row(found[1])
    if row is None:
        raise UnreadableVideo(path, f"not in {INDEX} of the shard set")
    return Stored(path, found[0], row)


def _split(path: str) -> tuple[ShardSet, str] | None:
    match = _SET.fullmatch(path) if ".shards" in path else None
    if match is None:
        if "://" in path:
            raise UserError(
                f"{path}: of URLs only shard sets are read; make one with tools/make_shards.py and give its folder "
                "NAME.shards as --root_path"
            )
        return None
    root, video = match[1], os.path.normpath(match[2] or "")
    with _lock:  # or every thread that asks at the beginning would load it
        if root not in _sets:
            _sets[root] = ShardSet(root)
        return _sets[root], video


class _File(BytesIO):
    """Bytes with the name of the file that they are the content of: FFmpeg looks at its suffix as well."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class Stored:
    """A video file or a folder of frames in a shard set."""

    def __init__(self, path: str, shards: ShardSet, row: Row) -> None:
        self.path, self.is_folder = path, row.is_folder
        self._shards, self._row = shards, row
        self._files: dict[str, Part] = {}
        if row.is_folder:
            self._files = self._read_table()

    def _read_table(self) -> dict[str, Part]:
        base = self._row.part.offset + padded(self._row.part.size)
        try:
            files = json.loads(self._shards.read(self.path, self._row.shard, [self._row.part])[0])[
                "files"
            ]
            table = {name: Part(base + offset, size, crc) for name, offset, size, crc in files}
            if any(
                type(name) is not str
                or any(type(number) is not int or number < 0 for number in part)
                for name, part in table.items()
            ):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UnreadableVideo(
                self.path, f"{shard_name(self._row.shard)} has no table of its files"
            ) from None
        return table

    def content(self) -> Callable[[], BinaryIO]:
        """What opens a video file, which is read here, as a whole. Raises as ShardSet.read does."""
        if not self._row.part.size:
            raise UnreadableVideo(self.path, "empty file")
        return partial(
            _File, self._shards.read(self.path, self._row.shard, [self._row.part])[0], self.path
        )

    def names(self) -> set[str]:
        """The files of a folder."""
        return set(self._files)

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of files of a folder, read together. Raises UnreadableVideo for one that is not there, and as
        ShardSet.read does."""
        for name in names:
            if name not in self._files:
                raise UnreadableVideo(self.path, f"{name}: not in the shard set")
        parts = [self._files[name] for name in names]
        return dict(zip(names, self._shards.read(self.path, self._row.shard, parts), strict=True))
