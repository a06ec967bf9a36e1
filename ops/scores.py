"""Score files of a test, and what a test says of itself beside them.

A score file holds the logits of one clip and one crop of every video. It is the file that TDN's
test_models_center_crop.py and test_models_three_crops.py leave: ``OUTPUT_DIR/{clip}_crop{crop}.pkl``, both counted from
0 (crops in the order of TDN's rst0, rst1, rst2), a pickled list, in list order, of ``[float32 array (1, classes), int
label]``.
"""

import json
import pickle
import re
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np

from ops.aggregation import softmax as softmax_of
from ops.errors import UserError
from ops.files import atomic_write
from ops.safe_pickle import PickledArray, RefusedPickle, safe_loads, shown


def score_path(directory: str | Path, clip: int, crop: int) -> Path:
    """The score file of one clip and crop, both counted from 0, as TDN names it."""
    return Path(directory) / f"{clip}_crop{crop}.pkl"


def save_scores(path: str | Path, logits: np.ndarray, labels: np.ndarray) -> None:
    """Write one score file: atomically, and so that the original's ``pickle.load`` reads it with numpy 1 and numpy 2.

    ``logits`` float32 ``[V, classes]``, ``labels`` integers ``[V]``. The folder is made if it is not there: the scores
    may be the work of hours. What ``load_scores`` refuses is never written: raises ``ValueError`` for other shapes and
    types or a label outside ``[0, classes)``, ``UserError`` for logits that are not finite.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if logits.dtype != np.float32 or logits.ndim != 2:
        raise ValueError(f"logits must be float32 [V, classes], got {logits.dtype} {logits.shape}")
    if labels.dtype.kind not in "iu" or labels.shape != logits.shape[:1]:
        raise ValueError(f"labels must be integers [{len(logits)}], got {labels.dtype} {labels.shape}")
    if not labels.size or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"no labels, or labels outside [0, {logits.shape[1]})")
    _check_finite(path, logits)
    rows = [[logits[index : index + 1], int(label)] for index, label in enumerate(labels)]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(_with_numpy1_names(pickle.dumps(rows, protocol=4)))


def _with_numpy1_names(pickled: bytes) -> bytes:
    """Give a protocol 4 pickle of arrays by numpy 2 the module name of numpy 1, which both versions know."""
    new, old = b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray"
    if new not in pickled:
        return pickled
    # The name is written once, in the first frame, before any data; that frame (its length: bytes 3 to 11) shrinks.
    frame = int.from_bytes(pickled[3:11], "little") + len(old) - len(new)
    return pickled[:3] + frame.to_bytes(8, "little") + pickled[11:].replace(new, old, 1)


def load_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one score file, ours or TDN's: (logits float32 ``[V, classes]``, labels int64 ``[V]``).

    The labels may be Python or numpy integers. Nothing in the file is run (``ops/safe_pickle.py``). Raises
    ``UserError``, one line that names the file and the row (from 1, as the lines of the list), for a file that is
    missing, damaged or holds anything but numbers, rows of different class counts, scores that are not finite and
    labels outside ``[0, classes)``.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        logits, labels = _to_arrays(safe_loads(data), len(data))
    except RefusedPickle as refused:
        raise UserError(f"{path}: {refused}") from None
    _check_finite(path, logits)
    return logits, labels


def _to_arrays(rows, size: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(rows, list) or not rows:
        raise RefusedPickle("is not a score file: it holds no list of videos")
    logits, labels = None, np.empty(len(rows), np.int64)
    for index, row in enumerate(rows):
        at = f"row {index + 1} of {len(rows)}"
        if not isinstance(row, list | tuple) or len(row) != 2 or not isinstance(row[0], PickledArray):
            raise RefusedPickle(f"is not a score file: {at} is not [array, label]")
        score, label = row[0].values(), row[1]
        if isinstance(label, PickledArray):
            values = label.values()
            label = int(values[0]) if values.size == 1 and values.dtype.kind in "iu" else f"array of {values.dtype}"
        if logits is None:
            if score.nbytes * len(rows) > size:  # the rows of a real file do not share their data
                raise RefusedPickle("is not a score file: it is smaller than its scores")
            logits = np.empty((len(rows), score.size), np.float32)
        # The last axis has all the scores, so the other axes have length 1.
        if score.size != logits.shape[1] or row[0].shape[-1:] != (score.size,):
            raise RefusedPickle(f"{at} has scores of shape {shown(row[0].shape)}, not (1, {logits.shape[1]})")
        if type(label) is not int or not 0 <= label < score.size:
            raise RefusedPickle(f"{at} has the label {shown(label)}, not an integer in [0, {score.size})")
        with np.errstate(over="ignore"):
            logits[index], labels[index] = score, label
    return logits, labels


def _check_finite(path: str | Path, logits: np.ndarray) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise UserError(f"{path}: row {finite.argmin() + 1} of {len(finite)} has scores that are not finite")


def find_views(directory: str | Path, num_clips: int | None = None, num_crops: int | None = None) -> tuple[int, int]:
    """(clips, crops) of the grid of files in ``directory``: those asked for, else as far as the files there reach.

    Raises ``UserError`` that names the files missing from that grid, or says that there are none.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of score files")
    matches = (re.fullmatch(r"(0|[1-9][0-9]*)_crop(0|[1-9][0-9]*)\.pkl", file.name) for file in directory.iterdir())
    found = {(int(match[1]), int(match[2])) for match in matches if match}
    if not found:
        raise UserError(f"{directory}: no score files such as 0_crop0.pkl")
    clips = num_clips or max(clip for clip, _ in found) + 1
    crops = num_crops or max(crop for _, crop in found) + 1
    count = clips * crops - sum(clip < clips and crop < crops for clip, crop in found)
    if count:
        absent = ((clip, crop) for clip in range(clips) for crop in range(crops) if (clip, crop) not in found)
        names = ", ".join(score_path("", *view).name for view in islice(absent, 5)) + ", ..." * (count > 5)
        raise UserError(f"{directory}: {count} of {clips * crops} score files are missing: {names}")
    return clips, crops


