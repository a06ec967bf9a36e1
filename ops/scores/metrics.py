"""Metrics of scored videos, in numpy: top-k, mean class accuracy, average precision of several labels, the confusion matrix.

Labels are integers ``[V]``, or bool ``[V, classes]`` where a video can have several.
"""

from collections.abc import Sequence

import numpy as np

from ops.data.labels import best_of

# What each metric is called in print; TSM and TDN print the first two, TSN the third, TIN the last.
TITLES = {
    "top1": "Prec@1",
    "top5": "Prec@5",
    "mean_class": "mean class",
    "map": "mAP",
    "map_samples": "mAP of samples",
}


def evaluate(
    scores: np.ndarray, labels: np.ndarray, failed: np.ndarray | None = None
) -> dict[str, float]:
    """All metrics that fit the labels, in percent, the one to choose a model by first.

    ``scores`` floats ``[V, classes]``. One label a video: top1, top5, mean_class. Several: map (average precision of each
    class that has videos, averaged over the classes), map_samples (of each video, averaged over the videos: TIN
    ops/calculate_map.py), top1 and top5 (any of its labels among the best). ``failed``, bool ``[V]`` or None, are videos
    without a prediction: wrong whatever stands for their scores. Raises ``ValueError`` as ``topk_accuracy`` does.
    """
    top = dict(zip(("top1", "top5"), topk_accuracy(scores, labels, failed=failed), strict=True))
    if np.ndim(labels) == 1:
        return {**top, "mean_class": mean_class_accuracy(scores, labels, failed)}
    if failed is None:
        failed = np.zeros(len(labels), bool)
    of_classes = average_precision(np.where(failed, -np.inf, np.transpose(scores)), labels.T)
    of_samples = np.where(failed, 0.0, average_precision(scores, labels))
    return {
        "map": 100.0 * float(np.nanmean(of_classes)),
        "map_samples": 100.0 * float(np.nanmean(of_samples)),
        **top,
    }


def line(result: dict[str, float]) -> str:
    """``Prec@1 71.20% Prec@5 90.10% mean class 70.00%`` of what ``evaluate`` gives."""
    return " ".join(f"{TITLES[key]} {value:.2f}%" for key, value in result.items())


def result_lines(result: dict[str, float]) -> list[str]:
    """The lines that a test ends with: the mean class accuracy, where there is one, and the other metrics."""
    others = dict(result)
    lines = []
    if "mean_class" in others:
        lines.append(f"Mean class accuracy {others.pop('mean_class'):.2f}%")
    return [*lines, f"Overall {line(others)}"]


def average_precision(scores: np.ndarray, hot: np.ndarray) -> np.ndarray:
    """Average precision of each row, float64 ``[n]`` in [0, 1]; NaN for a row in which nothing is true.

    ``scores`` floats and ``hot`` bool, both ``[n, m]``. The mean, over what is true, of the share of true ones among all that
    score at least as high: equal scores share one rank, as in scikit-learn.
    """
    scores, hot = np.asarray(scores), np.asarray(hot, dtype=bool)
    result = np.empty(len(scores))
    for row, (values, true) in enumerate(
        zip(scores, hot, strict=True)
    ):  # a row at a time: a list has a million videos
        order = np.argsort(-values, kind="stable")
        values, true = values[order], true[order]
        last = np.append(
            np.flatnonzero(values[1:] != values[:-1]), len(values) - 1
        )  # of each group of equal scores
        found = np.cumsum(true)[last]
        gained = np.diff(found, prepend=0)
        result[row] = (gained * found / (last + 1)).sum() / found[-1] if found[-1] else np.nan
    return result


