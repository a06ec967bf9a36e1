"""Metrics of scored videos: top-k, mean class accuracy, average precision, the confusion matrix.

Labels are integers ``[V]``, or bool ``[V, classes]`` if a video can have several.
"""

from collections.abc import Sequence

import numpy as np

from ops.data.labels import best_of

# The printed names. TSM and TDN report the first two, TSN the third, TIN the last.
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
    """All metrics that fit the labels.

    Args:
        scores: floats ``[V, classes]``.
        labels: integers ``[V]``, or bool ``[V, classes]``.
        failed: bool ``[V]``, videos without a prediction. They are wrong whatever their scores are.

    Returns:
        Percentages; the first one is the one to select a model by. With one label per video: top1,
        top5, mean_class. With several: map (mean average precision of the classes that have
        videos), map_samples (mean average precision of the videos: TIN ops/calculate_map.py), top1
        and top5 (whether one of the labels is among the best).

    Raises:
        ValueError: as ``topk_accuracy``.
    """
    top1, top5 = topk_accuracy(scores, labels, (1, 5), failed)
    if np.ndim(labels) == 1:
        mean_class = mean_class_accuracy(scores, labels, failed)
        return {"top1": top1, "top5": top5, "mean_class": mean_class}
    if failed is None:
        failed = np.zeros(len(labels), bool)
    of_classes = average_precision(np.where(failed, -np.inf, np.transpose(scores)), labels.T)
    of_samples = np.where(failed, 0.0, average_precision(scores, labels))
    return {
        "map": 100.0 * float(np.nanmean(of_classes)),
        "map_samples": 100.0 * float(np.nanmean(of_samples)),
        "top1": top1,
        "top5": top5,
    }


def line(result: dict[str, float]) -> str:
    """The metrics of ``evaluate`` as ``Prec@1 71.20% Prec@5 90.10% mean class 70.00%``."""
    return " ".join(f"{TITLES[key]} {value:.2f}%" for key, value in result.items())


def result_lines(result: dict[str, float]) -> list[str]:
    """The last lines of a test: the mean class accuracy, if there is one, and the other metrics."""
    others = dict(result)
    lines = []
    if "mean_class" in others:
        lines.append(f"Mean class accuracy {others.pop('mean_class'):.2f}%")
    lines.append(f"Overall {line(others)}")
    return lines


def average_precision(scores: np.ndarray, hot: np.ndarray) -> np.ndarray:
    """Average precision of each row, as in scikit-learn: equal scores share one rank.

    It is the mean, over what is true, of the share of true ones among all that score at least as
    high.

    Args:
        scores: floats ``[n, m]``.
        hot: bool ``[n, m]``, what is true.

    Returns:
        float64 ``[n]`` in [0, 1]; NaN for a row in which nothing is true.
    """
    scores = np.asarray(scores)
    hot = np.asarray(hot, dtype=bool)
    result = np.full(len(scores), np.nan)
    # One row at a time, to save memory: a list can have a million videos.
    for row, (values, true) in enumerate(zip(scores, hot, strict=True)):
        if not true.any():
            continue
        order = np.argsort(-values, kind="stable")
        values = values[order]
        true = true[order]
        # The last place of each group of equal scores.
        last = np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)
        found = np.cumsum(true)[last]
        gained = np.diff(found, prepend=0)
        result[row] = (gained * found / (last + 1)).sum() / found[-1]
    return result


