"""The learning rate of a run and its schedule.

A new schedule is an entry of :data:`SCHEDULERS`; its name is then a choice of ``--lr_scheduler``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ops.utils.text import counted


@dataclass(frozen=True)
class Schedule:
    """The base learning rate of each optimizer step, a pure function of the step.

    Source: TDN ops/lr_scheduler.py; TSM main.py.

    Attributes:
        lr: rate after the warm-up.
        epochs: number of epochs of the run.
        steps_per_epoch: optimizer steps of an epoch.
        scheduler: key of :data:`SCHEDULERS`.
        lr_steps: epochs at which "step" multiplies by decay_rate; a fractional one acts at the
            start of the next epoch, as in TSM.
        decay_rate: factor of "step".
        warmup_epochs: epochs in which the rate rises linearly from ``lr / warmup_multiplier``.
        warmup_multiplier: see warmup_epochs.
        min_lr: rate of "cosine" at the end of the last epoch.
    """

    lr: float
    epochs: int
    steps_per_epoch: int
    scheduler: str = "step"
    lr_steps: tuple[float, ...] = ()
    decay_rate: float = 0.1
    warmup_epochs: int = 0
    warmup_multiplier: float = 100
    min_lr: float = 1e-5

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of the warm-up."""
        return self.warmup_epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        """The base learning rate of a step.

        Args:
            step: number of optimizer steps taken before it, over the whole run.
        """
        if step < self.warmup_steps:
            factor = (self.warmup_multiplier - 1) * step / self.warmup_steps + 1
            return self.lr / self.warmup_multiplier * factor
        return SCHEDULERS[self.scheduler].rate(self, step)

    def describe(self) -> str:
        """One line for the log."""
        warmup = ""
        if self.warmup_epochs:
            start = f"{self.lr / self.warmup_multiplier:g}"
            warmup = f"warm-up from {start} over {counted(self.warmup_epochs, 'epoch')}, then "
        words = SCHEDULERS[self.scheduler].describe(self)
        return f"{warmup}{words}; {counted(self.epochs, 'epoch')} in all"

    def warning(self) -> str | None:
        """A warning about steps after the last epoch, or None."""
        if self.scheduler != "step":
            return None
        missed = [f"{step:g}" for step in self.lr_steps if math.ceil(step) >= self.epochs]
        if not missed:
            return None
        given = " ".join(f"{step:g}" for step in self.lr_steps)
        return (
            f"a run of --epochs {self.epochs} ends before the learning rate is lowered at "
            f"{', '.join(missed)} (--lr_steps {given}); give the steps of a run of this length"
        )


@dataclass(frozen=True)
class Scheduler:
    """An entry of :data:`SCHEDULERS`.

    Attributes:
        rate: ``(schedule, step) -> base rate`` of a step after the warm-up.
        describe: ``schedule -> words`` for the log.
    """

    rate: Callable[[Schedule, int], float]
    describe: Callable[[Schedule], str]


def _step_rate(schedule, step):
    epoch = step // schedule.steps_per_epoch
    passed = sum(epoch >= milestone for milestone in schedule.lr_steps)
    return schedule.lr * schedule.decay_rate**passed


def _describe_step(schedule):
    epochs = [math.ceil(step) for step in schedule.lr_steps]
    reached = [str(epoch) for epoch in epochs if epoch < schedule.epochs]
    if not reached:
        return f"lr {schedule.lr:g}, constant"
    return f"lr {schedule.lr:g}, x {schedule.decay_rate:g} after epoch {', '.join(reached)}"


def _cosine_rate(schedule, step):
    """From lr to min_lr at the end of the last epoch, in every step."""
    warmup = schedule.warmup_steps
    steps = schedule.epochs * schedule.steps_per_epoch - warmup
    done = (step - warmup) / max(1, steps)
    height = 1 + math.cos(math.pi * min(1, done))
    return schedule.min_lr + (schedule.lr - schedule.min_lr) * height / 2


def _describe_cosine(schedule):
    return f"cosine from {schedule.lr:g} to {schedule.min_lr:g} in every step"


def _cosine_epoch_rate(schedule, step):
    """TSM's: from lr towards 0, once per epoch."""
    epoch = step // schedule.steps_per_epoch
    return schedule.lr * (1 + math.cos(math.pi * epoch / schedule.epochs)) / 2


def _describe_cosine_epoch(schedule):
    return f"cosine from {schedule.lr:g} towards 0, once per epoch"


SCHEDULERS = {
    "step": Scheduler(_step_rate, _describe_step),
    "cosine": Scheduler(_cosine_rate, _describe_cosine),
    "cosine-epoch": Scheduler(_cosine_epoch_rate, _describe_cosine_epoch),
}


def rate_for(
    batch: int, lr: float, lr_batch: int | None = None, scale: bool = False
) -> tuple[float, str, str | None]:
    """The learning rate of a run, scaled linearly to its total batch if asked.

    Source: Goyal et al., arXiv 1706.02677, section 2.1.

    Args:
        batch: total batch of this run.
        lr: learning rate as given.
        lr_batch: total batch that lr was tuned for; None: this run's.
        scale: whether to scale lr by ``batch / lr_batch``.

    Returns:
        ``(rate, lr_note, warning)``: the rate of this run, a few words for the log, and a warning
        if lr was tuned for another batch and is not scaled, else None.
    """
    if lr_batch in (None, batch):
        return lr, f"lr {lr:g}", None
    scaled = lr * batch / lr_batch
    if scale:
        return scaled, f"lr {scaled:g} = {lr:g} x {batch} / {lr_batch}", None
    warning = (
        f"lr {lr:g} was tuned for a total batch of {lr_batch} (this run: {batch}); "
        f"--scale_lr would use {scaled:g}"
    )
    return lr, f"lr {lr:g}", warning
