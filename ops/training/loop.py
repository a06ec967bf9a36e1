"""The training loop: epochs, validation, checkpoints, and how a run goes on after it was stopped."""

import time
from functools import partial
from pathlib import Path
from signal import SIGINT, Signals
from typing import NamedTuple

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ops.checkpoints import save_checkpoint
from ops.checkpoints.torch_file import read_checkpoint
from ops.data.loader import loader_errors
from ops.data.preflight import check_class_names
from ops.inference import score_videos
from ops.scores import metrics
from ops.training.epoch import train_one_epoch
from ops.training.meters import Meters, advice
from ops.training.optim import load_optimizer_state
from ops.training.run_dir import rotate
from ops.training.run_metadata import current_options
from ops.utils.errors import INTERRUPTED_STATUS, STOPPED_STATUS, Stopped, UserError
from ops.utils.signals import StopRequest
from ops.utils.text import counted, printable


def validate(model, loader, world, criterion, *, amp="none", batch_size=8, stop=None):
    """Score every video of a list once, at any number of processes, batch_size at a time.

    model: the TSN itself, not its DDP wrapper: shards may be of different lengths, and no process may wait for another; stop:
    of ``score_videos``. Returns None if it was stopped, else a dict: the metrics (``ops.scores.metrics.evaluate``, the one that
    chooses the best model first; unreadable videos count as wrong), loss, videos, listed.
    """
    world.broadcast_buffers(model)  # each process has running statistics of its own
    model.eval()
    with loader_errors(loader):
        scored = score_videos(
            model, loader, world, amp=amp, batch_size=batch_size, desc="validation", stop=stop
        )
    if scored is None:
        return None
    logits = scored.logits.mean(axis=1)
    _check_finite(logits, loader.dataset.video_list, amp)
    failed = np.isin(np.arange(len(logits)), [failure.index for failure in scored.failures])
    loss = criterion(torch.from_numpy(logits), torch.from_numpy(scored.labels)).item()
    listed = len(scored.labels)
    return {
        **metrics.evaluate(logits, scored.labels, failed),
        "loss": loss,
        "videos": listed - len(scored.failures),
        "listed": listed,
    }


def _check_finite(logits, videos, amp):
    """Raises UserError, naming the first video, for scores that are not finite: any accuracy of them would be invented."""
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        record = videos[int(broken[0])]
        raise UserError(
            f"{videos.path}:{record.line}: {record.id}: its scores are not finite ({broken.size} of {len(logits)} videos); "
            f"the weights are broken, or their numbers too large for --amp {amp}"
        )


# What a checkpoint must hold for a run to go on, and of what kind.
_STATE = {
    "model": dict,
    "recipe": dict,
    "state_dict": dict,
    "optimizer": dict,
    "epoch": int,
    "best": int | float,
    "step_in_epoch": int | None,
    "meters": list | None,
    "class_names": list | None,
}


class Start(NamedTuple):
    """Where a run begins or goes on: epochs done, steps done in the next one and the meters of each process in it, and the best
    value of the first metric so far."""

    epoch: int = 0
    step: int = 0
    meters: list[dict] | None = None
    best: float = -1.0


def describe_start(start, steps):
    """Where a run resumes: ``after epoch 3, best 41.20%``, ``in epoch 1 after step 3 of 7 (not validated yet)``."""
    done = f"after epoch {start.epoch}"
    if start.step:
        done = f"in epoch {start.epoch + 1} after step {start.step} of {steps}"
    if start.best < 0:
        return f"{done} (not validated yet)"
    return f"{done}, best {start.best:.2f}%"


def averaged(net, decay):
    """An exponential moving average of the weights of a network, from those it has now; BatchNorm statistics are its own. Call
    ``update_parameters(net)`` after each step; ``module`` is a network with the averages."""
    ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)
    ema.n_averaged.fill_(
        1
    )  # at 0 torch would begin with a copy, and a run that goes on would have to know the number
    return ema


