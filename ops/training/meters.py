"""What a process measures in training: loss, hits, times, memory."""

import math
import time
from typing import NamedTuple

import torch

from ops.data.clips import Failure
from ops.utils.errors import UserError
from ops.utils.machine import available_cores

# Uses of time, as ``log.jsonl`` names them.
PARTS = ("data", "forward", "backward", "optimiser")
# The share of the time spent waiting for data from which on the log gives advice.
LONG_WAIT = 0.2
_NO_TIME = 1e-9  # seconds; against a division by zero
_MIB_PER_GIB = 1024


class Stopwatch:
    """Seconds by their use. ``lap(part)`` adds the time since the last lap to a part.

    A GPU works on its queue while the program is ahead of it. There the time between two marks in
    the queue counts, so a wait for data that the GPU does not notice is none. ``seconds`` is
    complete up to the last :meth:`read`.

    Args:
        device: of the model.
        seconds: part -> seconds so far.
    """

    def __init__(self, device, seconds=None):
        self.seconds = dict.fromkeys(PARTS, 0.0) | (seconds or {})
        self._on_cuda = device.type == "cuda"
        self._last = self._now()
        self._marks = []

    def _now(self):
        if not self._on_cuda:
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    def lap(self, part=None):
        """End a lap, whose time is added to a part; None: to no part."""
        now = self._now()
        if part and self._on_cuda:
            self._marks.append((part, self._last, now))
        elif part:
            self.seconds[part] += now - self._last
        self._last = now

    def read(self):
        """The seconds so far, part -> seconds. On a GPU this waits for it."""
        if self._marks:
            self._marks[-1][-1].synchronize()
        for part, start, end in self._marks:
            self.seconds[part] += start.elapsed_time(end) / 1000
        self._marks.clear()
        return self.seconds


class UncheckedStep(NamedTuple):
    """A step whose numbers were not looked at yet, which would wait for the GPU.

    Attributes:
        index: of the step in its epoch.
        loss: of the step, a scalar.
        norm: of the gradient, a scalar.
        places: the videos' places in the list.
    """

    index: int
    loss: torch.Tensor
    norm: torch.Tensor
    places: list[int]


