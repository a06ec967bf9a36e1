"""Spans of a video with one class, from the probabilities of overlapping windows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ops.utils.errors import UserError

ENTER = 0.5
STAY = 0.3


class ScoredWindow(Protocol):
    """What `merge_spans` needs of a window: its place in seconds, and the class probabilities."""

    start: float
    end: float
    probabilities: np.ndarray
    picture: Any


@dataclass(frozen=True)
class Span:
    """A stretch of a video in which one class is seen.

    Attributes:
        start, end: seconds.
        label: of the class.
        probability: mean over the windows of the span.
        name: of the class.
        picture: of the window in which the class is most probable, or None.
    """

    start: float
    end: float
    label: int
    probability: float
    name: str = ""
    picture: Any = None


def merge_spans(
    windows: Iterable[ScoredWindow],
    enter: float = ENTER,
    stay: float = STAY,
    multi_label: bool = False,
) -> Iterator[Span]:
    """Merge windows into spans, with hysteresis.

    A span begins with a window in which the class has a probability of at least ``enter``, and
    continues while it has at least ``stay``. With one class at a time it also ends where another
    class has ``enter`` and is more probable. Where windows overlap, the border of two is halfway
    between their middles.

    Args:
        windows: in order of time.
        enter, stay: probabilities, ``0 <= stay <= enter <= 1``.
        multi_label: spans of several classes may overlap.

    Yields:
        Spans, in the order in which they end.

    Raises:
        UserError: ``stay`` is above ``enter``, or one is outside of [0, 1].
    """
    if not 0 <= stay <= enter <= 1:
        raise UserError(
            f"--enter {enter:g} --stay {stay:g}: both are probabilities, and stay is at most enter"
        )
    active: dict[int, _OpenSpan] = {}
    for window, start, end in _cells(windows):
        probabilities = window.probabilities
        keep = {label for label in active if probabilities[label] >= stay}
        if multi_label:
            entered = np.flatnonzero(probabilities >= enter).tolist()
        else:
            best = int(probabilities.argmax())
            entered = [best] if probabilities[best] >= enter else []
            if entered:
                keep &= {best}
        for label in [label for label in active if label not in keep]:
            yield active.pop(label).close()
        for label in entered:
            active.setdefault(label, _OpenSpan(label, start))
        for label, span in active.items():
            span.add(float(probabilities[label]), end, window.picture)
    for span in active.values():
        yield span.close()


class _OpenSpan:
    """A span that may continue."""

    def __init__(self, label: int, start: float) -> None:
        self._span = Span(start, start, label, 0.0)
        self._total = 0.0
        self._count = 0
        self._best = -1.0

    def add(self, probability: float, end: float, picture: Any) -> None:
        self._total += probability
        self._count += 1
        if probability > self._best:
            self._best = probability
            self._span = replace(self._span, picture=picture)
        self._span = replace(self._span, end=end)

    def close(self) -> Span:
        return replace(self._span, probability=self._total / self._count)


def _cells(windows: Iterable[ScoredWindow]) -> Iterator[tuple[ScoredWindow, float, float]]:
    """Windows, and the stretch that each of them decides about."""
    previous = None
    start = 0.0
    for window in windows:
        if previous is None:
            start = window.start
        else:
            middle = (previous.start + previous.end + window.start + window.end) / 4
            yield previous, start, min(previous.end, middle)
            start = max(window.start, middle)
        previous = window
    if previous is not None:
        yield previous, start, previous.end