def load_views(directory: str | Path, clips: int, crops: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
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
            raise UserError(f"{other[0]}: {other[1][axis]} {unit}, but {first[0]} has {first[1][axis]}")
    if (rows := np.flatnonzero(first[2] != other[2])).size:
        row = rows[0]
        raise UserError(f"{other[0]}: row {row + 1} has the label {other[2][row]}, but {first[2][row]} in {first[0]}")


def view_sum(views: Iterable[np.ndarray], softmax: bool = True) -> np.ndarray:
    """Sum over views of the softmax of each (TDN pkl_to_results.py), or of the logits themselves.

    ``views``: floats ``[V, classes]`` each; returns float64 ``[V, classes]``. Raises ``ValueError`` for no views or
    shapes that differ.
    """
    total = None
    for view in views:
        scores = softmax_of(view) if softmax else np.asarray(view, dtype=np.float64)
        if total is not None and total.shape != scores.shape:
            raise ValueError(f"views of shapes {total.shape} and {scores.shape}")
        total = scores if total is None else total + scores
    if total is None:
        raise ValueError("no views")
    return total


def read_protocol(directory: str | Path) -> dict[str, int | str] | None:
    """What ``protocol.json`` says of the scores beside it, or None where there is no such file.

    The integers ``num_segments``, ``crop_size``, ``videos`` and ``listed``; where the file has them, ``average``
    ("logits" or "softmax": how this system averages views) and ``dataset``. Raises ``UserError`` for anything else.
    """
    path = Path(directory) / "protocol.json"
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({type(error).__name__})") from None
    keys = ("num_segments", "crop_size", "videos", "listed")
    absent = [key for key in keys if not isinstance(content, dict) or type(content.get(key)) is not int]
    if absent:
        raise UserError(f"{path}: has no whole number {', '.join(absent)}; run the test again, or remove the file")
    if content.get("average", "logits") not in ("logits", "softmax"):
        raise UserError(f"{path}: average is {shown(content['average'])}, neither logits nor softmax")
    texts = [key for key in ("average", "dataset") if isinstance(content.get(key), str)]
    return {key: content[key] for key in (*keys, *texts)}


def protocol_line(
    protocol: dict[str, int | str] | None, clips: int, crops: int, videos: int, softmax: bool = True, fusion: str | None = None
) -> str:
    """What a result is a result of: ``8 frames x 3 crops x 10 clips, 256, 19796/19796 videos, softmax per view``.

    ``protocol`` as ``read_protocol`` gives it; without it the frames, the size and the length of the list are not known
    and the line is ``10 clips x 3 crops, softmax per view, 19796/19796 videos``. ``fusion`` names another way of
    putting views together than the mean of their softmax or logits.
    """
    fusion = fusion or ("softmax per view" if softmax else "mean of logits")
    if protocol is None:
        return f"{clips} clips x {crops} crops, {fusion}, {videos}/{videos} videos"
    views = f"{protocol['num_segments']} frames x {crops} crops x {clips} clips"
    return f"{views}, {protocol['crop_size']}, {protocol['videos']}/{protocol['listed']} videos, {fusion}"
