"""A network on frames that arrive without an end: from a camera, a page or a file."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ops.data.class_names import class_name
from ops.data.transforms import TestTransform
from ops.data.windows import DEFAULT_STEP, DEFAULT_WINDOW
from ops.models import TSN
from ops.streaming.engines import Arrival, StepEngine, WindowEngine
from ops.streaming.smoothing import Event, Smoother, SmoothingRule
from ops.streaming.step import stepping_obstacle
from ops.utils.errors import UserError

DEFAULT_FPS = 12.0  # steps per second
_SLOT_TOLERANCE = 1e-3  # of the time from one sampled frame to the next


@dataclass(frozen=True)
class LiveResult:
    """What is seen at one moment of a stream.

    Attributes:
        seconds: time of the newest frame.
        logits: of the network, float32 ``[classes]``.
        probabilities: smoothed, float64 ``[classes]``.
        label: of the class that is seen; None: none is.
        events: those that ended or began, in this order.
        latency: seconds from the capture of the newest frame to the result.
        class_names: in label order, or None.
    """

    seconds: float
    logits: np.ndarray
    probabilities: np.ndarray
    label: int | None
    events: list[Event]
    latency: float
    class_names: Sequence[str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str | None:
        """The name of the class that is seen, ``label 17`` without names; None: none is."""
        if self.label is None:
            return None
        return class_name(self.class_names, self.label)

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Names and smoothed probabilities of the k most probable classes."""
        order = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [
            (class_name(self.class_names, label), float(self.probabilities[label]))
            for label in order
        ]


