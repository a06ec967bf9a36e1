"""Video lists: which videos a dataset has, with which labels.

A list is a UTF-8 text file with one video per line, in one of two forms, recognized line by line::

    path/to/video.mp4 17            video label              (frames are counted by the decoder)
    path/to/folder 142 17           folder num_frames label  (a folder of frames, as for TSM)

* A line that contains a tab is separated by tabs; any other line by spaces.
* Paths may contain spaces. Separated by spaces, the last field is the label, and the field before
  it is ``num_frames`` if it is an integer: ``my video.mp4 3`` has two columns, ``a b 12 3`` is 12
  frames of the folder ``a b``. A two-column path that ends in an integer (``take 12``) needs tabs.
* In a multi-label list the label may be several, joined by commas: ``path/to/video.mp4 3,17``.
* Segments of a video (``video start end label``) are not supported: separated by spaces, such a
  line already means ``end`` frames of the folder ``video start``, and scores are stored by video.
  Cut each segment into a file of its own.
* Blank lines, Windows line ends and a byte order mark are allowed.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from copy import copy
from itertools import islice
from typing import NamedTuple

import numpy as np

from ops.data.labels import as_array, of_row
from ops.data.readers.shard_paths import exists
from ops.utils.errors import UserError
from ops.utils.files import read_regular

# 18 digits always fit an int64.
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LABELS = re.compile(r"-?[0-9]{1,18}(?:,-?[0-9]{1,18})*")
_SPACED = re.compile(rf"(.*?[^ ]) +(?:(-?[0-9]{{1,18}}) +)?({_LABELS.pattern})")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# The path that is left of `video start end label`: `end` is taken for num_frames, unless it is no
# integer.
_WITH_START = re.compile(rf"(.+?) +{_NUMBER}(?: +{_NUMBER})?")
_SEGMENTS = (
    "looks like a segment of a video, `video start end label`, and segments are not supported; "
    "cut each into a file of its own and list that"
)
_FORMS = "expected `video label` or `folder num_frames label`, separated by spaces or by tabs"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_SHOWN = 80  # characters of a line in a message
_PATHS_PER_TASK = 1000
# A folder is read as a whole if at least so many of its videos are listed, and reading ends after
# so many entries for each of them: a few videos of a large folder are faster to ask for singly.
_LARGE_FOLDER = 16
_ENTRIES_PER_VIDEO = 20


class Record(NamedTuple):
    """One video of a list.

    Attributes:
        id: the path as the list has it.
        path: the path joined to the root.
        num_frames: as listed; None for a two-column line.
        label: an integer, or in a multi-label list a tuple of ascending ones.
        line: line number, from 1.
    """

    id: str
    path: str
    num_frames: int | None
    label: int | tuple[int, ...]
    line: int


class VideoList(Sequence[Record]):
    """The records of a list, in list order, stored in a few NumPy arrays.

    Python objects would be copied page by page into every forked data-loading worker as reference
    counts are written (pytorch#13246). Arrays stay shared.

    Attributes:
        path: the list file.
        root_path: what relative paths are joined to.
        labels: int64 ``[n]``; of a multi-label list bool ``[n, num_class]``.
    """

    def __init__(
        self,
        path: str,
        root_path: str,
        ids: list[str],
        num_frames: list[int],
        labels: list[int] | list[tuple[int, ...]],
        lines: list[int],
        num_class: int | None = None,
    ) -> None:
        """Create a list.

        Args:
            path: the list file, for messages.
            root_path: what relative ids are joined to.
            ids: the path of each video.
            num_frames: number of frames of each video; -1 where it is not listed.
            labels: the label of each video, or the tuple of its labels.
            lines: line number of each video.
            num_class: number of classes, needed for tuples of labels.
        """
        encoded = [text.encode() for text in ids]
        self.path = path
        self.root_path = root_path
        self.labels = as_array(labels, num_class)
        self._num_frames = np.array(num_frames, dtype=np.int64)
        self._lines = np.array(lines, dtype=np.int64)
        self._text = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[index]  # negative ones count from the end; raises IndexError
        start = int(self._ends[index - 1]) if index else 0
        video_id = self._text[start : self._ends[index]].tobytes().decode()
        num_frames = int(self._num_frames[index])
        return Record(
            id=video_id,
            path=os.path.join(self.root_path, video_id),
            num_frames=None if num_frames < 0 else num_frames,
            label=of_row(self.labels, index),
            line=int(self._lines[index]),
        )

    def paths(self) -> list[str]:
        """The paths of all records, in list order. It is much faster than making the records."""
        text = self._text.tobytes()
        paths = []
        start = 0
        for end in self._ends.tolist():
            paths.append(os.path.join(self.root_path, text[start:end].decode()))
            start = end
        return paths

    def head(self, n: int) -> "VideoList":
        """The first ``n`` records, or all where there are fewer.

        Raises:
            ValueError: ``n < 1``.
        """
        if n < 1:
            raise ValueError(f"the first {n} videos of a list are no list")
        part = copy(self)
        part.labels = self.labels[:n]
        part._num_frames = self._num_frames[:n]
        part._lines = self._lines[:n]
        part._ends = self._ends[:n]
        part._text = self._text[: part._ends[-1]]
        return part


def read_text(path: str) -> str:
    """Read a UTF-8 text file.

    Returns:
        The text with ``\\n`` line ends and without a byte order mark.

    Raises:
        UserError: the file is missing, unreadable or not UTF-8 text.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; put it there or give another path") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give the path of a readable text file"
        ) from None
    data = data.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    bad_byte = data.find(b"\0")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        bad_byte = error.start
    if bad_byte >= 0:
        line = data.count(b"\n", 0, bad_byte) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as plain text in UTF-8")
    return text


