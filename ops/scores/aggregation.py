"""Aggregate the scores of a video's frames (or clips) and crops to one score, as TSN does.

The functions follow pyActionRecog/utils/video_funcs.py of temporal-segment-networks. ``scores`` are
numbers ``[..., F, crops, classes]`` with F frames or clips; leading axes, such as one of videos,
are kept. Results are float64 ``[..., classes]``, and arguments are never changed. With
``normalize`` the result goes through a softmax over classes. All raise ``ValueError`` for scores
without a frame or a crop.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from ops.utils.errors import UserError

AVERAGES = ("logits", "softmax")  # what is averaged over the views of a video
CROP_AGGREGATIONS = {"mean": np.mean, "max": np.max}
_VIDEOS_AT_ONCE = 64
_LARGEST_K_DIGITS = 9


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax over the last axis; float64, of the shape of ``scores``."""
    scores = np.asarray(scores, dtype=np.float64)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def to_probabilities(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Softmax over the last axis, or the sigmoid of each value; float64."""
    if not multi_label:
        return softmax(logits)
    # The sigmoid, in a form that does not overflow.
    return 0.5 + 0.5 * np.tanh(np.asarray(logits, np.float64) / 2)


def mean(scores: np.ndarray, crop_agg: str = "mean", normalize: bool = False) -> np.ndarray:
    """Mean over frames of the mean or maximum over crops (``default_aggregation_func``)."""
    frames = _aggregate_crops(scores, crop_agg)
    return _normalized(frames.mean(axis=-2), normalize)


def top_k(
    scores: np.ndarray, k: int, crop_agg: str = "mean", normalize: bool = False
) -> np.ndarray:
    """Mean of the k highest frames of each class (``top_k_aggregation_func``).

    With fewer than k frames it is the mean of all.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    frames = _aggregate_crops(scores, crop_agg)
    return _normalized(_mean_of_highest(frames, k), normalize)


def sliding_window(
    scores: np.ndarray,
    crop_agg: str = "max",
    normalize: bool = False,
    spans: Sequence[int] = (1, 2, 4, 8, 16),
    overlap: float = 0.2,
    fps: int = 1,
    least: int = 15,
) -> np.ndarray:
    """Mean over ``spans`` of the highest windows (``sliding_window_aggregation_func``).

    The score of a window is the maximum over its frames, class by class.

    Args:
        scores: numbers ``[..., F, crops, classes]``.
        crop_agg: "mean" or "max" over crops.
        normalize: whether the result goes through a softmax.
        spans: lengths of windows in seconds. The last windows of a video are cut off at its end.
        overlap: share of a window that the next one overlaps, in [0, 1).
        fps: frames per second.
        least: of n windows the ``max(least, n // 4)`` highest are averaged, class by class.

    Raises:
        ValueError: a span, ``fps`` or ``least`` is below 1, or ``overlap`` is out of range.
    """
    if not spans or min(*spans, fps, least) < 1 or not 0 <= overlap < 1:
        raise ValueError(
            f"spans {tuple(spans)}, fps {fps} and least {least} must be at least 1, "
            f"overlap {overlap} in [0, 1)"
        )
    frames = _aggregate_crops(scores, crop_agg)
    num_frames = frames.shape[-2]
    of_spans = []
    for span in spans:
        width = span * fps
        starts = range(0, num_frames, math.ceil(width * (1 - overlap)))
        windows = [frames[..., start : start + width, :].max(axis=-2) for start in starts]
        count = max(least, len(windows) // 4)
        of_spans.append(_mean_of_highest(np.stack(windows, axis=-2), count))
    return _normalized(np.mean(of_spans, axis=0), normalize)


def aggregator(frame_agg: str, crop_agg: str) -> Callable[[np.ndarray], np.ndarray]:
    """The aggregation that ``--frame_agg`` and ``--crop_agg`` name.

    Args:
        frame_agg: "mean", "topk:K" or "window".
        crop_agg: "mean" or "max".

    Returns:
        A function of scores ``[..., F, crops, classes]``.

    Raises:
        UserError: one of the names is not valid.
    """
    if crop_agg not in CROP_AGGREGATIONS:
        raise UserError(f"--crop_agg {crop_agg!r} is not valid; choose mean or max")
    if frame_agg == "mean":
        return partial(mean, crop_agg=crop_agg)
    if frame_agg == "window":
        return partial(sliding_window, crop_agg=crop_agg)
    name, _, k = frame_agg.partition(":")
    is_number = k.isascii() and k.isdecimal()
    if name != "topk" or not is_number or int(k[:_LARGEST_K_DIGITS]) == 0:
        raise UserError(
            f"--frame_agg {frame_agg!r} is not valid; choose mean, window or topk:K "
            "with a whole number K above 0"
        )
    return partial(top_k, k=int(k[:_LARGEST_K_DIGITS]), crop_agg=crop_agg)


def aggregate_videos(
    videos: Sequence[np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Aggregate videos with different numbers of frames.

    Args:
        videos: ``[F, crops, classes]`` each, with its own F and crops.
        function: an aggregation. It gets several videos of the same shape at once.

    Returns:
        float64 ``[V, classes]``.

    Raises:
        ValueError: no videos.
    """
    if not len(videos):
        raise ValueError("no videos")
    rows_of_shape = defaultdict(list)
    for row, video in enumerate(videos):
        rows_of_shape[video.shape].append(row)
    result = np.empty((len(videos), videos[0].shape[-1]))
    for rows in rows_of_shape.values():
        for start in range(0, len(rows), _VIDEOS_AT_ONCE):
            part = rows[start : start + _VIDEOS_AT_ONCE]
            result[part] = function(np.stack([videos[row] for row in part]))
    return result


def view_sum(views: Iterable[np.ndarray], of_softmax: bool = True) -> np.ndarray:
    """Sum over views of the softmax of each (TDN pkl_to_results.py), or of the logits themselves.

    Args:
        views: floats ``[..., classes]`` each, all of the same shape; one is in memory at a time.
        of_softmax: whether the softmax of each view is added, else the view itself.

    Returns:
        float64 ``[..., classes]``.

    Raises:
        ValueError: no views, or shapes that differ.
    """
    total = None
    for view in views:
        scores = softmax(view) if of_softmax else np.array(view, dtype=np.float64)
        if total is None:
            total = scores
            continue
        if total.shape != scores.shape:
            raise ValueError(f"views of shapes {total.shape} and {scores.shape}")
        total += scores
    if total is None:
        raise ValueError("no views")
    return total


def _aggregate_crops(scores: np.ndarray, crop_agg: str) -> np.ndarray:
    """Float64 ``[..., F, classes]``."""
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


def _mean_of_highest(frames: np.ndarray, k: int) -> np.ndarray:
    return np.sort(frames, axis=-2)[..., -k:, :].mean(axis=-2)


def _normalized(scores: np.ndarray, normalize: bool) -> np.ndarray:
    if normalize:
        return softmax(scores)
    return scores
