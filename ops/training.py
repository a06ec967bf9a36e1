"""The training loop: one epoch, validation, and the run from the first epoch to the last checkpoint."""
import contextlib
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from ops import distributed, metrics
from ops.checkpoints import save_checkpoint
from ops.errors import UserError
from ops.optim import set_learning_rate
from ops.scoring import autocast, score_videos
from ops.weight_files import read_checkpoint

# Recipe fields that may differ between a run and its continuation without changing what is learned from here on.
FREE_FIELDS = {
    "resume", "epochs", "workers", "timeout", "device", "local_rank", "output_dir", "suffix", "print_freq", "eval_freq",
    "evaluate", "dry_run", "decoder", "compile", "root_path", "train_list", "val_list", "class_names", "missing",
}
NAMED_FAILURES = 10  # of an epoch, in the log


def train_one_epoch(model, loader, optimizer, world, log, *, epoch, learning_rate, clip_shape, accumulate=1, clip_gradient=None,
                    amp="none", scaler=None, seed=0, print_freq=20):
    """One pass over the training videos.

    model: a TSN, perhaps compiled or wrapped by DDP; loader: batches of a ``TrainDataset`` whose sampler stands at this
    epoch; epoch: from 0; learning_rate: optimiser step (from 0, over the whole run) -> base rate; clip_shape:
    ``(T, L*C, H, W)``; accumulate: batches of an optimiser step; clip_gradient: largest norm or None; amp: "none", "bf16" or
    "fp16" (with a GradScaler). Dropout is seeded by (seed, step, rank), so an epoch does not depend on what ran before it.
    Unreadable videos are skipped, named in the log and counted.

    Returns a dict: loss, top1 (percent, in training mode), videos, skipped, data_share (of the time, spent waiting for
    the loader), seconds. Raises UserError as soon as the loss is seen to be not finite.
    """
    model.train()
    steps = len(loader) // accumulate
    total = torch.zeros(3, dtype=torch.float64, device=world.device)  # summed loss, correct videos, videos
    skipped, waited, started = [], 0.0, time.perf_counter()
    batches = iter(loader)
    bar = tqdm(range(steps), desc=f"epoch {epoch + 1}", unit="step", disable=None if world.is_main else True, leave=False)
    for index in bar:
        step = epoch * steps + index
        lr = learning_rate(step)
        set_learning_rate(optimizer, lr)
        optimizer.zero_grad(set_to_none=True)
        for part in range(accumulate):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            skipped += batch.failures
            torch.manual_seed(int(np.random.SeedSequence((seed, step * accumulate + part, world.rank)).generate_state(1)[0]))
            sync = contextlib.nullcontext() if part == accumulate - 1 or not hasattr(model, "no_sync") else model.no_sync()
            with sync:
                _backward(model, batch, clip_shape, world.device, amp, scaler, accumulate, total)
        _step(model, optimizer, scaler, clip_gradient)
        share = waited / (time.perf_counter() - started)
        if (index + 1) % print_freq == 0 or index + 1 == steps:
            loss, correct, count = total.tolist()
            if not math.isfinite(loss):
                raise UserError(f"the loss is {loss} at epoch {epoch + 1}, step {index + 1} of {steps}, lr {lr:.2g}; the "
                                f"checkpoints before are kept; try a smaller --lr, --warmup_epoch, or --amp bf16 for fp16")
            loss, top1 = loss / max(1, count), 100 * correct / max(1, count)
            left = (time.perf_counter() - started) / (index + 1) * (steps - index - 1)
            bar.set_postfix_str(f"loss {loss:.3f} Prec@1 {top1:.1f} lr {lr:.2g} data {share:.0%}")
            log.say(f"epoch {epoch + 1} [{index + 1}/{steps}] lr {lr:.5f} loss {loss:.4f} Prec@1 {top1:.2f} "
                    f"data {share:.0%} eta {tqdm.format_interval(left)}")
    loss, correct, count, failed = distributed.sum_over_ranks([*total.tolist(), len(skipped)], world.device)
    for failure in [failure for part in distributed.gather(skipped[:NAMED_FAILURES]) for failure in part][:NAMED_FAILURES]:
        log.say(f"warning: {loader.dataset.video_list.path}:{failure.line}: {failure.id}: {failure.reason}; skipped")
    return {"loss": loss / max(1, count), "top1": 100 * correct / max(1, count), "videos": int(count), "skipped": int(failed),
            "data_share": waited / max(1e-9, time.perf_counter() - started), "seconds": time.perf_counter() - started}


def _backward(model, batch, clip_shape, device, amp, scaler, accumulate, total):
    """Forward and backward of one batch; adds its loss, hits and videos to ``total``."""
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
            total += torch.stack([loss.detach() * count, hits, torch.tensor(count, device=device)])
    loss = loss / accumulate
    (scaler.scale(loss) if scaler else loss).backward()


def video_loss(scores, labels):
    """Mean cross-entropy of scores ``[B, num_class]``, or of each segment's, ``[B, T, num_class]`` (consensus "identity");
    labels int64 ``[B]``. Of several labels, bool ``[B, num_class]``: the mean binary cross-entropy of all classes."""
    if scores.dim() == 3:
        scores, labels = scores.flatten(0, 1), labels.repeat_interleave(scores.shape[1], dim=0)
    if labels.dim() == 2:
        return F.binary_cross_entropy_with_logits(scores.float(), labels.float())
    return F.cross_entropy(scores.float(), labels)


