"""One epoch of training: forward, backward and optimiser, step by step."""

import contextlib

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ops.training.meters import Meters
from ops.training.optim import set_learning_rate
from ops.training.sync_batchnorm import SyncNorm, each_alone, frozen_norms
from ops.utils.amp import autocast

NAMED_FAILURES = 10  # of an epoch, in the log


def train_one_epoch(
    model,
    loader,
    optimizer,
    world,
    log,
    *,
    epoch,
    learning_rate,
    criterion,
    clip_shape,
    accumulate=1,
    clip_gradient=None,
    amp="none",
    scaler=None,
    mix=None,
    updated=None,
    seed=0,
    print_freq=20,
    first_step=0,
    meters=None,
    after_step=None,
):
    """One pass over the training videos.

    model: a TSN, perhaps compiled or wrapped by DDP; loader: batches of a ``TrainDataset`` whose sampler stands at this
    epoch, and behind the videos of first_step steps; epoch: from 0; learning_rate: optimiser step (from 0, over the whole
    run) -> base rate; clip_shape: ``(T, L*C, H, W)``; accumulate: batches of an optimiser step; clip_gradient: largest norm or
    None; amp: "none", "bf16" or "fp16" (with a GradScaler); criterion: of ``loss.py``; mix: of ``mixup.py``;
    updated: called after each change of the weights; meters: those of the first_step steps; after_step: called with
    (steps done, meters, a function that raises UserError if a loss was not finite) after each step. Dropout and mixtures are
    seeded by (seed, step, rank), so a step does not depend on what ran before it. Unreadable videos are skipped, named in the
    log and counted.

    Returns the dict of ``Meters.result``. Raises UserError as soon as a loss or a gradient is seen to be not finite.
    """
    model.train()
    steps = len(loader) // accumulate
    meters = meters or Meters(world.device)
    videos, frames = (
        loader.dataset.video_list,
        loader.dataset.num_segments * loader.dataset.frames_per_segment,
    )
    synchronised = any(isinstance(m, SyncNorm) for m in model.modules())
    batches = iter(loader)
    bar = tqdm(
        range(first_step, steps),
        desc=f"epoch {epoch + 1}",
        unit="step",
        initial=first_step,
        total=steps,
        disable=None if world.is_main else True,
        leave=False,
    )
    for index in bar:
        step = epoch * steps + index
        lr = learning_rate(step)
        set_learning_rate(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        loss, places = torch.zeros((), device=world.device), []
        for part in range(accumulate):
            meters.watch.lap()
            batch = next(batches)
            meters.watch.lap("data")
            meters.failures += batch.failures
            places += batch.indices.tolist()
            torch.manual_seed(
                int(
                    np.random.SeedSequence(
                        (seed, step * accumulate + part, world.rank)
                    ).generate_state(1)[0]
                )
            )
            # A process without a readable video has nothing to say to the BatchNorms of the others, who must not wait for it.
            alone = synchronised and world.max(int(batch.clips is None))[0]
            sync = (
                contextlib.nullcontext()
                if part == accumulate - 1 or not hasattr(model, "no_sync")
                else model.no_sync()
            )
            with sync, each_alone(model, alone):
                loss = loss + _backward(
                    model,
                    batch,
                    meters,
                    criterion=criterion,
                    clip_shape=clip_shape,
                    amp=amp,
                    scaler=scaler,
                    mix=mix,
                    accumulate=accumulate,
                )
        norm = _step(model, optimizer, scaler, clip_gradient)
        if updated:
            updated()
        meters.watch.lap("optimiser")
        meters.sums[3] += ~norm.isfinite()
        meters.unchecked.append((index, loss, norm, places))

        def check(index=index, lr=lr):
            meters.check(videos, epoch, steps, lr, may_skip=scaler is not None)

        if (index + 1) % print_freq == 0 or index + 1 == steps:
            check()
            left = meters.seconds / (index + 1) * (steps - index - 1)
            learned, pace = meters.line(frames, world.size)
            bar.set_postfix_str(f"{learned} lr {lr:.2g} data {meters.shares()['data']:.0%}")
            log.info(
                f"epoch {epoch + 1} [{index + 1}/{steps}] lr {lr:.5f} {learned} grad norm {norm.item():.3g}; {pace}; "
                f"eta {tqdm.format_interval(left)}"
            )
        if after_step:
            after_step(index + 1, meters, check)
    result = meters.result(frames, world)
    named = [failure for part in world.gather(meters.failures[:NAMED_FAILURES]) for failure in part]
    for failure in named[:NAMED_FAILURES]:
        log.info(f"warning: {videos.path}:{failure.line}: {failure.id}: {failure.reason}; skipped")
    return result


def _backward(model, batch, meters, *, criterion, clip_shape, amp, scaler, accumulate=1, mix=None):
    """Forward and backward of one batch; adds its loss, hits and videos to ``meters``. Returns its part of the loss."""
    device = meters.device
    if batch.clips is None:
        # Every video of the batch was unreadable. The other processes wait for this one's gradient: it is zero, and the
        # BatchNorms must not see the stand-in.
        with frozen_norms(model), autocast(device, amp):
            loss = model(torch.zeros((1, *clip_shape), dtype=torch.uint8, device=device)).sum() * 0
    else:
        clips, labels = (t.to(device, non_blocking=True) for t in (batch.clips, batch.labels))
        several = labels.dim() == 2
        if mix:
            clips, labels = mix(clips, labels)
        with autocast(device, amp):
            scores = model(clips)
            loss = criterion(scores, labels)
        with torch.no_grad():
            count = len(labels)
            best = (scores if scores.dim() == 2 else scores.mean(1)).argmax(1)
            true = (
                labels.argmax(1) if labels.is_floating_point() and not several else labels
            )  # of a mixture, the larger part
            hits = (best == true if true.dim() == 1 else true[range(count), best] > 0).sum()
            meters.sums[:3] += torch.stack(
                [loss.detach() * count, hits, torch.tensor(count, device=device)]
            )
    meters.watch.lap("forward")
    loss = loss / accumulate
    (scaler.scale(loss) if scaler else loss).backward()
    meters.watch.lap("backward")
    return loss.detach()


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
