"""One epoch of training: forward, backward and optimiser, step by step."""
import contextlib
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ops import distributed
from ops.data.clips import Failure
from ops.errors import UserError
from ops.optim import set_learning_rate
from ops.scoring import autocast

NAMED_FAILURES = 10  # of an epoch, in the log


class Meters:
    """What one process has seen of an epoch: summed loss, hits and videos, steps that were skipped for gradients that are not
    finite (fp16), the videos that could not be read, and seconds, of which so many were spent waiting for the loader."""

    def __init__(self, device, state=None):
        state = state or {"sums": [0.0] * 4, "failures": [], "seconds": 0.0, "waited": 0.0}
        self.sums = torch.tensor(state["sums"], dtype=torch.float64, device=device)
        self.failures = [Failure(*failure) for failure in state["failures"]]
        self.waited = state["waited"]
        self.started = time.perf_counter() - state["seconds"]
        self.unchecked = []  # (step, loss, norm of the gradient, places of the videos in the list) since the last look

    @property
    def seconds(self):
        return time.perf_counter() - self.started

    @property
    def share(self):
        """Of the time, spent waiting for the loader."""
        return self.waited / max(1e-9, self.seconds)

    def state(self):
        """Plain values from which a process that goes on starts."""
        return {"sums": self.sums.tolist(), "failures": [tuple(failure) for failure in self.failures],
                "seconds": self.seconds, "waited": self.waited}

    def check(self, videos, epoch, steps, lr, may_skip):
        """Raises UserError, naming epoch, step, rate and videos, for a loss or a gradient that was not finite since the last
        call; may_skip: such gradients were not used (fp16) and are only counted."""
        if not self.unchecked:
            return
        values = torch.stack([torch.stack([loss, norm]) for _, loss, norm, _ in self.unchecked]).cpu()
        for (step, *_, places), (loss, norm) in zip(self.unchecked, values.tolist(), strict=True):
            if not math.isfinite(loss) or not (math.isfinite(norm) or may_skip):
                what = f"loss is {loss}" if not math.isfinite(loss) else f"norm of the gradient is {norm}"
                ids = ", ".join(videos[place].id for place in places)
                raise UserError(f"the {what} at epoch {epoch + 1}, step {step + 1} of {steps}, lr {lr:.2g}, videos {ids}; the "
                                f"checkpoints before are kept; try a smaller --lr, --warmup_epoch, or --amp bf16 for fp16")
        self.unchecked.clear()