def read_list(
    list_path: str,
    *,
    root_path: str = "",
    num_class: int,
    multi_label: bool = False,
    unique: bool = False,
) -> VideoList:
    """Read and check a list. The videos are not looked at (see `check_files`).

    Args:
        list_path: the list file.
        root_path: what relative paths in the list are joined to.
        num_class: number of classes.
        multi_label: a video may have several labels.
        unique: each video may be listed once, as in a list to test on, where it would count twice.

    Raises:
        UserError: the file is missing, empty or not UTF-8 text; a line is malformed, a label is out
            of range, ``num_frames`` is below 1, or a path is a URL; or a video that must be unique
            is not. The message names file and line.
    """
    list_path = os.fspath(list_path)
    ids, num_frames, labels, lines = [], [], [], []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(read_text(list_path).split("\n"), 1):
        line = line.strip(" \t")
        if not line:
            continue
        place = f"{list_path}:{number}"
        video_id, count, label = _parse_line(place, line)
        _check_not_url(place, video_id)
        own = _parse_labels(place, label, num_class, multi_label)
        if count is not None and int(count) < 1:
            raise UserError(
                f"{place}: num_frames is {int(count)}; remove the line or extract the frames"
            )
        if unique:
            first = first_lines.setdefault(os.path.normpath(video_id), number)
            if first != number:
                hint = "; several labels of a video are joined by commas" if multi_label else ""
                raise UserError(
                    f"{place}: {video_id} is also at {list_path}:{first}, and would count twice; "
                    f"remove one of the two lines{hint}"
                )
        ids.append(video_id)
        num_frames.append(-1 if count is None else int(count))
        labels.append(tuple(own) if multi_label else own[0])
        lines.append(number)
    if not ids:
        raise UserError(f"{list_path}: the list is empty; {_FORMS}, one video per line")
    return VideoList(list_path, os.fspath(root_path), ids, num_frames, labels, lines, num_class)


def _parse_line(place: str, line: str) -> tuple[str, str | None, str]:
    """Video, number of frames if given, and label or labels of a line, as text."""
    if "\t" not in line:
        match = _SPACED.fullmatch(line)
        if not match:
            raise _malformed(place, line, line.rsplit(" ", 1))
        return match.groups()
    fields = [field.strip(" ") for field in line.split("\t")]
    is_valid = (
        len(fields) in (2, 3)
        and fields[0]
        and all(_INTEGER.fullmatch(field) for field in fields[1:-1])
        and _LABELS.fullmatch(fields[-1])
    )
    if not is_valid:
        raise _malformed(place, line, fields)
    count = fields[1] if len(fields) == 3 else None
    return fields[0], count, fields[-1]


def _check_not_url(place: str, video_id: str) -> None:
    is_chained_url = "::" in video_id and ".shards" in video_id
    if "://" in video_id or is_chained_url:
        raise UserError(
            f"{place}: {video_id[:_MAX_SHOWN]!r} is a URL, and a list must not open one; give that "
            f"of a shard set as --root_path"
        )


