import copy

import pytest
import torch
import torchvision
from helpers import golden_fill
from torch import nn

from ops.backbones import build_backbone
from ops.backbones.bn_inception import BNInception
from ops.backbones.infer import infer_arch
from ops.models import fuse_batch_norm
from ops.utils.errors import UserError

BLOCKS = ("conv2", "3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
CHANNELS = (64, 192, 256, 320, 576, 576, 576, 608, 608, 1056, 1024)
GOLDEN = "tsn_bninception_3f.npz"
PREFIX = "module.base_model."


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def slots(network):
    return [slot for stage in network.stages() for slot in stage]


@pytest.fixture(scope="module")
def released():
    """(golden numbers, state dict of the backbone, weight and bias of the head)"""
    golden, _, state = golden_fill.load(GOLDEN)
    backbone = {
        key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)
    }
    return golden, backbone, state["module.new_fc.weight"], state["module.new_fc.bias"]


@pytest.fixture(scope="module")
def network(released):
    """Filled as the golden network: its activations are alive in every layer."""
    network = build_backbone("BNInception").double().eval()
    network.load_state_dict(released[1])
    return network.float()


def test_names_and_shapes_are_the_originals(released, network):
    expected = {key: tuple(value.shape) for key, value in released[1].items()}
    assert shapes(network) == expected and list(network.state_dict()) == list(expected)
    assert len(expected) == 483 and network.feature_dim == 1024


def test_logits_are_the_originals(released):
    golden, backbone, weight, bias = released
    network = build_backbone("BNInception").double().eval()
    network.load_state_dict(backbone)
    clip = golden_fill.clip("input", tuple(golden["input_shape"]))
    with torch.no_grad():
        features = network(clip.unflatten(1, (3, 3)).flatten(0, 1))
        logits = nn.functional.linear(features, weight, bias).mean(0, keepdim=True)
        assert golden_fill.difference(logits, golden["logits"]) < 1e-9
        fused = fuse_batch_norm(network)(clip[:, :3])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(fused, features[:1], rtol=1e-9, atol=1e-9)


def test_stages_and_channels(network):
    assert [len(stage) for stage in network.stages()] == [1, 3, 5, 2]
    assert [slot.slots for slot in slots(network)] == [
        {"before_block": channels} for channels in CHANNELS
    ]
    assert all(type(slot.before_block) is nn.Identity for slot in slots(network))
    named = dict(network.named_modules())
    assert [named[f"slot_{block}"] for block in BLOCKS] == slots(network)


def test_slots_see_as_many_channels_as_they_say_in_the_order_of_the_network(network):
    network = copy.deepcopy(network)
    seen = []
    for slot in slots(network):
        slot.before_block.register_forward_hook(
            lambda _, args, __: seen.append(tuple(args[0].shape[1:]))
        )
    with torch.no_grad():
        network(torch.randn(1, 3, 224, 224))
    sides = (56, 28, 28, 28, 14, 14, 14, 14, 14, 7, 7)
    assert seen == [(channels, side, side) for channels, side in zip(CHANNELS, sides, strict=True)]


@pytest.mark.parametrize("number", range(11))
def test_an_inserted_module_changes_the_input_of_all_branches(network, number):
    network = copy.deepcopy(network)
    x = 100 * torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(*network(x))
        slots(network)[number].before_block = Zero()
        assert torch.equal(
            *network(x)
        )  # no branch, no way around the block, still knows the frames


def test_an_inserted_module_changes_no_other_key(network):
    other = copy.deepcopy(network)
    slots(other)[1].before_block = nn.Conv2d(192, 192, 1)
    assert set(other.state_dict()) - set(network.state_dict()) == {
        "slot_3a.before_block.weight",
        "slot_3a.before_block.bias",
    }


def test_the_first_conv_and_the_first_norm(network):
    """Flow replaces the first conv, partial BN spares the first norm, in order of modules()."""
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert network.get_submodule(network.first_conv) is first and first.in_channels == 3
    assert (
        next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        is network.conv1_7x7_s2_bn
    )


def test_layers_are_as_caffe_has_them(network):
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 69 and all(conv.bias is not None for conv in convs)
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-5)}
    assert (
        network.pixels.order == "BGR"
        and network.pixels.scale == 1
        and network.pixels.mean == (104, 117, 128)
    )


def test_channels_last_is_kept(network):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    kept = []
    for slot in slots(network):
        slot.register_forward_hook(
            lambda _, __, y: kept.append(y.is_contiguous(memory_format=torch.channels_last))
        )
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        y = network(x.contiguous(memory_format=torch.channels_last))
        assert kept == [True] * 11
        torch.testing.assert_close(
            y, network.to(memory_format=torch.contiguous_format)(x), rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("size", [(256, 256), (240, 112), (97, 171), (33, 40)])
def test_any_size_goes(network, size):
    with torch.no_grad():
        assert network(torch.randn(1, 3, *size)).shape == (1, 1024)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_reach_every_parameter(training):
    torch.manual_seed(0)
    network = build_backbone("BNInception").train(training)
    x = torch.randn(2, 3, 64, 64, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        if not (
            training and name.endswith(".bias") and "_bn" not in name
        ):  # a BatchNorm takes the conv's bias away
            assert parameter.grad.abs().sum() > 0, name


def test_infer_arch(network):
    known = shapes(network)
    assert infer_arch(known) == "BNInception"
    assert infer_arch(known | {"fc.weight": (1000, 1024), "fc.bias": (1000,)}) == "BNInception"
    assert infer_arch(known | {"conv1_7x7_s2.weight": (64, 10, 7, 7)}) == "BNInception"  # Flow
    assert (
        infer_arch(known | {"inception_3a_1x1_bn.weight": (1, 64)}) == "BNInception"
    )  # files of the old zoo
    with torch.device("meta"):
        for other in ("resnet50", "mobilenet_v2", "densenet121"):
            assert infer_arch(shapes(torchvision.models.get_model(other))) != "BNInception"
    assert infer_arch({}) is None
    assert (
        infer_arch(
            {key: shape for key, shape in known.items() if not key.startswith("inception_5b_1x1")}
        )
        is None
    )
    assert infer_arch(known | {"inception_4c_3x3.weight": (192, 128, 3, 3)}) is None


def test_an_unknown_name():
    with pytest.raises(UserError, match="bninception"):
        build_backbone("bninception")
    assert isinstance(build_backbone("BNInception"), BNInception)
