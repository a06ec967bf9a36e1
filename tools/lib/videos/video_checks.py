"""Checks of single videos of a list, and comparisons between the videos of lists."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ops.data.lists import Record, explain_missing, resolve
from ops.data.readers.base import Reader, UnreadableVideo
from ops.data.readers.guess_template import explain_no_frames, listed_per_frame
from ops.data.readers.open import open_reader
from ops.data.readers.shard_paths import exists, find
from ops.utils.errors import UserError
from ops.utils.files import sha256

# Value of --frames -> what the report says about it.
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
DECODED_AT_ONCE = 64 * 2**20  # bytes
THREADS = 16  # on a network disk each call waits for the server


class Rules(NamedTuple):
    """How videos are read and what they must have.

    Attributes:
        image_tmpl: file names in a folder of frames.
        modality: "RGB" or "Flow".
        decoder: library that decodes video files.
        frames: frames to decode, one of ``FRAMES``.
        min_frames: smallest number of frames.
    """

    image_tmpl: str
    modality: str
    decoder: str
    frames: str
    min_frames: int


class Problem(NamedTuple):
    """A problem of a list.

    Attributes:
        line: line of the list from 1, 0 for the list as a whole.
        id: video as the list names it.
        kind: one of ``KINDS``.
        reason: one line of text.
    """

    line: int
    id: str
    kind: str
    reason: str


def check_video(rules: Rules, record: Record) -> tuple[str, list[Problem]]:
    """Check a single video.

    Args:
        rules: how it is read.
        record: of a list.

    Returns:
        The path of the video, and its problems.

    Raises:
        UserError: no video can be read by these rules, or none from its shard set.
    """
    place = resolve(record.path)
    try:
        found = list(_problems(rules, place, record))
    except UnreadableVideo as error:
        found = [_kind_of(error.reason, rules, place)]
    except UserError as error:
        if rules.modality != "Flow":  # for flow the reason may be this folder or file alone
            raise
        find(place)  # raises if the shard set is the reason
        found = [("unreadable", str(error))]
    except Exception as error:  # decoders raise anything for damaged data
        found = [("unreadable", f"{type(error).__name__}: {error}")]
    problems = []
    for kind, reason in found:
        # A reason may contain a file name that is not valid text, or line breaks.
        printable = reason.encode(errors="replace").decode()
        problems.append(Problem(record.line, record.id, kind, " ".join(printable.split())))
    return os.path.normpath(place), problems


def _problems(rules: Rules, place: str, record: Record) -> Iterator[tuple[str, str]]:
    """Kind and reason of each problem that the reader does not raise."""
    missing = _reason_missing(place, record)
    if missing:
        yield "missing", missing
        return
    with open_reader(
        place, image_tmpl=rules.image_tmpl, decoder=rules.decoder, modality=rules.modality
    ) as reader:
        listed = record.num_frames
        actual = len(reader) * listed_per_frame(rules.image_tmpl, rules.modality)
        if listed is not None and listed != actual:
            yield "count", f"the list says {listed} frames, there are {actual}"
        if len(reader) < rules.min_frames:
            yield "short", f"{len(reader)} frames, fewer than {rules.min_frames}"
        decode(reader, rules.frames)


def _reason_missing(place: str, record: Record) -> str | None:
    """Why there is nothing at a path; None if there is something, or the reader will know."""
    if exists(place):
        return None
    try:
        os.stat(place)
    except FileNotFoundError:
        if os.path.islink(place):
            return "a broken link"
        return explain_missing(record) or "no such file or folder"
    except OSError:
        return None
    return None


def _kind_of(reason: str, rules: Rules, place: str) -> tuple[str, str]:
    """The kind of problem for a reader's reason, and the reason with more detail."""
    if reason == "empty file":
        return "empty", reason
    if "{zero" in reason:  # frames numbered from 0 (ops.data.readers.frame_folder.count_frames)
        return "template", reason
    if reason != f"no frames named {rules.image_tmpl}":
        return "unreadable", reason
    stored = find(place)
    names = os.listdir(place) if stored is None else list(stored.names())
    kind = "template" if names else "empty"
    return kind, explain_no_frames(place, names, rules.image_tmpl, rules.modality)


