"""From a video to an answer: class names and probabilities. ::

    from ops.predict import Predictor

    predictor = Predictor("best.pth")
    result = predictor("dance.mp4")
    print(result.top(5))

A prediction has the scores that the test scripts write for the same video under the same protocol,
bit for bit, because it takes the same way: list record, ``TestDataset``, loader, network.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ops.checkpoints import load_model
from ops.checkpoints.class_order import class_names_of
from ops.checkpoints.identify import WeightFile, read_weights
from ops.data.class_names import check_names, class_name, read_class_names
from ops.data.clips import Failure, TestDataset
from ops.data.datasets import KNOWN
from ops.data.lists import Record, VideoList, resolve
from ops.data.loader import (
    LoaderError,
    ShardSampler,
    VideoLoader,
    loader_errors,
    make_loader,
)
from ops.data.preflight import check_class_names
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.guess_template import guess_template
from ops.data.readers.stream import FrameStream, open_stream
from ops.data.readers.templates import EXAMPLES
from ops.data.sampling import SAMPLINGS
from ops.data.windows import DEFAULT_STEP, DEFAULT_WINDOW, Window, WindowCollector
from ops.distributed import choose_device
from ops.export.network import ExportedNetwork, is_exported, load_exported
from ops.inference import iterate_scores, to_device
from ops.models import TSN, fuse_batch_norm
from ops.scores.aggregation import to_probabilities, view_sum
from ops.scores.protocol import (
    AVERAGES,
    Protocol,
    choose_protocol,
    default_average,
    default_sampling,
    published_result,
)
from ops.scores.spans import ENTER, STAY, Span, merge_spans
from ops.utils.amp import autocast
from ops.utils.errors import UserError
from ops.utils.text import counted

DEFAULT_TIMEOUT = 300  # longest wait for a data-loading worker, seconds
WINDOW_BATCH = 4  # windows that go through the network at once
_TOLERANCE = 1e-3  # seconds; less than any frame lasts
_CENTER_CROPS = {1: 0, 3: 2, 5: 4, 10: 8}  # where the center is among so many crops


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for one video.

    Attributes:
        path: the video, as it was given.
        views: logits of each view (clip by clip, crop by crop), float32 ``[views, classes]``; None
            if the video could not be read.
        class_names: in label order, or None.
        protocol: the views in words, such as ``8 frames x 1 crop x 1 clip, 224, center sampling``.
        average: what is averaged over the views for the probabilities, "logits" or "softmax".
        multi_label: whether a video can have several classes: each has a probability of its own.
        seconds: time since the previous result, or since the call.
        error: why there is no prediction, on one line; None if there is one.
    """

    path: str
    views: np.ndarray | None
    class_names: Sequence[str] | None
    protocol: str
    average: str
    multi_label: bool = False
    seconds: float = 0.0
    error: str | None = None

    @cached_property
    def logits(self) -> np.ndarray | None:
        """Mean logits over the views, float64 ``[classes]``."""
        if self.views is None:
            return None
        return view_sum(self.views, of_softmax=False) / len(self.views)

    @cached_property
    def probabilities(self) -> np.ndarray | None:
        """Float64 ``[classes]``: softmax, or sigmoid of a multi-label network."""
        if self.views is None:
            return None
        return average_views(self.views, self.average, self.multi_label)

    def best_labels(self, k: int = 5, threshold: float = 0.0) -> list[int]:
        """The labels of the most probable classes.

        Args:
            k: at most so many.
            threshold: only classes of at least this probability.
        """
        if self.probabilities is None:
            return []
        order = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [label for label in order if self.probabilities[label] >= threshold]

    def name(self, label: int) -> str:
        """The name of a class, ``label 17`` without names."""
        return class_name(self.class_names, label)

    def top(self, k: int = 5, threshold: float = 0.0) -> list[tuple[str, float]]:
        """Names and probabilities of the most probable classes; arguments as of `best_labels`."""
        labels = self.best_labels(k, threshold)
        return [(self.name(label), float(self.probabilities[label])) for label in labels]

    def to_json(self, k: int = 5, threshold: float = 0.0) -> str:
        """One line of JSON; arguments as of `best_labels`."""
        top = [
            {
                "name": self.class_names[label] if self.class_names else None,
                "label": label,
                "probability": float(self.probabilities[label]),
            }
            for label in self.best_labels(k, threshold)
        ]
        read = self.error is None
        content = {
            "path": self.path,
            "top": top,
            "probabilities": self.probabilities.tolist() if read else None,
            "logits": self.logits.tolist() if read else None,
            "protocol": self.protocol,
            "seconds": round(self.seconds, 3),
            "error": self.error,
        }
        return json.dumps(content, ensure_ascii=False)


