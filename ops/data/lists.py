"""Video lists: which videos, with which labels.

A list is a UTF-8 text file with one video a line, in one of two forms, told apart line by line::

    path/to/video.mp4 17            video label                (the frame count comes from the decoder)
    path/to/folder 142 17           folder num_frames label    (a folder of frames, as TSN, TSM and TDN write it)

* A line that holds a tab is separated by tabs; any other line by spaces.
* Paths may hold spaces. Separated by spaces, the last field is the label, and the field before it is ``num_frames`` if
  it is an integer: ``my video.mp4 3`` has two columns, ``a b 12 3`` is 12 frames of the folder ``a b``. A two-column
  path that ends in an integer (``take 12``) therefore needs tabs.
* In a multi-label list a label may be several, joined by commas: ``path/to/video.mp4 3,17``.
* Segments of a video (``video start end label``) are not supported: separated by spaces such a line already means ``end``
  frames of the folder ``video start``, and scores are kept by video. Cut each segment into a file
  of its own.
* Blank lines, Windows line ends and a byte order mark are allowed.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import NamedTuple, NoReturn

import numpy as np

from ops.data.labels import as_array, of_row
from ops.data.readers.shard_paths import exists
from ops.utils.errors import UserError
from ops.utils.files import read_regular

# 18 digits fit an int64 whatever they are.
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_LABELS = re.compile(r"-?[0-9]{1,18}(?:,-?[0-9]{1,18})*")
_SPACED = re.compile(rf"(.*?[^ ]) +(?:(-?[0-9]{{1,18}}) +)?({_LABELS.pattern})")
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
# What is left as the path of `video start end label`: with `end` taken for num_frames, or not
# (where it is no integer).
_WITH_START = re.compile(rf"(.+?) +{_NUMBER}(?: +{_NUMBER})?")
_SEGMENTS = (
    "looks like a segment of a video, `video start end label`, and segments are not supported; "
    "cut each into a file of its own and list that"
)
_FORMS = "expected `video label` or `folder num_frames label`, separated by spaces or by tabs"


class Record(NamedTuple):
    """One line of a list. ``num_frames`` is None for a two-column line, ``line`` counts from 1; ``label`` is a tuple of
    labels, in rising order, in a multi-label list."""

    id: str
    path: str
    num_frames: int | None
    label: int | tuple[int, ...]
    line: int


class VideoList(Sequence[Record]):
    """The records of a list, in list order, held in a few numpy arrays.

    Python objects would be copied page by page into every forked loader worker as reference counts are written
    (pytorch#13246); arrays stay shared.

    Attributes: ``path`` (of the list file), ``root_path``, ``labels`` (int64 ``[n]``; of a
    multi-label list bool ``[n, num_class]``).
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
        """``num_frames`` holds -1 where the list gives none; ``num_class`` is needed for tuples of labels."""
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
        """The record at ``index``; raises IndexError outside the list."""
        index = range(len(self))[index]
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

    def head(self, n: int) -> "VideoList":
        """The first ``n`` records, or all where there are fewer. Raises ValueError if ``n < 1``."""
        if n < 1:
            raise ValueError(f"the first {n} videos of a list are no list")
        part = copy(self)
        for name in ("labels", "_num_frames", "_lines", "_ends"):
            setattr(part, name, getattr(self, name)[:n])
        part._text = self._text[: part._ends[-1]]
        return part


def read_text(path: str) -> str:
    """A UTF-8 text file as a string with ``\\n`` line ends and no byte order mark.

    Raises UserError if the file is missing, unreadable or not UTF-8 text.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; put it there or give another path") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give the path of a readable text file"
        ) from None
    data = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    bad = data.find(b"\0")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        bad = error.start
    if bad >= 0:
        line = data.count(b"\n", 0, bad) + 1
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
    """Read and check a list; relative paths in it are joined to ``root_path``. No video is looked at (see check_files).

    ``unique``: each video may be listed once, as in a list to test on, where it would count twice.

    Raises UserError, naming file and line, if the list is missing, empty or not UTF-8 text, or if a line is malformed,
    its label is not an integer in ``[0, num_class)`` (or several, where ``multi_label`` allows them), its number of frames
    is below 1, its path is a URL, or a video that must be unique is not.
    """
    list_path, root_path = os.fspath(list_path), os.fspath(root_path)
    ids, counts, labels, lines = [], [], [], []
    first_lines: dict[str, int] = {}
    for number, line in enumerate(read_text(list_path).split("\n"), 1):
        line = line.strip(" \t")
        if not line:
            continue
        if "\t" in line:
            fields = [field.strip(" ") for field in line.split("\t")]
            video_id, label = fields[0], fields[-1]
            count = fields[1] if len(fields) == 3 else None
            numbers = (
                all(map(_INTEGER.fullmatch, fields[1:-1]))
                and len(fields) > 1
                and _LABELS.fullmatch(label)
            )
            if len(fields) > 3 or not video_id or not numbers:
                _refuse(list_path, number, line, fields)
        else:
            match = _SPACED.fullmatch(line)
            if not match:
                _refuse(list_path, number, line, line.rsplit(" ", 1))
            video_id, count, label = match.groups()
        if "://" in video_id or ("::" in video_id and ".shards" in video_id):
            raise UserError(
                f"{list_path}:{number}: {video_id[:80]!r} is a URL, and a list must not open one; give that of a "
                "shard set as --root_path"
            )
        own = [int(part) for part in label.split(",")]
        if len(own) > 1 and not multi_label:
            raise UserError(
                f"{list_path}:{number}: {len(own)} labels, {label[:40]}; several a video need --multi_label"
            )
        for one in own:
            if not 0 <= one < num_class:
                raise UserError(
                    f"{list_path}:{number}: label {one} is outside [0, {num_class}); labels count from 0: correct the "
                    "list or --num_class"
                )
        if count is not None and int(count) < 1:
            raise UserError(
                f"{list_path}:{number}: num_frames is {int(count)}; remove the line or extract the frames"
            )
        if unique:
            first = first_lines.setdefault(os.path.normpath(video_id), number)
            if first != number:
                joined = "; several labels of a video are joined by commas" if multi_label else ""
                raise UserError(
                    f"{list_path}:{number}: {video_id} is also at {list_path}:{first}, and would "
                    f"count twice; remove one of the two lines{joined}"
                )
        ids.append(video_id)
        counts.append(-1 if count is None else int(count))
        labels.append(tuple(own) if multi_label else own[0])
        lines.append(number)
    if not ids:
        raise UserError(f"{list_path}: the list is empty; {_FORMS}, one video a line")
    return VideoList(list_path, root_path, ids, counts, labels, lines, num_class)


def _refuse(list_path: str, number: int, line: str, fields: list[str]) -> NoReturn:
    if len(fields) == 4 and all(map(_INTEGER.fullmatch, fields[1:])):
        raise UserError(f"{list_path}:{number}: {_SEGMENTS}")
    shown = line if len(line) <= 80 else line[:77] + "..."
    if len(fields) == 2 and fields[0] and not _INTEGER.fullmatch(fields[1]):
        raise UserError(
            f"{list_path}:{number}: label {fields[1][:40]!r} is not an integer; {_FORMS}"
        )
    raise UserError(f"{list_path}:{number}: malformed line {shown!r}; {_FORMS}")


def explain_missing(record: Record) -> str:
    """Why a record's path does not exist, if the line is to be blamed for it; else "". Asks the
    disk."""
    match = _WITH_START.fullmatch(record.path)
    return _SEGMENTS if match and exists(resolve(match[1])) else ""


def resolve(path: str) -> str:
    """``path``, or if that does not exist what the originals would take in its place, if that does: ``path + ".mp4"``
    (Kinetics lists name videos without the ending; TDN ops/dataset.py always appends it), or the folder of the same
    number with six digits, ``000123`` for ``123`` (flow of Something-Something V1; TSM ops/dataset.py). A path may lead into a
    shard set (ops/data/readers/shard_paths.py), whose index is asked."""
    folder, name = os.path.split(path)
    other_names = [name + ".mp4", *([f"{int(name):06d}"] if _INTEGER.fullmatch(name) else [])]
    if not exists(path):
        for other in (os.path.join(folder, other) for other in other_names):
            if exists(other):
                return other
    return path


def check_files(video_list: VideoList, threads: int = 16) -> list[Record]:
    """The records, in list order, of which nothing exists under the path that resolve gives.

    Only the file table (the index of a shard set) is asked, from ``threads`` threads, since on a network disk each question
    waits for the server.
    """

    def missing(part: range) -> list[Record]:
        records = map(video_list.__getitem__, part)
        return [r for r in records if not (exists(r.path) or exists(resolve(r.path)))]

    parts = [
        range(start, min(start + 1000, len(video_list)))
        for start in range(0, len(video_list), 1000)
    ]
    with ThreadPoolExecutor(threads) as pool:
        return [record for part in pool.map(missing, parts) for record in part]
