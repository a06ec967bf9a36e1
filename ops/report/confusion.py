"""Which classes are taken for which: the confusion matrix in an order that shows it, pairs, and groups of classes."""

from typing import NamedTuple

import numpy as np

from ops.report.tested import Findings, Tested
from ops.scores.metrics import confusion_matrix

_IN_ORDER = 12  # up to so many classes stay in the order of their labels
_BEST_ORDER = (
    600  # above, the order of the tree is not improved: that takes the cube of the classes
)
_ALIKE = 0.04  # classes of a group are taken for one another in so large a share of their videos, on average


class Pair(NamedTuple):
    """Two classes and how many videos of each were taken for the other; ``forth`` is the larger number."""

    first: int
    second: int
    forth: int
    back: int


class Group(NamedTuple):
    """Classes that are mixed up with one another: videos of them, errors, and those errors that stay inside."""

    classes: list[int]
    videos: int
    errors: int
    inside: int


def confusion_of(tested: Tested, found: Findings) -> np.ndarray:
    """Counts int64 ``[classes, classes]``, row = truth, of the videos that could be read."""
    read = tested.read
    return confusion_matrix(found.best[read, 0], tested.labels[read], tested.classes)


def pairs(confusion: np.ndarray, most: int) -> list[Pair]:
    """The pairs of classes with the most errors between them, at most ``most``."""
    upper = np.triu(confusion + confusion.T, 1)
    flat = np.flatnonzero(upper)
    flat = flat[np.argsort(-upper.ravel()[flat], kind="stable")][:most]
    found = []
    for one, other in zip(*np.unravel_index(flat, upper.shape), strict=True):
        there, back = int(confusion[one, other]), int(confusion[other, one])
        one, other = int(one), int(other)
        found.append(
            Pair(one, other, there, back) if there >= back else Pair(other, one, back, there)
        )
    return found


def order_and_groups(confusion: np.ndarray, most: int) -> tuple[np.ndarray, list[Group]]:
    """The order of classes, int64 ``[classes]``, that puts those side by side that are taken for one another, and the groups
    of three or more classes with the most errors inside.

    Average linkage of the mean of both shares of errors. Few classes stay in the order of their labels.
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
        order = leaves_list(
            optimal_leaf_ordering(tree, distance) if classes <= _BEST_ORDER else tree
        ).astype(np.int64)
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
