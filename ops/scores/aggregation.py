"""One score a video from the scores of its frames (or clips) and crops: the aggregations of TSN, in numpy.

They follow pyActionRecog/utils/video_funcs.py of temporal-segment-networks. ``scores`` are numbers ``[..., F, crops,
classes]`` with F frames or clips; leading axes, such as one of videos, are carried along. Results are float64
``[..., classes]`` and arguments are never changed. With ``normalize`` the result goes through a softmax over classes.
All raise ``ValueError`` for scores without a frame or a crop.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from ops.utils.errors import UserError

CROP_AGGREGATIONS = {"mean": np.mean, "max": np.max}
_VIDEOS_AT_ONCE = 64


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; float64, of the shape of ``scores``."""
    scores = np.asarray(scores, dtype=np.float64)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def mean(scores: np.ndarray, crop_agg: str = "mean", normalize: bool = False) -> np.ndarray:
    """Mean over frames of the mean or maximum over crops (``default_aggregation_func``)."""
    return _normalized(_frames(scores, crop_agg).mean(axis=-2), normalize)


def top_k(
    scores: np.ndarray, k: int, crop_agg: str = "mean", normalize: bool = False
) -> np.ndarray:
    """Mean, for each class, of its k best frames (``top_k_aggregation_func``); of all of them when there are fewer.

    Raises ``ValueError`` for k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    return _normalized(_mean_of_best(_frames(scores, crop_agg), k), normalize)


def sliding_window(
    scores: np.ndarray,
    crop_agg: str = "max",
    normalize: bool = False,
    spans: Sequence[int] = (1, 2, 4, 8, 16),
    overlap: float = 0.2,
    fps: int = 1,
    least: int = 15,
) -> np.ndarray:
    """Mean over ``spans`` of the best windows of so many seconds (``sliding_window_aggregation_func``).

    A window of ``span * fps`` frames scores each class by its best frame; windows begin every ``ceil(span * fps * (1 -
    overlap))`` frames, the last ones are cut off at the end. Of n windows the best ``max(least, n // 4)`` are averaged,
    class by class. Raises ``ValueError`` for spans and ``fps`` below 1, ``least`` below 1, an overlap outside [0, 1).
    """
    if not spans or min(*spans, fps, least) < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"spans {tuple(spans)}, fps {fps} and least {least} must be at least 1, overlap {overlap} in [0, 1)"
        )
    frames = _frames(scores, crop_agg)
    pooled = []
    for span in spans:
        width = span * fps
        starts = range(0, frames.shape[-2], math.ceil(width * (1 - overlap)))
        windows = np.stack(
            [frames[..., start : start + width, :].max(axis=-2) for start in starts], axis=-2
        )
        pooled.append(_mean_of_best(windows, max(least, len(starts) // 4)))
    return _normalized(np.mean(pooled, axis=0), normalize)


def aggregator(frame_agg: str, crop_agg: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function of scores ``[..., F, crops, classes]`` that ``--frame_agg`` and ``--crop_agg`` name.

    ``frame_agg`` is "mean", "topk:K" or "window", ``crop_agg`` "mean" or "max". Raises ``UserError`` for others.
    """
    if crop_agg not in CROP_AGGREGATIONS:
        raise UserError(f"--crop_agg {crop_agg!r} is not known; choose mean or max")
    name, _, k = frame_agg.partition(":")
    if name == "topk" and k.isascii() and k.isdecimal() and int(k[:9]) > 0:
        return partial(top_k, k=int(k[:9]), crop_agg=crop_agg)
    functions = {"mean": mean, "window": sliding_window}
    if frame_agg not in functions:
        raise UserError(
            f"--frame_agg {frame_agg!r} is not known; choose mean, window or topk:K with a whole number K above 0"
        )
    return partial(functions[frame_agg], crop_agg=crop_agg)


def aggregate_videos(
    videos: Sequence[np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """``function`` of every video, ``[F, crops, classes]`` each with its own F and crops; float64 ``[V, classes]``.

    Videos of one shape are worked on together, a few at a time. Raises ``ValueError`` for no videos.
    """
    if not len(videos):
        raise ValueError("no videos")
    by_shape = defaultdict(list)
    for row, video in enumerate(videos):
        by_shape[video.shape].append(row)
    result = np.empty((len(videos), videos[0].shape[-1]))
    for rows in by_shape.values():
        for start in range(0, len(rows), _VIDEOS_AT_ONCE):
            part = rows[start : start + _VIDEOS_AT_ONCE]
            result[part] = function(np.stack([videos[row] for row in part]))
    return result


def view_sum(views: Iterable[np.ndarray], of_softmax: bool = True) -> np.ndarray:
    """Sum over views of the softmax of each (TDN pkl_to_results.py), or of the logits themselves.

    ``views``: floats ``[V, classes]`` each, of which one is in memory at a time; returns float64 ``[V, classes]``. Raises
    ``ValueError`` for no views or shapes that differ.
    """
    total = None
    for view in views:
        scores = softmax(view) if of_softmax else np.array(view, dtype=np.float64)
        if total is not None and total.shape != scores.shape:
            raise ValueError(f"views of shapes {total.shape} and {scores.shape}")
        total = scores if total is None else np.add(total, scores, out=total)
    if total is None:
        raise ValueError("no views")
    return total


def _frames(scores: np.ndarray, crop_agg: str) -> np.ndarray:
    """Float64 ``[..., F, classes]``: crops put together."""
    scores = np.asarray(scores, dtype=np.float64)
    if crop_agg not in CROP_AGGREGATIONS:
        raise ValueError(
            f"crop_agg must be one of {', '.join(CROP_AGGREGATIONS)}, not {crop_agg!r}"
        )
    if scores.ndim < 3 or 0 in scores.shape[-3:]:
        raise ValueError(
            f"scores must be [..., F, crops, classes] with none of them 0, got {scores.shape}"
        )
    return CROP_AGGREGATIONS[crop_agg](scores, axis=-2)


def _mean_of_best(frames: np.ndarray, k: int) -> np.ndarray:
    return np.sort(frames, axis=-2)[..., -k:, :].mean(axis=-2)


def _normalized(scores: np.ndarray, normalize: bool) -> np.ndarray:
    return softmax(scores) if normalize else scores
