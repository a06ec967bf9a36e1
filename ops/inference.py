"""Score every video of a loader: crops on the device, several clips a batch, reading and computing at the same time."""

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
from ops.temporal.consensus import CONSENSUS
from ops.utils.amp import autocast
from ops.utils.errors import UserError
from ops.utils.text import counted


class Pace(NamedTuple):
    """How a pass went in this process: videos scored, seconds in all, and seconds spent waiting for the loader."""

    videos: int
    seconds: float
    waited: float

    @property
    def text(self):
        share = self.waited / max(self.seconds, 1e-9)
        bound = "data: more -j or a faster disk would help" if share > 0.5 else "the model"
        return (
            f"{counted(self.videos, 'video')} in {self.seconds:.1f} s, {self.videos / max(self.seconds, 1e-9):.2f} videos/s; "
            f"{share:.0%} of it waiting for data, bound by {bound}"
        )


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
    """Send the views of all videos of a loader through the network, and hand over each video as it is finished.

    model: a TSN in eval mode (with consensus "identity", the mean of the segments' scores is taken); loader: of a
    ``TestDataset``, batch_size None; done: called with (index, logits float32 ``[clips*crops, classes]``) of each video;
    failed: with each Failure; batch_size: clips that go through the network at once, with all their crops; view_batch: at most
    so many views at once (None: no limit; either is halved when the device runs out of memory); total: videos of all
    processes, for the bar; stop: asked before each video, ends the pass if it says so;
    keep_segments: of a network with consensus "identity", done gets ``[clips*crops, 1 + T,
    classes]``, the mean over the T segments before the scores of each.

    With batch_size 1 the logits of a clip depend on nothing but the clip: not on the clips and videos beside it, so neither
    on the number of processes nor on what an earlier run has done. Larger batches may be computed by other kernels, whose
    sums round differently. Returns the :class:`Pace`. Raises UserError if one view does not fit into memory.
    """
    network = _Bounded(model, view_batch, world.device, amp, keep_segments)
    started, waited = time.perf_counter(), 0.0
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
            share = waited / (time.perf_counter() - started)
            bar.set_postfix_str(
                f"{work.text}, bound by {'data' if share > 0.5 else 'model'} ({share:.0%} waiting)",
                refresh=False,
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
    """Clips on their way through the network. While the device computes a batch, the next is cut and the last is looked at."""

    def __init__(self, network, dataset, device, batch_size, done):
        self.network, self.dataset, self.device, self.batch_size, self.done = (
            network,
            dataset,
            device,
            batch_size,
            done,
        )
        # What waits for a batch: (index, logits of the video's clips so far, how many these will be), and the crops of each.
        self.clips, self.views = [], []
        self.copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.flying = []  # on the device: logits on their way back, and their clips
        self.videos, self.hits = 0, [0, 0]

    @property
    def text(self):
        """Accuracy so far."""
        top1, top5 = (100 * hits / max(1, self.videos) for hits in self.hits)
        return f"Prec@1 {top1:.1f} Prec@5 {top5:.1f}"

    def add(self, item):
        """A video as the data set gives it."""
        frames, logits = self.send(item.frames), []
        for picks in self.send(item.picks):
            self.clips.append((item.index, logits, len(item.picks)))
            self.views.append(self.dataset.transform.crops(frames, picks))
            if len(self.views) == self.batch_size:
                self.launch()
                if len(self.flying) > 1:
                    self.land()

    def send(self, values):
        """A tensor of the loader on the device. A GPU copies it while it computes what was launched before."""
        if not self.copies:
            return values.to(self.device)
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self.copies):
            sent = values.to(self.device, non_blocking=True)
        computing.wait_stream(self.copies)
        sent.record_stream(
            computing
        )  # its memory must not be used for the next copy while it is being read
        return sent

    def launch(self):
        self.flying.append((_Arrival(self.network(torch.cat(self.views))), self.clips))
        self.clips, self.views = [], []

    def land(self):
        arrival, clips = self.flying.pop(0)
        for (index, logits, count), own in zip(
            clips, arrival.wait().tensor_split(len(clips)), strict=True
        ):
            logits.append(own)
            if len(logits) == count:
                self.score(index, torch.cat(logits).numpy())

    def score(self, index, scores):
        logits = scores if scores.ndim == 2 else scores[:, 0]
        best = np.argsort(-logits.mean(0), kind="stable")[:5]
        true = one_hot(self.dataset.video_list.labels[index : index + 1], logits.shape[1])[0, best]
        self.videos += 1
        self.hits = [self.hits[0] + int(true[0]), self.hits[1] + int(true.any())]
        self.done(index, scores)

    def finish(self):
        """Wait for all that is on its way."""
        if self.views:
            self.launch()
        while self.flying:
            self.land()