def _parse_labels(place: str, text: str, num_class: int, multi_label: bool) -> list[int]:
    labels = [int(part) for part in text.split(",")]
    if len(labels) > 1 and not multi_label:
        raise UserError(
            f"{place}: {len(labels)} labels, {text[:40]}; several per video need --multi_label"
        )
    for label in labels:
        if not 0 <= label < num_class:
            raise UserError(
                f"{place}: label {label} is out of range for {num_class} classes; labels start at "
                f"0: correct the list or --num_class"
            )
    return labels


def _malformed(place: str, line: str, fields: list[str]) -> UserError:
    if len(fields) == 4 and all(_INTEGER.fullmatch(field) for field in fields[1:]):
        return UserError(f"{place}: {_SEGMENTS}")
    if len(fields) == 2 and fields[0] and not _INTEGER.fullmatch(fields[1]):
        return UserError(f"{place}: label {fields[1][:40]!r} is not an integer; {_FORMS}")
    if len(line) > _MAX_SHOWN:
        line = line[: _MAX_SHOWN - 3] + "..."
    return UserError(f"{place}: malformed line {line!r}; {_FORMS}")


def explain_missing(record: Record) -> str:
    """Why a record's path does not exist, if its line is the cause; else "". Asks the disk."""
    match = _WITH_START.fullmatch(record.path)
    if match and exists(resolve(match[1])):
        return _SEGMENTS
    return ""


def resolve(path: str) -> str:
    """The path of a listed video; where it does not exist, what the originals would open instead.

    That is ``path + ".mp4"`` (Kinetics lists name videos without the suffix; TDN ops/dataset.py
    always appends it), or the folder of the same number with six digits, ``000123`` for ``123``
    (flow of Something-Something V1; TSM ops/dataset.py). A path may lead into a shard set
    (ops/data/readers/shard_paths.py), whose index is asked.
    """
    if exists(path):
        return path
    folder, name = os.path.split(path)
    for alternative in _alternatives(name):
        other = os.path.join(folder, alternative)
        if exists(other):
            return other
    return path


def _alternatives(name: str) -> list[str]:
    """The names that the originals would open for a listed name."""
    names = [f"{name}.mp4"]
    if _INTEGER.fullmatch(name):
        names.append(f"{int(name):06d}")
    return names


def check_files(video_list: VideoList, threads: int = 16) -> list[Record]:
    """Find the videos that do not exist. No file is opened.

    A folder of many listed videos is read as a whole: that answers for all of them at once.

    Args:
        video_list: the list.
        threads: how many ask at the same time: on a network disk each question waits for the
            server.

    Returns:
        The records, in list order, for which nothing exists at the path that `resolve` gives.
    """
    paths = video_list.paths()

    def find_missing(part: list[int]) -> list[int]:
        return [index for index in part if not exists(resolve(paths[index]))]

    missing = []
    with ThreadPoolExecutor(threads) as pool:
        unknown = _not_in_folders(paths, pool)
        parts = [
            unknown[start : start + _PATHS_PER_TASK]
            for start in range(0, len(unknown), _PATHS_PER_TASK)
        ]
        for found in pool.map(find_missing, parts):
            missing += found
    return [video_list[index] for index in missing]


def _not_in_folders(paths: list[str], pool: Executor) -> list[int]:
    """The indices, ascending, of paths that are not seen when folders of many paths are read."""
    by_folder: dict[str, list[tuple[int, str]]] = {}
    for index, path in enumerate(paths):
        folder, name = os.path.split(path)
        by_folder.setdefault(folder, []).append((index, name))
    unknown = []
    large = []
    for folder, videos in by_folder.items():
        if len(videos) >= _LARGE_FOLDER:
            large.append(folder)
        else:
            unknown += [index for index, _ in videos]
    limits = [_ENTRIES_PER_VIDEO * len(by_folder[folder]) for folder in large]
    for folder, names in zip(large, pool.map(_names_in, large, limits), strict=True):
        for index, name in by_folder[folder]:
            if name not in names and names.isdisjoint(_alternatives(name)):
                unknown.append(index)
    return sorted(unknown)


def _names_in(folder: str, limit: int) -> set[str]:
    """Names of things that exist in a folder, at most ``limit``, without links.

    It is empty for a folder that cannot be read, and for one in a shard set.
    """
    try:
        with os.scandir(folder or ".") as entries:
            return {entry.name for entry in islice(entries, limit) if not entry.is_symlink()}
    except OSError:
        return set()
