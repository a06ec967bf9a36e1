"""Overlapping windows over the frames of a long video, which share the frames they have in common.

A window is a stretch of a video; it begins every ``step`` and is ``length`` long, in seconds or in
frames. As in a test with center sampling, a clip of a window is the middle of each of T equal parts
of it: of the L consecutive frames of a segment the middle one is displayed there. In seconds this
is right for variable frame rates too, because the times of the frames decide.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ops.data.readers.stream import StreamedFrame

DEFAULT_WINDOW = 2.5  # seconds
DEFAULT_STEP = 0.5  # seconds
_TOLERANCE = 1e-6  # of times in seconds: those of frames are fractions, rounded


@dataclass
class Segment:
    """L consecutive frames, prepared; shared by the windows that need the same ones.

    Attributes:
        first: number of the first frame.
        time: when its middle frame is displayed, in seconds.
        frames: what ``prepare`` made of each frame.
        computed: cache for a result of the caller, such as the scores of the segment.
    """

    first: int
    time: float
    frames: list[Any] = field(default_factory=list)
    computed: Any = None


@dataclass
class Window:
    """A stretch of a video and its clip.

    Attributes:
        index: number of the window, from 0.
        start: where it begins, in the unit of the windows.
        end: where it ends, at most the end of the video.
        segments: its T segments.
    """

    index: int
    start: float
    end: float
    segments: list[Segment] = field(default_factory=list)


class WindowCollector:
    """Cuts a stream of frames into windows, holding only what later windows need.

    Args:
        length: of a window, in seconds or frames.
        step: from the start of a window to that of the next, in the same unit.
        T: segments of a clip.
        L: consecutive frames of a segment.
        prepare: what to keep of the image of a frame; called once per frame that is needed.
        position: where a frame is, in the unit of the windows: its time or its number.
    """

    def __init__(
        self,
        length: float,
        step: float,
        T: int,
        L: int,
        prepare: Callable[[Any], Any],
        position: Callable[[StreamedFrame], float],
    ) -> None:
        if length <= 0 or step <= 0:
            raise ValueError(f"windows of {length} every {step}: both must be positive")
        self.length = length
        self.step = step
        self._T = T
        self._L = L
        self._before = (L - 1) // 2  # frames of a segment before its middle
        self._prepare = prepare
        self._position = position
        self._recent: deque[StreamedFrame] = deque(maxlen=self._before + 2)
        self._prepared: dict[int, Any] = {}
        self._segments: dict[int, Segment] = {}  # those that later windows may need
        self._open_segments: list[Segment] = []
        self._pending: deque[Window] = deque()
        self._following = 0  # number of the next window

    def windows(
        self, frames: Iterable[StreamedFrame], end: Callable[[], float]
    ) -> Iterator[Window]:
        """The windows of a video, in order.

        A window that reaches past the end of the video repeats the last frame; one with less than
        half of it in the video is left out, unless it is the first.

        Args:
            frames: all frames of the video, in order.
            end: after the last frame, where the video ends.
        """
        for frame in frames:
            yield from self.add(frame)
        if not self._recent:
            return
        last = self._recent[-1]
        self._drop_short(end())
        self._resolve(float("inf"), last.index)
        for segment in self._open_segments:
            missing = self._L - len(segment.frames)
            segment.frames += [self._prepared_frame(last)] * missing
        self._open_segments = []
        for window in self._pending:
            window.end = min(window.end, end())
        yield from self._finished()

    def add(self, frame: StreamedFrame) -> list[Window]:
        """Add the next frame of a video without an end; returns the windows that it completes."""
        self._begin_windows(self._position(frame))
        self._resolve(self._position(frame) - _TOLERANCE, frame.index - 1)
        self._recent.append(frame)
        self._fill(frame)
        self._forget(frame.index)
        return list(self._finished())

    def _begin_windows(self, position: float) -> None:
        while self._following * self.step <= position + _TOLERANCE:
            start = self._following * self.step
            self._pending.append(Window(self._following, start, start + self.length))
            self._following += 1

    def _resolve(self, position: float, displayed: int) -> None:
        """Choose the segments whose middle is before a position, at which a new frame begins.

        Args:
            position: start of the next frame.
            displayed: number of the frame that is displayed until then.
        """
        for window in self._pending:
            while len(window.segments) < self._T and self._target(window) < position:
                window.segments.append(self._segment(max(0, displayed - self._before)))

    def _target(self, window: Window) -> float:
        """Where the middle of the next segment of a window is."""
        return window.start + (len(window.segments) + 0.5) * self.length / self._T

    def _segment(self, first: int) -> Segment:
        if first not in self._segments:
            segment = Segment(first, self._recent[-1].time)
            for frame in self._recent:
                if first <= frame.index < first + self._L:
                    segment.frames.append(self._prepared_frame(frame))
            self._segments[first] = segment
            if len(segment.frames) < self._L:
                self._open_segments.append(segment)
        return self._segments[first]

    def _fill(self, frame: StreamedFrame) -> None:
        """Add a new frame to the segments that need it."""
        for segment in self._open_segments:
            segment.frames.append(self._prepared_frame(frame))
        self._open_segments = [
            segment for segment in self._open_segments if len(segment.frames) < self._L
        ]

    def _prepared_frame(self, frame: StreamedFrame) -> Any:
        if frame.index not in self._prepared:
            self._prepared[frame.index] = self._prepare(frame.image())
        return self._prepared[frame.index]

    def _forget(self, index: int) -> None:
        """Drop what no later window can need once the frame of this number was read."""
        oldest = max(0, index - self._before)
        for known in (self._segments, self._prepared):
            for number in [number for number in known if number < oldest]:
                del known[number]

    def _drop_short(self, end: float) -> None:
        while self._pending and self._pending[-1].index > 0:
            middle = self._pending[-1].start + self.length / 2
            if middle <= end + _TOLERANCE:
                return
            self._pending.pop()

    def _finished(self) -> Iterator[Window]:
        while self._pending and len(self._pending[0].segments) == self._T:
            if any(len(segment.frames) < self._L for segment in self._pending[0].segments):
                return
            yield self._pending.popleft()
