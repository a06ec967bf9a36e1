"""One run of a live stream: frames come in, results go to all outputs."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from lib.live.camera import Camera
from lib.live.display import Window
from lib.live.output import EventWriter, Recorder, Speed, StatusLine, seen_text
from lib.live.sources import Source
from lib.messages import note
from ops.streaming import Event, LiveResult, LiveStream

_WAIT_SECONDS = 0.2  # for a frame, after which signals and the window are looked at
_WINDOW_CLASSES = 3  # in the corner of the window


class Session:
    """Predicts a source and shows what is seen. A context manager, which ends the stream.

    Attributes:
        speed: of the predictions.

    Args:
        stream: predicts.
        events: writes the events.
        recorder: writes the video.
        window: shows it, or None.
    """

    def __init__(
        self,
        stream: LiveStream,
        events: EventWriter,
        recorder: Recorder,
        window: Window | None,
    ) -> None:
        self.speed = Speed()
        self._stream = stream
        self._events = events
        self._recorder = recorder
        self._window = window
        self._status = StatusLine(enabled=window is None)
        self._result: LiveResult | None = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self._write(self._stream.close())
        self._status.clear()
        if self._window:
            self._window.close()

    def read(self, source: Source, stopped: Callable[[], object]) -> None:
        """Predict a file as fast as possible; its own times are the times of the frames.

        Args:
            source: a file.
            stopped: whether to end now.

        Raises:
            SourceError: it cannot be opened.
            UnreadableVideo: a frame cannot be read.
        """
        shows = self._window is not None or self._recorder.is_on
        with source.open() as video:
            for frame in video:
                image = functools.cache(frame.image)  # decoded pixels become RGB if needed
                self._add(image, frame.time)
                if shows:
                    self._show(image(), frame.time)
                if stopped() or not self._is_open():
                    return

    def follow(
        self, source: Source, stopped: Callable[[], object], *, keep: int, paced: bool
    ) -> None:
        """Predict a source in real time.

        Args:
            source: a camera, an address, or a file that takes its time.
            stopped: whether to end now.
            keep: number of consecutive frames that the network needs.
            paced: whether it is a file.

        Raises:
            SourceError: it cannot be opened.
        """
        connection = 0
        with Camera(source.open, source.name, self._note, keep=keep, paced=paced) as camera:
            while not (stopped() or camera.has_ended) and self._is_open():
                frames = camera.take(_WAIT_SECONDS)
                if not frames and not camera.is_connected:
                    self._restart()
                for frame in frames:
                    if frame.connection != connection:
                        connection = frame.connection
                        self._restart()
                    self._add(frame.image, frame.seconds, frame.arrived)
                if frames:
                    self._show(frames[-1].image, frames[-1].seconds)

    def _add(
        self,
        image: np.ndarray | Callable[[], np.ndarray],
        seconds: float,
        arrived: float | None = None,
    ) -> None:
        result = self._stream.push(image, seconds, arrived)
        if result is None:
            return
        self._result = result
        self.speed.add(result.latency)
        self._write(result.events)
        self._status.show(f"{self.speed.now}  {seen_text(result)}")

    def _show(self, image: np.ndarray, seconds: float) -> None:
        """Put a frame into the video and the window."""
        seen = seen_text(self._result)
        self._recorder.write(image, seconds, seen)
        if self._window:
            top = self._result.top(_WINDOW_CLASSES) if self._result else []
            self._window.show(image, seen, top, self.speed.now)

    def _is_open(self) -> bool:
        """Whether the user has not closed the window."""
        return self._window is None or self._window.handle_keys()

    def _restart(self) -> None:
        """What comes now does not follow what came before."""
        self._result = None
        self._write(self._stream.restart())

    def _write(self, events: Sequence[Event]) -> None:
        for event in events:
            self._status.clear()
            self._events.write(event)

    def _note(self, text: str) -> None:
        self._status.clear()
        note(text)
