"""Scores of frames and crops in an ``.npz`` file.

There are two forms. TSN's ``--save_scores`` (Caffe tools/eval_net.py, tsn-pytorch test_models.py)
writes ``scores``, an object array ``[V, 2]`` of (array ``[frames, crops, classes]``, label), and
``labels`` ``[V]``: a zip file that contains pickles. They are read without running anything
(``ops/scores/safe_pickle.py``).

This project writes ``scores`` float32 ``[V, 1, F, crops, classes]``, ``labels`` and ``ids``, which
``numpy.load`` reads without ``allow_pickle``. In both forms ``scores[:, 0]``, which TSN's
tools/eval_scores.py takes, are the arrays ``[F, crops, classes]`` of the videos.
"""

import math
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_loads, to_integer
from ops.scores.video_ids import check_ids
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular
from ops.utils.text import printable

_READ_BYTES = 2**20  # at a time
# A member may unpack to this multiple of the size of the file, or to this many bytes: scores hardly
# compress.
_LARGEST_RATIO = 20
_ALWAYS_ADMITTED = 2**21


class NpzScores(NamedTuple):
    """The content of an ``.npz`` file of V videos.

    Attributes:
        scores: float32 ``[F, crops, classes]`` per video.
        labels: int64 ``[V]``.
        ids: one per video, or None.
    """

    scores: Sequence[np.ndarray]
    labels: np.ndarray
    ids: list[str] | None


def save_npz(
    path: str | Path, scores: np.ndarray, labels: np.ndarray, ids: Sequence[str] | None = None
) -> None:
    """Write one ``.npz`` file, atomically. Its folder is created if it does not exist.

    Args:
        path: the file.
        scores: float32 ``[V, F, crops, classes]``. In the file they have an axis more, so that
            ``scores[:, 0]`` are the videos.
        labels: integers ``[V]``.
        ids: one per video, or None.

    Raises:
        ValueError: other shapes or types, or a label outside ``[0, classes)``.
        UserError: scores that are not finite, or invalid ids.
    """
    scores = np.asarray(scores)
    labels = np.asarray(labels)
    if scores.dtype != np.float32 or scores.ndim != 4 or not scores.size:
        raise ValueError(
            f"scores must be float32 [V, F, crops, classes], got {scores.dtype} {scores.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"{len(scores)} videos need as many integer labels, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[-1]:
        raise ValueError(f"labels outside [0, {scores.shape[-1]})")
    content = {"scores": scores[:, None], "labels": labels.astype(np.int64)}
    if ids is not None:
        if len(ids) != len(scores):
            raise ValueError(f"{len(scores)} videos need as many ids, got {len(ids)}")
        check_ids(path, ids)
        content["ids"] = np.array(ids, dtype=str)
    _check_finite(path, scores)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, **content)


def load_npz(path: str | Path) -> NpzScores:
    """Read one ``.npz`` file of either form.

    Raises:
        UserError: the file is missing, damaged or contains anything but such scores, its labels
            disagree or are outside ``[0, classes)``, or its scores are not finite. It names the
            row, from 1.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            limit = max(_ALWAYS_ADMITTED, _LARGEST_RATIO * os.fstat(file.fileno()).st_size)
            scores, labels, ids = (
                _read_member(archive, f"{key}.npy", limit) for key in ("scores", "labels", "ids")
            )
        return _check_content(path, scores, labels, ids)
    except RefusedPickle as refused:
        raise UserError(f"{path}: {refused}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or 'damaged'})") from None
    except UserError:
        raise
    except Exception as error:  # a hostile or damaged zip file or header can raise nearly anything
        raise UserError(
            f"{path}: is not an .npz file, or is damaged ({type(error).__name__})"
        ) from None


# A member of the archive: numbers, objects, or a list that was saved as objects.
Member = np.ndarray | PickledArray | list


def _read_member(archive: zipfile.ZipFile, name: str, limit: int) -> Member | None:
    """One array of the archive, None if it does not exist."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        return None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedPickle(f"{name} is compressed by a method that numpy does not use")
    if info.file_size > limit:
        raise RefusedPickle(
            f"{name} would unpack to {info.file_size} bytes, too many for a file of this size"
        )
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member)
        # In pieces, so that nothing is allocated for bytes that do not exist.
        data = b"".join(iter(lambda: member.read(_READ_BYTES), b""))
    if dtype.hasobject:
        return _load_objects(name, shape, data)
    is_filled = math.prod(shape) * dtype.itemsize == len(data)
    if not dtype.itemsize or min(shape, default=0) < 0 or not is_filled:
        raise RefusedPickle(
            f"{name} has {len(data)} bytes of {dtype}, "
            f"which do not fill the shape {printable(shape)}"
        )
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran order, and type, as numpy reads them."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(member)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of headers that Python 2 wrote
        return readers[version](member)


def _load_objects(name: str, shape: tuple[int, ...], data: bytes) -> PickledArray | list:
    loaded = safe_loads(data)
    if isinstance(loaded, PickledArray) and loaded.shape != shape:
        raise RefusedPickle(
            f"{name} has the shape {printable(shape)} in its header, "
            f"but contains {printable(loaded.shape)}"
        )
    return loaded


