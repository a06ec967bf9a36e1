"""Labels of many videos in one array: int64 ``[V]``, or bool ``[V, classes]`` where a video can have several (multi-label)."""

from collections.abc import Sequence

import numpy as np


def as_array(labels: Sequence[int | Sequence[int]], num_class: int | None) -> np.ndarray:
    """Labels as lists and files hold them, one or several a video, as an array; ``num_class`` is needed for several.

    Raises ``ValueError`` for some videos with one label and some with a sequence, and ``IndexError`` for labels above.
    """
    several = {not isinstance(label, int | np.integer) for label in labels}
    if several != {True}:
        if len(several) > 1:
            raise ValueError("one label and several in the same list")
        return np.array(labels, dtype=np.int64)
    hot = np.zeros((len(labels), num_class), bool)
    for row, own in enumerate(labels):
        hot[row, list(own)] = True
    return hot


def of_row(labels: np.ndarray, row: int) -> int | tuple[int, ...]:
    """The label of one video, or all its labels, as plain integers."""
    return int(labels[row]) if labels.ndim == 1 else tuple(np.flatnonzero(labels[row]).tolist())


def one_hot(labels: np.ndarray, num_class: int) -> np.ndarray:
    """bool ``[V, num_class]`` of either kind."""
    return labels if labels.ndim == 2 else labels[:, None] == np.arange(num_class)


def differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rows, in order, in which labels of one kind and as many videos differ."""
    unlike = first != second
    return np.flatnonzero(unlike if unlike.ndim == 1 else unlike.any(axis=1))


def best_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 ``[V]``: the label of each video; of several the one with the highest score (of equal ones the lowest)."""
    return labels if labels.ndim == 1 else np.where(labels, scores, -np.inf).argmax(axis=1)


def mark_unread(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> None:
    """Give videos that could not be read, in place, scores that rank what is true last: there -1, else 0.

    ``scores`` floats ``[V, classes]``, ``rows`` a mask or indices. A score file has no other place to say so.
    """
    scores[rows] = -one_hot(labels[rows], scores.shape[1]).astype(scores.dtype)


def is_unread(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows ``mark_unread`` has written: bool ``[V]``."""
    found = (
        scores.min(axis=1) == -1
    )  # few, so that the comparison costs no second copy of the scores
    found[found] = (
        scores[found] == -one_hot(labels[found], scores.shape[1]).astype(scores.dtype)
    ).all(axis=1)
    return found
