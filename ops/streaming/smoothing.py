"""From the scores of single frames to one class at a time, and to events that begin and end.

Single frames flicker between classes. Two rules make events of them; both see one score vector
after another with its time, and need nothing else: no network, no clock, no files.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ops.scores.aggregation import to_probabilities
from ops.utils.errors import UserError

TAU = 0.4  # seconds
ON = 0.25  # probability
OFF = 0.15  # probability
HOLD = 0.2  # seconds
# Classes of known datasets that are no event.
IDLE_NAMES = ("Doing other things", "No gesture")

# TSM online_demo/main.py
DEMO_FRAMES = 12  # whose logits are summed
# Turned off there: their previous class is kept.
DEMO_IGNORED_NAMES = (
    "Pulling Hand In",
    "Rolling Hand Backward",
    "Rolling Hand Forward",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
)
_TOLERANCE = 1e-6  # seconds; less than any frame lasts


@dataclass(frozen=True)
class Event:
    """A class that is seen for some time.

    Attributes:
        label: of the class.
        start: when the class was first probable enough, in seconds.
        end: when it no longer was; None: the event has just begun.
        probability: the highest smoothed one so far.
        name: of the class, where the caller knows it.
    """

    label: int
    start: float
    end: float | None
    probability: float
    name: str = ""


class SmoothingRule(ABC):
    """A rule that decides which class is seen, if any.

    Attributes:
        probabilities: smoothed, float64 ``[classes]``; None before the first scores.
        label: of the class that is seen now; None: none is.
    """

    def __init__(self) -> None:
        self.probabilities: np.ndarray | None = None
        self.label: int | None = None
        self._event: Event | None = None
        self._last_end = -math.inf  # of an event
        self._last = 0.0

    def update(self, logits: np.ndarray, seconds: float) -> list[Event]:
        """Add the scores of a frame.

        Args:
            logits: ``[classes]``.
            seconds: time of the frame; not less than that of the one before.

        Returns:
            The event that ended (with its end), then the one that began, as far as there are.
        """
        label, start = self._decide(np.asarray(logits, np.float64), seconds)
        events = []
        if label != self.label:
            # Events do not overlap, although a class is probable before its hold is over.
            start = max(start, self._last_end)
            events += self._end(seconds if label is None else start)
            if label is not None:
                self._event = Event(label, start, None, float(self.probabilities[label]))
                events.append(self._event)
            self.label = label
        elif self._event is not None:
            best = max(self._event.probability, float(self.probabilities[label]))
            self._event = replace(self._event, probability=best)
        self._last = seconds
        return events

    def finish(self) -> list[Event]:
        """End the stream: returns the event that it interrupts, and forgets all scores."""
        events = self._end(self._last)
        self.label = None
        self.probabilities = None
        self._last_end = -math.inf
        self._forget()
        return events

    def _end(self, seconds: float) -> list[Event]:
        if self._event is None:
            return []
        ended = replace(self._event, end=max(seconds, self._event.start))
        self._last_end = ended.end
        self._event = None
        return [ended]

    @abstractmethod
    def _decide(self, logits: np.ndarray, seconds: float) -> tuple[int | None, float]:
        """Set ``probabilities``; returns the class that is seen now, and since when it may be."""

    @abstractmethod
    def _forget(self) -> None:
        """Be as new."""


class Smoother(SmoothingRule):
    """Exponential mean of the logits, two thresholds and a hold, all in seconds.

    A class is seen once it is the most probable of all but the idle ones, with a probability of at
    least ``on``, for ``hold`` seconds. It is no longer seen when its probability falls below
    ``off``, or when another one takes its place. Scores stand for the time since the scores before,
    so that a hold shorter than this time has no effect. As only times count, the same settings
    serve any frame rate.

    Args:
        tau: time constant of the mean, in seconds; 0: no mean.
        on: probability at which a class begins.
        off: probability below which it ends.
        hold: seconds for which it must be seen before it begins.
        idle: labels of the classes that are no event.
        multi_label: the probabilities are sigmoids, else a softmax.

    Raises:
        UserError: a value outside of its range.
    """

    def __init__(
        self,
        *,
        tau: float = TAU,
        on: float = ON,
        off: float = OFF,
        hold: float = HOLD,
        idle: Sequence[int] = (),
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= off <= on <= 1:
            raise UserError(
                f"--on {on:g} --off {off:g}: both are probabilities, and off is at most on"
            )
        if not (0 <= tau < math.inf and 0 <= hold < math.inf):
            raise UserError(f"--tau {tau:g} --hold {hold:g}: both are seconds, from 0")
        self.tau = tau
        self.on = on
        self.off = off
        self.hold = hold
        self.idle = tuple(idle)
        self.multi_label = multi_label
        self._forget()

    def _forget(self) -> None:
        self._mean: np.ndarray | None = None
        # The class that may be seen next, since when it is probable enough, and since when its
        # hold counts.
        self._candidate: int | None = None
        self._probable_since = 0.0
        self._held_since = 0.0

    def _decide(self, logits: np.ndarray, seconds: float) -> tuple[int | None, float]:
        previous = self._last
        if self._mean is None:
            previous = seconds
        self._average(logits, seconds - previous)
        active = self.probabilities.copy()
        active[list(self.idle)] = 0
        best = int(active.argmax())
        seen = self.label
        if seen is not None and active[seen] < self.off:
            seen = None
        if active[best] < self.on or best == seen:
            self._candidate = None
            return seen, 0.0
        if best != self._candidate:
            self._candidate = best
            self._probable_since = seconds
            self._held_since = previous
        if seconds - self._held_since < self.hold - _TOLERANCE:
            return seen, 0.0
        self._candidate = None
        return best, self._probable_since

    def _average(self, logits: np.ndarray, elapsed: float) -> None:
        if self._mean is None or self.tau == 0:
            self._mean = logits
        else:
            share = 1 - math.exp(-max(0.0, elapsed) / self.tau)
            self._mean = self._mean + share * (logits - self._mean)
        self.probabilities = to_probabilities(self._mean, self.multi_label)


class DemoRule(SmoothingRule):
    """The rule of TSM's online demo (online_demo/main.py), in frames and not in seconds.

    The best class of the summed logits of the last 12 frames is seen. Ignored classes leave the
    class of the frame before, and a class that changed in the frame before does not change again.
    Unlike the original it starts without an error when the first class is not the idle one.

    Args:
        frames: number of frames whose logits are summed.
        idle: labels of the classes that are no event.
        ignored: labels of the classes that are never seen.
        multi_label: the probabilities are sigmoids, else a softmax.
    """

    def __init__(
        self,
        *,
        frames: int = DEMO_FRAMES,
        idle: Sequence[int] = (),
        ignored: Sequence[int] = (),
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.idle = frozenset(idle)
        self.ignored = frozenset(ignored)
        self.multi_label = multi_label
        self._forget()

    def _forget(self) -> None:
        self._logits: deque[np.ndarray] = deque(maxlen=self.frames)
        self._before: int | None = None  # the class of the last frame but one

    def _decide(self, logits: np.ndarray, seconds: float) -> tuple[int | None, float]:
        self._logits.append(logits)
        mean = np.mean(self._logits, axis=0)
        self.probabilities = to_probabilities(mean, self.multi_label)
        best = int(mean.argmax())
        last = self.label
        seen = best
        if best in self.ignored:
            seen = last
        elif best in self.idle:
            seen = None
        if seen != last and last != self._before:
            seen = last
        self._before = last
        return seen, seconds


def labels_of(class_names: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """The labels of those names that are classes.

    Args:
        class_names: in label order, or None.
        names: upper and lower case are the same.
    """
    wanted = {name.casefold() for name in names}
    return [label for label, name in enumerate(class_names or ()) if name.casefold() in wanted]
