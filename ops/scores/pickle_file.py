"""Score files of a test.

A score file holds the logits of one clip and one crop of every video. It is the file that TDN's
test_models_center_crop.py and test_models_three_crops.py leave: ``OUTPUT_DIR/{clip}_crop{crop}.pkl``, both counted from
0 (crops in the order of TDN's rst0, rst1, rst2), a pickled list, in list order, of ``[float32 array (1, classes), int
label]``; a video of several labels has a list of them.
"""

import os
import re
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import IO

import numpy as np

from ops.data.labels import as_array, differing, of_row
from ops.scores.metadata import Facts
from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_load
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular
from ops.utils.text import counted, printable


def score_path(directory: str | Path, clip: int, crop: int) -> Path:
    """The score file of one clip and crop, both counted from 0, as TDN names it."""
    return Path(directory) / f"{clip}_crop{crop}.pkl"


class ScoreWriter:
    """Writes a score file video by video: a pickle that the originals' ``pickle.load`` reads with numpy 1 and numpy 2.

    ``file`` is open for bytes. Call ``write`` for each video, then ``close``, which leaves the file open.
    """

    _BATCH = 1000  # rows that a reader puts into the list at once

    def __init__(self, file: IO[bytes], num_class: int) -> None:
        # Every row needs, remembered as 0, 1 and 2: numpy 1's name of what makes an array (numpy 2 knows it), ndarray, float32.
        reconstruct = _name("numpy.core.multiarray", "_reconstruct") + b"\x940"
        minus_one = b"J\xff\xff\xff\xff"
        float32 = (
            _name("numpy", "dtype")
            + b"(\x8c\x02f4\x89\x88tR(K\x03\x8c\x01<NNN"
            + 2 * minus_one
            + b"K\x00tb\x940"
        )
        file.write(
            b"\x80\x04" + reconstruct + _name("numpy", "ndarray") + b"\x940" + float32 + b"]("
        )
        # [ _reconstruct(ndarray, (0,), b"b") with the state (1, (1, classes), float32, False, data), label ]
        self._before = (
            b"](h\x00h\x01K\x00\x85C\x01b\x87R(K\x01(K\x01"
            + _integer(num_class)
            + b"th\x02\x89B"
            + (4 * num_class).to_bytes(4, "little")
        )
        self._file, self._rows, self._num_class = file, 0, num_class

    def write(self, logits: np.ndarray, label: int | tuple[int, ...]) -> None:
        """One video: float32 logits ``[classes]`` and its label, or a tuple of labels."""
        several = not isinstance(label, int)
        pickled = b"](" + b"".join(map(_integer, label)) + b"e" if several else _integer(label)
        self._file.write(
            self._before + logits.astype("<f4", copy=False).tobytes() + b"tb" + pickled + b"e"
        )
        self._rows += 1
        if self._rows % self._BATCH == 0:
            self._file.write(b"e(")

    def close(self) -> None:
        """End the list."""
        self._file.write(b"e.")


def _name(module: str, name: str) -> bytes:
    """The opcodes of a pickle that look up a name."""
    return (
        b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"
    )


def _integer(value: int) -> bytes:
    """The opcode of a pickle for a whole number from 0."""
    return b"K" + bytes([value]) if value < 256 else b"J" + value.to_bytes(4, "little")