class LiveStream:
    """Predicts a stream while its frames arrive. One for each camera, used by one thread.

    A network that sees no later frames makes a step for each sampled frame. For any other network
    the clips of the last ``window`` seconds are predicted every ``step`` seconds, as
    ``Predictor.windows`` cuts them from a file: a bidirectional network is never run as a causal
    one. Frames are scaled and cropped as in a test with the center crop.

    Attributes:
        steps: whether the network makes a step for each frame.
        description: in words, how frames become predictions.
        size: side of the square frames of the network, pixels.
    """

    def __init__(
        self,
        network: nn.Module | Any,
        class_names: Sequence[str] | None = None,
        *,
        rule: SmoothingRule | None = None,
        fps: float | None = None,
        window: float = DEFAULT_WINDOW,
        step: float = DEFAULT_STEP,
        amp: str = "none",
        background: bool = False,
    ) -> None:
        """Create a stream.

        Args:
            network: a TSN in eval mode, or a network of ``ops.export.load_exported``.
            class_names: in label order, or None.
            rule: of smoothing; None: a `Smoother` without idle classes.
            fps: frames per second that are sampled, by their times; None: 12 for a network that
                makes steps, all frames for windows.
            window: length of a window, in seconds.
            step: from the start of a window to that of the next one, in seconds.
            amp: mixed precision, "none", "bf16" or "fp16".
            background: predict windows in a thread, so that a push returns at once and no frame is
                missed: for cameras. A window that is complete while another one is being predicted
                is replaced by the next one. Results then depend on the speed of the machine.

        Raises:
            UserError: a network of optical flow, or ``window``, ``step`` or ``fps`` is not
                positive.
        """
        if network.modality == "Flow":
            raise UserError("--modality Flow: a camera has no optical flow; use RGB or RGBDiff")
        if not (window > 0 and step > 0):
            raise UserError(f"--window {window:g} --step {step:g}: both must be positive")
        self.steps = _makes_steps(network)
        if fps is None and self.steps:
            fps = DEFAULT_FPS
        if fps is not None and not fps > 0:
            raise UserError(f"--fps {fps:g}: must be positive")
        self.class_names = class_names
        self.size = network.input_size
        self.fps = fps
        self.rule = rule or Smoother()
        self.description = f"windows of {window:g} s every {step:g} s{_why_windows(network)}"
        if self.steps:
            self.description = f"frame by frame, {self.fps:g} frames per second"
        self._transform = TestTransform(network.scale_size, network.input_size, 1)
        self._engine: StepEngine | WindowEngine
        if self.steps:
            self._engine = StepEngine(network, amp)
        else:
            self._engine = WindowEngine(network, amp, window, step, background)
        self._cut_off: list[Event] = []  # by a new stream, and not reported yet
        self._begin()

    def push(
        self,
        frame: np.ndarray | Callable[[], np.ndarray],
        seconds: float,
        arrived: float | None = None,
    ) -> LiveResult | None:
        """Add a frame of any size.

        Args:
            frame: RGB, uint8 ``[H, W, 3]``, which must not change afterwards; or a function that
                returns it, and is called if the network needs it.
            seconds: its time. A time before that of the last frame begins a new stream.
            arrived: when it was captured, of ``time.perf_counter``, for the latency; None: now.

        Returns:
            What is seen now; None if this frame changes nothing: it is not sampled, or completes no
            window.

        Raises:
            UserError: scores are not finite.
        """

        def crop() -> torch.Tensor:
            image = frame() if callable(frame) else frame
            return self._transform.views_of_frame(image)[0]

        return self._push(crop, seconds, arrived)

    def push_crop(
        self, frame: np.ndarray, seconds: float, arrived: float | None = None
    ) -> LiveResult | None:
        """Add a frame that has been scaled and cropped: RGB, uint8 ``[3, size, size]``.

        The rest is as in `push`.

        Raises:
            ValueError: a frame of another size or type.
        """
        if frame.shape != (3, self.size, self.size) or frame.dtype != np.uint8:
            raise ValueError(
                f"a cropped frame is uint8 [3, {self.size}, {self.size}], not {frame.dtype} "
                f"{list(frame.shape)}"
            )
        return self._push(lambda: torch.from_numpy(frame), seconds, arrived)

    def restart(self) -> list[Event]:
        """Begin a new stream, after a cut or a lost camera.

        Returns:
            The event that the cut ends, if there is one.
        """
        events = self._named(self.rule.finish())
        self._engine.restart()
        self._begin()
        return events

    def close(self) -> list[Event]:
        """End the stream, and release its thread; returns as `restart`."""
        events = self.restart()
        self._engine.close()
        return events

    def _begin(self) -> None:
        self._first: float | None = None  # time of the first frame
        self._last = 0.0
        self._slot = -1  # number of the last sampled frame

    def _push(
        self, crop: Callable[[], torch.Tensor], seconds: float, arrived: float | None
    ) -> LiveResult | None:
        if arrived is None:
            arrived = time.perf_counter()
        if self._first is not None and seconds < self._last:
            self._cut_off += self.restart()
        if self._first is None:
            self._first = seconds
        self._last = seconds
        since = seconds - self._first
        scored = self._engine.add(Arrival(crop, since, arrived, self._is_sampled(since)))
        if scored is None:
            return None
        if not np.isfinite(scored.logits).all():
            raise UserError("scores are not finite: the checkpoint is damaged")
        at = self._first + scored.newest.seconds
        events = self._cut_off + self._named(self.rule.update(scored.logits, at))
        self._cut_off = []
        return LiveResult(
            at,
            scored.logits,
            self.rule.probabilities,
            self.rule.label,
            events,
            time.perf_counter() - scored.newest.arrived,
            self.class_names,
        )

    def _is_sampled(self, since: float) -> bool:
        """Whether a frame is the first one in its part of 1 / fps seconds."""
        if self.fps is None:
            return True
        slot = int(since * self.fps + _SLOT_TOLERANCE)
        if slot == self._slot:
            return False
        self._slot = slot
        return True

    def _named(self, events: list[Event]) -> list[Event]:
        return [replace(event, name=class_name(self.class_names, event.label)) for event in events]


def _makes_steps(network: nn.Module | Any) -> bool:
    if isinstance(network, TSN):
        return stepping_obstacle(network) is None
    return network.kind == "step"


def _why_windows(network: nn.Module | Any) -> str:
    reason = None
    if isinstance(network, TSN):
        reason = stepping_obstacle(network)
    if reason is None:
        return ""
    return f", as {reason}"