def average_views(views: np.ndarray, average: str, multi_label: bool) -> np.ndarray:
    """The class probabilities of a video.

    Args:
        views: logits ``[views, classes]``.
        average: what is averaged over the views, "logits" or "softmax".
        multi_label: as of `to_probabilities`.

    Returns:
        Float64 ``[classes]``.
    """
    if average == "softmax":
        return view_sum(views, of_softmax=True) / len(views)
    return to_probabilities(view_sum(views, of_softmax=False) / len(views), multi_label)


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


class Predictor:
    """A network, its classes, and the protocol that it predicts with.

    Attributes:
        model: the network, in eval mode on ``device``; an ``ExportedNetwork`` of an ONNX file.
        class_names: in label order, or None.
        multi_label: whether a video can have several classes.
        protocol: which views of a video are scored.
        description: the protocol in words.
        device: where the network is.
        waited: seconds spent waiting for videos so far.
        damaged: packets of the last long video that could not be decoded and were left out.
    """

    def __init__(
        self,
        weights: str | os.PathLike | TSN | ExportedNetwork,
        device: str | None = None,
        *,
        num_segments: int | None = None,
        weights_key: str | None = None,
        class_names: str | os.PathLike | Sequence[str] | None = None,
        multi_label: bool | None = None,
        clips: int | None = None,
        crops: int | None = None,
        sampling: str | None = None,
        full_res: bool = False,
        scale_size: int | None = None,
        crop_size: int | None = None,
        average: str | None = None,
        seed: int = 0,
        image_tmpl: str | None = None,
        decoder: str = "pyav",
        amp: str = "none",
        channels_last: bool = True,
        fuse_bn: bool = False,
        batch_size: int = 1,
        view_batch: int | None = None,
        quiet: bool = True,
        **options: Any,
    ) -> None:
        """Load a network.

        The protocol is the published one with the fewest views where the file is a known published
        one, else that of the test scripts for its dataset; each argument overrides its part. An
        exported network has the protocol of the checkpoint that it was made of.

        Args:
            weights: whatever ``load_model`` takes; a TSN, which is moved to the device; or an
                exported network, as its ONNX file or loaded.
            device: "cpu", "cuda", "cuda:1", "mps"; None: the GPU if there is one, else the CPU.
            num_segments: T; None: that of the file.
            weights_key: which of several sets of weights in the file to take.
            class_names: names in label order, or their file; None: those of the checkpoint.
            multi_label: whether a video can have several classes; None: as it was trained.
            clips: number of clips of a video.
            crops: crops of a frame: 1, 3, 5 or 10.
            sampling: key of ``SAMPLINGS``.
            full_res: crops as large as the scaled short side.
            scale_size: short side of a scaled frame, pixels.
            crop_size: side of a crop, pixels.
            average: what is averaged over the views, "logits" or "softmax".
            seed: of samplings that draw clips.
            image_tmpl: names of the files in a folder of frames; None: inferred from its files.
            decoder: library that decodes video files.
            amp: mixed precision, "none", "bf16" or "fp16".
            channels_last: hold activations channels-last.
            fuse_bn: fold BatchNorms into the convs.
            batch_size: clips that go through the network at once; 1 gives the test scripts' bits.
            view_batch: at most so many views at once; None: no limit.
            quiet: do not print what was loaded.
            options: of the network, as ``load_model`` takes them.

        Raises:
            UserError: the weights cannot be loaded, the class names do not fit them, or the
                arguments exclude each other.
        """
        if average not in (None, *AVERAGES):
            raise UserError(f"average {average!r}: unknown; known are {', '.join(AVERAGES)}")
        file = None
        if is_exported(weights):
            model = _exported_clip(weights, device)
            _refuse_network_options(
                model,
                num_segments=num_segments,
                weights_key=weights_key,
                amp=amp if amp != "none" else None,
                fuse_bn=fuse_bn or None,
                **options,
            )
            device = "cpu"
            known_names = model.class_names
        elif isinstance(weights, TSN):
            model = weights.eval()
            known_names = getattr(model, "class_names", None)
        else:
            file = read_weights(weights, weights_key)
            model = load_model(file, num_segments, quiet=quiet, consensus="avg", **options)
            known_names = class_names_of(file)
        self.device = choose_device(device)
        self.class_names = _choose_names(known_names, class_names, model, file)
        model.published = getattr(model, "published", None)
        model.average = getattr(model, "average", None)
        self.multi_label = multi_label
        if multi_label is None:
            self.multi_label = _is_multi_label(model, file)
        self.protocol = _choose_protocol(
            model,
            file,
            self.multi_label,
            sampling=sampling,
            average=average,
            crops=crops,
            clips=clips,
            full_res=full_res,
            scale_size=scale_size,
            crop_size=crop_size,
            seed=seed,
        )
        self.description = self.protocol.describe(model)
        self.image_tmpl = image_tmpl
        self.decoder = decoder
        self.amp = amp
        self.batch_size = batch_size
        self.view_batch = view_batch
        self.waited = 0.0
        self.damaged = 0
        self.model = model
        if isinstance(model, TSN):
            to_device(model, self.device)
            if fuse_bn:
                fuse_batch_norm(model)
            if channels_last:
                model.to_channels_last()
        # An invalid protocol is found now, not at the first video.
        self._transform = self._dataset([]).transform

    def __call__(self, path: str | os.PathLike) -> Prediction:
        """Predict one video file or folder of frames.

        Returns:
            The prediction; one with ``error`` if the video cannot be read.
        """
        return next(self.many([path], workers=0))

    def many(
        self,
        paths: Iterable[str | os.PathLike],
        workers: int = 0,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Iterator[Prediction]:
        """Predict many videos; the next ones are decoded while the network computes.

        Args:
            paths: video files and folders of frames.
            workers: data-loading workers; 0 decodes in this process.
            timeout: longest wait for a worker in seconds, 0 for no limit.

        Yields:
            A prediction for each path, in order. A video that cannot be read has one with
            ``error``.

        Raises:
            UserError: the network does not fit into memory.
        """
        names = [os.fspath(path) for path in paths]
        errors = {}
        for index, name in enumerate(names):
            reason = _why_impossible(name)
            if reason:
                errors[index] = self._failed(name, reason)
        readable = [index for index in range(len(names)) if index not in errors]
        results = self._predict([names[index] for index in readable], workers, timeout)
        for index in range(len(names)):
            yield errors[index] if index in errors else next(results)

    def windows(
        self,
        path: str | os.PathLike,
        window: float = DEFAULT_WINDOW,
        step: float = DEFAULT_STEP,
        *,
        fps: float | None = None,
        batch_size: int = WINDOW_BATCH,
    ) -> Iterator[WindowScores]:
        """Predict overlapping windows of a video of any length.

        Each frame is decoded once, and memory does not grow with the video. A clip of a window is
        the middle of each of T equal parts of it, by the times of the frames. The sampling of the
        protocol does not matter, its crops and average do.

        Args:
            path: a video file or a folder of frames.
            window: length of a window, in seconds.
            step: from the start of a window to that of the next one, in seconds.
            fps: frames per second of a folder of frames; None: 25.
            batch_size: windows that go through the network at once.

        Yields:
            Windows in order. A video that is shorter than a window is one window.

        Raises:
            UserError: ``window`` or ``step`` is not positive.
            UnreadableVideo: the video cannot be read.
        """
        windows = self._windows(path, window, step, "seconds", fps)
        for batch in _batches(windows, batch_size):
            yield from self._score_batch(batch)

    def features(
        self,
        path: str | os.PathLike,
        window: float,
        step: float,
        *,
        unit: str = "seconds",
        fps: float | None = None,
        batch_size: int = WINDOW_BATCH,
    ) -> Iterator[WindowFeatures]:
        """Features of overlapping windows of a video of any length, as `windows` cuts them.

        Args:
            path, fps, batch_size: as of `windows`.
            window: length of a window, in the unit.
            step: from the start of a window to that of the next one, in the unit.
            unit: "seconds" or "frames".

        Yields:
            Windows in order; their features are those of ``model.features``, the mean over the
            crops.

        Raises:
            UserError, UnreadableVideo: as of `windows`.
        """
        for batch in _batches(self._windows(path, window, step, unit, fps), batch_size):
            with torch.inference_mode(), autocast(self.device, self.amp):
                if self.model.is_framewise:
                    features = self._by_segment(batch, self.model.segment_features)
                else:
                    features = self._by_clip(batch, self.model.features)
            for own, of_window in zip(batch, features.mean(1).numpy(), strict=True):
                times = [segment.time for segment in own.segments]
                yield WindowFeatures(own.index, own.start, own.end, of_window, times)

    def timeline(
        self,
        path: str | os.PathLike,
        window: float = DEFAULT_WINDOW,
        step: float = DEFAULT_STEP,
        *,
        enter: float = ENTER,
        stay: float = STAY,
        fps: float | None = None,
        batch_size: int = WINDOW_BATCH,
    ) -> Iterator[Span]:
        """The spans of a video in which one class is seen.

        Args:
            path, window, step, fps, batch_size: as of `windows`.
            enter, stay: probabilities at which a span begins and continues (`merge_spans`).

        Yields:
            Spans, in the order in which they end.

        Raises:
            UserError, UnreadableVideo: as of `windows` and `merge_spans`.
        """
        windows = self.windows(path, window, step, fps=fps, batch_size=batch_size)
        return self.spans(windows, enter, stay)

    def spans(
        self, windows: Iterable[WindowScores], enter: float = ENTER, stay: float = STAY
    ) -> Iterator[Span]:
        """The spans of windows, as of `timeline`."""
        for span in merge_spans(windows, enter, stay, self.multi_label):
            yield replace(span, name=class_name(self.class_names, span.label))

    def stream(self, path: str | os.PathLike, fps: float | None = None) -> FrameStream:
        """The frames of a video, in order, as `windows` reads them.

        Args:
            path: a video file or a folder of frames.
            fps: frames per second of a folder of frames; None: 25.

        Raises:
            UnreadableVideo: the video cannot be read.
        """
        template = self.image_tmpl
        modality = self.model.modality
        if template is None and os.path.isdir(path):
            template = infer_template(os.fspath(path), modality)
        template = template or EXAMPLES[modality]
        return open_stream(path, image_tmpl=template, rate=fps, modality=modality)

    def views(self, path: str | os.PathLike) -> torch.Tensor:
        """The clips of a video as the network is given them, clip by clip, crop by crop.

        Args:
            path: a video file or a folder of frames.

        Returns:
            uint8 ``[views, T, L*C, S, S]``, on the CPU.

        Raises:
            UnreadableVideo: the video cannot be read.
        """
        name = os.fspath(path)
        reason = _why_impossible(name)
        if reason:
            raise UnreadableVideo(repr(name), reason)
        dataset = self._dataset([name])
        item = dataset[0, 0]  # (epoch, index)
        if isinstance(item, Failure):
            raise UnreadableVideo(name, item.reason)
        crops = [dataset.transform.crops(item.frames, picks) for picks in item.picks]
        return torch.cat(crops)

    def _windows(
        self, path: str | os.PathLike, window: float, step: float, unit: str, fps: float | None
    ) -> Iterator[Window]:
        """The windows of a video; of each frame that they need, its crops are kept."""
        if not (window > 0 and step > 0):
            raise UserError(f"--window {window:g} --step {step:g}: both must be positive")
        reason = _why_impossible(os.fspath(path))
        if reason:
            raise UnreadableVideo(repr(path), reason)
        with self.stream(path, fps) as stream:
            cut = self._cut(stream, window, step, unit)
            first = next(cut)
            if first.end > window - _TOLERANCE:
                yield first
                yield from cut
                self.damaged = stream.damaged
                return
        # The video is shorter than a window: its clip is taken from the whole of it.
        with self.stream(path, fps) as stream:
            yield from self._cut(stream, first.end, first.end, unit)
            self.damaged = stream.damaged

    def _cut(self, stream: FrameStream, window: float, step: float, unit: str) -> Iterator[Window]:
        collector = WindowCollector(
            window,
            step,
            self.model.num_segments,
            self.model.frames_per_segment,
            self._crops,
            (lambda frame: frame.time) if unit == "seconds" else (lambda frame: frame.index),
        )
        return collector.windows(
            stream, lambda: stream.end if unit == "seconds" else float(stream.count)
        )

    def _crops(self, image: np.ndarray) -> torch.Tensor:
        """The test crops of a frame: uint8 ``[H, W, C]`` -> ``[crops, C, S, S]``."""
        return self._transform.views_of_frame(image)

    def _score_batch(self, windows: list[Window]) -> Iterator[WindowScores]:
        with torch.inference_mode(), autocast(self.device, self.amp):
            if self.model.is_framewise:
                scores = self._by_segment(windows, self._segment_scores).mean(2)
            else:
                scores = self._by_clip(windows, self.model)
        views = scores.numpy()
        if not np.isfinite(views).all():
            raise UserError("scores are not finite: the checkpoint is damaged")
        for window, of_window in zip(windows, views, strict=True):
            yield WindowScores(
                window.index,
                window.start,
                window.end,
                view_sum(of_window, of_softmax=False) / len(of_window),
                average_views(of_window, self.protocol.average, self.multi_label),
                self._picture(window),
            )

    def _segment_scores(self, segments: torch.Tensor) -> torch.Tensor:
        return self.model.head(self.model.segment_features(segments))

    def _by_clip(self, windows: list[Window], network: Callable) -> torch.Tensor:
        """What a network gives for the clips of windows, float32 ``[B, crops, ...]``."""
        clips = []
        for window in windows:
            segments = [torch.cat(segment.frames, 1) for segment in window.segments]
            clips.append(torch.stack(segments, 1))  # [crops, T, L*C, S, S]
        values = network(torch.cat(clips).to(self.device))
        return values.float().cpu().unflatten(0, (len(windows), -1))

    def _by_segment(self, windows: list[Window], network: Callable) -> torch.Tensor:
        """What a network gives for each segment, which is computed once for all windows.

        Returns:
            Float32 ``[B, crops, T, ...]``.
        """
        segments = {id(own): own for window in windows for own in window.segments}
        fresh = [segment for segment in segments.values() if segment.computed is None]
        if fresh:
            pixels = torch.cat([torch.cat(segment.frames, 1) for segment in fresh])
            values = network(pixels.to(self.device)).float().cpu()
            for segment, own in zip(fresh, values.unflatten(0, (len(fresh), -1)), strict=True):
                segment.computed = own
        return torch.stack(
            [
                torch.stack([segment.computed for segment in window.segments], 1)
                for window in windows
            ]
        )

    def _picture(self, window: Window) -> np.ndarray | None:
        """The center crop of a frame in the middle of a window, uint8 ``[S, S, 3]``."""
        frames = window.segments[len(window.segments) // 2].frames
        crops = frames[len(frames) // 2]
        if crops.shape[1] != 3:
            return None
        center = _CENTER_CROPS[self.protocol.crops]
        return crops[center].permute(1, 2, 0).numpy()

    def _predict(self, names: list[str], workers: int, timeout: float) -> Iterator[Prediction]:
        """Predict videos; one that ends its worker, or keeps it for too long, is a failure."""
        finished = 0
        while finished < len(names):
            try:
                for result in self._predict_readable(names[finished:], workers, timeout):
                    yield result
                    finished += 1
            except LoaderError:
                # This video, or one of those that were read ahead: find out in a worker of its own.
                name = names[finished]
                try:
                    result = next(self._predict_readable([name], 1, timeout))
                except LoaderError:
                    result = self._failed(name, "its decoder crashed, or took too long")
                yield result
                finished += 1

    def _predict_readable(
        self, names: list[str], workers: int, timeout: float
    ) -> Iterator[Prediction]:
        dataset = self._dataset(names)
        loader = make_loader(
            dataset,
            ShardSampler(len(names)),
            None,
            workers=min(workers, len(names)),
            timeout=timeout,
            pin_memory=self.device.type == "cuda",
        )
        waiting = {}  # results that overtook others
        following = 0
        start = time.perf_counter()
        with loader, loader_errors(loader):
            scored = iterate_scores(
                self.model,
                self._timed(loader),
                dataset,
                self.device,
                amp=self.amp,
                batch_size=self.batch_size,
                view_batch=self.view_batch,
            )
            for item in scored:
                if isinstance(item, Failure):
                    waiting[item.index] = self._failed(item.id, item.reason)
                else:
                    index, views = item
                    waiting[index] = self._prediction(names[index], views)
                while following in waiting:
                    result = waiting.pop(following)
                    now = time.perf_counter()
                    yield replace(result, seconds=now - start)
                    start = now
                    following += 1

    def _timed(self, loader: VideoLoader) -> Iterator:
        """The items of a loader; adds the time that each is waited for to ``waited``."""
        items = iter(loader)
        while True:
            start = time.perf_counter()
            item = next(items, None)
            self.waited += time.perf_counter() - start
            if item is None:
                return
            yield item

    def _dataset(self, names: list[str]) -> "_Videos":
        count = len(names)
        videos = VideoList("input", "", names, [-1] * count, [0] * count, range(1, count + 1))
        template = self.image_tmpl or EXAMPLES[self.model.modality]
        dataset = self.protocol.dataset(self.model, videos, template, self.decoder, _Videos)
        dataset.infers_template = self.image_tmpl is None
        return dataset

    def _prediction(self, path: str, views: np.ndarray) -> Prediction:
        if not np.isfinite(views).all():
            return self._failed(
                path,
                "its scores are not finite: the checkpoint is damaged, or its values are too large "
                f"for --amp {self.amp}",
            )
        return Prediction(
            path,
            views,
            self.class_names,
            self.description,
            self.protocol.average,
            self.multi_label,
        )

    def _failed(self, path: str, reason: str) -> Prediction:
        return Prediction(
            path,
            None,
            self.class_names,
            self.description,
            self.protocol.average,
            self.multi_label,
            error=reason,
        )


class _Videos(TestDataset):
    """A test dataset of paths, in which whatever is wrong with a video is its own failure.

    Attributes:
        infers_template: infer the names of the frames in a folder from its files.
    """

    infers_template = True

    def read(self, record: Record, choose: Callable) -> tuple[np.ndarray, np.ndarray]:
        path = resolve(record.path)
        if self.infers_template and os.path.isdir(path):
            self.image_tmpl = infer_template(path, self.modality)
        try:
            return super().read(record, choose)
        except UserError as error:
            raise UnreadableVideo(record.path, str(error)) from None


def _batches(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    batch = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def infer_template(folder: str, modality: str) -> str:
    """The file name template of a folder of frames: the usual one if it fits, else the best.

    Raises:
        UnreadableVideo: the folder cannot be listed.
    """
    usual = EXAMPLES[modality]
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UnreadableVideo(folder, error.strerror) from None
    return guess_template(folder, names, modality) or usual


def _why_impossible(path: str) -> str | None:
    """Why a path cannot become a record of a list; None for any other path."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8; rename it"
    if not path:
        return "an empty path"
    if "\0" in path:
        return "a zero byte in its path"
    return None


def _exported_clip(
    source: str | os.PathLike | ExportedNetwork, device: str | None
) -> ExportedNetwork:
    """An exported network, called with clips.

    Raises:
        UserError: the file cannot be loaded, or the device is not the CPU.
    """
    network = source
    if not isinstance(source, ExportedNetwork):
        network = load_exported(source)
    if device not in (None, "cpu"):
        raise UserError(
            f"--device {device}: {network.name} runs in onnxruntime on the CPU; give the "
            "checkpoint for a GPU"
        )
    return network.as_clip()


def _refuse_network_options(network: ExportedNetwork, **options: Any) -> None:
    """Raise UserError for an option of a network whose graph is fixed; None is not given."""
    for name, value in options.items():
        if value is not None:
            raise UserError(
                f"--{name}: {network.name} is exported, and fixed in this; give the checkpoint, or "
                "export it again"
            )


def _is_multi_label(model: TSN | ExportedNetwork, file: WeightFile | None) -> bool:
    """Whether a network was trained for videos with several classes."""
    if isinstance(model, ExportedNetwork):
        return model.description.multi_label
    recipe = file.recipe if file else {}
    trained = model.published or recipe
    return trained.get("multi_label") is True


def _choose_names(
    known: Sequence[str] | None,
    given: str | os.PathLike | Sequence[str] | None,
    model: TSN | ExportedNetwork,
    file: WeightFile | None,
) -> list[str] | None:
    """The class names: those of the checkpoint, or those given by the user."""
    source = file.name if file else "the network"
    if known is not None and len(known) != model.num_class:
        raise UserError(
            f"{source}: {counted(model.num_class, 'class', 'classes')}, but "
            f"{counted(len(known), 'class name')}"
        )
    if given is None:
        return known
    if isinstance(given, str | os.PathLike):
        names = read_class_names(given, model.num_class)
        origin = os.fspath(given)
    else:
        names = list(given)
        origin = "class_names"
        check_names(origin, names)
    if len(names) != model.num_class:
        raise UserError(
            f"{origin}: {counted(len(names), 'class name')} for "
            f"{counted(model.num_class, 'class', 'classes')}"
        )
    check_class_names(known, names, source, origin)
    return names


def _choose_protocol(
    model: TSN | ExportedNetwork,
    file: WeightFile | None,
    multi_label: bool,
    *,
    sampling: str | None,
    average: str | None,
    crops: int | None,
    clips: int | None,
    full_res: bool,
    scale_size: int | None,
    crop_size: int | None,
    seed: int,
) -> Protocol:
    """The protocol of a predictor: what was given, then what was published, then the defaults.

    Args:
        model: the network.
        file: it was loaded from, or None.
        multi_label: whether a video can have several classes.
        sampling, average, crops, clips, full_res, scale_size, crop_size, seed: as of `Predictor`.
    """
    if isinstance(model, ExportedNetwork):
        # In the file are the choices below for its checkpoint.
        if sampling is None:
            sampling = model.description.sampling
            clips = clips or model.description.clips
        crops = crops or model.description.crops
        _check_crop_size(model, full_res, scale_size, crop_size)
    result = published_result(model.published, model.num_segments)
    if result:
        if sampling is None:
            sampling = result["sampling"]
            if clips is None and sampling and SAMPLINGS[sampling].any_num_clips:
                clips = result["clips"]
        if crops is None:
            crops = result["crops"]
        if not (full_res or crop_size or scale_size):
            crop_size = result["size"]
    return choose_protocol(
        model,
        sampling=sampling or _usual_sampling(model, file),
        average=average or default_average(model, multi_label),
        crops=crops or 1,
        clips=clips,
        full_res=full_res,
        scale_size=scale_size,
        crop_size=crop_size,
        seed=seed,
    )


def _check_crop_size(
    network: ExportedNetwork, full_res: bool, scale_size: int | None, crop_size: int | None
) -> None:
    """Raise UserError unless the crops are of the size that an exported network takes."""
    size = network.input_size
    if full_res:
        crop_size = scale_size or network.scale_size
    if crop_size not in (None, size):
        raise UserError(
            f"crops of {crop_size}: {network.name} takes {size} x {size}; export it again with "
            f"--input_size {crop_size}"
        )


def _usual_sampling(model: TSN, file: WeightFile | None) -> str:
    """That of the test scripts for a known dataset, else that of the training's validation."""
    dataset = file.dataset if file else None
    if isinstance(dataset, str) and dataset in KNOWN:
        return default_sampling(model, dataset, KNOWN[dataset].test_sampling)
    trained = file.recipe.get("sampling") if file else None
    if isinstance(trained, str) and trained in SAMPLINGS:
        return SAMPLINGS[trained].validation
    return "center"
