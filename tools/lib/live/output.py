"""Where the results of a live stream go: lines of text, JSON lines, a video."""

import contextlib
import json
import statistics
import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import IO

import numpy as np

from lib.pictures.annotated_video import AnnotatedVideo, open_annotated
from lib.pictures.captions import caption
from ops.streaming import Event, LiveResult
from ops.utils.text import counted

_RATE_SECONDS = 5.0  # over which the frame rate is measured
_STATUS_SECONDS = 0.25  # between two updates of the status line
_RECORDED_RATE = 30  # frames per second that players are told
_PRESET = "veryfast"  # of x264
_MOST_LATENCIES = 100_000  # that the summary is made of


class EventWriter:
    """Writes each event twice, when it begins and when it ends.

    Args:
        lines: an open file for JSON lines, or None.
        text: whether to print the events.
        has_names: whether the classes have names.
        has_clock: whether the lines contain the time of day: those of a camera do.
    """

    def __init__(
        self, lines: IO[str] | None, *, text: bool, has_names: bool, has_clock: bool
    ) -> None:
        self._lines = lines
        self._text = text
        self._has_names = has_names
        self._has_clock = has_clock

    def write(self, event: Event) -> None:
        if self._lines:
            self._lines.write(json.dumps(self._content(event), ensure_ascii=False) + "\n")
            self._lines.flush()
        if self._text:
            print(_describe(event), flush=True)

    def _content(self, event: Event) -> dict[str, object]:
        end = event.end
        content = {
            "type": "begin" if end is None else "end",
            "name": event.name if self._has_names else None,
            "label": event.label,
            "start": round(event.start, 3),
            "end": None if end is None else round(end, 3),
            "probability": round(event.probability, 6),
        }
        if self._has_clock:
            content["clock"] = datetime.now(UTC).isoformat(timespec="milliseconds")
        return content


def _describe(event: Event) -> str:
    percent = f"{100 * event.probability:3.0f} %"
    if event.end is None:
        return f"{event.start:8.2f} s  begins  {percent}  {event.name}"
    return f"{event.end:8.2f} s  ends    {percent}  {event.name} ({event.end - event.start:.2f} s)"


class Speed:
    """Measures how many results there are per second, and how late they are."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._recent: deque[float] = deque()
        self._latencies: deque[float] = deque(maxlen=_MOST_LATENCIES)
        self.results = 0

    def add(self, latency: float) -> None:
        """Count a result; latency in seconds."""
        now = time.perf_counter()
        self.results += 1
        self._latencies.append(latency)
        self._recent.append(now)
        while now - self._recent[0] > _RATE_SECONDS:
            self._recent.popleft()

    @property
    def now(self) -> str:
        """The rate and latency of the last seconds, in words."""
        if not self._recent:
            return "no result yet"
        span = min(_RATE_SECONDS, time.perf_counter() - self._began)
        rate = len(self._recent) / max(span, 1e-9)
        return f"{rate:.1f} results/s, latency {1000 * self._latencies[-1]:.0f} ms"

    def summary(self) -> str:
        """All of it, in words."""
        seconds = time.perf_counter() - self._began
        text = f"{counted(self.results, 'result')} in {seconds:.1f} s"
        if self.results:
            median = 1000 * statistics.median(self._latencies)
            worst = 1000 * float(np.percentile(self._latencies, 95))
            text += (
                f", {self.results / seconds:.1f} per second; latency {median:.0f} ms (median), "
                f"{worst:.0f} ms (95 %)"
            )
        return text


class StatusLine:
    """A line at the bottom of a terminal that is written over again and again."""

    def __init__(self, enabled: bool) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._width = 0
        self._next = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if not self._enabled or now < self._next:
            return
        self._next = now + _STATUS_SECONDS
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def clear(self) -> None:
        """Remove the line, before something else is printed."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width)
            sys.stderr.write("\r")
            sys.stderr.flush()
            self._width = 0


class Recorder:
    """Writes the frames with what is seen on them to a video, from the first frame on.

    Args:
        path: the file; None records nothing.

    Attributes:
        is_on: whether it records.
    """

    def __init__(self, path: str | None) -> None:
        self.is_on = path is not None
        self._path = path
        self._files = contextlib.ExitStack()
        self._video: AnnotatedVideo | None = None
        self._began = 0.0

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._files.__exit__(*exception)

    def write(self, image: np.ndarray, seconds: float, seen: str) -> None:
        """Add a frame, uint8 ``[H, W, 3]``, with its time and the text on it."""
        if not self.is_on:
            return
        if self._video is None:
            opened = open_annotated(self._path, _RECORDED_RATE, _PRESET, flag="--record")
            self._video = self._files.enter_context(opened)
            self._began = seconds
        self._video.write(image, seconds - self._began, seen)


def seen_text(result: LiveResult | None) -> str:
    """The class that is seen, and its probability, for a picture; empty for none."""
    if result is None or result.label is None:
        return ""
    return caption(result.name, float(result.probabilities[result.label]))
