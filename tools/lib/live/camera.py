"""A thread that reads a source and hands over its latest frames: what is late is left out."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np

from lib.live.sources import SourceError
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.stream import FrameStream

FIRST_DELAY = 0.5  # seconds until the first attempt to reconnect; then twice as long each time
LONGEST_DELAY = 10.0
_JOIN_SECONDS = 2.0  # in which the thread ends, unless the source keeps it waiting


@dataclass(frozen=True)
class CapturedFrame:
    """A frame of a source.

    Attributes:
        image: RGB, uint8 ``[H, W, 3]``.
        seconds: its time since the camera was started, or that of a file.
        arrived: when it was captured, of ``time.perf_counter``.
        connection: how often the source had been lost before.
    """

    image: np.ndarray
    seconds: float
    arrived: float
    connection: int


class Camera:
    """Captures in a thread. A context manager.

    A slow consumer gets newer frames, not older ones, so that its latency never grows. A source
    that is lost is opened again, after delays that double.

    Attributes:
        captured: number of frames so far.
        lost: how often the source was lost.
        is_connected: whether frames can be expected.
        has_ended: the source had an end, and all frames have been taken.
    """

    def __init__(
        self,
        open_stream: Callable[[], FrameStream],
        name: str,
        note: Callable[[str], None],
        *,
        keep: int = 1,
        paced: bool = False,
        first_delay: float = FIRST_DELAY,
        longest_delay: float = LONGEST_DELAY,
    ) -> None:
        """Create a camera; `start` opens it.

        Args:
            open_stream: opens the source, raises SourceError.
            name: of the source, for messages.
            note: prints a line about a lost source.
            keep: number of consecutive frames that are handed over at most.
            paced: the source is a file: its frames come at their own times, and its end is the end.
            first_delay, longest_delay: seconds between attempts to open a lost source.
        """
        self._open_stream = open_stream
        self._name = name
        self._note = note
        self._paced = paced
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._delay = first_delay
        self._fresh: deque[CapturedFrame] = deque(maxlen=keep)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._stream: FrameStream | None = None
        self._defect: BaseException | None = None
        self._began = 0.0
        self._finished = False
        self.captured = 0
        self.lost = 0
        self.is_connected = False

    def start(self) -> None:
        """Open the source and begin to capture.

        Raises:
            SourceError: the source cannot be opened.
        """
        self._stream = self._open_stream()
        self.is_connected = True
        self._began = time.monotonic()
        self._thread.start()

    def __enter__(self) -> "Camera":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        # A source that keeps its thread waiting does not keep the program.
        self._thread.join(_JOIN_SECONDS)

    @property
    def has_ended(self) -> bool:
        with self._changed:
            return self._finished and not self._fresh

    def take(self, timeout: float) -> list[CapturedFrame]:
        """The latest frames that have not been taken, in order; waits for one.

        Args:
            timeout: longest wait, in seconds.

        Returns:
            At most ``keep`` frames; none after the timeout, or at the end of the source.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._finished, timeout)
            if self._defect:
                raise self._defect
            frames = list(self._fresh)
            self._fresh.clear()
            return frames

    def _run(self) -> None:
        try:
            while self._stream is not None:
                reason = self._capture(self._stream)
                self._stream = None
                if not self._paced and not self._stopping.is_set():
                    self._stream = self._reconnect(reason)
        except BaseException as error:  # raised where the frames are taken
            self._defect = error
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def _capture(self, stream: FrameStream) -> str:
        """Hand over the frames of an open source; returns why there are no more."""
        reason = "no more frames"
        try:
            with stream:
                for frame in stream:
                    if not self._wait_until_due(frame.time):
                        break
                    self._hand_over(frame.image(), frame.time)
        except UnreadableVideo as error:
            reason = error.reason
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
        return reason

    def _wait_until_due(self, seconds: float) -> bool:
        """Wait for the time of a frame of a file; returns whether to go on."""
        if not self._paced:
            return not self._stopping.is_set()
        remaining = self._began + seconds - time.monotonic()
        return not self._stopping.wait(max(0.0, remaining))

    def _hand_over(self, image: np.ndarray, seconds: float) -> None:
        if not self._paced:
            seconds = time.monotonic() - self._began
        self._delay = self._first_delay
        frame = CapturedFrame(image, seconds, time.perf_counter(), self.lost)
        with self._changed:
            self.captured += 1
            self._fresh.append(frame)
            self._changed.notify_all()

    def _reconnect(self, reason: str) -> FrameStream | None:
        """Open a lost source again; None if the camera is stopped before."""
        self.is_connected = False
        self.lost += 1
        since = time.monotonic()
        self._note(f"{self._name} is lost ({reason}); trying again")
        while not self._stopping.wait(self._delay):
            # Back to the first delay when a frame comes.
            self._delay = min(2 * self._delay, self._longest_delay)
            try:
                stream = self._open_stream()
            except SourceError as error:
                if str(error) != reason:
                    reason = str(error)
                    self._note(f"{self._name}: {reason}; next attempt in {self._delay:g} s")
                continue
            self._note(f"{self._name} is back after {time.monotonic() - since:.1f} s")
            self.is_connected = True
            return stream
        return None
