"""Score files: the logits of one clip and one crop of every video.

They are the files that TDN's test_models_center_crop.py and test_models_three_crops.py write:
``OUTPUT_DIR/{clip}_crop{crop}.pkl``, both counted from 0 (crops in the order of TDN's rst0, rst1,
rst2). A file is a pickled list, in list order, of ``[float32 array (1, classes), int label]``. With
several labels per video there is a list of labels instead of one.
"""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ops.data.labels import as_array, of_row
from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_load, to_integer
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular
from ops.utils.text import printable


def score_path(directory: str | Path, clip: int, crop: int) -> Path:
    """The score file of one clip and crop, both counted from 0."""
    return Path(directory) / f"{clip}_crop{crop}.pkl"


class ScoreWriter:
    """Write a score file video by video.

    The file is written opcode by opcode, because ``pickle.dump`` would need all videos in memory at
    once, and with numpy 2 its files cannot be read by numpy 1, which the original repositories use.
    The same scores give the same bytes with any version of Python and numpy.
    """

    _BATCH = 1000  # videos that a reader appends to the list at once

    def __init__(self, file: IO[bytes], num_class: int) -> None:
        """Begin the list.

        Args:
            file: open for writing bytes. ``close`` ends the list and leaves the file open.
            num_class: number of scores per video.
        """
        # Three objects are stored in the memo once, under the numbers 0, 1 and 2. numpy 2 knows the
        # name of numpy 1 for the function that makes an array.
        store = pickle.MEMOIZE + pickle.POP
        file.write(pickle.PROTO + b"\x04")
        file.write(_global("numpy.core.multiarray", "_reconstruct") + store)
        file.write(_global("numpy", "ndarray") + store)
        file.write(_float32() + store)
        file.write(pickle.EMPTY_LIST + pickle.MARK)
        self._file = file
        self._videos = 0
        self._array_head = _array_head(num_class)

    def write(self, logits: np.ndarray, label: int | Sequence[int]) -> None:
        """Write one video.

        Args:
            logits: float32 ``[classes]``.
            label: the label of the video, or a sequence of its labels.
        """
        if isinstance(label, int):
            pickled_label = _integer(label)
        else:
            labels = b"".join(map(_integer, label))
            pickled_label = pickle.EMPTY_LIST + pickle.MARK + labels + pickle.APPENDS
        data = logits.astype("<f4", copy=False).tobytes()
        array = self._array_head + data + pickle.TUPLE + pickle.BUILD
        self._file.write(pickle.EMPTY_LIST + pickle.MARK + array + pickled_label + pickle.APPENDS)
        self._videos += 1
        if self._videos % self._BATCH == 0:
            self._file.write(pickle.APPENDS + pickle.MARK)

    def close(self) -> None:
        """End the list."""
        self._file.write(pickle.APPENDS + pickle.STOP)


def _text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + pickle.STACK_GLOBAL


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return pickle.BININT1 + bytes([value])
    return pickle.BININT + value.to_bytes(4, "little", signed=True)


def _float32() -> bytes:
    """``numpy.dtype("f4", False, True)`` with numpy's state of a little-endian number."""
    arguments = pickle.MARK + _text("f4") + pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE
    # (version, byte order, subtype, names, fields, item size, alignment, flags)
    state = _integer(3) + _text("<") + 3 * pickle.NONE + 2 * _integer(-1) + _integer(0)
    made = _global("numpy", "dtype") + arguments + pickle.REDUCE
    return made + pickle.MARK + state + pickle.TUPLE + pickle.BUILD


def _array_head(num_class: int) -> bytes:
    """The opcodes of a float32 array ``(1, num_class)`` up to its data.

    It is ``_reconstruct(ndarray, (0,), b"b")`` with the state (version, shape, type, whether in
    Fortran order, data). A state ends with TUPLE and BUILD.
    """
    get = pickle.BINGET
    function = get + b"\x00"
    arguments = get + b"\x01" + _integer(0) + pickle.TUPLE1 + pickle.SHORT_BINBYTES + b"\x01b"
    made = function + arguments + pickle.TUPLE3 + pickle.REDUCE
    shape = pickle.MARK + _integer(1) + _integer(num_class) + pickle.TUPLE
    state = pickle.MARK + _integer(1) + shape + get + b"\x02" + pickle.NEWFALSE
    size = 4 * num_class
    return made + state + pickle.BINBYTES + size.to_bytes(4, "little")


