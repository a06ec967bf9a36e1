"""Labels of many videos in one array.

int64 ``[V]``, or bool ``[V, classes]`` where a video may have several labels (multi-label).
"""

from collections.abc import Sequence

import numpy as np

_UNREAD_SCORE = -1


def as_array(labels: Sequence[int | Sequence[int]], num_class: int | None) -> np.ndarray:
    """Convert labels of lists and files to an array.

    Args:
        labels: the label of each video, or the sequence of its labels.
        num_class: number of classes, needed for sequences.

    Raises:
        ValueError: some videos have one label and some a sequence.
        IndexError: a label of a sequence is not below ``num_class``.
    """
    are_sequences = {not isinstance(label, int | np.integer) for label in labels}
    if len(are_sequences) > 1:
        raise ValueError("one label and several in the same list")
    if are_sequences != {True}:
        return np.array(labels, dtype=np.int64)
    multi_hot = np.zeros((len(labels), num_class), bool)
    for video, own in enumerate(labels):
        multi_hot[video, list(own)] = True
    return multi_hot


def of_row(labels: np.ndarray, row: int) -> int | tuple[int, ...]:
    """The label of one video, or all its labels, as Python integers."""
    if labels.ndim == 1:
        return int(labels[row])
    return tuple(np.flatnonzero(labels[row]).tolist())


def one_hot(labels: np.ndarray, num_class: int) -> np.ndarray:
    """Labels of either kind as bool ``[V, num_class]``."""
    if labels.ndim == 2:
        return labels
    return labels[:, None] == np.arange(num_class)


def differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rows, ascending, in which two label arrays of one shape differ."""
    unequal = first != second
    if unequal.ndim == 2:
        unequal = unequal.any(axis=1)
    return np.flatnonzero(unequal)


def best_of(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One label per video, int64 ``[V]``.

    Of several labels, the one with the highest score (the lowest one of equal scores).
    """
    if labels.ndim == 1:
        return labels
    return np.where(labels, scores, -np.inf).argmax(axis=1)


def mark_unread(scores: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> None:
    """Set the scores of videos that could not be read, in place.

    Their labels get -1 and all other classes 0, so that the true class ranks last. A score file has
    no other place to record it.

    Args:
        scores: floats ``[V, classes]``.
        labels: labels of the V videos.
        rows: mask or indices of the videos.
    """
    scores[rows] = _unread_scores(labels[rows], scores)


def is_unread(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which rows ``mark_unread`` has written: bool ``[V]``."""
    # Few rows have this minimum, so that comparing them needs no second copy of the scores.
    found = scores.min(axis=1) == _UNREAD_SCORE
    found[found] = (scores[found] == _unread_scores(labels[found], scores)).all(axis=1)
    return found


def _unread_scores(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return -one_hot(labels, scores.shape[1]).astype(scores.dtype)