def train_one_epoch(model, loader, optimizer, world, log, *, epoch, learning_rate, clip_shape, accumulate=1, clip_gradient=None,
                    amp="none", scaler=None, seed=0, print_freq=20, first_step=0, meters=None, after_step=None):
    """One pass over the training videos.

    model: a TSN, perhaps compiled or wrapped by DDP; loader: batches of a ``TrainDataset`` whose sampler stands at this
    epoch, and behind the videos of first_step steps; epoch: from 0; learning_rate: optimiser step (from 0, over the whole
    run) -> base rate; clip_shape: ``(T, L*C, H, W)``; accumulate: batches of an optimiser step; clip_gradient: largest norm or
    None; amp: "none", "bf16" or "fp16" (with a GradScaler); meters: those of the first_step steps; after_step: called with
    (steps done, meters, a function that raises UserError if a loss was not finite) after each step. Dropout is seeded by
    (seed, step, rank), so a step does not depend on what ran before it. Unreadable videos are skipped, named in the log and
    counted.

    Returns a dict: loss, top1 (percent, in training mode), videos, skipped, skipped_steps, data_share (of the time, spent
    waiting for the loader), seconds. Raises UserError as soon as a loss or a gradient is seen to be not finite.
    """
    model.train()
    steps = len(loader) // accumulate
    meters = meters or Meters(world.device)
    videos, norm = loader.dataset.video_list, torch.zeros((), device=world.device)
    batches = iter(loader)
    bar = tqdm(range(first_step, steps), desc=f"epoch {epoch + 1}", unit="step", initial=first_step, total=steps,
               disable=None if world.is_main else True, leave=False)
    for index in bar:
        step = epoch * steps + index
        lr = learning_rate(step)
        set_learning_rate(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        losses, places = torch.zeros((), device=world.device), []
        for part in range(accumulate):
            asked = time.perf_counter()
            batch = next(batches)
            meters.waited += time.perf_counter() - asked
            meters.failures += batch.failures
            places += batch.indices.tolist()
            torch.manual_seed(int(np.random.SeedSequence((seed, step * accumulate + part, world.rank)).generate_state(1)[0]))
            sync = contextlib.nullcontext() if part == accumulate - 1 or not hasattr(model, "no_sync") else model.no_sync()
            with sync:
                losses = losses + _backward(model, batch, clip_shape, world.device, amp, scaler, accumulate, meters.sums)
        norm = _step(model, optimizer, scaler, clip_gradient)
        meters.sums[3] += ~norm.isfinite()
        meters.unchecked.append((index, losses, norm, places))

        def check(index=index, lr=lr):
            meters.check(videos, epoch, steps, lr, may_skip=scaler is not None)

        if (index + 1) % print_freq == 0 or index + 1 == steps:
            check()
            loss, correct, count, _ = meters.sums.tolist()
            loss, top1 = loss / max(1, count), 100 * correct / max(1, count)
            left = meters.seconds / (index + 1) * (steps - index - 1)
            bar.set_postfix_str(f"loss {loss:.3f} Prec@1 {top1:.1f} lr {lr:.2g} data {meters.share:.0%}")
            log.say(f"epoch {epoch + 1} [{index + 1}/{steps}] lr {lr:.5f} loss {loss:.4f} Prec@1 {top1:.2f} "
                    f"grad norm {norm.item():.3g} data {meters.share:.0%} eta {tqdm.format_interval(left)}")
        if after_step:
            after_step(index + 1, meters, check)
    sums = distributed.sum_over_ranks([*meters.sums.tolist(), len(meters.failures)], world.device)
    loss, correct, count, skipped, failed = sums
    named = [failure for part in distributed.gather(meters.failures[:NAMED_FAILURES]) for failure in part]
    for failure in named[:NAMED_FAILURES]:
        log.say(f"warning: {videos.path}:{failure.line}: {failure.id}: {failure.reason}; skipped")
    return {"loss": loss / max(1, count), "top1": 100 * correct / max(1, count), "videos": int(count), "skipped": int(failed),
            "skipped_steps": int(skipped) // world.size, "data_share": meters.share, "seconds": meters.seconds}


def _backward(model, batch, clip_shape, device, amp, scaler, accumulate, total):
    """Forward and backward of one batch; adds its loss, hits and videos to ``total``. Returns its part of the loss."""
    if batch.clips is None:
        # Every video of the batch was unreadable. The other processes wait for this one's gradient: it is zero, and the
        # BatchNorms must not see the stand-in.
        with _frozen_norms(model), autocast(device, amp):
            loss = model(torch.zeros((1, *clip_shape), dtype=torch.uint8, device=device)).sum() * 0
    else:
        clips, labels = (t.to(device, non_blocking=True) for t in (batch.clips, batch.labels))
        with autocast(device, amp):
            scores = model(clips)
            loss = video_loss(scores, labels)
        with torch.no_grad():
            count = len(labels)
            best = (scores if scores.dim() == 2 else scores.mean(1)).argmax(1)
            hits = (best == labels if labels.dim() == 1 else labels[range(count), best]).sum()
            total[:3] += torch.stack([loss.detach() * count, hits, torch.tensor(count, device=device)])
    loss = loss / accumulate
    (scaler.scale(loss) if scaler else loss).backward()
    return loss.detach()


def video_loss(scores, labels):
    """Mean cross-entropy of scores ``[B, num_class]``, or of each segment's, ``[B, T, num_class]`` (consensus "identity");
    labels int64 ``[B]``. Of several labels, bool ``[B, num_class]``: the mean binary cross-entropy of all classes."""
    if scores.dim() == 3:
        scores, labels = scores.flatten(0, 1), labels.repeat_interleave(scores.shape[1], dim=0)
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(scores.float(), labels.float())
    return F.cross_entropy(scores.float(), labels)


def _step(model, optimizer, scaler, clip_gradient):
    """One step of the optimiser. Returns the norm of the gradient as it was before it was clipped."""
    if scaler:
        scaler.unscale_(optimizer)
    if clip_gradient:
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip_gradient)
    else:
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
    return norm


@contextlib.contextmanager
def _frozen_norms(model):
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for bn in norms:
        bn.eval()
    try:
        yield
    finally:
        for bn in norms:
            bn.train()
