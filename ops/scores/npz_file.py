"""Scores of frames and crops in an ``.npz`` file: those that TSN's ``--save_scores`` left, and a plain form of our own.

TSN (Caffe tools/eval_net.py, tsn-pytorch test_models.py) saves ``scores``, an object array ``[V, 2]`` of (array
``[frames, crops, classes]``, label), and ``labels`` ``[V]``: a zip file with pickles in it, by Python 2 or 3 and numpy 1.
They are read without running anything (``ops/scores/safe_pickle.py``). Ours is ``scores`` float32
``[V, 1, F, crops, classes]``, ``labels`` and ``ids``, which ``numpy.load`` reads without
``allow_pickle``; ``scores[:, 0]``, which TSN's tools/eval_scores.py takes, are the arrays ``[F,
crops, classes]`` of the videos in both.
"""

import math
import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_loads
from ops.scores.video_ids import check_ids
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, open_regular
from ops.utils.text import printable

_PIECE = 2**20
# A member may unpack to so many times the size of the file, or to so many bytes: scores hardly compress.
_LARGEST_RATIO, _ALWAYS_ADMITTED = 20, 2**21


class NpzScores(NamedTuple):
    """Scores of V videos: float32 ``[F, crops, classes]`` each, labels int64 ``[V]``, their ids or None."""

    scores: Sequence[np.ndarray]
    labels: np.ndarray
    ids: list[str] | None


def save_npz(
    path: str | Path, scores: np.ndarray, labels: np.ndarray, ids: Sequence[str] | None = None
) -> None:
    """Write ``scores`` float32 ``[V, F, crops, classes]``, ``labels`` integers ``[V]`` and ids, atomically.

    The file has an axis more, so that ``scores[:, 0]`` are the videos.

    The folder is made if it is not there. What ``load_npz`` refuses is never written: raises ``ValueError`` for other
    shapes and types or a label outside ``[0, classes)``, ``UserError`` for scores that are not finite and wrong ids.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.dtype != np.float32 or scores.ndim != 4 or not scores.size:
        raise ValueError(
            f"scores must be float32 [V, F, crops, classes], got {scores.dtype} {scores.shape}"
        )
    if (
        labels.dtype.kind not in "iu"
        or labels.shape != scores.shape[:1]
        or len(labels) != len(labels if ids is None else ids)
    ):
        raise ValueError(
            f"{len(scores)} videos need as many integer labels and ids, got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[-1]:
        raise ValueError(f"labels outside [0, {scores.shape[-1]})")
    content = {"scores": scores[:, None], "labels": labels.astype(np.int64)}
    if ids is not None:
        check_ids(path, ids)
        content["ids"] = np.array(ids, dtype=str)
    _check_finite(path, scores)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, **content)


def load_npz(path: str | Path) -> NpzScores:
    """Read one ``.npz`` of scores, of any of the forms above; ``labels`` may be missing where ``scores`` has them.

    Raises ``UserError``, one line that names the file and the row, from 1, for a file that is missing, damaged or holds
    anything but such scores, labels that disagree or lie outside ``[0, classes)``, and scores that are not finite.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            limit = max(_ALWAYS_ADMITTED, _LARGEST_RATIO * os.fstat(file.fileno()).st_size)
            content = {
                key: _read_member(archive, f"{key}.npy", limit)
                for key in ("scores", "labels", "ids")
            }
        return _scores(path, content)
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


