"""A network, its classes and its protocol: predictions of videos, short and long."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ops.data.class_names import class_name
from ops.data.clips import Failure, TestDataset
from ops.data.lists import Record, VideoList, resolve
from ops.data.loader import (
    LoaderError,
    ShardSampler,
    VideoLoader,
    loader_errors,
    make_loader,
)
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.guess_template import guess_template
from ops.data.readers.stream import FrameStream, open_stream
from ops.data.readers.templates import EXAMPLES
from ops.data.windows import DEFAULT_STEP, DEFAULT_WINDOW, Window
from ops.distributed import choose_device
from ops.export.network import ExportedNetwork
from ops.inference import iterate_scores, to_device
from ops.models import TSN, fuse_batch_norm
from ops.predict.network import load_network
from ops.predict.prediction import Prediction
from ops.predict.settings import choose_names, is_multi_label, predictor_protocol
from ops.predict.windows import WindowFeatures, WindowPredictor, WindowScores
from ops.scores.aggregation import AVERAGES
from ops.scores.spans import ENTER, STAY, Span, merge_spans
from ops.utils.errors import UserError

DEFAULT_TIMEOUT = 300  # longest wait for a data-loading worker, seconds
WINDOW_BATCH = 4  # windows that go through the network at once


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
        model, known_names, file = load_network(
            weights,
            device,
            num_segments=num_segments,
            weights_key=weights_key,
            amp=amp,
            fuse_bn=fuse_bn,
            quiet=quiet,
            **options,
        )
        if isinstance(model, ExportedNetwork):
            device = "cpu"
        self.device = choose_device(device)
        self.class_names = choose_names(known_names, class_names, model, file)
        model.published = getattr(model, "published", None)
        model.average = getattr(model, "average", None)
        self.multi_label = multi_label
        if multi_label is None:
            self.multi_label = is_multi_label(model, file)
        self.protocol = predictor_protocol(
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
        self.model = model
        if isinstance(model, TSN):
            to_device(model, self.device)
            if fuse_bn:
                fuse_batch_norm(model)
            if channels_last:
                model.to_channels_last()
        self._window_predictor = WindowPredictor(
            model,
            self.device,
            amp,
            self.protocol,
            self._dataset([]).transform,  # an invalid protocol is found now
            self.multi_label,
        )

    @property
    def damaged(self) -> int:
        """Packets of the last long video that could not be decoded and were left out."""
        return self._window_predictor.damaged

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
        for batch in _batches(self._windows(path, window, step, "seconds", fps), batch_size):
            yield from self._window_predictor.scores(batch)

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
            yield from self._window_predictor.features(batch)

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
        return open_stream(
            path, image_tmpl=self.template_of(path), rate=fps, modality=self.model.modality
        )

    def template_of(self, path: str | os.PathLike) -> str:
        """The template of the names of the files in a folder of frames; any other for a file.

        Raises:
            UnreadableVideo: the folder cannot be listed.
        """
        if self.image_tmpl is not None:
            return self.image_tmpl
        if os.path.isdir(path):
            return infer_template(os.fspath(path), self.model.modality)
        return EXAMPLES[self.model.modality]

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
        if not (window > 0 and step > 0):
            raise UserError(f"--window {window:g} --step {step:g}: both must be positive")
        reason = _why_impossible(os.fspath(path))
        if reason:
            raise UnreadableVideo(repr(path), reason)
        return self._window_predictor.cut(partial(self.stream, path, fps), window, step, unit)

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