def topk_accuracy(
    scores: np.ndarray,
    labels: np.ndarray,
    k: Sequence[int] = (1, 5),
    failed: np.ndarray | None = None,
) -> tuple[float, ...]:
    """Percentage of videos whose label, or one of them, is among the k best classes, one number for each entry of ``k``.

    ``scores`` floats ``[V, classes]``, ``labels`` integers ``[V]`` or bool ``[V, classes]``. A ``k`` above the number of
    classes counts as that number. Of equal scores the lower class index ranks first; NaN ranks above every number, so it
    never helps a hit. ``failed``, bool ``[V]`` or None: videos that count as wrong.
    Raises ``ValueError`` for no videos, shapes that do not match, or a label outside ``[0, classes)``.
    """
    scores, labels = _checked(scores, labels)
    if min(k) < 1:
        raise ValueError(f"k must be at least 1, got {tuple(k)}")
    labels = best_of(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = ~(scores <= own)  # not `scores > own`: NaN has to count as ahead
    lower_index = np.arange(scores.shape[1]) < labels[:, None]
    rank = (ahead | (lower_index & (scores == own))).sum(axis=1)
    if failed is not None:
        rank[failed] = scores.shape[1]
    return tuple(100.0 * float(np.mean(rank < min(limit, scores.shape[1]))) for limit in k)


def mean_class_accuracy(
    scores: np.ndarray, labels: np.ndarray, failed: np.ndarray | None = None
) -> float:
    """Top-1 accuracy of each class, averaged over the classes that have videos, in percent.

    ``scores`` floats ``[V, classes]``, ``labels`` integers ``[V]``, ``failed`` as ``topk_accuracy`` takes it. Follows TSM
    test_models.py ("Class Accuracy"), but that gives NaN when a class has no video. Raises ``ValueError`` as
    ``topk_accuracy`` does.
    """
    scores, labels = _checked(scores, labels)
    right = scores.argmax(axis=1) == labels
    if failed is not None:
        right &= ~failed
    videos, hits = np.bincount(labels), np.bincount(labels, right)
    return 100.0 * float(np.mean(hits[videos > 0] / videos[videos > 0]))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_class: int) -> np.ndarray:
    """Counts of videos, int64 ``[num_class, num_class]``: row = true class, column = predicted class.

    ``predictions`` and ``labels`` integers ``[V]``. Raises ``ValueError`` for shapes that do not match or an index
    outside ``[0, num_class)``.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1:
        raise ValueError(
            f"predictions {predictions.shape} and labels {labels.shape} must both be [V]"
        )
    for name, values in (("predictions", predictions), ("labels", labels)):
        if values.size and not (values.min() >= 0 and values.max() < num_class):
            raise ValueError(
                f"{name} must be in [0, {num_class}), got {values.min()} to {values.max()}"
            )
    cells = labels.astype(np.int64) * num_class + predictions.astype(np.int64)
    return (
        np.bincount(cells, minlength=num_class * num_class)
        .reshape(num_class, num_class)
        .astype(np.int64)
    )


def precision_recall_f1(
    confusion: np.ndarray, videos: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, floats ``[classes]`` in [0, 1].

    Args:
        confusion: counts ``[classes, classes]``, row = true class, of the videos that have a prediction.
        videos: integers ``[classes]``, all videos of each class; those without a prediction count as wrong.

    Returns:
        Three arrays. Precision is NaN for a class that was never predicted; recall and F1 are NaN for a class without
        videos. F1 is ``2 * correct / (videos + predicted)``, so that it is 0 for a class with videos that was never
        predicted.
    """
    correct = np.diagonal(confusion).astype(np.float64)
    predicted = confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = correct / predicted
        recall = correct / videos
        f1 = np.where(videos > 0, 2 * correct / (videos + predicted), np.nan)
    return precision, recall, f1


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 2 or labels.shape not in (scores.shape[:1], scores.shape):
        raise ValueError(
            f"scores {scores.shape} must be [V, classes] and labels {labels.shape} [V] or [V, classes]"
        )
    if not len(labels):
        raise ValueError("no videos to score")
    if labels.ndim == 2:
        if labels.dtype != bool or not labels.any(axis=1).all():
            raise ValueError(
                "several labels a video are bool [V, classes] with at least one in each row"
            )
        return scores, labels
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must be in [0, {scores.shape[1]}), got {labels.min()} to {labels.max()}"
        )
    return scores, labels
