"""One shard of a shard set (ops/data/readers/shards.py), written and read back: what make_shards.py does in each process."""

import json
import os
import tarfile
import zlib
from collections.abc import Sequence
from itertools import groupby
from typing import BinaryIO, NamedTuple

from ops.data.readers.shards import BLOCK, padded
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular, sha256

_TABLE_ENTRY = 100  # bytes of the JSON, more than usual names of frames need


class Video(NamedTuple):
    """A sample to be: its number in the set, its id in the index, its file or folder, and its label or labels."""

    number: int
    id: str
    path: str
    label: int | tuple[int, ...]


class Shard(NamedTuple):
    """A shard to be."""

    path: str
    number: int
    videos: list[Video]


class Made(NamedTuple):
    """A shard that was read back: lines of the index, each the id and the rest, its size in bytes and its SHA-256."""

    rows: list[tuple[bytes, bytes]]
    size: int
    digest: str


def packed_size(video: Video) -> int:
    """About the bytes that a video takes in a shard; not too few, unless names are longer than the header of a file."""
    files = files_of(video.path)
    return 5 * BLOCK + sum(
        BLOCK + _TABLE_ENTRY + padded(os.path.getsize(path)) for _, path in files
    )


def files_of(path: str) -> list[tuple[str, str]]:
    """(name in the folder, path) of the files of a folder and its folders, sorted, without hidden ones; or of a video."""
    if not os.path.isdir(path):
        return [(os.path.basename(path), path)]

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
        found += [(os.path.relpath(file, path), file) for file in paths if os.path.isfile(file)]
    return sorted(found)


def failed(error: OSError, path: str | os.PathLike) -> UserError:
    reason = f"{error.filename or path}: {error.strerror or error}"
    return UserError(
        f"{reason}; videos must be readable, the shard set writable and with room; repeat the command to go on"
    )


def make_shard(shard: Shard) -> Made:
    """Write a shard, or find it there, and read it back."""
    try:
        if not os.path.exists(shard.path):
            with atomic_write(shard.path) as file:
                for video in shard.videos:
                    write_sample(file, video)
                file.write(bytes(2 * BLOCK))  # the end of a tar file
        return read_back(shard)
    except OSError as error:
        raise failed(error, shard.path) from None


def write_sample(file: BinaryIO, video: Video) -> None:
    """The JSON of a video, its label, if it has one, and its files: with headers that say nothing of when and by whom."""
    contents, parts, offset = [], [], 0
    if isinstance(video.label, int):
        contents.append(("cls", str(video.label).encode()))
        offset = BLOCK + padded(len(contents[0][1]))
    is_folder = os.path.isdir(video.path)
    for name, path in files_of(video.path):
        with open_regular(path) as content:
            data = content.read()
        header = len(_header(video, _extension(name, is_folder), len(data)))
        parts.append((name, offset + header, len(data), zlib.crc32(data)))
        contents.append((_extension(name, is_folder), data))
        offset += header + padded(len(data))
    extensions = [extension.lower() for extension, _ in contents]
    if len(set(extensions)) < len(extensions) or "json" in extensions:
        raise UserError(
            f"{video.path}: two of its files would have one name in webdataset; remove one of them"
        )
    contents.insert(
        0, ("json", json.dumps({"id": video.id, "label": video.label, "files": parts}).encode())
    )
    for extension, data in contents:
        file.write(_header(video, extension, len(data)))
        file.write(data)
        file.write(bytes(padded(len(data)) - len(data)))


def _extension(name: str, is_folder: bool) -> str:
    """What follows the number of a sample in the name of a file: webdataset takes it from the first dot on."""
    return (
        name.replace("/", ".")
        if is_folder
        else os.path.splitext(name)[1].removeprefix(".").lower() or "video"
    )


def _header(video: Video, extension: str, size: int) -> bytes:
    info = tarfile.TarInfo(f"{video.number:09d}.{extension}")
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def read_back(shard: Shard) -> Made:
    """Raises UserError unless each sample of the shard is that of its video, and each file in it where its JSON says and as it
    was read."""
    rows = []
    try:
        with tarfile.open(shard.path, "r:") as tar, open(shard.path, "rb") as file:
            samples = [
                list(sample)
                for _, sample in groupby(tar, key=lambda info: info.name.partition(".")[0])
            ]
            for video, sample in zip(shard.videos, samples, strict=True):
                rows.append(_row(shard.number, video, sample, file))
    except (tarfile.TarError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{shard.path} is damaged or holds other videos than these lists; remove it and repeat the command, or "
            "give another --out"
        ) from None
    return Made(rows, os.path.getsize(shard.path), sha256(shard.path))


def _row(
    number: int, video: Video, sample: Sequence[tarfile.TarInfo], file: BinaryIO
) -> tuple[bytes, bytes]:
    def crc(info: tarfile.TarInfo) -> int:
        file.seek(info.offset_data)
        return zlib.crc32(file.read(info.size))

    table, *others = sample
    file.seek(table.offset_data)
    told = json.loads(file.read(table.size))
    base = table.offset_data + padded(table.size)
    files = others[isinstance(video.label, int) :]
    found = [[info.offset_data - base, info.size, crc(info)] for info in files]
    label = list(video.label) if isinstance(video.label, tuple) else video.label
    names = [name for name, _ in files_of(video.path)]
    if (told["id"], told["label"]) != (video.id, label) or [
        part[1:] for part in told["files"]
    ] != found:
        raise ValueError
    is_folder = os.path.isdir(video.path)
    if [name for name, *_ in told["files"]] != names:
        raise ValueError
    part = table if is_folder else files[0]
    kind = "folder" if is_folder else "video"
    line = f"{kind}\t{number}\t{part.offset_data}\t{part.size}\t{crc(part):08x}"
    return video.id.encode(errors="surrogateescape"), line.encode()