def _step(model, optimizer, scaler, clip_gradient):
    if clip_gradient:
        if scaler:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_gradient)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


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


def validate(model, loader, world, *, amp="none", batch_size=8):
    """Score every video of a list once, at any number of processes, batch_size at a time.

    model: the TSN itself, not its DDP wrapper: shards may be of different lengths, and no process may wait for another.
    Returns a dict: the metrics (``ops.metrics.evaluate``, the one that chooses the best model first; unreadable videos count as
    wrong), loss, videos, listed.
    """
    distributed.broadcast_buffers(model)  # each process has running statistics of its own
    model.eval()
    scored = score_videos(model, loader, world, amp=amp, batch_size=batch_size, desc="validation")
    logits = scored.logits.mean(axis=1)
    failed = np.isin(np.arange(len(logits)), [failure.index for failure in scored.failures])
    loss = video_loss(torch.from_numpy(logits), torch.from_numpy(scored.labels)).item()
    listed = len(scored.labels)
    return {**metrics.evaluate(logits, scored.labels, failed), "loss": loss, "videos": listed - len(scored.failures),
            "listed": listed}


def fit(net, model, loaders, optimizer, world, log, *, folder, epochs, first_epoch=0, best=-1.0, learning_rate, amp="none",
        scaler=None, eval_freq=1, batch_size=8, class_names=None, recipe=None, **training):
    """Train from first_epoch to epochs; ``last.pth`` and ``best.pth`` (by the first metric) in folder are always whole.

    net: the TSN; model: what is trained, net itself or its wrapper; loaders: (training, validation); training: further
    arguments of :func:`train_one_epoch`. Returns the best value of that metric in percent.
    """
    train_loader, val_loader = loaders
    started = time.perf_counter()
    for epoch in range(first_epoch, epochs):
        train_loader.sampler.set_epoch(epoch)
        trained = train_one_epoch(model, train_loader, optimizer, world, log, epoch=epoch, learning_rate=learning_rate, amp=amp,
                                  scaler=scaler, **training)
        values = {f"train_{key}": value for key, value in trained.items()}
        log.say(f"epoch {epoch + 1}/{epochs}: loss {trained['loss']:.4f} Prec@1 {trained['top1']:.2f}, {trained['videos']} "
                f"videos, {trained['skipped']} skipped, {trained['seconds']:.0f} s, data {trained['data_share']:.0%}")
        is_best = False
        if (epoch + 1) % eval_freq == 0 or epoch + 1 == epochs:
            result = validate(net, val_loader, world, amp=amp, batch_size=batch_size)
            value = next(iter(result.values()))
            is_best, best = value > best, max(best, value)
            values.update((f"val_{key}", value) for key, value in result.items())
            log.say(validation_line(result, val_loader.dataset) + f" (best {best:.2f}%)")
        step = (epoch + 1) * (len(train_loader) // training.get("accumulate", 1))
        log.curves(step, **{key.replace("_", "__", 1): value for key, value in values.items()},
                   lr=optimizer.param_groups[0]["lr"])
        log.record(epoch=epoch + 1, step=step, best=best, lr=learning_rate(step - 1), **values)
        left = (time.perf_counter() - started) / (epoch + 1 - first_epoch) * (epochs - epoch - 1)
        if left:
            log.say(f"{epochs - epoch - 1} epochs to go, eta {tqdm.format_interval(left)}")
        if world.is_main:
            for name in ("last", "best") if is_best else ("last",):
                save_checkpoint(Path(folder) / f"{name}.pth", net, optimizer=optimizer, scaler=scaler, class_names=class_names,
                                recipe=recipe, epoch=epoch + 1, step=step, best=best, metrics=values)
        distributed.barrier()  # nobody ends the run while the file is being written
    return best


def validation_line(result, dataset):
    """A validation result with its protocol: ``8 frames x 1 crops x 1 clips, 224, 120/120 videos: ...``."""
    measured = {key: value for key, value in result.items() if key in metrics.TITLES}
    return (f"validation, {dataset.num_segments} frames x 1 crop x 1 clip, {dataset.transform.crop_size}, "
            f"{result['videos']}/{result['listed']} videos: {metrics.line(measured)} loss {result['loss']:.4f}")


def resume(path, net, optimizer, scaler, recipe):
    """Continue a run: fill net, optimizer and scaler from one of our checkpoints.

    recipe: the options of this run. Returns (epochs done, best Prec@1). Raises UserError if the file is not a training
    checkpoint of this very recipe; the message names what differs.
    """
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not {"model", "optimizer", "epoch"} <= content.keys():
        raise UserError(f"--resume {path}: holds no training state (only weights?)")
    for what, old, new in (("model", content["model"], net.spec), ("recipe", content["recipe"], recipe)):
        differing = [key for key in new if key not in FREE_FIELDS and key in old and old[key] != new[key]]
        if differing:
            changes = ", ".join(f"{key} {old[key]} -> {new[key]}" for key in differing)
            raise UserError(f"--resume {path}: was trained with another {what} ({changes}); give the same flags, or another "
                            f"--output_dir to start anew")
    net.load_state_dict(content["state_dict"])
    optimizer.load_state_dict(content["optimizer"])
    if scaler and "scaler" in content:
        scaler.load_state_dict(content["scaler"])
    return content["epoch"], content["best"]

