"""Temporal modules and whole networks give on a GPU the numbers of the CPU."""

import copy

import pytest
import torch
from helpers.models import pixels, randomize_norms, small_model
from torch import nn
from torch.nn import functional as F

from ops.models import fuse_batch_norm
from ops.streaming import StreamingTSN
from ops.temporal.adaptive import TemporalAdaptive
from ops.temporal.difference import LongTermDifference, TemporalConv
from ops.temporal.interlace import TemporalInterlace
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.utils.amp import autocast

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
SEGMENTS = 4
CHANNELS = 32
FORMATS = {"nchw": torch.contiguous_format, "channels-last": torch.channels_last}
FLOAT32 = 1e-4  # largest relative error
FLOAT64 = 1e-8
BFLOAT16 = 8e-2

PARTS = {
    "shift": lambda: TemporalShift(CHANNELS, SEGMENTS),
    "adaptive": lambda: TemporalAdaptive(CHANNELS, SEGMENTS),
    "interlace": lambda: TemporalInterlace(CHANNELS, SEGMENTS),
    "difference": lambda: LongTermDifference(CHANNELS, SEGMENTS),
    "temporal conv": lambda: TemporalConv(CHANNELS, SEGMENTS),
    "non-local": lambda: randomize_norms(NonLocal(CHANNELS, SEGMENTS)),
    "temporal pool": lambda: TemporalPool(SEGMENTS),
}
NETWORKS = {
    "tsn": {"module": "tsn"},
    "tsm": {"module": "tsm"},
    "tam": {"module": "tam"},
    "tin": {"module": "tin"},
    "tdn": {"module": "tdn"},
    "tsm, non-local": {"module": "tsm", "non_local": True},
    "tsm, temporal pool": {"module": "tsm", "temporal_pool": True},
    "tsm mobilenetv2": {"module": "tsm", "arch": "mobilenetv2"},
    "tsn bninception": {"module": "tsn", "arch": "BNInception"},
    "tsm of flow": {"module": "tsm", "modality": "Flow"},
    "tsn of differences": {"module": "tsn", "modality": "RGBDiff"},
}


def build(name):
    """A network whose BatchNorms and head matter, in evaluation mode."""
    model = randomize_norms(small_model(num_segments=SEGMENTS, input_size=64, **NETWORKS[name]))
    nn.init.normal_(model.head.weight, std=0.1)
    return model


def assert_close(found, expected, tolerance):
    """The difference is small beside the values, both as vectors."""
    found = found.detach().to(CPU, torch.float64)
    expected = expected.detach().to(CPU, torch.float64)
    error = ((found - expected).norm() / expected.norm()).item()
    assert error <= tolerance, f"relative error {error:.1e}"


def assert_all_close(found, expected, tolerance):
    """The same for tensors by name, except those that are nearly zero beside the largest."""
    assert found.keys() == expected.keys()
    largest = max(value.norm().item() for value in expected.values())
    for name, value in expected.items():
        if value.norm() > tolerance * largest:
            assert_close(found[name], value, tolerance)


def run_part(name, device, layout, amp="none"):
    """Output and gradients of a temporal module, by name; the gradients of its parameters too."""
    torch.manual_seed(0)
    part = PARTS[name]().to(device)
    x = torch.randn(2 * SEGMENTS, CHANNELS, 8, 6).relu()
    weights = torch.randn(8 * SEGMENTS, CHANNELS, 8, 6)
    dtype = torch.bfloat16 if amp == "bf16" else torch.float32
    x = x.to(device, dtype, memory_format=FORMATS[layout]).requires_grad_()
    with autocast(device, amp):
        y = part(x)
    assert y.is_contiguous(memory_format=FORMATS[layout])
    (y.float() * weights[: len(y)].to(device)).sum().backward()
    gradients = {key: parameter.grad for key, parameter in part.named_parameters()}
    return {"output": y, "input": x.grad, **gradients}


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", PARTS)
def test_temporal_modules_forward_and_backward(device, name, layout):
    found = run_part(name, device, layout)
    assert_all_close(found, run_part(name, CPU, layout), FLOAT32)


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("name", PARTS)
def test_temporal_modules_in_bfloat16(device, name, layout):
    found = run_part(name, device, layout, amp="bf16")
    expected = run_part(name, CPU, layout)
    for key in ("output", "input"):
        assert_close(found[key], expected[key], BFLOAT16)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_score_as_on_the_cpu(device, name):
    model = build(name)
    clip = pixels(model, size=64)
    copies = {
        "plain": copy.deepcopy(model),
        "channels-last": copy.deepcopy(model).to_channels_last(),
        "folded BatchNorms": fuse_batch_norm(copy.deepcopy(model)).to_channels_last(),
    }
    with torch.inference_mode():
        expected = model(clip)
        for network in copies.values():
            assert_close(network.to(device)(clip.to(device)), expected, FLOAT32)
        with autocast(device, "bf16"):
            found = copies["channels-last"](clip.to(device))
    assert_close(found, expected, BFLOAT16)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_networks_are_those_of_the_cpu(device, name):
    """In float64: in float32 the signs of a few activations differ, and with them the gradients."""
    gradients = {}
    for place in (CPU, device):
        model = build(name).double().to(place).train()
        model.dropout.p = 0.0
        scores = model(pixels(model, size=64).to(place))
        F.cross_entropy(scores, torch.tensor([0, 3], device=place)).backward()
        gradients[place] = {key: value.grad for key, value in model.named_parameters()}
    assert_all_close(gradients[device], gradients[CPU], FLOAT64)


@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2"])
def test_causal_networks_frame_by_frame(device, arch):
    model = small_model("tsm", arch=arch, input_size=64, shift_direction="past")
    nn.init.normal_(randomize_norms(model).head.weight, std=0.1)
    frames = pixels(model, batch=1, size=64)[0].split(1)
    scores = {}
    for place in (CPU, device):
        stream = StreamingTSN(copy.deepcopy(model).to(place))
        state = None
        with torch.inference_mode():
            for frame in frames:
                scores[place], state = stream(frame.to(place), state)
    assert_close(scores[device], scores[CPU], FLOAT32)


@pytest.mark.parametrize("name", ["tsm", "tam", "tin", "tdn", "tsm mobilenetv2"])
def test_channels_last_is_kept_through_the_network(device, name):
    model = build(name).to(device).to_channels_last()
    lost = []

    def check(layer, _, output):
        if not output.is_contiguous(memory_format=torch.channels_last):
            lost.append(layer)

    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        layer.register_forward_hook(check)
    with torch.inference_mode(), autocast(device, "bf16"):
        model(pixels(model, size=64).to(device))
    assert convolutions and lost == []


@pytest.mark.parametrize("name", ["tsm", "tdn", "tam", "tin"])
def test_compiled_networks(device, name):
    model = build(name).to(device).to_channels_last()
    clip = pixels(model, size=64).to(device)
    compiled = torch.compile(model)
    with torch.inference_mode():
        assert_close(compiled(clip), model(clip), FLOAT32)


@pytest.mark.parametrize("name", NETWORKS)
def test_deterministic_gradients(device, deterministic, name):
    """``--deterministic``: every operation has such an algorithm, and gives the same bits twice."""
    model = build(name).to(device).to_channels_last().train()
    model.dropout.p = 0.0
    clip = pixels(model, size=64).to(device)
    gradients = []
    for _ in range(2):
        model.zero_grad()
        F.cross_entropy(model(clip), torch.tensor([0, 3], device=device)).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