class _Bounded:
    """The network on at most ``limit`` views at once; the limit falls when memory runs out."""

    def __init__(self, model, limit, device, amp, keep_segments):
        self.model, self.limit, self.device, self.amp = model, limit, device, amp
        self.keep_segments = keep_segments

    def __call__(self, views):
        """uint8 ``[V, T, L*C, H, W]`` -> float32 ``[V, classes]`` or ``[V, 1 + T, classes]``."""
        while True:
            try:
                return torch.cat(
                    [self.part(part) for part in views.split(self.limit or len(views))]
                )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not isinstance(
                    error, torch.OutOfMemoryError
                ) and "can't allocate memory" not in str(error):
                    raise
            # Outside the handler: its traceback holds the tensors that filled the memory.
            tried = min(self.limit or len(views), len(views))
            if tried == 1:
                raise UserError(
                    f"{self.device} has too little memory for a single view; try --amp bf16, or another device"
                )
            self.limit = tried // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            tqdm.write(
                f"warning: {tried} views at once do not fit into the memory of {self.device}; now {self.limit}"
            )

    def part(self, views):
        with autocast(self.device, self.amp):
            scores = self.model(views)
            if self.keep_segments:
                # The mean as the network itself would take it, so that it is the same to the last
                # bit.
                scores = torch.cat([CONSENSUS["avg"](scores).unsqueeze(1), scores], 1)
        if self.keep_segments:
            return scores.float()
        return scores.float().mean(1) if scores.dim() == 3 else scores.float()


class _Arrival:
    """A tensor on its way to the CPU; on a GPU nobody waits for it before its values are wanted."""

    def __init__(self, values):
        self.event = None
        self.values = values
        if values.device.type == "cuda":
            self.values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self.values.copy_(values, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()

    def wait(self):
        if self.event:
            self.event.synchronize()
        return self.values.cpu()


class Scored(NamedTuple):
    """Scores of a list: logits float32 ``[videos, views, classes]`` in list order, labels int64 ``[videos]`` or bool
    ``[videos, classes]``, failures."""

    logits: np.ndarray
    labels: np.ndarray
    failures: list[Failure]


def score_videos(model, loader, world, *, stop=None, **options):
    """The :class:`Scored` of all videos of ``loader.dataset``, gathered from all processes, the same on each.

    options: of :func:`score_views`; stop: a function without arguments: once it gives anything but 0 to one process, all end
    soon, and the result is None. An unreadable video gets scores that rank its own class last. Raises UserError if none
    can be read, RuntimeError if a video was not scored exactly once.
    """
    indices, rows, failures = [], [], []

    def done(index, logits):
        indices.append(index)
        rows.append(logits)

    stopped = world.flag("stop scoring")
    score_views(
        model,
        loader,
        world,
        done,
        failures.append,
        total=len(loader.dataset),
        **options,
        stop=stop and (lambda: stopped(bool(stop()))),
    )
    if world.max(int(bool(stop and stop()))) != [0]:
        return None
    parts = world.gather((indices, np.stack(rows) if rows else None, failures))
    return _assemble(parts, loader.dataset.video_list.labels)


def _assemble(parts, labels):
    """The parts of all processes in list order."""
    failures = sorted(
        (failure for part in parts for failure in part[2]), key=lambda failure: failure.index
    )
    seen = np.zeros(len(labels), np.int64)
    example = next((part[1] for part in parts if part[1] is not None), None)
    if example is None:
        raise UserError(
            f"none of {len(labels)} videos could be read; the first: {failures[0].id}: {failures[0].reason}"
        )
    logits = np.zeros((len(labels), *example.shape[1:]), np.float32)
    for indices, rows, _ in parts:
        if indices:
            logits[indices] = rows
            np.add.at(seen, indices, 1)
    unread = [failure.index for failure in failures]
    for view in range(logits.shape[1]):
        mark_unread(logits[:, view], labels, unread)
    np.add.at(seen, unread, 1)
    if (seen != 1).any():
        raise RuntimeError(
            f"{(seen != 1).sum()} of {len(labels)} videos were not scored exactly once"
        )
    return Scored(logits, labels, failures)
