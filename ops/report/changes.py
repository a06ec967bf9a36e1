"""What changed between two tests of the same videos."""

from typing import NamedTuple

import numpy as np

from ops.report.analysis import Analysis, TestResult, class_accuracy


class Changes(NamedTuple):
    """Two tests compared.

    Attributes:
        both: number of videos that both tests get right; likewise ``first`` (only the first test),
            ``second`` and ``neither``.
        p: probability of a split at least this uneven if both tests were equally good (exact
            McNemar test).
        gain: floats ``[classes]``: accuracy or average precision of the second test minus that of
            the first, NaN for a class without videos.
        won: indices int64 of the videos that only the second test gets right, largest change of the
            probability first.
        lost: the same for the first test.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float
    gain: np.ndarray
    won: np.ndarray
    lost: np.ndarray


def changes(tested: TestResult, before: Analysis, after: Analysis) -> Changes:
    """Compare two tests of the same videos.

    Args:
        tested: either test, for its labels.
        before: analysis of the first test.
        after: analysis of the second test.
    """
    from scipy.special import bdtr

    one, two = before.right, after.right
    first, second = int((one & ~two).sum()), int((two & ~one).sum())
    p = min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))
    if tested.multi_label:
        gain = after.precision - before.precision
    else:
        gain = class_accuracy(tested, two) - class_accuracy(tested, one)
    shift = after.truth - before.truth
    won, lost = np.flatnonzero(two & ~one), np.flatnonzero(one & ~two)
    return Changes(
        int((one & two).sum()),
        first,
        second,
        int((~one & ~two).sum()),
        p,
        gain,
        won[np.argsort(-shift[won], kind="stable")],
        lost[np.argsort(shift[lost], kind="stable")],
    )