def fit(
    net,
    model,
    loaders,
    optimizer,
    world,
    log,
    *,
    folder,
    epochs,
    start,
    learning_rate,
    amp="none",
    scaler=None,
    ema=None,
    eval_freq=1,
    batch_size=8,
    class_names=None,
    recipe=None,
    validation_criterion,
    save_every,
    keep=2,
    **training,
):
    """Train up to epochs; ``last.pth``, the ``keep - 1`` before it, and ``best.pth`` (by the first metric) are always whole.

    net: the TSN; model: what is trained, net itself or its wrapper; loaders: (training, validation); ema: of :func:`averaged`,
    whose weights are then what is validated, and what a checkpoint holds as the model; save_every: ``SaveInterval``;
    training: further arguments of
    :func:`ops.training.epoch.train_one_epoch`. Returns the best value of the metric in percent. Raises Stopped, with the state
    saved, after a signal of ``ops.utils.signals`` to any process.
    """
    train_loader, val_loader = loaders
    accumulate = training.get("accumulate", 1)
    steps = len(train_loader) // accumulate
    best, started, saved = start.best, time.perf_counter(), time.perf_counter()
    tested = ema.module if ema else net
    updated = partial(ema.update_parameters, net) if ema else None

    def save(epoch, step, meters, name="last", **facts):
        """step: done in the epoch after ``epoch`` whole ones."""
        nonlocal saved
        states = world.gather(meters.state() if meters else None)
        if world.is_main:
            state = {
                "class_names": class_names,
                "recipe": recipe,
                "epoch": epoch,
                "step": epoch * steps + step,
                "best": best,
                "step_in_epoch": step,
                "meters": states if meters else None,
                **facts,
            }
            if ema:
                state["trained_state_dict"] = {
                    key: value.detach().contiguous() for key, value in net.state_dict().items()
                }
            save_checkpoint(
                Path(folder) / f"{name}.pth",
                tested,
                optimizer=optimizer,
                scaler=scaler,
                before=partial(rotate, folder, keep) if name == "last" else None,
                **state,
            )
        saved = time.perf_counter()
        world.barrier()  # nobody ends the run while the file is being written

    with StopRequest() as request, train_loader, val_loader:
        for epoch in range(start.epoch, epochs):
            first = start.step if epoch == start.epoch else 0
            meters = Meters(
                world.device, start.meters[world.rank] if first and start.meters else None
            )

            def after_step(step, meters, check, epoch=epoch):
                due = world.is_main and save_every.is_due(step, time.perf_counter() - saved)
                number, due = world.max(request.number, int(due))
                if number or (
                    due and step < steps
                ):  # the end of an epoch is saved anyhow, after its validation
                    check()
                    save(epoch, step, meters)
                if number:
                    raise stopped(number, epoch, step)

            def stopped(number, epoch, step):
                request.is_done = True
                by_user = number == SIGINT
                what = "interrupted" if by_user else f"stopped by {Signals(number).name}"
                return Stopped(
                    f"{what} in epoch {epoch + 1}; continue with --resume auto (saved after step {step} of "
                    f"{steps} in {folder}/last.pth)",
                    INTERRUPTED_STATUS if by_user else STOPPED_STATUS,
                )

            train_loader.sampler.set_epoch(epoch, first * accumulate * train_loader.batch_size)
            with loader_errors(train_loader):
                trained = train_one_epoch(
                    model,
                    train_loader,
                    optimizer,
                    world,
                    log,
                    epoch=epoch,
                    learning_rate=learning_rate,
                    amp=amp,
                    scaler=scaler,
                    first_step=first,
                    meters=meters,
                    after_step=after_step,
                    updated=updated,
                    **training,
                )
            values = {f"train_{key}": value for key, value in trained.items()}
            log.info(
                f"epoch {epoch + 1}/{epochs}: loss {trained['loss']:.4f} Prec@1 {trained['top1']:.2f}, {trained['videos']} "
                f"videos, {trained['skipped']} skipped, {trained['seconds']:.0f} s, {trained['videos_per_second']:.1f} "
                f"videos/s, data {trained['data_share']:.0%}"
            )
            if word := advice(trained["data_share"], train_loader.num_workers):
                log.info(word)
            is_best = False
            if (epoch + 1) % eval_freq == 0 or epoch + 1 == epochs:
                result = validate(
                    tested,
                    val_loader,
                    world,
                    validation_criterion,
                    amp=amp,
                    batch_size=batch_size,
                    stop=lambda: request.number,
                )
                if result is None:  # it is done when the run goes on
                    (number,) = world.max(request.number)
                    save(epoch, steps, meters)
                    raise stopped(number, epoch, steps)
                value = next(iter(result.values()))
                is_best, best = value > best, max(best, value)
                values.update((f"val_{key}", value) for key, value in result.items())
                log.info(validation_line(result, val_loader.dataset) + f" (best {best:.2f}%)")
            step = (epoch + 1) * steps
            log.curves(
                step,
                **{key.replace("_", "__", 1): value for key, value in values.items()},
                lr=optimizer.param_groups[0]["lr"],
            )
            log.record(epoch=epoch + 1, step=step, best=best, lr=learning_rate(step - 1), **values)
            left = (
                (time.perf_counter() - started) / (epoch + 1 - start.epoch) * (epochs - epoch - 1)
            )
            if left:
                to_go = counted(epochs - epoch - 1, "epoch")
                log.info(f"{to_go} to go, eta {tqdm.format_interval(left)}")
            # Last, last: a run that is killed between the two does the epoch again, and finds it as good as before.
            for name in ("best", "last") if is_best else ("last",):
                save(epoch + 1, 0, None, name, metrics=values)
            (number,) = world.max(request.number)
            if number and epoch + 1 < epochs:
                raise stopped(number, epoch, steps)
    return best