class Meters:
    """What one process has measured in an epoch.

    Args:
        device: of the model.
        state: of :meth:`state`, where the epoch is resumed.

    Attributes:
        sums: ``[4]`` on the device, float64 (float32 on Apple's GPUs, which have no other): sum of
            the losses, hits, videos, and steps that were skipped because their gradient was not
            finite (fp16).
        failures: the videos that could not be decoded.
        watch: a :class:`Stopwatch`.
    """

    def __init__(self, device, state=None):
        state = state or {"sums": [0.0] * 4, "failures": [], "seconds": 0.0, "parts": {}}
        self.device = device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.tensor(state["sums"], dtype=dtype, device=device)
        self.failures = [Failure(*failure) for failure in state["failures"]]
        self.watch = Stopwatch(device, state["parts"])
        self._started = time.perf_counter() - state["seconds"]
        self._unchecked = []

    @property
    def seconds(self):
        """Seconds since the start of the epoch, interruptions excluded."""
        return time.perf_counter() - self._started

    def shares(self):
        """Share of the time by its use, part -> share."""
        seconds = max(_NO_TIME, self.seconds)
        return {part: spent / seconds for part, spent in self.watch.read().items()}

    def state(self):
        """Plain values from which a resumed run continues."""
        return {
            "sums": self.sums.tolist(),
            "failures": [tuple(failure) for failure in self.failures],
            "seconds": self.seconds,
            "parts": dict(self.watch.read()),
        }

    def add(self, loss, hits, count):
        """Add a batch.

        Args:
            loss: mean over its videos, a scalar without gradient.
            hits: number of videos whose best class is right, an integer scalar.
            count: number of videos.
        """
        # One by one: a tensor of the count would be copied to the GPU, and waits for it.
        self.sums[0] += loss * count
        self.sums[1] += hits
        self.sums[2] += count

    def add_step(self, index, loss, norm, places):
        """Add a step, whose numbers :meth:`check` looks at later; see :class:`UncheckedStep`."""
        self.sums[3] += ~norm.isfinite()
        self._unchecked.append(UncheckedStep(index, loss, norm, places))

    def accuracy_text(self):
        """Loss and accuracy so far, for the log."""
        loss, correct, count, _ = self.sums.tolist()
        count = max(1, count)
        return f"loss {loss / count:.4f} Prec@1 {100 * correct / count:.2f}"

    def speed_text(self, frames, processes):
        """Speed, memory and uses of time so far, for the log.

        Args:
            frames: of a clip.
            processes: number of processes, which are taken to be as fast as this one.
        """
        count = self.sums[2].item()
        videos_per_second = count / max(_NO_TIME, self.seconds) * processes
        text = f"{videos_per_second:.1f} videos/s, {videos_per_second * frames:.0f} images/s"
        if self.device.type == "cuda":
            text += f", {peak_memory(self.device):.1f} GiB"
        shares = " ".join(f"{part} {share:.0%}" for part, share in self.shares().items())
        return f"{text}; {shares}"

    def result(self, frames, world):
        """Collective: the results of all processes together.

        Args:
            frames: of a clip.
            world: of ``ops.distributed``.

        Returns:
            a dict: loss, top1 (percent, in training mode), videos, skipped (videos that could not
            be decoded), skipped_steps, seconds, videos_per_second, images_per_second, the share of
            each part of the time (data_share, ...) and, on GPUs, memory_gib (the most that PyTorch
            used on one).
        """
        seconds = self.seconds
        shares = self.shares()
        sums = world.sum([*self.sums.tolist(), len(self.failures), *shares.values()])
        loss, correct, count, skipped_steps, skipped = sums[:5]
        result = {
            "loss": loss / max(1, count),
            "top1": 100 * correct / max(1, count),
            "videos": int(count),
            "skipped": int(skipped),
            "skipped_steps": int(skipped_steps) // world.size,
            "seconds": seconds,
            "videos_per_second": count / max(_NO_TIME, seconds),
            "images_per_second": count * frames / max(_NO_TIME, seconds),
        }
        for part, share in zip(shares, sums[5:], strict=True):
            result[f"{part}_share"] = share / world.size
        if world.device.type == "cuda":
            (mib,) = world.max(int(peak_memory(world.device) * _MIB_PER_GIB))
            result["memory_gib"] = mib / _MIB_PER_GIB
        return result

    def check(self, videos, epoch, steps, lr, *, may_skip):
        """Raise UserError for a loss or a gradient that was not finite since the last check.

        Args:
            videos: the list of training videos.
            epoch: number of the epoch, from 0.
            steps: number of steps of the epoch.
            lr: learning rate.
            may_skip: whether steps with such gradients were skipped (fp16), and are only counted.
        """
        if not self._unchecked:
            return
        numbers = [torch.stack([step.loss, step.norm]) for step in self._unchecked]
        values = torch.stack(numbers).cpu().tolist()
        for step, (loss, norm) in zip(self._unchecked, values, strict=True):
            if not math.isfinite(loss):
                problem = f"loss is {loss}"
            elif not math.isfinite(norm) and not may_skip:
                problem = f"norm of the gradient is {norm}"
            else:
                continue
            ids = ", ".join(videos[place].id for place in step.places)
            raise UserError(
                f"the {problem} at epoch {epoch + 1}, step {step.index + 1} of {steps}, "
                f"lr {lr:.2g}, videos {ids}; the checkpoints before are kept; try a smaller --lr, "
                f"--warmup_epoch, or --amp bf16 for fp16"
            )
        self._unchecked.clear()


def peak_memory(device):
    """The most memory that PyTorch has used on a GPU since the start of the process, GiB."""
    return torch.cuda.max_memory_allocated(device) / 2**30


def advice(data_share, workers):
    """Advice about the time spent waiting for data, None if it is short.

    Args:
        data_share: share of the time.
        workers: number of data-loading workers per process.
    """
    if data_share < LONG_WAIT:
        return None
    cores = available_cores()
    more_workers = ""
    if workers < cores:
        more_workers = (
            f"more data-loading workers (-j {workers} now; this machine has {cores} cores), "
        )
    return (
        f"advice: {data_share:.0%} of the time was spent waiting for data; what helps: "
        f"{more_workers}smaller videos with short GOPs (tools/resize_videos.py), frames instead of "
        f"videos (tools/extract_frames.py), a faster disk"
    )
