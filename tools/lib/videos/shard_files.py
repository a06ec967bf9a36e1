"""Writes one shard of a shard set and reads it back: what make_shards.py does in each process.

ops/data/readers/shards.py describes the format.
"""

import json
import os
import tarfile
import zlib
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple

from ops.data.readers.shards import BLOCK, padded
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular, sha256

# Bytes per file in the JSON of a sample; more than usual names of frames need.
ESTIMATED_ENTRY = 100


class PackedVideo(NamedTuple):
    """A video to pack.

    Attributes:
        number: its number in the set.
        id: its id in the index.
        path: its file or folder.
        label: its label or labels.
    """

    number: int
    id: str
    path: str
    label: int | tuple[int, ...]


class Shard(NamedTuple):
    """A shard to write."""

    path: str
    number: int
    videos: list[PackedVideo]


class MadeShard(NamedTuple):
    """A shard that was read back.

    Attributes:
        index_lines: id of each video, and the rest of its line in the index.
        size: in bytes.
        digest: SHA-256.
    """

    index_lines: list[tuple[bytes, bytes]]
    size: int
    digest: str


def packed_size(video: PackedVideo) -> int:
    """The approximate number of bytes that a video takes in a shard.

    It is not too low, unless file names are too long for a tar header.
    """
    size = 5 * BLOCK  # JSON and label with their headers
    for _, path in files_of(video.path):
        size += BLOCK + ESTIMATED_ENTRY + padded(os.path.getsize(path))
    return size


def files_of(path: str) -> list[tuple[str, str]]:
    """The files of a video: itself, or those in a folder and the folders below it.

    Returns:
        (name in the folder, path) of each, sorted, without hidden ones.
    """
    if not os.path.isdir(path):
        return [(os.path.basename(path), path)]
    found = []
    for folder, folders, names in os.walk(path, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = os.path.join(folder, name)
            if not name.startswith(".") and os.path.isfile(file):
                found.append((os.path.relpath(file, path), file))
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def cannot_pack(error: OSError, path: str | os.PathLike) -> UserError:
    """The UserError for a file that cannot be read or written."""
    return UserError(
        f"{error.filename or path}: {error.strerror or error}; videos must be readable, and the "
        "shard set writable with free space; repeat the command to continue"
    )


def make_shard(shard: Shard) -> MadeShard:
    """Write a shard unless it exists, and read it back.

    Raises:
        UserError: a file cannot be read or written, or the shard is damaged or has other videos.
    """
    try:
        if not os.path.exists(shard.path):
            with atomic_write(shard.path) as file:
                for video in shard.videos:
                    write_sample(file, video)
                file.write(bytes(2 * BLOCK))  # the end of a tar file
        return read_back(shard)
    except OSError as error:
        raise cannot_pack(error, shard.path) from None


def write_sample(file: BinaryIO, video: PackedVideo) -> None:
    """Write the JSON, the label and the files of a video, with headers without times and owners.

    Args:
        file: the shard.
        video: the video.

    Raises:
        UserError: two of its files would have the same name in webdataset.
    """
    members: list[tuple[str, bytes]] = []  # extension and content
    offset = 0  # from the end of the JSON
    if isinstance(video.label, int):
        label = str(video.label).encode()
        members.append(("cls", label))
        offset = BLOCK + padded(len(label))
    is_folder = os.path.isdir(video.path)
    table = []
    for name, path in files_of(video.path):
        with open_regular(path) as content:
            data = content.read()
        extension = _extension(name, is_folder)
        header_size = len(_header(video, extension, len(data)))
        table.append((name, offset + header_size, len(data), zlib.crc32(data)))
        members.append((extension, data))
        offset += header_size + padded(len(data))
    extensions = [extension.lower() for extension, _ in members]
    if len(set(extensions)) < len(extensions) or "json" in extensions:
        raise UserError(
            f"{video.path}: two of its files would have one name in webdataset; remove one of them"
        )
    description = {"id": video.id, "label": video.label, "files": table}
    for extension, data in [("json", json.dumps(description).encode()), *members]:
        file.write(_header(video, extension, len(data)))
        file.write(data)
        file.write(bytes(padded(len(data)) - len(data)))


def _extension(name: str, is_folder: bool) -> str:
    """The extension of a file in a sample: for webdataset, all after the first dot of its name."""
    if is_folder:
        return name.replace("/", ".")
    return os.path.splitext(name)[1].removeprefix(".").lower() or "video"


def _header(video: PackedVideo, extension: str, size: int) -> bytes:
    info = tarfile.TarInfo(f"{video.number:09d}.{extension}")
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def read_back(shard: Shard) -> MadeShard:
    """Read a shard and compare it with its videos.

    Raises:
        UserError: a sample is not that of its video, or a file in it is not where its JSON says
            or not as it was written.
    """
    lines = []
    try:
        with tarfile.open(shard.path, "r:") as tar, open(shard.path, "rb") as file:
            samples = [list(members) for _, members in groupby(tar, key=_sample_number)]
            for video, members in zip(shard.videos, samples, strict=True):
                lines.append(_index_line(shard.number, video, members, file))
    except (tarfile.TarError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{shard.path} is damaged or holds other videos than these lists; remove it and repeat "
            "the command, or give another --out"
        ) from None
    return MadeShard(lines, os.path.getsize(shard.path), sha256(shard.path))


def _sample_number(member: tarfile.TarInfo) -> str:
    return member.name.partition(".")[0]


def _index_line(
    shard_number: int, video: PackedVideo, members: list[tarfile.TarInfo], file: BinaryIO
) -> tuple[bytes, bytes]:
    """The line of a video in the index; ValueError unless the sample is that of the video."""
    description_member, *others = members
    description = json.loads(_content(description_member, file))
    files = others[1:] if isinstance(video.label, int) else others  # without the label
    start = description_member.offset_data + padded(description_member.size)
    found = [[info.offset_data - start, info.size, _crc(info, file)] for info in files]
    _check_description(description, video, found)
    if os.path.isdir(video.path):
        kind, member = "folder", description_member
    else:
        kind, member = "video", files[0]
    crc = _crc(member, file)
    line = f"{kind}\t{shard_number}\t{member.offset_data}\t{member.size}\t{crc:08x}"
    return video.id.encode(errors="surrogateescape"), line.encode()


def _check_description(description: Any, video: PackedVideo, found: list[list[int]]) -> None:
    """Raises ValueError unless the JSON of a sample fits its video and the files in it.

    found: offset, size and CRC of each file.
    """
    label = list(video.label) if isinstance(video.label, tuple) else video.label
    if (description["id"], description["label"]) != (video.id, label):
        raise ValueError("another video")
    if [numbers for _, *numbers in description["files"]] != found:
        raise ValueError("other content")
    names = [name for name, _ in files_of(video.path)]
    if [name for name, *_ in description["files"]] != names:
        raise ValueError("other files")


def _content(member: tarfile.TarInfo, file: BinaryIO) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _crc(member: tarfile.TarInfo, file: BinaryIO) -> int:
    return zlib.crc32(_content(member, file))