def decode(reader: Reader, frames: str) -> None:
    """Decode frames of a video.

    Args:
        reader: of the video.
        frames: which, one of ``FRAMES``.

    Raises:
        UnreadableVideo: one of them cannot be decoded.
    """
    last = len(reader) - 1
    if frames == "first-middle-last":
        reader.get(sorted({0, len(reader) // 2, last}))
    elif frames == "all":
        chunk = max(DECODED_AT_ONCE // reader.get([0]).nbytes, 1)
        for start in range(0, len(reader), chunk):
            reader.get(range(start, min(start + chunk, last + 1)))


def in_shard_set(path: str) -> bool:
    """Whether a path leads into a shard set, even if that has no such video."""
    try:
        return find(path) is not None
    except UnreadableVideo:
        return True


def find_places(videos: Iterable[Record]) -> list[str]:
    """The path of each video of a list."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda record: os.path.normpath(resolve(record.path)), videos))


def compare(
    records: Iterable[Record],
    keys: list[str],
    others: Iterable[Record],
    other_keys: list[str],
    other: str | None,
    sameness: str,
) -> Iterator[Problem]:
    """Compare the videos of a list with each other and with those of another list.

    Args:
        records: the list.
        keys: one per record; videos with the same key are the same, unless it is empty.
        others: the other list.
        other_keys: its keys.
        other: its path, for messages.
        sameness: what equal keys mean, for messages: "the same path as".

    Yields:
        A "duplicate" for each repetition, and a "leak" for each video of ``records`` that
        ``others`` has as well. The first of several repetitions counts as correct, unless another
        has another label: then it is not known which label is right.
    """
    groups = defaultdict(list)
    for record, key in zip(records, keys, strict=True):
        if key:
            groups[key].append(record)
    elsewhere = {key: record for record, key in zip(others, other_keys, strict=True) if key}
    for key, group in groups.items():
        yield from _duplicates(group, sameness)
        if key in elsewhere:
            reason = f"{sameness} {other}:{elsewhere[key].line}, {elsewhere[key].id}"
            for record in group:
                yield Problem(record.line, record.id, "leak", reason)


def _duplicates(group: list[Record], sameness: str) -> Iterator[Problem]:
    """The problems of records that are the same video."""
    first, *rest = group
    if any(record.label != first.label for record in rest):
        reason = f"{sameness} line {rest[0].line}, and they have several labels"
        yield Problem(first.line, first.id, "duplicate", reason)
    for record in rest:
        reason = f"{sameness} line {first.line}"
        if record.label != first.label:
            reason += f", which has label {first.label} and not {record.label}"
        yield Problem(record.line, record.id, "duplicate", reason)


def content_keys(places: list[str]) -> list[str]:
    """A digest of the content of each video, to compare videos.

    Args:
        places: paths of files or folders.

    Returns:
        For a file a digest of its bytes, for a folder one of the names and bytes in it. It is
        empty for what cannot be read, and where no other video has the same size.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(_size, places))
        by_size = defaultdict(set)
        for place, size in zip(places, sizes, strict=True):
            by_size[size].add(place)
        candidates = []
        for size, same in by_size.items():
            if size and len(same) > 1:
                candidates += same
        digests = dict(zip(candidates, pool.map(_digest, candidates), strict=True))
    return [digests.get(place, "") for place in places]


def _size(place: str) -> tuple:
    """What videos with the same content have in common; empty for what cannot be read."""
    try:
        if not os.path.isdir(place):
            size = os.path.getsize(place)
            return ("file", size) if size else ()
        names = os.listdir(place)
        if not names:
            return ()
        return ("folder", len(names), os.path.getsize(os.path.join(place, min(names))))
    except OSError:
        return ()


def _digest(place: str) -> str:
    """A digest of a file or a folder; empty if it cannot be read."""
    content = hashlib.sha256()
    try:
        if not os.path.isdir(place):
            return sha256(place)
        for name in sorted(os.listdir(place)):
            line = f"{name}\0{sha256(os.path.join(place, name))}\n"
            content.update(line.encode(errors="surrogateescape"))
    except (OSError, UserError):
        return ""
    return content.hexdigest()
