"""Which classes are confused: the confusion matrix, its order, pairs and groups of classes."""

from typing import NamedTuple

import numpy as np

from ops.report.analysis import Analysis, TestResult
from ops.scores.metrics import confusion_matrix

_IN_ORDER = 12  # up to this number, classes stay in the order of their labels
# Above this number of classes the order of the tree is not optimized: the time is cubic.
_BEST_ORDER = 600
# Classes of a group are confused in this share of their videos, on average.
_ALIKE = 0.04


class Pair(NamedTuple):
    """Two classes, and numbers of videos of each predicted as the other; ``forth`` is larger."""

    first: int
    second: int
    forth: int
    back: int


class Group(NamedTuple):
    """Classes that are confused with each other.

    Attributes:
        classes: their labels.
        videos: number of their videos.
        errors: how many of these are wrong.
        inside: how many are predicted as another class of the group.
    """

    classes: list[int]
    videos: int
    errors: int
    inside: int


def confusion_of(tested: TestResult, analysis: Analysis) -> np.ndarray:
    """Counts int64 ``[classes, classes]``, one row per true class, of the readable videos."""
    read = tested.read
    return confusion_matrix(analysis.best[read, 0], tested.labels[read], tested.classes)


def pairs(confusion: np.ndarray, most: int) -> list[Pair]:
    """The pairs of classes with the most errors between them, at most ``most``."""
    upper = np.triu(confusion + confusion.T, 1)
    flat = np.flatnonzero(upper)
    flat = flat[np.argsort(-upper.ravel()[flat], kind="stable")][:most]
    found = []
    for one, other in zip(*np.unravel_index(flat, upper.shape), strict=True):
        there, back = int(confusion[one, other]), int(confusion[other, one])
        pair = Pair(int(one), int(other), there, back)
        if back > there:
            pair = Pair(pair.second, pair.first, back, there)
        found.append(pair)
    return found


def order_and_groups(confusion: np.ndarray, most: int) -> tuple[np.ndarray, list[Group]]:
    """Order the classes so that confused ones are next to each other, and group them.

    The method is average linkage; the similarity of two classes is the mean of both error rates.

    Args:
        confusion: counts int64 ``[classes, classes]``, one row per true class.
        most: number of groups at most.

    Returns:
        The order, int64 ``[classes]`` (that of the labels if there are few classes), and the groups
        of three or more classes with the most errors inside.
    """
    classes = len(confusion)
    if classes < 3:
        return np.arange(classes), []
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    alike = (shares + shares.T) / 2
    np.fill_diagonal(alike, 1)
    distance = squareform(1 - alike, checks=False)
    tree = linkage(distance, "average")
    order = np.arange(classes)
    if classes > _IN_ORDER:
        ordered = tree
        if classes <= _BEST_ORDER:
            ordered = optimal_leaf_ordering(tree, distance)
        order = leaves_list(ordered).astype(np.int64)
    places = fcluster(tree, 1 - _ALIKE, "distance")
    groups = [
        _group(confusion, np.flatnonzero(places == place))
        for place in np.flatnonzero(np.bincount(places) > 2)
    ]
    return order, sorted(groups, key=lambda group: -group.inside)[:most]


def _group(confusion: np.ndarray, classes: np.ndarray) -> Group:
    videos, right = confusion[classes].sum(), confusion[classes, classes].sum()
    inside = confusion[np.ix_(classes, classes)].sum() - right
    return Group(classes.tolist(), int(videos), int(videos - right), int(inside))
