"""The two ways to score a stream of frames: step by step, or the clips of its last seconds."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ops.data.readers.stream import StreamedFrame
from ops.data.windows import Window, WindowCollector
from ops.models import TSN
from ops.streaming.step import StreamingTSN
from ops.temporal.consensus import clip_scores
from ops.utils.amp import autocast


@dataclass(frozen=True)
class Arrival:
    """A frame that arrives.

    Attributes:
        crop: ``() -> uint8 [C, S, S]``, scales and crops it.
        seconds: its time since the beginning of the stream.
        arrived: when it was handed over, of ``time.perf_counter``.
        sampled: whether it is one of those that the network is to see.
    """

    crop: Callable[[], torch.Tensor]
    seconds: float
    arrived: float
    sampled: bool


@dataclass(frozen=True)
class Scored:
    """The scores of a step or window.

    Attributes:
        logits: float32 ``[classes]``.
        newest: the newest frame of which they are.
    """

    logits: np.ndarray
    newest: Arrival


class StepEngine:
    """One step of a network for each sampled frame.

    Args:
        network: a TSN that can run frame by frame, or an exported network of kind "step".
        amp: mixed precision, "none", "bf16" or "fp16".
    """

    def __init__(self, network: Any, amp: str) -> None:
        # The last L crops: a segment of RGBDiff is a frame and those before it.
        self._recent: deque[torch.Tensor] = deque(maxlen=network.frames_per_segment)
        if isinstance(network, TSN):
            network = StreamingTSN(network)
        else:
            network = network.as_step()  # a Predictor has it as a network of clips
        self._network = network
        self._amp = amp
        self._device = _device_of(network)
        self._state: tuple[torch.Tensor, ...] | None = None

    def restart(self) -> None:
        """Begin a new stream."""
        self._state = None
        self._recent.clear()

    def close(self) -> None:
        """Nothing is to be released."""

    @torch.inference_mode()
    def add(self, frame: Arrival) -> Scored | None:
        """Add the next frame; returns the scores of its step, None if it is not sampled."""
        length = self._recent.maxlen
        if not frame.sampled and length == 1:
            return None
        self._recent.append(frame.crop())
        if not frame.sampled:
            return None
        missing = length - len(self._recent)
        segment = [self._recent[0]] * missing + list(self._recent)
        pixels = torch.cat(segment)[None].to(self._device)
        with autocast(self._device, self._amp):
            scores, self._state = self._network(pixels, self._state)
        return Scored(scores[0].float().cpu().numpy(), frame)


class WindowEngine:
    """Predicts the clip of the last ``length`` seconds every ``step`` seconds.

    Args:
        network: a TSN or an exported network of clips.
        amp: mixed precision, "none", "bf16" or "fp16".
        length: of a window, in seconds.
        step: from the start of a window to that of the next one, in seconds.
        background: predict in a thread.
    """

    def __init__(
        self, network: Any, amp: str, length: float, step: float, background: bool
    ) -> None:
        self._network = network
        self._amp = amp
        self._length = length
        self._step = step
        self._device = _device_of(network)
        self._thread = None
        if background:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self.restart()

    def restart(self) -> None:
        """Begin a new stream."""
        self._future: Future[Scored] | None = None  # of the window that is being predicted
        self._due: tuple[Window, Arrival] | None = None  # the next one, and its newest frame
        self._begin_collector(0.0)

    def close(self) -> None:
        """Release the thread."""
        if self._thread:
            self._thread.shutdown(cancel_futures=True)

    def add(self, frame: Arrival) -> Scored | None:
        """Add the next frame; returns the scores of a window, None if none is finished."""
        if frame.sampled:
            self._collect(frame)
        if self._thread:
            return self._predict_in_thread()
        if self._due is None:
            return None
        window, newest = self._due
        self._due = None
        return self._predict(window, newest)

    def _begin_collector(self, seconds: float) -> None:
        """Windows of frames from this time on."""
        self._collector = WindowCollector(
            self._length,
            self._step,
            self._network.num_segments,
            self._network.frames_per_segment,
            lambda crop: crop,
            lambda frame: frame.time,
        )
        self._count = 0
        self._origin = seconds
        self._last = seconds

    def _collect(self, frame: Arrival) -> None:
        if frame.seconds - self._last > self._length:
            # No later window has any of the frames so far.
            self._begin_collector(frame.seconds)
        self._last = frame.seconds
        streamed = StreamedFrame(self._count, frame.seconds - self._origin, frame.crop)
        self._count += 1
        windows = self._collector.add(streamed)
        if windows:
            # Of several the last one: whoever is late must not fall further behind.
            self._due = (windows[-1], frame)

    def _predict_in_thread(self) -> Scored | None:
        """What the thread has finished since the last call; gives it the next window."""
        result = None
        if self._future is not None and self._future.done():
            result = self._future.result()
            self._future = None
        if self._future is None and self._due is not None:
            self._future = self._thread.submit(self._predict, *self._due)
            self._due = None
        return result

    @torch.inference_mode()
    def _predict(self, window: Window, newest: Arrival) -> Scored:
        segments = [torch.cat(segment.frames) for segment in window.segments]
        clip = torch.stack(segments)[None].to(self._device)
        with autocast(self._device, self._amp):
            scores = clip_scores(self._network(clip))
        return Scored(scores[0].float().cpu().numpy(), newest)


def _device_of(network: Any) -> torch.device:
    if isinstance(network, nn.Module):
        return next(network.parameters()).device
    return torch.device("cpu")
