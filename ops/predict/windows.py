"""The windows of a long video: their scores, and their features."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ops.data.readers.stream import FrameStream, StreamedFrame
from ops.data.transforms import TestTransform
from ops.data.windows import Window, WindowCollector
from ops.export.network import ExportedNetwork
from ops.models import TSN
from ops.predict.prediction import average_views
from ops.scores.aggregation import view_sum
from ops.scores.protocol import Protocol
from ops.temporal.consensus import clip_scores
from ops.utils.amp import autocast
from ops.utils.errors import UserError

_TOLERANCE = 1e-3  # seconds; less than any frame lasts
_CENTER_CROPS = {1: 0, 3: 2, 5: 4, 10: 8}  # where the center is among so many crops
_RGB_CHANNELS = 3


@dataclass(frozen=True)
class WindowScores:
    """What a network predicts for a window of a long video.

    Attributes:
        index: number of the window, from 0.
        start, end: seconds.
        logits: mean over the crops, float64 ``[classes]``.
        probabilities: float64 ``[classes]``.
        picture: a frame in its middle, uint8 ``[S, S, 3]``; None for flow.
    """

    index: int
    start: float
    end: float
    logits: np.ndarray
    probabilities: np.ndarray
    picture: np.ndarray | None


@dataclass(frozen=True)
class WindowFeatures:
    """The features of a window of a long video.

    Attributes:
        index: number of the window, from 0.
        start, end: in the unit of the windows, seconds or frames.
        features: float32 ``[T', D]``.
        times: when the middle frame of each of the T segments is displayed, in seconds.
    """

    index: int
    start: float
    end: float
    features: np.ndarray
    times: list[float]


class WindowPredictor:
    """Cuts videos of any length into windows, and computes the scores or features of these.

    Args:
        model: a TSN in eval mode, or an exported network of clips.
        device: where the network is.
        amp: mixed precision, "none", "bf16" or "fp16".
        protocol: its crops and average are used; the sampling does not matter.
        transform: scales frames and cuts those crops.
        multi_label: whether a video can have several classes.

    Attributes:
        damaged: packets of the last video that could not be decoded and were left out.
    """

    def __init__(
        self,
        model: TSN | ExportedNetwork,
        device: torch.device,
        amp: str,
        protocol: Protocol,
        transform: TestTransform,
        multi_label: bool,
    ) -> None:
        self.damaged = 0
        self._model = model
        self._device = device
        self._amp = amp
        self._protocol = protocol
        self._transform = transform
        self._multi_label = multi_label

    def cut(
        self, open_stream: Callable[[], FrameStream], window: float, step: float, unit: str
    ) -> Iterator[Window]:
        """The windows of a video, in order; of each frame that they need, its crops are kept.

        Args:
            open_stream: opens the video at its first frame.
            window: length of a window, in the unit.
            step: from the start of a window to that of the next one, in the unit.
            unit: "seconds" or "frames".

        Raises:
            UnreadableVideo: the video cannot be read.
        """
        with open_stream() as stream:
            windows = self._cut(stream, window, step, unit)
            first = next(windows)
            if first.end > window - _TOLERANCE:
                yield first
                yield from windows
                self.damaged = stream.damaged
                return
        # The video is shorter than a window: its clip is taken from the whole of it.
        with open_stream() as stream:
            yield from self._cut(stream, first.end, first.end, unit)
            self.damaged = stream.damaged

    def _cut(self, stream: FrameStream, window: float, step: float, unit: str) -> Iterator[Window]:
        in_seconds = unit == "seconds"

        def position(frame: StreamedFrame) -> float:
            return frame.time if in_seconds else frame.index

        def end() -> float:
            return stream.end if in_seconds else float(stream.count)

        collector = WindowCollector(
            window,
            step,
            self._model.num_segments,
            self._model.frames_per_segment,
            self._transform.views_of_frame,
            position,
        )
        return collector.windows(stream, end)

    def scores(self, windows: list[Window]) -> list[WindowScores]:
        """The scores of a batch of windows.

        Raises:
            UserError: they are not finite.
        """
        with torch.inference_mode(), autocast(self._device, self._amp):
            if self._model.is_framewise:
                views = self._by_segment(windows, self._segment_scores).mean(2)
            else:
                views = self._by_clip(windows, self._clip_scores)
        views = views.numpy()
        if not np.isfinite(views).all():
            raise UserError("scores are not finite: the checkpoint is damaged")
        return [
            WindowScores(
                window.index,
                window.start,
                window.end,
                view_sum(of_window, of_softmax=False) / len(of_window),
                average_views(of_window, self._protocol.average, self._multi_label),
                self._picture(window),
            )
            for window, of_window in zip(windows, views, strict=True)
        ]

    def features(self, windows: list[Window]) -> list[WindowFeatures]:
        """The features of a batch of windows, the mean over the crops."""
        with torch.inference_mode(), autocast(self._device, self._amp):
            if self._model.is_framewise:
                features = self._by_segment(windows, self._model.segment_features)
            else:
                features = self._by_clip(windows, self._model.features)
        return [
            WindowFeatures(
                window.index,
                window.start,
                window.end,
                of_window,
                [segment.time for segment in window.segments],
            )
            for window, of_window in zip(windows, features.mean(1).numpy(), strict=True)
        ]

    def _clip_scores(self, clips: torch.Tensor) -> torch.Tensor:
        return clip_scores(self._model(clips))

    def _segment_scores(self, segments: torch.Tensor) -> torch.Tensor:
        return self._model.head(self._model.segment_features(segments))

    def _by_clip(
        self, windows: list[Window], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """What a network gives for the clips of windows, float32 ``[B, crops, ...]``."""
        clips = []
        for window in windows:
            segments = [torch.cat(segment.frames, 1) for segment in window.segments]
            clips.append(torch.stack(segments, 1))  # [crops, T, L*C, S, S]
        values = network(torch.cat(clips).to(self._device))
        return values.float().cpu().unflatten(0, (len(windows), -1))

    def _by_segment(
        self, windows: list[Window], network: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """What a network gives for each segment, which is computed once for all windows.

        Returns:
            Float32 ``[B, crops, T, ...]``.
        """
        segments = {id(own): own for window in windows for own in window.segments}
        fresh = [segment for segment in segments.values() if segment.computed is None]
        if fresh:
            pixels = torch.cat([torch.cat(segment.frames, 1) for segment in fresh])
            values = network(pixels.to(self._device)).float().cpu()
            for segment, own in zip(fresh, values.unflatten(0, (len(fresh), -1)), strict=True):
                segment.computed = own
        of_windows = []
        for window in windows:
            of_windows.append(torch.stack([segment.computed for segment in window.segments], 1))
        return torch.stack(of_windows)

    def _picture(self, window: Window) -> np.ndarray | None:
        """The center crop of a frame in the middle of a window, uint8 ``[S, S, 3]``."""
        frames = window.segments[len(window.segments) // 2].frames
        crops = frames[len(frames) // 2]
        if crops.shape[1] != _RGB_CHANNELS:
            return None
        center = _CENTER_CROPS[self._protocol.crops]
        return crops[center].permute(1, 2, 0).numpy()