def _check_content(
    path: str | Path, scores: Member | None, labels: Member | None, ids: Member | None
) -> NpzScores:
    if scores is None:
        raise RefusedPickle("contains no scores; write them with --save_scores")
    if isinstance(scores, np.ndarray):
        videos = _videos_of_table(scores)
        own_labels = None
    else:
        rows = _rows_of_objects(scores)
        videos = _videos_of_rows(rows)
        own_labels = _to_labels([label for _, label in rows])
    num_class = videos[0].shape[-1]
    labels = _agreed_labels(_to_labels(labels), own_labels, len(videos), num_class)
    _check_finite(path, videos)
    return NpzScores(videos, np.array(labels, np.int64), _to_ids(path, ids, len(videos)))


def _videos_of_table(scores: np.ndarray) -> np.ndarray:
    """float32 ``[V, F, crops, classes]`` of this project's form, with or without the axis of 1."""
    if scores.ndim == 5 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.dtype.kind not in "fiu" or scores.ndim != 4 or not scores.size:
        raise RefusedPickle(
            f"has scores {scores.dtype} {printable(scores.shape)}, "
            "not numbers [videos, frames, crops, classes]"
        )
    with np.errstate(over="ignore"):
        return scores.astype(np.float32, copy=False)


def _rows_of_objects(scores: PickledArray | list) -> list[tuple]:
    """(array, label) of every video; the label is None if there is only an array.

    ``scores`` is an object array ``[V, 2]``, or one ``[V]`` or a list of pairs or arrays.
    """
    rows = scores
    if isinstance(scores, PickledArray):
        rows = scores.objects()
        if scores.shape[1:] == (2,):
            rows = list(zip(rows[::2], rows[1::2], strict=True))
        elif len(scores.shape) != 1:
            rows = None
    if not isinstance(rows, list):
        raise RefusedPickle("has scores that are not a list of (array, label)")
    if not rows:
        raise RefusedPickle("contains scores of no video")
    pairs = []
    for number, row in enumerate(rows, 1):
        pair = (row, None) if isinstance(row, PickledArray) else row
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], PickledArray):
            raise RefusedPickle(f"row {number} of {len(rows)} of its scores is not (array, label)")
        pairs.append((pair[0], to_integer(pair[1])))
    return pairs


def _videos_of_rows(rows: list[tuple]) -> list[np.ndarray]:
    videos = []
    seen = set()
    num_class = None
    for number, (array, _) in enumerate(rows, 1):
        place = f"row {number} of {len(rows)}"
        if id(array.raw) in seen:  # else a small file could ask for its one array a million times
            raise RefusedPickle(f"{place} has the scores of another row")
        seen.add(id(array.raw))
        shape = array.shape if isinstance(array.shape, tuple) else ()
        if num_class is None and len(shape) == 3:
            num_class = shape[2]
        if len(shape) != 3 or 0 in shape or shape[2] != num_class:
            raise RefusedPickle(
                f"{place} has scores of shape {printable(array.shape)}, "
                f"not [frames, crops, {num_class or 'classes'}]"
            )
        with np.errstate(over="ignore"):
            videos.append(array.array().astype(np.float32, copy=False))
    return videos


def _to_labels(labels: Member | None) -> list | None:
    """Labels as a list of Python values, None if there are none."""
    if isinstance(labels, np.ndarray):
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise RefusedPickle(
                f"has labels {labels.dtype} {printable(labels.shape)}, not integers [videos]"
            )
        return labels.tolist()
    if isinstance(labels, PickledArray):
        labels = labels.objects()
    if not isinstance(labels, list) or all(label is None for label in labels):
        return None
    return [to_integer(label) for label in labels]


def _agreed_labels(
    labels: list | None, own_labels: list | None, num_videos: int, num_class: int
) -> list[int]:
    """The labels of the member ``labels``, or of ``scores``; if both exist, they must be equal."""
    if labels is None:
        labels = own_labels or []
    if len(labels) != num_videos:
        raise RefusedPickle(f"has {len(labels)} labels for {num_videos} videos")
    for number, (label, own) in enumerate(zip(labels, own_labels or labels, strict=True), 1):
        place = f"row {number} of {num_videos}"
        if type(label) is not int or not 0 <= label < num_class:
            raise RefusedPickle(
                f"{place} has the label {printable(label)}, not an integer in [0, {num_class})"
            )
        if label != own:
            raise RefusedPickle(
                f"{place} has the label {label} in labels, but {printable(own)} beside its scores"
            )
    return labels


def _to_ids(path: str | Path, ids: Member | None, num_videos: int) -> list[str] | None:
    if ids is None:
        return None
    names = None
    if isinstance(ids, PickledArray):
        names = ids.objects()
    elif isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "SU":
        if ids.dtype.kind == "S":
            ids = np.char.decode(ids, "utf-8")
        names = ids.tolist()
    is_list = isinstance(names, list) and len(names) == num_videos
    if not is_list or not all(isinstance(name, str) for name in names):
        raise RefusedPickle(f"has ids that are not {num_videos} texts")
    check_ids(path, names)
    return names


def _check_finite(path: str | Path, videos: Sequence[np.ndarray]) -> None:
    for number, video in enumerate(videos, 1):
        if not np.isfinite(video).all():
            raise UserError(f"{path}: row {number} of {len(videos)} has scores that are not finite")
