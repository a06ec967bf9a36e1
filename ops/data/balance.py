"""An order of training videos in which every class occurs equally often."""

import numpy as np


def balanced_order(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The videos of an epoch, as many as are listed, with equal numbers of all classes.

    The classes differ by at most one video, and so do the videos of a class: those of a rare class
    are repeated, and of a frequent one each epoch takes others.

    Args:
        labels: label of each video, int64 ``[n]``.
        rng: whose draws choose the videos and their order.

    Returns:
        Positions in the list, int64 ``[n]``, and how often each has occurred before in this epoch,
        int64 ``[n]``.
    """
    members = _members(labels)
    share, rest = divmod(len(labels), len(members))
    with_one_more = rng.permutation(len(members))[:rest]
    counts = np.full(len(members), share)
    counts[with_one_more] += 1
    positions, repeats = [], []
    for videos, count in zip(members, counts.tolist(), strict=True):
        order = rng.permutation(videos)
        number = np.arange(count)
        positions.append(order[number % len(videos)])
        repeats.append(number // len(videos))
    order = rng.permutation(len(labels))
    return np.concatenate(positions)[order], np.concatenate(repeats)[order]


def _members(labels: np.ndarray) -> list[np.ndarray]:
    """The positions of the videos of each class that has some."""
    by_class = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[by_class], return_index=True)
    return np.split(by_class, starts[1:])
