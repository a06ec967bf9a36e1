"""Training on a GPU: nothing waits for it within a step, and a run gives the same bits again."""

import time
from functools import partial

import pytest
import torch
from helpers.models import pixels, small_model
from helpers.synthetic import CLASSES, train_dataset, view_dataset
from torch.nn import functional as F

from ops.data.loader import Batch, ShardSampler, TrainSampler, make_loader
from ops.distributed import World
from ops.training.ema import WeightAverage
from ops.training.logger import RunLog
from ops.training.meters import Meters, Stopwatch, peak_memory
from ops.training.mixup import mixer
from ops.training.optim import build_optimizer, parameter_groups
from ops.training.resume import ResumeState, TrainingCheckpoint
from ops.training.run_dir import SaveInterval
from ops.training.schedule import Schedule
from ops.training.step import TrainStep
from ops.training.trainer import Trainer

pytestmark = pytest.mark.gpu

BATCH = 4
STEPS = 8  # of an epoch
WARM_UP = 3  # steps
EPOCHS = 2
SHAPE = (4, 3, 32, 32)  # of a clip


class Watched(Trainer):
    """A training in whose steady state a wait for the GPU is an error."""

    def on_step_end(self, epoch, step, meters):
        super().on_step_end(epoch, step, meters)
        mode = "default"
        if WARM_UP <= step < STEPS - 1:  # the last step is logged, which reads numbers
            mode = "error"
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture
def sync_debug_mode():
    """Restores the mode when a test fails within a step."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def make_trainer(
    device,
    folder,
    *,
    kind=Trainer,
    module="tsm",
    amp="none",
    mix=None,
    decay=None,
    accumulate=1,
    workers=0,
):
    """A small training of random videos, as ops/training/train.py makes it from flags."""
    net = small_model(module, num_class=CLASSES, input_size=SHAPE[-1], dropout=0.5)
    net.to(device).to_channels_last()
    loader_options = {"workers": workers, "pin_memory": device.type == "cuda"}
    train = train_dataset(STEPS * BATCH * accumulate, net)
    sampler = TrainSampler(len(train), BATCH, accumulate=accumulate)
    validation = view_dataset(6, net)
    step = TrainStep(
        model=net,
        optimizer=build_optimizer(parameter_groups(net, "groups", weight_decay=1e-4), lr=0.01),
        criterion=F.cross_entropy,
        device=device,
        clip_shape=(net.num_segments, net.frame_channels, *SHAPE[2:]),
        amp=amp,
        scaler=torch.amp.GradScaler(device.type) if amp == "fp16" else None,
        accumulate=accumulate,
        clip_gradient=20.0,
        mix=mix,
    )
    return kind(
        net=net,
        step=step,
        train_loader=make_loader(train, sampler, BATCH, **loader_options),
        val_loader=make_loader(validation, ShardSampler(len(validation)), None, **loader_options),
        world=World(0, 1, device),
        log=RunLog(None, True),
        folder=folder,
        schedule=Schedule(lr=0.01, epochs=EPOCHS, steps_per_epoch=STEPS),
        validation_criterion=F.cross_entropy,
        recipe={},
        epochs=EPOCHS,
        batch_size=BATCH,
        save_every=SaveInterval(),
        ema=WeightAverage(net, decay) if decay else None,
        print_freq=STEPS,
    )


@pytest.mark.parametrize("module", ["tsn", "tsm", "tam", "tin", "tdn"])
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_steps_do_not_wait_for_the_gpu(cuda, sync_debug_mode, tmp_path, module, amp):
    trainer = make_trainer(cuda, tmp_path, kind=Watched, module=module, amp=amp, workers=2)
    trainer.fit(ResumeState())


def test_steps_with_all_options_do_not_wait_either(cuda, sync_debug_mode, tmp_path):
    trainer = make_trainer(
        cuda,
        tmp_path,
        kind=Watched,
        mix=mixer(CLASSES, mixup=0.4, cutmix=1.0),
        decay=0.9,
        accumulate=2,
        workers=2,
    )
    trainer.fit(ResumeState())


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_a_resumed_training_ends_with_the_same_bits(device, deterministic, tmp_path, amp):
    train = partial(make_trainer, device, amp=amp, decay=0.9)
    whole = train(tmp_path / "whole")
    whole.folder.mkdir()
    whole.fit(ResumeState())
    first = train(tmp_path / "resumed")
    first.folder.mkdir()
    first.epochs = 1
    first.fit(ResumeState())
    second = train(tmp_path / "resumed")
    checkpoint = TrainingCheckpoint(first.folder / "last.pth")
    checkpoint.restore_weights(second.net, second.ema)
    checkpoint.restore_optimizer(second.step.optimizer, second.step.scaler)
    second.fit(checkpoint.state())
    for one, other in ((whole.net, second.net), (whole.ema.module, second.ema.module)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_mixed_precision_steps_are_close(device):
    """Loss and hits of one batch, in each precision."""
    sums = {}
    for amp in ("none", "bf16", "fp16"):
        net = small_model("tdn", num_class=CLASSES, dropout=0.0).to(device).to_channels_last()
        step = TrainStep(
            net.train(),
            build_optimizer(parameter_groups(net, "flat", weight_decay=0.0), lr=0.01),
            F.cross_entropy,
            device,
            SHAPE,
            amp=amp,
            scaler=torch.amp.GradScaler(device.type) if amp == "fp16" else None,
        )
        meters = Meters(device)
        clips = pixels(net, batch=BATCH, size=64)
        batch = Batch(clips, torch.arange(BATCH), torch.arange(BATCH), [])
        step.forward_backward(batch, meters)
        assert step.update().isfinite()
        sums[amp] = meters.state()["sums"]
    for amp in ("bf16", "fp16"):
        assert sums[amp][0] == pytest.approx(sums["none"][0], rel=0.05)
        assert sums[amp][2] == BATCH


def test_peak_memory_of_a_bfloat16_step_is_smaller(cuda):
    peaks = {}
    for amp in ("none", "bf16"):
        net = small_model("tsm", num_segments=8, arch="resnet50").to(cuda).to_channels_last()
        step = TrainStep(net.train(), None, F.cross_entropy, cuda, SHAPE, amp=amp)
        clips = pixels(net, batch=BATCH, size=224)
        torch.cuda.reset_peak_memory_stats(cuda)
        batch = Batch(clips, torch.arange(BATCH), torch.arange(BATCH), [])
        meters = Meters(cuda)
        step.forward_backward(batch, meters)
        peaks[amp] = peak_memory(cuda)
        assert meters.result(8, World(0, 1, cuda))["memory_gib"] == pytest.approx(
            peaks[amp], abs=1e-3
        )
        del net, step
    assert 0 < peaks["bf16"] < 0.75 * peaks["none"]


def test_stopwatch_measures_the_time_of_a_gpu(cuda):
    a = torch.randn(4096, 4096, device=cuda)
    a @ a
    torch.cuda.synchronize()
    watch = Stopwatch(cuda)
    for _ in range(20):
        a @ a
    watch.lap("forward")
    time.sleep(0.001)  # the GPU is still at work
    watch.lap("data")
    seconds = watch.read()
    assert seconds["forward"] > 5 * seconds["data"]
