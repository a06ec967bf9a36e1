"""Inference on every video of a loader.

Crops are cut on the device, several clips form a batch, and reading and computing overlap.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops.data.clips import Failure, Frames, TestDataset
from ops.data.labels import mark_unread, one_hot
from ops.models import TSN
from ops.temporal.consensus import CONSENSUS, clip_scores
from ops.utils.amp import autocast
from ops.utils.errors import UserError
from ops.utils.text import counted

DATA_BOUND = 0.5  # share of the time spent waiting for data from which on reading is the bottleneck
# Texts in errors that are no OutOfMemoryError: of CPUs, of Apple's GPUs, and of the libraries of
# NVIDIA's GPUs, which have memory of their own.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine",  # cuDNN, when no algorithm finds room for its workspace
)


class Pace(NamedTuple):
    """The speed of a pass in this process.

    Attributes:
        videos: number of videos scored.
        seconds: in all.
        waited: seconds spent waiting for the loader.
    """

    videos: int
    seconds: float
    waited: float

    @property
    def text(self):
        """One line for the log."""
        seconds = max(self.seconds, 1e-9)
        waiting = self.waited / seconds
        bottleneck = "the model"
        if waiting > DATA_BOUND:
            bottleneck = "data: more -j or a faster disk would help"
        return (
            f"{counted(self.videos, 'video')} in {self.seconds:.1f} s, "
            f"{self.videos / seconds:.2f} videos/s; {waiting:.0%} of it waiting for data, bound by "
            f"{bottleneck}"
        )


def to_device(model, device):
    """A network on a device, in place: in float32 on Apple's GPUs, which have no float64.

    Args:
        model: any module.
        device: a ``torch.device``.

    Returns:
        the model.
    """
    if device.type == "mps":
        model.float()
    return model.to(device)


@torch.inference_mode()
def score_views(
    model,
    loader,
    world,
    done,
    failed,
    *,
    amp="none",
    batch_size=1,
    view_batch=None,
    desc="scoring",
    total=None,
    stop=None,
    keep_segments=False,
):
    """Compute the logits of all views of the videos of a loader.

    With batch_size 1 the logits of a clip depend on the clip only, not on the clips and videos
    beside it: neither on the number of processes nor on what an earlier run has scored. Larger
    batches may be computed by other kernels, whose sums round differently.

    Args:
        model: a TSN in eval mode. With consensus "identity" the mean of the segments' scores is
            taken.
        loader: of a ``TestDataset``, with batch_size None.
        world: the processes, see ``ops.distributed``.
        done: called with (index, logits float32 ``[clips*crops, classes]``) of each video.
        failed: called with each Failure.
        amp: mixed precision, "none", "bf16" or "fp16".
        batch_size: clips that go through the network at once, with all their crops.
        view_batch: at most so many views at once; None: no limit. It is halved when the device runs
            out of memory.
        desc: of the progress bar.
        total: videos of all processes, for the bar.
        stop: called before each video; a true result ends the pass.
        keep_segments: for a network with consensus "identity": done gets ``[clips*crops, 1 + T,
            classes]``, the mean over the T segments before the scores of each.

    Returns:
        :class:`Pace`.

    Raises:
        UserError: a single view does not fit into memory.
    """
    network = _Bounded(model, view_batch, world.device, amp, keep_segments)
    started = time.perf_counter()
    waited = 0.0
    items = iter(loader)
    bar = tqdm(
        desc=desc,
        unit="video",
        total=total,
        disable=None if world.is_main else True,
        leave=False,
        smoothing=0.05,
    )
    with contextlib.closing(bar):
        work = _Work(network, loader.dataset, world.device, batch_size, done)
        while True:
            asked = time.perf_counter()
            item = next(items, None)
            waited += time.perf_counter() - asked
            if item is None or (stop and stop()):
                break
            if isinstance(item, Failure):
                failed(item)
            else:
                work.add(item)
            waiting = waited / (time.perf_counter() - started)
            bottleneck = "data" if waiting > DATA_BOUND else "model"
            bar.set_postfix_str(
                f"{work.text}, bound by {bottleneck} ({waiting:.0%} waiting)", refresh=False
            )
            bar.update(world.size)  # the other processes are about as far
        work.finish()
    return Pace(work.videos, time.perf_counter() - started, waited)


@torch.inference_mode()
def iterate_scores(
    model: TSN,
    items: Iterable[Frames | Failure],
    dataset: TestDataset,
    device: torch.device,
    *,
    amp: str = "none",
    batch_size: int = 1,
    view_batch: int | None = None,
) -> Iterator[tuple[int, np.ndarray] | Failure]:
    """Score videos one after another; the logits are those of :func:`score_views`.

    Args:
        model: a TSN in eval mode, on the device.
        items: what the dataset gives, in any order.
        dataset: whose transform cuts the crops.
        device: where the network is.
        amp: mixed precision, "none", "bf16" or "fp16".
        batch_size: clips that go through the network at once.
        view_batch: at most so many views at once; None: no limit.

    Yields:
        The index of a video and its logits, float32 ``[clips*crops, classes]``, or its Failure. A
        failure may overtake videos that are still on the device.
    """
    finished = []
    work = _Work(
        _Bounded(model, view_batch, device, amp, False),
        dataset,
        device,
        batch_size,
        lambda index, logits: finished.append((index, logits)),
    )
    for item in items:
        if isinstance(item, Failure):
            yield item
        else:
            work.add(item)
        yield from finished
        finished.clear()
    work.finish()
    yield from finished


class _Work:
    """The clips on their way through the network.

    While the device computes a batch, the next one is cut and the results of the last are handled.

    Args:
        network: a :class:`_Bounded`.
        dataset: its transform cuts the crops.
        device: of the network.
        batch_size: clips of a batch.
        done: called with (index, logits) of each video.
    """

    def __init__(self, network, dataset, device, batch_size, done):
        self.network = network
        self.dataset = dataset
        self.device = device
        self.batch_size = batch_size
        self.done = done
        # Of the next batch: (index, logits of the video's clips so far, number of its clips), and
        # the crops of each clip.
        self.clips = []
        self.views = []
        # On the device: logits on their way back, and their clips.
        self.launched = []
        self.copy_stream = None
        if device.type == "cuda":
            self.copy_stream = torch.cuda.Stream(device)
        self.videos = 0
        self.top1_hits = 0
        self.top5_hits = 0

    @property
    def text(self):
        """Accuracy so far."""
        videos = max(1, self.videos)
        top1 = 100 * self.top1_hits / videos
        top5 = 100 * self.top5_hits / videos
        return f"Prec@1 {top1:.1f} Prec@5 {top5:.1f}"

    def add(self, item):
        """A video as the dataset gives it."""
        frames = self.send(item.frames)
        logits = []
        for picks in self.send(item.picks):
            self.clips.append((item.index, logits, len(item.picks)))
            self.views.append(self.dataset.transform.crops(frames, picks))
            if len(self.views) == self.batch_size:
                self.launch()
                if len(self.launched) > 1:
                    self.collect()

    def send(self, values):
        """A tensor of the loader on the device.

        A GPU copies it while it computes earlier batches.
        """
        if not self.copy_stream:
            return values.to(self.device)
        compute_stream = torch.cuda.current_stream()
        with torch.cuda.stream(self.copy_stream):
            sent = values.to(self.device, non_blocking=True)
        compute_stream.wait_stream(self.copy_stream)
        # Its memory must not be used for the next copy while it is being read.
        sent.record_stream(compute_stream)
        return sent

    def launch(self):
        """Start the next batch."""
        result = _Result(self.network(torch.cat(self.views)))
        self.launched.append((result, self.clips))
        self.clips = []
        self.views = []

    def collect(self):
        """Wait for the oldest batch, and hand over the videos that it completes."""
        result, clips = self.launched.pop(0)
        logits_of_clips = result.wait().tensor_split(len(clips))
        for (index, logits, count), own in zip(clips, logits_of_clips, strict=True):
            logits.append(own)
            if len(logits) == count:
                self.finish_video(index, torch.cat(logits).numpy())

    def finish_video(self, index, scores):
        """Hand over the scores of a video and count whether they are right."""
        logits = scores
        if scores.ndim == 3:
            logits = scores[:, 0]  # the mean, before the scores of each segment
        best = np.argsort(-logits.mean(0), kind="stable")[:5]
        labels = self.dataset.video_list.labels[index : index + 1]
        is_true = one_hot(labels, logits.shape[1])[0, best]
        self.videos += 1
        self.top1_hits += int(is_true[0])
        self.top5_hits += int(is_true.any())
        self.done(index, scores)

    def finish(self):
        """Compute what is left, and wait for all batches."""
        if self.views:
            self.launch()
        while self.launched:
            self.collect()


class _Bounded:
    """The network on at most ``limit`` views at once; the limit is halved when memory runs out.

    Args:
        model: a TSN in eval mode.
        limit: number of views, or None.
        device: of the model.
        amp: "none", "bf16" or "fp16".
        keep_segments: see :func:`score_views`.
    """

    def __init__(self, model, limit, device, amp, keep_segments):
        self.model = model
        self.limit = limit
        self.device = device
        self.amp = amp
        self.keep_segments = keep_segments

    def __call__(self, views):
        """uint8 ``[V, T, L*C, H, W]`` -> float32 ``[V, classes]`` or ``[V, 1 + T, classes]``."""
        while True:
            try:
                parts = views.split(self.limit or len(views))
                return torch.cat([self.score(part) for part in parts])
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
            # Not inside the handler: its traceback holds the tensors that filled the memory.
            self.lower_limit(len(views))

    def lower_limit(self, views):
        """Halve the limit. Raises UserError if a single view did not fit."""
        tried = min(self.limit or views, views)
        if tried == 1:
            raise UserError(
                f"{self.device} has too little memory for a single view; try --amp bf16, or "
                f"another device"
            )
        self.limit = tried // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        tqdm.write(
            f"warning: {tried} views at once do not fit into the memory of {self.device}; "
            f"now {self.limit}"
        )

    def score(self, views):
        """The logits of views, which must fit into memory."""
        with autocast(self.device, self.amp):
            scores = self.model(views)
            if self.keep_segments:
                # The mean as the network itself would take it, so that it is the same to the last
                # bit.
                scores = torch.cat([CONSENSUS["avg"](scores).unsqueeze(1), scores], 1)
        scores = scores.float()
        if self.keep_segments:
            return scores
        return clip_scores(scores)


def _is_out_of_memory(error):
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in OUT_OF_MEMORY)


class _Result:
    """A tensor on its way to the CPU. A GPU copies it while the CPU prepares the next batch."""

    def __init__(self, values):
        self.event = None
        self.values = values
        if values.device.type == "cuda":
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def wait(self):
        """The tensor on the CPU."""
        if self.event:
            self.event.synchronize()
        return self.values.cpu()


class Scored(NamedTuple):
    """Scores of a list.

    Attributes:
        logits: float32 ``[videos, views, classes]`` in list order.
        labels: int64 ``[videos]`` or bool ``[videos, classes]``.
        failures: of videos that could not be read.
    """

    logits: np.ndarray
    labels: np.ndarray
    failures: list[Failure]


def score_videos(model, loader, world, *, stop=None, **options):
    """The scores of all videos of a loader, gathered from all processes.

    An unreadable video gets scores that rank its own class last.

    Args:
        model: a TSN in eval mode.
        loader: of a ``TestDataset``, with batch_size None.
        world: the processes, see ``ops.distributed``.
        stop: called without arguments; once it returns a true value in one process, all stop soon.
        **options: of :func:`score_views`.

    Returns:
        :class:`Scored`, the same in all processes; None if they stopped.

    Raises:
        UserError: no video can be read.
        RuntimeError: a video was not scored exactly once.
    """
    indices = []
    logits = []
    failures = []

    def done(index, own):
        indices.append(index)
        logits.append(own)

    stop_all = None
    if stop:
        flag = world.flag("stop scoring")

        def stop_all():
            return flag(bool(stop()))

    score_views(
        model,
        loader,
        world,
        done,
        failures.append,
        total=len(loader.dataset),
        **options,
        stop=stop_all,
    )
    if world.any(stop and stop()):
        return None
    own = None
    if logits:
        own = np.stack(logits)
    parts = world.gather((indices, own, failures))
    return _assemble(parts, loader.dataset.video_list.labels)


def _assemble(parts, labels):
    """The :class:`Scored` of the parts (indices, logits, failures) of all processes."""
    failures = [failure for _, _, own in parts for failure in own]
    failures.sort(key=lambda failure: failure.index)
    parts = [(indices, own) for indices, own, _ in parts if indices]
    if not parts:
        raise UserError(
            f"none of {len(labels)} videos could be read; the first: {failures[0].id}: "
            f"{failures[0].reason}"
        )
    times_scored = np.zeros(len(labels), np.int64)
    logits = np.zeros((len(labels), *parts[0][1].shape[1:]), np.float32)
    for indices, own in parts:
        logits[indices] = own
        np.add.at(times_scored, indices, 1)
    unread = [failure.index for failure in failures]
    for view in range(logits.shape[1]):
        mark_unread(logits[:, view], labels, unread)
    np.add.at(times_scored, unread, 1)
    if (times_scored != 1).any():
        raise RuntimeError(
            f"{(times_scored != 1).sum()} of {len(labels)} videos were not scored exactly once"
        )
    return Scored(logits, labels, failures)
