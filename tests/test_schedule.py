"""Learning rates and their schedules against those of torch and of the originals."""

import math
import warnings

import pytest
import torch
from torch import nn

from ops.training.schedule import Schedule, rate_for

STEPS = 7  # of an epoch


def rates_of(make, steps, lr):
    """Learning rates that a scheduler of torch gives, step by step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stepping a scheduler without its optimiser
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


def warm_up(lr, epochs, multiplier):
    """Linear from lr / multiplier to lr, as the original's GradualWarmupScheduler."""
    steps = epochs * STEPS
    return [lr / multiplier + (lr - lr / multiplier) * step / steps for step in range(steps)]


def rate(step, **options):
    return Schedule(steps_per_epoch=STEPS, **options).rate(step)


def ours(epochs, **options):
    return [rate(step, epochs=epochs, **options) for step in range(epochs * STEPS)]


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("milestones", [(3, 6), (4,), (2.0, 5.0, 6.0), (), (20,)])
def test_step_schedule(milestones, warmup):
    lr, epochs = 0.01, 8
    rates = ours(epochs, lr=lr, lr_steps=milestones, warmup_epochs=warmup)
    after = [int((milestone - warmup) * STEPS) for milestone in milestones]
    steps = (epochs - warmup) * STEPS
    expected = rates_of(
        lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, after, 0.1), steps, lr
    )
    assert rates == pytest.approx(warm_up(lr, warmup, 100) + expected, rel=1e-12)


@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("lr", [0.01, 0.02, 1e-5])
def test_cosine_schedule(lr, warmup):
    epochs = 6
    rates = ours(epochs, lr=lr, scheduler="cosine", warmup_epochs=warmup, warmup_multiplier=10)
    steps = (epochs - warmup) * STEPS
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    expected = rates_of(lambda optimizer: cosine(optimizer, steps, eta_min=1e-5), steps, lr)
    assert rates == pytest.approx(warm_up(lr, warmup, 10) + expected, rel=1e-9)


def test_ends_of_the_schedules():
    options = {"lr": 0.02, "epochs": 5, "warmup_epochs": 1}
    assert rate(0, **options) == pytest.approx(0.02 / 100)
    assert rate(0, **options, warmup_multiplier=4) == pytest.approx(0.005)
    assert rate(STEPS, **options) == rate(STEPS, **options, scheduler="cosine") == 0.02
    assert rate(5 * STEPS, **options, scheduler="cosine") == pytest.approx(1e-5)
    assert rate(6 * STEPS, **options, scheduler="cosine") == pytest.approx(1e-5)
    assert rate(5 * STEPS, **options, scheduler="cosine", min_lr=0.001) == pytest.approx(0.001)
    assert rate(3 * STEPS, **options, lr_steps=(3,), decay_rate=0.5) == 0.01
    assert rate(3 * STEPS - 1, **options, lr_steps=(3,), decay_rate=0.5) == 0.02
    assert rate(0, lr=0.1, epochs=2, warmup_epochs=2, scheduler="cosine") < 0.1


def test_the_something_recipe():
    """Steps 30 45 55 of 60 epochs at lr 0.01."""
    options = {"lr": 0.01, "epochs": 60, "lr_steps": (30, 45, 55)}
    rates = [rate(epoch * STEPS, **options) for epoch in range(60)]
    assert rates == pytest.approx([1e-2] * 30 + [1e-3] * 15 + [1e-4] * 10 + [1e-5] * 5)


def test_fractional_steps_act_at_the_start_of_an_epoch():
    """TSM main.py: lr * 0.1 ** sum(epoch >= steps), with whole epochs."""
    rates = ours(4, lr=0.1, lr_steps=(0.5, 2.5))
    assert rates == pytest.approx([0.1] * STEPS + [0.01] * 2 * STEPS + [0.001] * STEPS)


def test_the_schedule_is_described():
    options = {
        "lr": 0.01,
        "epochs": 60,
        "lr_steps": (30, 45, 55),
        "decay_rate": 0.1,
        "warmup_epochs": 0,
        "warmup_multiplier": 10,
        "min_lr": 0,
    }

    def described(scheduler, **changes):
        schedule = Schedule(steps_per_epoch=STEPS, scheduler=scheduler, **{**options, **changes})
        return schedule.describe(), schedule.warning()

    text, warning = described("step")
    assert "30, 45, 55" in text and "60 epochs" in text and warning is None
    text, warning = described("step", epochs=40)
    assert "30;" in text and "--lr_steps 30 45 55" in warning and "45, 55" in warning
    assert "--epochs 10" in described("step", epochs=10)[1]
    text, warning = described("cosine", epochs=10, warmup_epochs=1)
    assert "0.001" in text and "1 epoch," in text and warning is None
    assert described("cosine-epoch", epochs=10)[1] is None


def test_a_rate_for_another_batch_is_warned_of():
    assert rate_for(64, 0.01) == rate_for(64, 0.01, 64) == (0.01, "lr 0.01", None)
    lr, text, warning = rate_for(16, 0.01, 64)
    assert lr == 0.01 and "64" in warning and "16" in warning and "--scale_lr" in warning
    assert "0.0025" in warning
    lr, text, warning = rate_for(16, 0.01, 64, scale=True)
    assert lr == 0.0025 and "0.01 x 16 / 64" in text and warning is None


def test_tsms_cosine_goes_down_once_an_epoch():
    """TSM main.py: 0.5 * lr * (1 + cos(pi * epoch / epochs))."""
    rates = ours(5, scheduler="cosine-epoch", lr=0.2)
    expected = [
        0.5 * 0.2 * (1 + math.cos(math.pi * epoch / 5)) for epoch in range(5) for _ in range(STEPS)
    ]
    assert rates == pytest.approx(expected, rel=1e-12) and len(set(rates)) == 5
