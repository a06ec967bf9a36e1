import copy

import pytest
import torch
import torchvision
from torch import nn

from ops.backbones import build_backbone
from ops.backbones.infer import infer_arch
from ops.backbones.mobilenet_v2 import InvertedResidual, MobileNetV2
from ops.utils.errors import UserError

RESIDUAL = [[3], [5, 6], [8, 9, 10], [12, 13], [15, 16]]  # numbers in features, as TSM shifts them


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def blocks(network):
    return [block for stage in network.stages() for block in stage]


def without_classifier(state):
    return {key: value for key, value in state.items() if not key.startswith("classifier.")}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_backbone("mobilenetv2").eval()


def test_names_and_shapes_are_torchvisions(network):
    with torch.device("meta"):
        expected = without_classifier(shapes(torchvision.models.mobilenet_v2()))
    assert shapes(network) == expected and list(network.state_dict()) == list(expected)
    assert len(expected) == 312  # with the two of a head the 314 entries of the original
    assert network.feature_dim == 1280


@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_torchvisions(training):
    torch.manual_seed(1)
    theirs = torchvision.models.mobilenet_v2().double().train(training)
    ours = build_backbone("mobilenetv2").double().train(training)
    ours.load_state_dict(without_classifier(theirs.state_dict()))
    theirs.classifier = nn.Identity()
    x = torch.randn(2, 3, 64, 71, dtype=torch.float64)
    y, expected = ours(x), theirs(x)
    assert y.shape == (2, 1280)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    y.sum().backward()
    expected.sum().backward()
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-10, msg=name)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_stages_are_the_ten_residual_blocks(network):
    features = list(network.features)
    assert [[features.index(block) for block in stage] for stage in network.stages()] == RESIDUAL
    for block in blocks(network):
        assert isinstance(block, InvertedResidual)
        width = block.conv[0][0].in_channels
        assert block.slots == {"before_conv1": width, "before_sum": width}
        assert type(block.before_conv1) is nn.Identity
    assert [stage[0].slots["before_conv1"] for stage in network.stages()] == [24, 32, 64, 96, 160]


def test_slots_see_as_many_channels_as_they_say(network):
    network = copy.deepcopy(network)
    seen = []
    for block in blocks(network):
        block.before_conv1.register_forward_hook(lambda _, args, __: seen.append(args[0].shape[1]))
    network(torch.randn(1, 3, 64, 64))
    assert seen == [block.slots["before_conv1"] for block in blocks(network)]


def test_the_slot_is_in_the_residual_branch_alone(network):
    class Zero(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    block = copy.deepcopy(network.stages()[2][1])
    x = torch.randn(2, 64, 6, 5)
    nothing = block.conv(torch.zeros_like(x))
    assert not torch.allclose(block(x), x + nothing)
    block.before_conv1 = Zero()
    torch.testing.assert_close(block(x), x + nothing)  # the identity does not pass the slot


def test_an_inserted_module_changes_no_other_key(network):
    other = copy.deepcopy(network)
    other.stages()[0][0].before_conv1 = nn.Conv2d(24, 24, 1)
    assert set(other.state_dict()) - set(network.state_dict()) == {
        "features.3.before_conv1.weight",
        "features.3.before_conv1.bias",
    }


def test_first_conv_sees_the_frames(network):
    conv = network.get_submodule(network.first_conv)
    assert (
        conv is next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        and conv.in_channels == 3
    )


def test_channels_last_is_kept(network):
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    kept = []
    for block in blocks(network):
        block.register_forward_hook(
            lambda _, __, y: kept.append(y.is_contiguous(memory_format=torch.channels_last))
        )
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        network(x.contiguous(memory_format=torch.channels_last)),
        network(x.contiguous()),
        rtol=1e-3,
        atol=1e-4,
    )
    assert kept[:10] == [True] * 10


@pytest.mark.parametrize("size", [(256, 256), (33, 47), (1, 1)])
def test_any_size_goes(network, size):
    with torch.no_grad():
        assert network(torch.randn(1, 3, *size)).shape == (1, 1280)


def test_infer_arch():
    with torch.device("meta"):
        theirs = shapes(torchvision.models.mobilenet_v2())
        assert infer_arch(theirs) == "mobilenetv2"
        assert infer_arch(without_classifier(theirs)) == "mobilenetv2"
        assert infer_arch(theirs | {"features.0.0.weight": (32, 10, 3, 3)}) == "mobilenetv2"  # Flow
        for other in ("resnet50", "mobilenet_v3_small", "efficientnet_b0"):
            assert infer_arch(shapes(torchvision.models.get_model(other))) != "mobilenetv2"
        assert infer_arch(shapes(torchvision.models.mobilenet_v2(width_mult=1.4))) is None
    assert infer_arch({}) is None
    assert (
        infer_arch(
            {key: shape for key, shape in theirs.items() if not key.startswith("features.17.")}
        )
        is None
    )
    assert infer_arch(theirs | {"features.0.0.weight": (32, 3, 5, 5)}) is None


def test_an_unknown_name():
    with pytest.raises(UserError, match="mobilenetv3"):
        build_backbone("mobilenetv3")
    assert isinstance(build_backbone("mobilenetv2"), MobileNetV2)