def save_scores(path: str | Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Write one score file, atomically.

    ``logits`` float32 ``[V, classes]``, ``labels`` integers ``[V]`` or bool ``[V, classes]``. The folder is made if it is not
    there. What ``load_scores`` refuses is never written: raises ``ValueError`` for other shapes and types or a label outside
    ``[0, classes)``, ``UserError`` for logits that are not finite.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.dtype != np.float32 or logits.ndim != 2:
        raise ValueError(f"logits must be float32 [V, classes], got {logits.dtype} {logits.shape}")
    if labels.dtype == bool:
        right = labels.shape == logits.shape
    else:
        right = labels.dtype.kind in "iu" and labels.shape == logits.shape[:1]
    if not right:
        raise ValueError(
            f"labels must be integers [{len(logits)}] or bool {logits.shape}, got {labels.dtype} {labels.shape}"
        )
    if not labels.size or (
        labels.dtype != bool and (labels.min() < 0 or labels.max() >= logits.shape[1])
    ):
        raise ValueError(f"no labels, or labels outside [0, {logits.shape[1]})")
    _check_finite(path, logits)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        writer = ScoreWriter(file, logits.shape[1])
        for row, values in enumerate(logits):
            writer.write(values, of_row(labels, row))
        writer.close()


def load_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one score file, ours or TDN's: (logits float32 ``[V, classes]``, labels int64 ``[V]`` or, where a row has a list of
    labels, bool ``[V, classes]``).

    The labels may be Python or numpy integers. Nothing in the file is run (``ops/scores/safe_pickle.py``). The scores are in
    memory once, as the result. Raises ``UserError``, one line that names the file and the row (from 1, as the lines of the
    list), for a file that is missing, damaged or holds anything but numbers, rows of different class counts, scores that are
    not finite and labels outside ``[0, classes)``.
    """
    try:
        with open_regular(path) as file:
            logits, labels = _to_arrays(safe_load(file), os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except RefusedPickle as refused:
        raise UserError(f"{path}: {refused}") from None
    _check_finite(path, logits)
    return logits, labels


def _to_arrays(rows, size: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(rows, list) or not rows:
        raise RefusedPickle("is not a score file: it holds no list of videos")
    labels, width = [], 0
    for index, row in enumerate(rows):
        at = f"row {index + 1} of {len(rows)}"
        if (
            not isinstance(row, list | tuple)
            or len(row) != 2
            or not isinstance(row[0], PickledArray)
        ):
            raise RefusedPickle(f"is not a score file: {at} is not [array, label]")
        score = row[0].values()
        width = width or score.size
        if score.nbytes * len(rows) > size:  # the rows of a real file do not share their data
            raise RefusedPickle("is not a score file: it is smaller than its scores")
        # The last axis has all the scores, so the other axes have length 1.
        if score.size != width or row[0].shape[-1:] != (width,):
            raise RefusedPickle(
                f"{at} has scores of shape {printable(row[0].shape)}, not (1, {width})"
            )
        labels.append(_label(row[1], width, at))
    try:
        labels = as_array(labels, width)
    except ValueError:
        raise RefusedPickle("has rows with one label and rows with several") from None
    logits = np.empty((len(rows), width), np.float32)
    while (
        rows
    ):  # from the end, so that the memory of the rows can be given back as the result fills
        score = rows.pop()[0].values()
        with np.errstate(over="ignore"):
            logits[len(rows)] = score
    return logits, labels


def _label(value, classes: int, at: str) -> int | tuple[int, ...]:
    several = value if isinstance(value, list) and value else [value]
    if len(several) > max(1, classes):
        raise RefusedPickle(f"{at} has {len(several)} labels of {classes} classes")
    own = []
    for label in several:
        if isinstance(label, PickledArray):
            values = label.values()
            label = (
                int(values[0])
                if values.size == 1 and values.dtype.kind in "iu"
                else f"array of {values.dtype}"
            )
        if type(label) is not int or not 0 <= label < classes:
            raise RefusedPickle(
                f"{at} has the label {printable(label)}, not an integer in [0, {classes})"
            )
        own.append(label)
    return tuple(own) if isinstance(value, list) else own[0]


def _check_finite(path: str | Path, logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise UserError(
            f"{path}: row {finite.argmin() + 1} of {len(finite)} has scores that are not finite"
        )


def find_views(
    directory: str | Path, num_clips: int | None = None, num_crops: int | None = None
) -> tuple[int, int]:
    """(clips, crops) of the grid of files in ``directory``: those asked for, else as far as the files there reach.

    Raises ``UserError`` that names the files missing from that grid, or says that there are none.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of score files")
    matches = (
        re.fullmatch(r"(0|[1-9][0-9]*)_crop(0|[1-9][0-9]*)\.pkl", file.name)
        for file in directory.iterdir()
    )
    found = {(int(match[1]), int(match[2])) for match in matches if match}
    if not found:
        raise UserError(f"{directory}: no score files such as 0_crop0.pkl")
    clips = num_clips or max(clip for clip, _ in found) + 1
    crops = num_crops or max(crop for _, crop in found) + 1
    count = clips * crops - sum(clip < clips and crop < crops for clip, crop in found)
    if count:
        absent = (
            (clip, crop)
            for clip in range(clips)
            for crop in range(crops)
            if (clip, crop) not in found
        )
        names = ", ".join(score_path("", *view).name for view in islice(absent, 5)) + ", ..." * (
            count > 5
        )
        raise UserError(f"{directory}: {count} of {clips * crops} score files are missing: {names}")
    return clips, crops


def load_views(
    directory: str | Path, clips: int, crops: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``load_scores`` of each file of the grid, clip by clip, one in memory at a time.

    Raises ``UserError`` when a file is not of the same videos and classes as the first one.
    """
    first = None
    for view in product(range(clips), range(crops)):
        path = score_path(directory, *view)
        logits, labels = load_scores(path)
        first = first or (path, logits.shape, labels)
        check_same_videos(first, (path, logits.shape, labels))
        yield logits, labels


def check_same_videos(first: tuple, other: tuple) -> None:
    """Compare two scores, each ``(name, shape (V, classes), labels [V])``.

    Raises ``UserError`` when the number of videos or classes differs, or a label: it names the first row that does.
    """
    for axis, unit in enumerate(("videos", "classes")):
        if first[1][axis] != other[1][axis]:
            raise UserError(
                f"{other[0]}: {other[1][axis]} {unit}, but {first[0]} has {first[1][axis]}"
            )
    if first[2].ndim != other[2].ndim:
        raise UserError(
            f"{other[0]} and {first[0]}: one has several labels a video, the other has one"
        )
    if (rows := differing(first[2], other[2])).size:
        here, there = (of_row(one[2], rows[0]) for one in (other, first))
        raise UserError(
            f"{other[0]}: row {rows[0] + 1} has the label {here}, but {there} in {first[0]}"
        )


def protocol_line(
    facts: Facts | None,
    clips: int,
    crops: int,
    videos: int,
    softmax: bool = True,
    fusion: str | None = None,
) -> str:
    """What a result is a result of: ``8 frames x 3 crops x 10 clips, 256, 19796/19796 videos, softmax per view``.

    ``facts`` as ``read_facts`` gives them; without them the frames, the size and the length of the list are not known
    and the line is ``10 clips x 3 crops, softmax per view, 19796/19796 videos``. ``fusion`` names another way of
    putting views together than the mean of their softmax or logits.
    """
    fusion = fusion or ("softmax per view" if softmax else "mean of logits")
    if facts is None:
        views = f"{counted(clips, 'clip')} x {counted(crops, 'crop')}"
        return f"{views}, {fusion}, {videos}/{videos} videos"
    frames = counted(facts.protocol["num_segments"], "frame")
    views = f"{frames} x {counted(crops, 'crop')} x {counted(clips, 'clip')}"
    return f"{views}, {facts.protocol['crop_size']}, {facts.read}/{len(facts.ids)} videos, {fusion}"
