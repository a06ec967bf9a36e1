"""What changed between two tests of the same videos."""

from typing import NamedTuple

import numpy as np

from ops.report.tested import Findings, Tested, class_accuracy


class Changes(NamedTuple):
    """Numbers of videos that both, only the first, only the second and neither test got right; ``p``, the chance of so
    uneven a split if both tests were equally good (exact McNemar test); ``gain`` floats ``[classes]``, accuracy or average
    precision of the second less that of the first, NaN for a class without videos; rows int64 of the videos that only the
    second and only the first got right, the clearest changes first.
    """

    both: int
    first: int
    second: int
    neither: int
    p: float
    gain: np.ndarray
    won: np.ndarray
    lost: np.ndarray


def changes(tested: Tested, before: Findings, after: Findings) -> Changes:
    """``tested``: either of the two, for its labels."""
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