def save_scores(path: str | Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Write one score file, atomically. Its folder is created if it does not exist.

    Args:
        path: the file.
        logits: float32 ``[V, classes]``.
        labels: integers ``[V]``, or bool ``[V, classes]``.

    Raises:
        ValueError: other shapes or types, or a label outside ``[0, classes)``.
        UserError: logits that are not finite.
    """
    logits = np.asarray(logits)
    labels = np.asarray(labels)
    _check_arrays(logits, labels)
    _check_finite(path, logits)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        writer = ScoreWriter(file, logits.shape[1])
        for row, of_video in enumerate(logits):
            writer.write(of_video, of_row(labels, row))
        writer.close()


def _check_arrays(logits: np.ndarray, labels: np.ndarray) -> None:
    if logits.dtype != np.float32 or logits.ndim != 2:
        raise ValueError(f"logits must be float32 [V, classes], got {logits.dtype} {logits.shape}")
    if labels.dtype == bool:
        matches = labels.shape == logits.shape
    else:
        matches = labels.dtype.kind in "iu" and labels.shape == logits.shape[:1]
    if not matches:
        raise ValueError(
            f"labels must be integers [{len(logits)}] or bool {logits.shape}, "
            f"got {labels.dtype} {labels.shape}"
        )
    if not labels.size:
        raise ValueError("no labels")
    if labels.dtype != bool and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise ValueError(f"labels outside [0, {logits.shape[1]})")


def load_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one score file, of this project or of TDN.

    Nothing in the file is run (``ops/scores/safe_pickle.py``), and the scores are in memory once.

    Returns:
        Logits float32 ``[V, classes]``, and labels int64 ``[V]``, or bool ``[V, classes]`` if a row
        has a list of labels.

    Raises:
        UserError: the file is missing or damaged, contains anything but numbers, rows with
            different numbers of classes, scores that are not finite, or labels outside
            ``[0, classes)``. It names the row, from 1, as the lines of the list.
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


def _to_arrays(rows: object, file_size: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(rows, list) or not rows:
        raise RefusedPickle("is not a score file: it contains no list of videos")
    labels = []
    num_class = None
    for number, row in enumerate(rows, 1):
        place = f"row {number} of {len(rows)}"
        scores = _scores_of_row(row, place)
        if num_class is None:
            num_class = scores.size
        # A file of this size cannot contain the scores; the rows of a real file do not share them.
        if scores.nbytes * len(rows) > file_size:
            raise RefusedPickle("is not a score file: it is smaller than its scores")
        # The last axis has all the scores, so the other axes have length 1.
        if scores.size != num_class or row[0].shape[-1:] != (num_class,):
            raise RefusedPickle(
                f"{place} has scores of shape {printable(row[0].shape)}, not (1, {num_class})"
            )
        labels.append(_label_of_row(row, num_class, place))
    try:
        labels = as_array(labels, num_class)
    except ValueError:
        raise RefusedPickle("has rows with one label and rows with several") from None
    logits = np.empty((len(rows), num_class), np.float32)
    while rows:  # from the end: the memory of the rows is freed while the result is filled
        scores = rows.pop()[0].values()
        with np.errstate(over="ignore"):
            logits[len(rows)] = scores
    return logits, labels


def _scores_of_row(row: object, place: str) -> np.ndarray:
    if isinstance(row, list | tuple) and len(row) == 2 and isinstance(row[0], PickledArray):
        return row[0].values()
    raise RefusedPickle(f"is not a score file: {place} is not [array, label]")


def _label_of_row(row: Sequence, num_class: int, place: str) -> int | tuple[int, ...]:
    several = isinstance(row[1], list) and len(row[1]) > 0
    labels = row[1] if several else [row[1]]
    if len(labels) > max(1, num_class):
        raise RefusedPickle(f"{place} has {len(labels)} labels of {num_class} classes")
    labels = [to_integer(label) for label in labels]
    for label in labels:
        if type(label) is not int or not 0 <= label < num_class:
            raise RefusedPickle(
                f"{place} has the label {printable(label)}, not an integer in [0, {num_class})"
            )
    return tuple(labels) if several else labels[0]


def _check_finite(path: str | Path, logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        row = finite.argmin() + 1
        raise UserError(f"{path}: row {row} of {len(finite)} has scores that are not finite")