def _same(old, new):
    """Whether two options are equal, be the old one of whatever kind."""
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    return old == new if numbers else repr(old) == repr(new)


def validation_line(result, dataset):
    """A validation result with its protocol: ``8 frames x 1 crop x 1 clip, 224, 120/120 videos: ...``."""
    measured = {key: value for key, value in result.items() if key in metrics.TITLES}
    return (
        f"validation, {counted(dataset.num_segments, 'frame')} x 1 crop x 1 clip, {dataset.transform.crop_size}, "
        f"{result['videos']}/{result['listed']} videos: {metrics.line(measured)} loss {result['loss']:.4f}"
    )


def _read_training(path):
    """The content of a checkpoint that ``main.py`` wrote. Raises UserError for another one."""
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), kind) for key, kind in _STATE.items()
    ):
        raise UserError(f"--resume {path}: holds no training state (only weights?)")
    return content


def read_recipe(path):
    """The options of the run that wrote a checkpoint, by name.

    Raises:
        UserError: the file is not a training checkpoint.
    """
    return _read_training(path)["recipe"]


def resume(
    path,
    net,
    optimizer,
    scaler,
    recipe,
    processes=1,
    ema=None,
    *,
    fixed_options=frozenset(),
    class_names=None,
    names_file=None,
):
    """Continue a run: fill net, optimizer, scaler and ema from one of our checkpoints.

    Args:
        path: the checkpoint.
        net, optimizer, scaler, ema: to be filled; scaler and ema may be None.
        recipe: the options of this run; empty for a run that only evaluates, which needs the weights only.
        processes: of this run, which must be as many where it resumes within an epoch.
        fixed_options: names of the options that must be the same in both runs.
        class_names: those of this run's dataset in label order, or None.
        names_file: the file that they are from, for the message.

    Returns:
        The :class:`Start`.

    Raises:
        UserError: the file is not a training checkpoint of this very recipe, or its class names are others; the message
            names what differs.
    """
    content = _read_training(path)
    fixed = {*fixed_options, "total_batch", "dense_stride"}
    if not content.get("step_in_epoch") and "total_batch" in content["recipe"]:
        # At the start of an epoch the same total batch may be split otherwise: 4 processes x 2 videos x 2 accumulated
        # are 8 x 2 x 1 or 4 x 4 x 1. total_batch has to be the same.
        fixed -= {"batch_size", "accumulate"}
    new_recipe = {name: value for name, value in recipe.items() if name in fixed}
    for what, old, new in (
        ("model", content["model"], net.spec),
        ("recipe", current_options(content["recipe"], recipe.get("flip")), new_recipe),
    ):
        differing = [key for key in new if key in old and not _same(old[key], new[key])]
        if differing:
            changes = ", ".join(f"{key} {printable(old[key])} -> {new[key]}" for key in differing)
            raise UserError(
                f"--resume {path}: was trained with another {what} ({changes}); give the same flags, or another "
                f"--output_dir to start anew"
            )
    check_class_names(content.get("class_names"), class_names, f"--resume {path}", names_file)
    meters = content.get("meters")
    if recipe and meters and len(meters) != processes:
        raise UserError(
            f"--resume {path}: was saved within an epoch by {counted(len(meters), 'process', 'processes')}, not "
            f"{processes}; start {len(meters)} again until the epoch ends"
        )
    try:
        net.load_state_dict(
            content.get("trained_state_dict", content["state_dict"])
            if ema
            else content["state_dict"]
        )
        if ema:
            ema.module.load_state_dict(content["state_dict"])
        if recipe:  # an evaluation takes no step, and may be of other options
            load_optimizer_state(optimizer, content["optimizer"])
        if recipe and scaler and "scaler" in content:
            scaler.load_state_dict(content["scaler"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"--resume {path}: its training state is not one of this model ({printable(str(error))}); give another "
            f"file"
        ) from None
    return Start(content["epoch"], content.get("step_in_epoch", 0), meters, content["best"])