def _read_member(
    archive: zipfile.ZipFile, name: str, limit: int
) -> np.ndarray | PickledArray | list | None:
    """One array of the archive, or None if it is not there."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        return None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise RefusedPickle(f"{name} is compressed in a way that numpy does not use")
    if info.file_size > limit:
        raise RefusedPickle(
            f"{name} says it unpacks to {info.file_size} bytes, too many for a file of this size"
        )
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        # In pieces, so that nothing is allocated for bytes that are not there; they end at file_size.
        data = b"".join(iter(lambda: member.read(_PIECE), b""))
    if dtype.hasobject:
        loaded = safe_loads(data, objects=True)
        if isinstance(loaded, PickledArray) and loaded.shape != shape:
            raise RefusedPickle(
                f"{name} has the shape {printable(shape)} in its header, but {printable(loaded.shape)} inside"
            )
        return loaded
    if (
        not dtype.itemsize
        or min(shape, default=0) < 0
        or math.prod(shape) * dtype.itemsize != len(data)
    ):
        raise RefusedPickle(
            f"{name} has {len(data)} bytes of {dtype}, which do not fill the shape {printable(shape)}"
        )
    return np.ndarray(shape, dtype, data, order="F" if fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python 2 wrote it, with an L after its integers
        return read(member)


def _scores(path: str | Path, content: dict) -> NpzScores:
    scores = content["scores"]
    if scores is None:
        raise RefusedPickle("holds no scores; those of TSN and of our tests do")
    if isinstance(scores, np.ndarray):
        if scores.ndim == 5 and scores.shape[1] == 1:
            scores = scores[:, 0]
        if scores.dtype.kind not in "fiu" or scores.ndim != 4 or not scores.size:
            got = f"{scores.dtype} {printable(scores.shape)}"
            raise RefusedPickle(f"has scores {got}, not numbers [videos, frames, crops, classes]")
        with np.errstate(over="ignore"):
            videos = scores.astype(np.float32, copy=False)
        own = None
    else:
        rows = _rows(scores)
        videos, own = _arrays(rows), _labels([row[1] for row in rows])
    labels = _agreed(_labels(content["labels"]), own, len(videos), videos[0].shape[-1])
    _check_finite(path, videos)
    return NpzScores(videos, np.array(labels, np.int64), _ids(path, content["ids"], len(videos)))


def _agreed(labels: list | None, own: list | None, videos: int, classes: int) -> list[int]:
    """The labels of the member ``labels``, of the rows of ``scores``, or of both, which then have to agree."""
    if labels is None:
        labels = own or []
    if len(labels) != videos:
        raise RefusedPickle(f"has {len(labels)} labels for {videos} videos")
    for row, (label, other) in enumerate(zip(labels, own or labels, strict=True), 1):
        if type(label) is not int or not 0 <= label < classes:
            raise RefusedPickle(
                f"row {row} of {videos} has the label {printable(label)}, not an integer in [0, {classes})"
            )
        if label != other:
            raise RefusedPickle(
                f"row {row} of {videos} has the label {label} in labels, but {printable(other)} beside its scores"
            )
    return labels


def _rows(scores: PickledArray | list) -> list[tuple]:
    """(array, label) of every video, out of an object array ``[V, 2]``, one ``[V]`` of pairs or arrays, or a list."""
    rows = scores.objects() if isinstance(scores, PickledArray) else scores
    if isinstance(scores, PickledArray) and scores.shape[1:] == (2,):
        rows = list(zip(rows[::2], rows[1::2], strict=True))
    elif not isinstance(rows, list) or (
        isinstance(scores, PickledArray) and len(scores.shape) != 1
    ):
        raise RefusedPickle("has scores that are no list of (array, label)")
    rows = [(row, None) if isinstance(row, PickledArray) else row for row in rows]
    for row, pair in enumerate(rows, 1):
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not isinstance(pair[0], PickledArray)
        ):
            raise RefusedPickle(f"row {row} of {len(rows)} of its scores is not (array, label)")
    if not rows:
        raise RefusedPickle("holds scores of no video")
    return [(array, _plain(label)) for array, label in rows]


def _arrays(rows: list[tuple]) -> list[np.ndarray]:
    videos, seen, classes = [], set(), None
    for row, (array, _) in enumerate(rows, 1):
        at = f"row {row} of {len(rows)}"
        if id(array.raw) in seen:  # else a small file could ask for its one array a million times
            raise RefusedPickle(f"{at} has the scores of another row")
        seen.add(id(array.raw))
        shape = array.shape if isinstance(array.shape, tuple) else ()
        if len(shape) != 3 or 0 in shape or shape[2] != (classes := classes or shape[2]):
            raise RefusedPickle(
                f"{at} has scores of shape {printable(array.shape)}, not [frames, crops, {classes or 'classes'}]"
            )
        with np.errstate(over="ignore"):
            videos.append(array.array().astype(np.float32, copy=False))
    return videos


def _labels(labels: np.ndarray | PickledArray | list | None) -> list | None:
    """Labels as a list of Python values, or None where there are none."""
    if isinstance(labels, np.ndarray):
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise RefusedPickle(
                f"has labels {labels.dtype} {printable(labels.shape)}, not integers [videos]"
            )
        return labels.tolist()
    labels = labels.objects() if isinstance(labels, PickledArray) else labels
    if not isinstance(labels, list) or all(label is None for label in labels):
        return None
    return [_plain(label) for label in labels]


def _plain(label: object) -> object:
    """A label as a Python value: numpy's integers, 0-d or of one element, become int."""
    if not isinstance(label, PickledArray):
        return label
    values = label.values()
    return (
        int(values[0])
        if values.size == 1 and values.dtype.kind in "iu"
        else f"array of {values.dtype}"
    )


def _ids(path: str | Path, ids: object, videos: int) -> list[str] | None:
    if ids is None:
        return None
    names = ids.objects() if isinstance(ids, PickledArray) else None
    if isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype.kind in "SU":
        names = (np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids).tolist()
    if (
        not isinstance(names, list)
        or len(names) != videos
        or not all(isinstance(name, str) for name in names)
    ):
        raise RefusedPickle(f"has ids that are not {videos} texts")
    check_ids(path, names)
    return names


def _check_finite(path: str | Path, videos: Sequence[np.ndarray]) -> None:
    if isinstance(videos, np.ndarray):
        finite = np.isfinite(videos).reshape(len(videos), -1).all(axis=1)
    else:
        finite = np.array([np.isfinite(scores).all() for scores in videos])
    if not finite.all():
        row = int(finite.argmin()) + 1
        raise UserError(f"{path}: row {row} of {len(videos)} has scores that are not finite")
