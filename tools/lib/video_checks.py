"""What can be wrong with one video of a list, and with two."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lib.list_files import listed_per_frame, no_frames
from ops.data.lists import Record, explain_missing, resolve
from ops.data.readers.base import Reader, UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.readers.shard_paths import exists, find
from ops.utils.errors import UserError
from ops.utils.files import sha256

FRAMES = {
    "first-middle-last": "first, middle and last frame decoded",
    "all": "all frames decoded",
    "none": "nothing decoded",
}
KINDS = (
    "missing",
    "empty",
    "template",
    "unreadable",
    "count",
    "short",
    "duplicate",
    "leak",
    "labels",
)
_CHUNK_BYTES = 64 * 2**20


class Rules(NamedTuple):
    """How videos are read, which of their frames are decoded (one of FRAMES), and how many they must have."""

    image_tmpl: str
    modality: str
    decoder: str
    frames: str
    min_frames: int


class Problem(NamedTuple):
    """line: of the list, 0 for the list as a whole; kind: one of KINDS."""

    line: int
    id: str
    kind: str
    reason: str


def check_video(rules: Rules, record: Record) -> tuple[str, list[Problem]]:
    """Where the video of a record lies, and what is wrong with it. Raises UserError if no video can be read by these rules, or
    none from its shard set."""
    place = resolve(record.path)
    try:
        found = list(_problems(rules, place, record))
    except UnreadableVideo as error:
        found = [_kind_of(error.reason, rules, place)]
    except UserError as error:
        if rules.modality != "Flow":  # of flow it may be this folder or file
            raise
        find(place)  # raises if it is the shard set
        found = [("unreadable", str(error))]
    except Exception as error:  # whatever a decoder makes of damaged data is about this video
        found = [("unreadable", f"{type(error).__name__}: {error}")]
    # Names in reasons may be no text.
    clean = [
        (kind, " ".join(reason.encode(errors="replace").decode().split())) for kind, reason in found
    ]
    return os.path.normpath(place), [Problem(record.line, record.id, *problem) for problem in clean]


def _problems(rules: Rules, place: str, record: Record) -> Iterator[tuple[str, str]]:
    listed = record.num_frames
    if not exists(place):
        try:
            os.stat(place)
        except FileNotFoundError:
            if os.path.islink(place):
                yield "missing", "a link to nothing"
            else:
                yield "missing", explain_missing(record) or "no such file or folder"
            return
        except OSError:
            pass  # the reader says why
    with open_reader(
        place, image_tmpl=rules.image_tmpl, decoder=rules.decoder, modality=rules.modality
    ) as reader:
        there = len(reader) * listed_per_frame(rules.image_tmpl, rules.modality)
        if listed is not None and listed != there:
            yield "count", f"the list says {listed} frames, there are {there}"
        if len(reader) < rules.min_frames:
            yield "short", f"{len(reader)} frames, fewer than {rules.min_frames}"
        _decode(reader, rules.frames)


def _kind_of(reason: str, rules: Rules, place: str) -> tuple[str, str]:
    """The kind of problem that a reader's reason is, and of a folder without frames what else is in it."""
    if reason == "empty file":
        return "empty", reason
    if "{zero" in reason:  # frames that count from 0 (ops.data.readers.frame_folder.count_frames)
        return "template", reason
    if reason != f"no frames named {rules.image_tmpl}":
        return "unreadable", reason
    stored = find(place)
    names = os.listdir(place) if stored is None else list(stored.names())
    return "template" if names else "empty", no_frames(
        place, rules.image_tmpl, rules.modality, names
    )


def _decode(reader: Reader, frames: str) -> None:
    """Raises UnreadableVideo unless all of ``frames`` can be had."""
    last = len(reader) - 1
    if frames == "first-middle-last":
        reader.get(sorted({0, len(reader) // 2, last}))
    elif frames == "all":
        chunk = max(_CHUNK_BYTES // reader.get([0]).nbytes, 1)
        for start in range(0, len(reader), chunk):
            reader.get(range(start, min(start + chunk, last + 1)))


def in_shard_set(path: str) -> bool:
    """Whether a path leads into a shard set (ops/data/readers/shard_paths.py), to a video of it or to none."""
    try:
        return find(path) is not None
    except UnreadableVideo:
        return True


def find_places(videos: Iterable[Record], threads: int = 16) -> list[str]:
    """Where the videos of a list lie."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda record: os.path.normpath(resolve(record.path)), videos))


def compare(
    records: Iterable[Record],
    keys: list[str],
    others: Iterable[Record],
    other_keys: list[str],
    other: str | None,
    what: str,
) -> Iterator[Problem]:
    """Videos of ``records`` that come again in it, and those that ``others``, the list called ``other``, has as well. Two
    videos are the same if their keys are, and not empty; ``what`` says that in words.

    Of those that come again the first is right, unless another has another label: who knows then which label is true?
    """
    groups = defaultdict(list)
    for record, key in zip(records, keys, strict=True):
        groups[key].append(record)
    elsewhere = {key: record for record, key in zip(others, other_keys, strict=True) if key}
    for key, group in groups.items():
        if not key:
            continue
        first, *rest = group
        if any(record.label != first.label for record in rest):
            yield Problem(
                first.line,
                first.id,
                "duplicate",
                f"{what} line {rest[0].line}, and they have several labels",
            )
        for record in rest:
            label = (
                f", which has label {first.label} and not {record.label}"
                if record.label != first.label
                else ""
            )
            yield Problem(record.line, record.id, "duplicate", f"{what} line {first.line}{label}")
        if key in elsewhere:
            for record in group:
                yield Problem(
                    record.line,
                    record.id,
                    "leak",
                    f"{what} {other}:{elsewhere[key].line}, {elsewhere[key].id}",
                )


def content_keys(places: list[str], threads: int = 16) -> list[str]:
    """A digest of the bytes of each video, or of the names and bytes in its folder. Empty for what cannot be read, and where
    the size alone says that no other is the same."""
    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(_size, places))
        users = defaultdict(set)
        for place, size in zip(places, sizes, strict=True):
            users[size].add(place)
        alike = [place for size, same in users.items() if size and len(same) > 1 for place in same]
        digests = dict(zip(alike, pool.map(_digest, alike), strict=True))
    return [digests.get(place, "") for place in places]


def _size(place: str) -> tuple:
    try:
        if not os.path.isdir(place):
            return ("file", size) if (size := os.path.getsize(place)) else ()
        names = os.listdir(place)
        return (
            ("folder", len(names), os.path.getsize(os.path.join(place, min(names))))
            if names
            else ()
        )
    except OSError:
        return ()


def _digest(place: str) -> str:
    try:
        if not os.path.isdir(place):
            return sha256(place)
        parts = [
            f"{name}\0{sha256(os.path.join(place, name))}\n" for name in sorted(os.listdir(place))
        ]
    except (OSError, UserError):
        return ""
    return hashlib.sha256("".join(parts).encode(errors="surrogateescape")).hexdigest()
