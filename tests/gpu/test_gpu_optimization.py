"""Options of the optimization on a GPU: the same numbers as on the CPU, and less memory."""

import copy

import pytest
import torch
from helpers.models import pixels, small_model
from torch.nn import functional as F

from ops.backbones.recompute import recompute_activations
from ops.data.loader import Batch
from ops.distributed import World
from ops.training.batch_size import largest_batch
from ops.training.freeze import freeze
from ops.training.memory_probe import MemoryProbe
from ops.training.meters import Meters, peak_memory
from ops.training.optim import IMPLEMENTATIONS, build_optimizer, parameter_groups
from ops.training.precise_bn import estimate_statistics
from ops.training.step import TrainStep

pytestmark = pytest.mark.gpu

SIDE = 64  # of a clip, pixels
GIB = 2**30


def batch_of(net, size, side=SIDE):
    labels = torch.arange(size) % net.num_class
    return Batch(pixels(net, batch=size, size=side), labels, torch.arange(size), [])


def step_of(net, device, implementation="auto", name="sgd", amp="none"):
    groups = parameter_groups(net, "groups", weight_decay=1e-4)
    optimizer = build_optimizer(groups, name, lr=0.01, implementation=implementation)
    shape = (net.num_segments, net.frame_channels, SIDE, SIDE)
    return TrainStep(net.train(), optimizer, F.cross_entropy, device, shape, amp=amp)


def run_steps(step, batch, number=1):
    for seed in range(number):
        torch.manual_seed(seed)
        step.optimizer.zero_grad(set_to_none=True)
        step.forward_backward(batch, Meters(step.device))
        step.update()


def recomputing_twin(net):
    twin = copy.deepcopy(net)
    recompute_activations(twin.backbone)
    return twin


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_recomputed_activations_give_the_same_bits(device, deterministic, amp):
    usual = small_model("tsm", stochastic_depth=0.3).to(device).to_channels_last()
    recomputing = recomputing_twin(usual)
    for net in (usual, recomputing):
        run_steps(step_of(net, device, amp=amp), batch_of(net, 2), number=2)
    for name, value in usual.state_dict().items():
        assert torch.equal(value, recomputing.state_dict()[name]), name


@pytest.mark.parametrize("module", ["tdn", "tam", "tin"])
def test_recomputed_activations_of_other_modules(device, module):
    """They are close only: some kernels add in any order."""
    usual = small_model(module).to(device).to_channels_last()
    recomputing = recomputing_twin(usual)
    for net in (usual, recomputing):
        run_steps(step_of(net, device), batch_of(net, 2))
    for one, other in zip(usual.parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("change", ["recompute", "freeze"])
def test_recomputed_and_frozen_layers_need_less_memory(cuda, change):
    peaks = []
    for is_changed in (False, True):
        net = small_model("tsm", num_segments=8, arch="resnet50").to(cuda).to_channels_last()
        if is_changed and change == "recompute":
            recompute_activations(net.backbone)
        if is_changed and change == "freeze":
            freeze(net, "stem,stages:1-2", pretrained="all")
        batch = batch_of(net, 4, side=224)
        torch.cuda.reset_peak_memory_stats(cuda)
        run_steps(step_of(net, cuda), batch)
        peaks.append(peak_memory(cuda))
        del net
    assert 0 < peaks[1] < 0.8 * peaks[0]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_implementations_of_a_step_agree(device, deterministic, implementation, name):
    usual = small_model("tsn", dropout=0.0).to(device)
    other = copy.deepcopy(usual)
    run_steps(step_of(usual, device, "for-loop", name), batch_of(usual, 2), number=1)
    run_steps(step_of(other, device, implementation, name), batch_of(other, 2), number=1)
    for one, two in zip(usual.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_precise_statistics_are_those_of_the_cpu(device):
    net = small_model("tdn")
    moved = copy.deepcopy(net).to(device).to_channels_last()
    batches = [batch_of(net, 2), batch_of(net, 3)]
    assert estimate_statistics(net, batches, World(0, 1, torch.device("cpu")))
    assert estimate_statistics(moved, batches, World(0, 1, device))
    for (name, one), (_, other) in zip(net.named_buffers(), moved.named_buffers(), strict=True):
        torch.testing.assert_close(one, other.cpu(), rtol=1e-3, atol=1e-4, msg=name)


def test_steps_of_the_measured_batch_size_fit(cuda):
    net = small_model("tsm", num_segments=8, input_size=112).to(cuda).to_channels_last()
    probe = MemoryProbe(net, cuda, amp="bf16", has_average=False)
    probe.usable = 2 * GIB
    batch = largest_batch(probe.fits, 256)
    assert 1 < batch < 256
    torch.cuda.reset_peak_memory_stats(cuda)
    step = step_of(net, cuda, name="adamw", amp="bf16")
    run_steps(step, batch_of(net, batch, side=112), number=3)
    assert 1 < peak_memory(cuda) < 2
