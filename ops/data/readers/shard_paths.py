"""Videos by their paths, on the disk or in a shard set.

A path that leads into a folder ``NAME.shards`` (ops/data/readers/shards.py), such as
``s3://bucket/k400.shards/abseiling/v.mp4``, means the video ``abseiling/v.mp4`` of that set:
``--root_path`` may be a shard set, and lists stay as they are.
"""

import json
import os
import re
import threading
from collections.abc import Sequence
from functools import partial
from io import BytesIO

from ops.data.readers.base import Opener, UnreadableVideo
from ops.data.readers.shards import INDEX, ByteRange, Entry, ShardSet, padded, shard_name
from ops.utils.errors import UserError

_INTO_SET = re.compile(r"(.*?[^/]\.shards)(?:/+(.*))?", re.DOTALL)
_sets: dict[str, ShardSet] = {}
_lock = threading.Lock()


def exists(path: str) -> bool:
    """Whether a video exists, on the disk or in the index of a shard set.

    Raises:
        UserError: the path is a URL of something else, or as ShardSet does.
    """
    found = _split(path)
    if found is None:
        return os.path.exists(path)
    shards, video = found
    return shards.find(video) is not None


def find(path: str) -> "StoredVideo | None":
    """The video that a path names in a shard set; None for a path on the disk.

    Raises:
        UnreadableVideo: the set does not contain the video.
        UserError: the path is a URL of something else, or as ShardSet does.
    """
    found = _split(path)
    if found is None:
        return None
    shards, video = found
    entry = shards.find(video)
    if entry is None:
        raise UnreadableVideo(path, f"not in {INDEX} of the shard set")
    return StoredVideo(path, shards, entry)


def _split(path: str) -> tuple[ShardSet, str] | None:
    """The shard set and the id of the video in it; None for a path on the disk."""
    match = _INTO_SET.fullmatch(path) if ".shards" in path else None
    if match is None:
        if "://" in path:
            raise UserError(
                f"{path}: the only URLs that are read are those of shard sets; make one with "
                f"tools/make_shards.py and give its folder NAME.shards as --root_path"
            )
        return None
    root = match[1]
    video = os.path.normpath(match[2] or "")
    with _lock:  # or every thread that starts with this set would load it
        if root not in _sets:
            _sets[root] = ShardSet(root)
        return _sets[root], video


class _NamedBytes(BytesIO):
    """The content of a file, and its name: FFmpeg considers the suffix as well."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class StoredVideo:
    """A video file or a folder of frames in a shard set.

    Attributes:
        path: the path in the list, for messages.
        entry: its place in the set.
        is_folder: whether it is a folder of frames.
    """

    def __init__(self, path: str, shards: ShardSet, entry: Entry) -> None:
        """Locate a video; of a folder, its table of files is read.

        Raises:
            UnreadableVideo: the table is damaged.
            UserError: as ShardSet.read does.
        """
        self.path = path
        self.entry = entry
        self.is_folder = entry.is_folder
        self._shards = shards
        self._files: dict[str, ByteRange] = {}
        if self.is_folder:
            self._files = self._read_table()

    def _read_table(self) -> dict[str, ByteRange]:
        location = self.entry.location
        first_file = location.offset + padded(location.size)
        files = {}
        try:
            (data,) = self._shards.read(self.path, self.entry.shard, [location])
            for name, offset, size, crc in json.loads(data)["files"]:
                numbers = (first_file + offset, size, crc)
                if type(name) is not str or not all(map(_is_natural, numbers)):
                    raise ValueError
                files[name] = ByteRange(*numbers)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UnreadableVideo(
                self.path, f"{shard_name(self.entry.shard)} has no table of its files"
            ) from None
        return files

    def opener(self) -> Opener:
        """Read a video file, as a whole, and return the function that opens its content.

        Raises:
            UnreadableVideo: the file is empty or damaged.
            UserError: as ShardSet.read does.
        """
        if not self.entry.location.size:
            raise UnreadableVideo(self.path, "empty file")
        (data,) = self._shards.read(self.path, self.entry.shard, [self.entry.location])
        return partial(_NamedBytes, data, self.path)

    def names(self) -> set[str]:
        """The files of a folder, relative to it."""
        return set(self._files)

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read files of a folder in one request.

        Raises:
            UnreadableVideo: a file is missing or damaged.
            UserError: as ShardSet.read does.
        """
        for name in names:
            if name not in self._files:
                raise UnreadableVideo(self.path, f"{name}: not in the shard set")
        ranges = [self._files[name] for name in names]
        contents = self._shards.read(self.path, self.entry.shard, ranges)
        return dict(zip(names, contents, strict=True))


def _is_natural(value: object) -> bool:
    return type(value) is int and value >= 0
