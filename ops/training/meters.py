"""What a process measures while it trains: loss, hits, time by its use, memory, and whether the numbers are still numbers."""

import math
import time

import torch

from ops.data.clips import Failure
from ops.utils.errors import UserError
from ops.utils.machine import available_cores

PARTS = ("data", "forward", "backward", "optimiser")
MUCH = 0.2  # of the time spent waiting for data is worth a word


class Stopwatch:
    """Seconds by what they were used for: ``lap(part)`` books what went by since the lap before.

    A GPU works on what it was told while the program is ahead of it. There the time between two marks in its queue counts: a
    wait for data that the GPU does not notice is none. What is in ``seconds`` ends with the last ``read``.
    """

    def __init__(self, device, seconds=None):
        self.seconds = dict.fromkeys(PARTS, 0.0) | (seconds or {})
        self._cuda = device.type == "cuda"
        self._last, self._marks = self._now(), []

    def _now(self):
        if not self._cuda:
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    def lap(self, part=None):
        """None books it nowhere."""
        now = self._now()
        if part and self._cuda:
            self._marks.append((part, self._last, now))
        elif part:
            self.seconds[part] += now - self._last
        self._last = now

    def read(self):
        """The seconds so far. On a GPU this waits for it."""
        if self._marks:
            self._marks[-1][-1].synchronize()
        for part, start, end in self._marks:
            self.seconds[part] += start.elapsed_time(end) / 1000
        self._marks.clear()
        return self.seconds


class Meters:
    """What one process has seen of an epoch: summed loss, hits and videos, steps that were skipped for gradients that are not
    finite (fp16), the videos that could not be read, and seconds, by their use."""

    def __init__(self, device, state=None):
        state = state or {"sums": [0.0] * 4, "failures": [], "seconds": 0.0, "parts": {}}
        self.device = device
        self.sums = torch.tensor(state["sums"], dtype=torch.float64, device=device)
        self.failures = [Failure(*failure) for failure in state["failures"]]
        self.started = time.perf_counter() - state["seconds"]
        self.watch = Stopwatch(device, state["parts"])
        self.unchecked = []  # (step, loss, norm of the gradient, places of the videos in the list) since the last look

    @property
    def seconds(self):
        return time.perf_counter() - self.started

    def shares(self):
        """Of the time: part -> share."""
        seconds = max(1e-9, self.seconds)
        return {part: spent / seconds for part, spent in self.watch.read().items()}

    def state(self):
        """Plain values from which a process that goes on starts."""
        return {
            "sums": self.sums.tolist(),
            "failures": [tuple(failure) for failure in self.failures],
            "seconds": self.seconds,
            "parts": dict(self.watch.read()),
        }

    def line(self, frames, processes):
        """In words so far: (loss and accuracy, speed and where the time went). frames: of a video; the other processes are
        taken to be as fast."""
        loss, correct, count, _ = self.sums.tolist()
        rate = count / max(1e-9, self.seconds) * processes
        memory = f", {peak_memory(self.device):.1f} GiB" if self.device.type == "cuda" else ""
        return (
            f"loss {loss / max(1, count):.4f} Prec@1 {100 * correct / max(1, count):.2f}",
            f"{rate:.1f} videos/s, {rate * frames:.0f} images/s{memory}; "
            + " ".join(f"{part} {share:.0%}" for part, share in self.shares().items()),
        )

    def result(self, frames, world):
        """Of all processes together, which meet here: loss, top1 (percent, in training mode), videos, skipped (unreadable
        ones), skipped_steps, seconds, videos_per_second, images_per_second, the share of each part of the time (data_share,
        ...) and, of GPUs, memory_gib (the most that PyTorch held on one)."""
        seconds, shares = self.seconds, self.shares()
        sums = world.sum([*self.sums.tolist(), len(self.failures), *shares.values()])
        loss, correct, count, skipped_steps, skipped = sums[:5]
        result = {
            "loss": loss / max(1, count),
            "top1": 100 * correct / max(1, count),
            "videos": int(count),
            "skipped": int(skipped),
            "skipped_steps": int(skipped_steps) // world.size,
            "seconds": seconds,
            "videos_per_second": count / max(1e-9, seconds),
            "images_per_second": count * frames / max(1e-9, seconds),
        }
        result.update(
            (f"{part}_share", share / world.size)
            for part, share in zip(shares, sums[5:], strict=True)
        )
        if world.device.type == "cuda":
            (mib,) = world.max(int(peak_memory(world.device) * 1024))
            result["memory_gib"] = mib / 1024
        return result

    def check(self, videos, epoch, steps, lr, may_skip):
        """Raises UserError, naming epoch, step, rate and videos, for a loss or a gradient that was not finite since the last
        call; may_skip: such gradients were not used (fp16) and are only counted."""
        if not self.unchecked:
            return
        values = torch.stack(
            [torch.stack([loss, norm]) for _, loss, norm, _ in self.unchecked]
        ).cpu()
        for (step, *_, places), (loss, norm) in zip(self.unchecked, values.tolist(), strict=True):
            if not math.isfinite(loss) or not (math.isfinite(norm) or may_skip):
                what = (
                    f"loss is {loss}"
                    if not math.isfinite(loss)
                    else f"norm of the gradient is {norm}"
                )
                ids = ", ".join(videos[place].id for place in places)
                raise UserError(
                    f"the {what} at epoch {epoch + 1}, step {step + 1} of {steps}, lr {lr:.2g}, videos {ids}; the "
                    f"checkpoints before are kept; try a smaller --lr, --warmup_epoch, or --amp bf16 for fp16"
                )
        self.unchecked.clear()


def peak_memory(device):
    """The most that PyTorch has held on a GPU since its start, GiB."""
    return torch.cuda.max_memory_allocated(device) / 2**30


def advice(data_share, workers):
    """What to do about a share of the time spent waiting for data, None if it is small."""
    if data_share < MUCH:
        return None
    cores = available_cores()
    more = (
        f"more data-loading workers (-j {workers} now; this machine has {cores} cores), "
        if workers < cores
        else ""
    )
    return (
        f"advice: {data_share:.0%} of the time went by waiting for data; what helps: {more}smaller videos with short GOPs "
        f"(tools/resize_videos.py), frames instead of videos (tools/extract_frames.py), a faster disk"
    )