def label_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rank of the label of each video, of several labels that of the best one.

    Of equal scores, the lower class ranks first. NaN ranks above every number, so that it never
    improves the rank of a label.

    Args:
        scores: floats ``[V, classes]``.
        labels: integers ``[V]``, or bool ``[V, classes]``.

    Returns:
        int64 ``[V]``, 1 for a right answer.
    """
    labels = best_of(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = ~(scores <= own)  # not `scores > own`: NaN must count as ahead
    lower_class = np.arange(scores.shape[1]) < labels[:, None]
    return 1 + (ahead | (lower_class & (scores == own))).sum(axis=1)


def topk_accuracy(
    scores: np.ndarray,
    labels: np.ndarray,
    k: Sequence[int] = (1, 5),
    failed: np.ndarray | None = None,
) -> tuple[float, ...]:
    """Percentage of videos whose label, or one of them, is among the k best classes.

    Args:
        scores: floats ``[V, classes]``; equal scores and NaN rank as in ``label_ranks``.
        labels: integers ``[V]``, or bool ``[V, classes]``.
        k: numbers of classes. One above the number of all classes counts as that number.
        failed: bool ``[V]``, videos that count as wrong; None: none.

    Returns:
        One percentage for each entry of ``k``.

    Raises:
        ValueError: no videos, shapes that do not match, or a label outside ``[0, classes)``.
    """
    scores, labels = _checked(scores, labels)
    if min(k) < 1:
        raise ValueError(f"k must be at least 1, got {tuple(k)}")
    num_class = scores.shape[1]
    ranks = label_ranks(scores, labels)
    if failed is not None:
        ranks[failed] = num_class + 1
    return tuple(100.0 * float(np.mean(ranks <= min(limit, num_class))) for limit in k)


def mean_class_accuracy(
    scores: np.ndarray, labels: np.ndarray, failed: np.ndarray | None = None
) -> float:
    """Top-1 accuracy of each class in percent, averaged over the classes that have videos.

    It follows TSM test_models.py ("Class Accuracy"), which gives NaN if a class has no video.

    Args:
        scores: floats ``[V, classes]``.
        labels: integers ``[V]``.
        failed: bool ``[V]``, videos that count as wrong; None: none.

    Raises:
        ValueError: as ``topk_accuracy``.
    """
    scores, labels = _checked(scores, labels)
    right = scores.argmax(axis=1) == labels
    if failed is not None:
        right &= ~failed
    videos = np.bincount(labels)
    hits = np.bincount(labels, right)
    there = videos > 0
    return 100.0 * float(np.mean(hits[there] / videos[there]))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_class: int) -> np.ndarray:
    """Count videos by true and predicted class.

    Args:
        predictions: integers ``[V]``.
        labels: integers ``[V]``.
        num_class: number of classes.

    Returns:
        int64 ``[num_class, num_class]``, one row per true class, one column per predicted class.

    Raises:
        ValueError: shapes that do not match, or an index outside ``[0, num_class)``.
    """
    predictions = np.asarray(predictions)
    labels = np.asarray(labels)
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
    counts = np.bincount(cells, minlength=num_class * num_class)
    return counts.reshape(num_class, num_class).astype(np.int64)


def precision_recall_f1(
    confusion: np.ndarray, videos: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class, floats ``[classes]`` in [0, 1].

    Args:
        confusion: counts ``[classes, classes]``, one row per true class, of the videos that have a
            prediction.
        videos: integers ``[classes]``, all videos of each class; those without a prediction count
            as wrong.

    Returns:
        Three arrays. Precision is NaN for a class that was never predicted; recall and F1 are NaN
        for a class without videos. F1 is ``2 * correct / (videos + predicted)``, so that it is 0
        for a class with videos that was never predicted.
    """
    correct = np.diagonal(confusion).astype(np.float64)
    predicted = confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = correct / predicted
        recall = correct / videos
        f1 = np.where(videos > 0, 2 * correct / (videos + predicted), np.nan)
    return precision, recall, f1


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores)
    labels = np.asarray(labels)
    if scores.ndim != 2 or labels.shape not in (scores.shape[:1], scores.shape):
        raise ValueError(
            f"scores {scores.shape} must be [V, classes] and labels {labels.shape} [V] or "
            "[V, classes]"
        )
    if not len(labels):
        raise ValueError("no videos to score")
    if labels.ndim == 2:
        if labels.dtype != bool or not labels.any(axis=1).all():
            raise ValueError(
                "several labels per video are bool [V, classes] with at least one in each row"
            )
        return scores, labels
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must be in [0, {scores.shape[1]}), got {labels.min()} to {labels.max()}"
        )
    return scores, labels
