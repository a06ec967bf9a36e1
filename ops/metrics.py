"""Accuracy of scored videos, in numpy: top-k, mean class accuracy and the confusion matrix."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Accuracies(NamedTuple):
    """What is reported of scored videos, in percent; TSM and TDN print the first two, TSN the last one."""

    top1: float
    top5: float
    mean_class: float


def accuracies(scores: np.ndarray, labels: np.ndarray) -> Accuracies:
    """The :class:`Accuracies` of ``scores`` floats ``[V, classes]`` and ``labels`` integers ``[V]``.

    Raises ``ValueError`` as ``topk_accuracy`` does.
    """
    return Accuracies(*topk_accuracy(scores, labels, (1, 5)), mean_class_accuracy(scores, labels))


def topk_accuracy(scores: np.ndarray, labels: np.ndarray, k: Sequence[int] = (1, 5)) -> tuple[float, ...]:
    """Percentage of videos whose label is among the k best classes, one number for each entry of ``k``.

    ``scores`` floats ``[V, classes]``, ``labels`` integers ``[V]``. A ``k`` above the number of classes counts as that
    number. Of equal scores the lower class index ranks first; NaN ranks above every number, so it never helps a hit.
    Raises ``ValueError`` for no videos, shapes that do not match, or a label outside ``[0, classes)``.
    """
    scores, labels = _checked(scores, labels)
    if min(k) < 1:
        raise ValueError(f"k must be at least 1, got {tuple(k)}")
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    ahead = ~(scores <= own)  # not `scores > own`: NaN has to count as ahead
    lower_index = np.arange(scores.shape[1]) < labels[:, None]
    rank = (ahead | (lower_index & (scores == own))).sum(axis=1)
    return tuple(100.0 * float(np.mean(rank < min(limit, scores.shape[1]))) for limit in k)


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy of each class, averaged over the classes that have videos, in percent.

    ``scores`` floats ``[V, classes]``, ``labels`` integers ``[V]``. Follows TSM test_models.py ("Class Accuracy"), but
    that gives NaN when a class has no video. Raises ``ValueError`` as ``topk_accuracy`` does.
    """
    scores, labels = _checked(scores, labels)
    confusion = confusion_matrix(scores.argmax(axis=1), labels, scores.shape[1])
    videos = confusion.sum(axis=1)
    present = videos > 0
    return 100.0 * float(np.mean(confusion.diagonal()[present] / videos[present]))


def confusion_matrix(predictions: np.ndarray, labels: np.ndarray, num_class: int) -> np.ndarray:
    """Counts of videos, int64 ``[num_class, num_class]``: row = true class, column = predicted class.

    ``predictions`` and ``labels`` integers ``[V]``. Raises ``ValueError`` for shapes that do not match or an index
    outside ``[0, num_class)``.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1:
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} must both be [V]")
    for name, values in (("predictions", predictions), ("labels", labels)):
        if values.size and not (values.min() >= 0 and values.max() < num_class):
            raise ValueError(f"{name} must be in [0, {num_class}), got {values.min()} to {values.max()}")
    cells = labels.astype(np.int64) * num_class + predictions.astype(np.int64)
    return np.bincount(cells, minlength=num_class * num_class).reshape(num_class, num_class).astype(np.int64)


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"scores {scores.shape} must be [V, classes] and labels {labels.shape} [V]")
    if not len(labels):
        raise ValueError("no videos to score")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels must be in [0, {scores.shape[1]}), got {labels.min()} to {labels.max()}")
    return scores, labels
