"""Score every video of a loader: crops on the device, several clips a batch, reading and computing at the same time."""
import contextlib
import time
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ops import distributed
from ops.data.clips import Failure
from ops.errors import UserError
from ops.labels import mark_unread

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Pace(NamedTuple):
    """How a pass went in this process: videos scored, seconds in all, and seconds spent waiting for the loader."""

    videos: int
    seconds: float
    waited: float

    @property
    def text(self):
        share = self.waited / max(self.seconds, 1e-9)
        bound = "data: more -j or a faster disk would help" if share > 0.5 else "the model"
        return (f"{self.videos} videos in {self.seconds:.1f} s, {self.videos / max(self.seconds, 1e-9):.2f} videos/s; "
                f"{share:.0%} of it waiting for data, bound by {bound}")


class _Video:
    """A video on its way through the network: the logits of its views ``[clips, crops, classes]`` as they come."""

    def __init__(self, index, clips):
        self.index, self.parts, self.missing = index, [None] * clips, clips


def autocast(device, amp):
    """Context of mixed precision on a device; amp: "none", "bf16" or "fp16"."""
    return contextlib.nullcontext() if amp == "none" else torch.autocast(device.type, AMP_DTYPES[amp])


@torch.inference_mode()
def score_views(model, loader, world, done, failed, *, amp="none", batch_size=1, view_batch=None, desc="scoring", total=None):
    """Send the views of all videos of a loader through the network, and hand over each video as it is finished.

    model: a TSN in eval mode (with consensus "identity", the mean of the segments' scores is taken); loader: of a
    ``TestDataset``, batch_size None; done: called with (index, logits float32 ``[clips*crops, classes]``) of each video;
    failed: with each Failure; batch_size: clips that go through the network at once, with all their crops; view_batch: at most
    so many views at once (None: no limit; either is halved when the device runs out of memory); total: videos of all
    processes, for the bar.

    With batch_size 1 the logits of a clip depend on nothing but the clip: not on the clips and videos beside it, so neither
    on the number of processes nor on what an earlier run has done. Larger batches may be computed by other kernels, whose
    sums round differently. Returns the :class:`Pace`. Raises UserError if one view does not fit into memory.
    """
    dataset, device = loader.dataset, world.device
    network = _Bounded(model, view_batch, device, amp)
    labels = dataset.video_list.labels
    started, waited, hits = time.perf_counter(), 0.0, np.zeros(3, np.int64)
    bar = tqdm(desc=desc, unit="video", total=total, disable=None if world.is_main else True, leave=False, smoothing=0.05)
    units, views, flying = [], [], []  # clips that wait for a batch, their crops, and what the device is working on

    def launch():
        if views:
            logits = network(torch.cat(views))
            flying.append((_Arrival(logits), list(units)))
            units.clear()
            views.clear()

    def land():
        arrival, clips = flying.pop(0)
        for (video, clip), logits in zip(clips, arrival.wait().tensor_split(len(clips)), strict=True):
            video.parts[clip] = logits
            video.missing -= 1
            if not video.missing:
                finish(video)

    def finish(video):
        logits = torch.cat(video.parts).numpy()
        done(video.index, logits)
        top = np.argsort(-logits.mean(0), kind="stable")[:5]
        own = labels[video.index]
        found = top == own if labels.ndim == 1 else own[top]
        hits[:] += found[0], found.any(), 1
        step(f"Prec@1 {100 * hits[0] / hits[2]:.1f} Prec@5 {100 * hits[1] / hits[2]:.1f}")

    def step(text):
        share = waited / (time.perf_counter() - started)
        bar.set_postfix_str(f"{text}, bound by {'data' if share > 0.5 else 'model'} ({share:.0%} waiting)", refresh=False)
        bar.update(world.size)  # the other processes are about as far

    items = iter(loader)
    with contextlib.closing(bar):
        while True:
            asked = time.perf_counter()
            item = next(items, None)
            waited += time.perf_counter() - asked
            if item is None:
                break
            if isinstance(item, Failure):
                failed(item)
                step(f"{item.id} unreadable")
                continue
            frames = item.frames.to(device, non_blocking=True)
            video = _Video(item.index, len(item.picks))
            for clip, picks in enumerate(item.picks.to(device)):
                units.append((video, clip))
                views.append(dataset.transform.crops(frames, picks))
                if len(units) == batch_size:
                    launch()
                    if len(flying) > 1:  # the device always has the next batch while this one is looked at
                        land()
        launch()
        while flying:
            land()
    return Pace(int(hits[2]), time.perf_counter() - started, waited)


class _Bounded:
    """The network on at most ``limit`` views at once; the limit falls when memory runs out."""

    def __init__(self, model, limit, device, amp):
        self.model, self.limit, self.device, self.amp = model, limit, device, amp

    def __call__(self, views):
        """uint8 ``[V, T, L*C, H, W]`` -> float32 ``[V, classes]``, on the device."""
        while True:
            try:
                return torch.cat([self.part(part) for part in views.split(self.limit or len(views))])
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                    raise
            # Outside the handler: its traceback holds the tensors that filled the memory.
            tried = min(self.limit or len(views), len(views))
            if tried == 1:
                raise UserError(f"{self.device} has too little memory for a single view; try --amp bf16, or another device")
            self.limit = tried // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            tqdm.write(f"warning: {tried} views at once do not fit into the memory of {self.device}; now {self.limit}")

    def part(self, views):
        with autocast(self.device, self.amp):
            scores = self.model(views)
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


def score_videos(model, loader, world, **options):
    """The :class:`Scored` of all videos of ``loader.dataset``, gathered from all processes, the same on each.

    options: of :func:`score_views`. An unreadable video gets scores that rank its own class last. Raises UserError if none
    can be read, RuntimeError if a video was not scored exactly once.
    """
    indices, rows, failures = [], [], []

    def done(index, logits):
        indices.append(index)
        rows.append(logits)

    score_views(model, loader, world, done, failures.append, total=len(loader.dataset), **options)
    parts = distributed.gather((indices, np.stack(rows) if rows else None, failures))
    return _assemble(parts, loader.dataset.video_list.labels)


def _assemble(parts, labels):
    """The parts of all processes in list order."""
    failures = sorted((failure for part in parts for failure in part[2]), key=lambda failure: failure.index)
    seen = np.zeros(len(labels), np.int64)
    example = next((part[1] for part in parts if part[1] is not None), None)
    if example is None:
        raise UserError(f"none of {len(labels)} videos could be read; the first: {failures[0].id}: {failures[0].reason}")
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
        raise RuntimeError(f"{(seen != 1).sum()} of {len(labels)} videos were not scored exactly once")
    return Scored(logits, labels, failures)
