import copy

import pytest
import torch
import torchvision
from torch import nn

from ops.backbones import BACKBONES, build_backbone
from ops.backbones.infer import infer_arch
from ops.backbones.resnet import BasicBlock, Bottleneck
from ops.utils.errors import UserError

RESNETS = [arch for arch in BACKBONES if "resne" in arch]
OF_TORCHVISION = [arch for arch in RESNETS if BACKBONES[arch].torchvision_name]


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.parametrize("arch", OF_TORCHVISION)
def test_names_and_shapes_are_torchvisions(arch):
    with torch.device("meta"):
        ours, theirs = build_backbone(arch), torchvision.models.get_model(arch)
    expected = {key: shape for key, shape in shapes(theirs).items() if not key.startswith("fc.")}
    assert shapes(ours) == expected and list(ours.state_dict()) == list(expected)
    assert ours.feature_dim == theirs.fc.in_features
    assert [len(stage) for stage in ours.stages()] == [
        len(getattr(theirs, f"layer{i}")) for i in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("arch", "training"), [("resnet18", True), ("resnet18", False), ("resnet50", True)]
)
def test_outputs_and_gradients_are_torchvisions(arch, training):
    theirs = torchvision.models.get_model(arch).double().train(training)
    ours = build_backbone(arch).double().train(training)
    ours.load_state_dict(
        {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    )
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 32, 40, dtype=torch.float64)
    y, expected = ours(x), theirs(x)
    assert y.shape == (2, ours.feature_dim)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-12)
    y.sum().backward()
    expected.sum().backward()
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-10, msg=name)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_slots_around_the_block(block):
    """What sits before a block is seen by both branches; what sits behind it sees the sum."""
    inplanes = 16 * block.expansion
    model = block(inplanes, 16).eval()
    assert model.slots == {
        "before_block": inplanes,
        "before_conv1": inplanes,
        "before_conv2": 16,
        "before_sum": inplanes,
        "after_block": inplanes,
    }
    x = torch.randn(2, inplanes, 6, 6)
    doubled = model(2 * x)
    model.before_block = Scale(2)
    assert torch.equal(model(x), doubled)
    model.after_block = Scale(-3)
    assert torch.equal(model(x), -3 * doubled)
    model.before_sum = Scale(0)
    assert torch.equal(model(x), -3 * torch.relu(2 * x))  # the identity alone


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_the_slot_before_the_second_stage():
    network = build_backbone("resnet18").eval()
    x = torch.randn(1, 3, 32, 32)
    expected = torch.flatten(
        network.avgpool(
            network.layer4(network.layer3(network.layer2(3 * network.layer1(network.entry(x)))))
        ),
        1,
    )
    network.before_stage2 = Scale(3)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_slots_see_the_block_input_and_the_first_activation(block):
    class Spy(nn.Module):
        def forward(self, x):
            self.seen = x.detach().clone()
            return 2 * x

    inplanes = 16 * block.expansion
    model = block(inplanes, 16).eval()
    model.before_conv1, model.before_conv2 = Spy(), Spy()
    x = torch.randn(2, inplanes, 6, 6)
    y = model(x)
    assert torch.equal(model.before_conv1.seen, x)
    first = torch.relu(model.bn1(model.conv1(2 * x)))
    torch.testing.assert_close(model.before_conv2.seen, first)
    plain = copy.deepcopy(model)
    plain.before_conv1 = plain.before_conv2 = nn.Identity()
    out = plain.bn2(plain.conv2(2 * first))
    if block is Bottleneck:
        out = plain.bn3(plain.conv3(torch.relu(out)))
    torch.testing.assert_close(y, torch.relu(out + x))  # the identity does not pass the slots


def test_the_stem_slot_gets_frames_entry_and_first_stage():
    class Stem(nn.Module):
        def forward(self, frames, entry, stage1):
            assert frames.shape == (2, 15, 32, 32)
            return stage1(entry(frames[:, 6:9]))

    network = build_backbone("resnet18").eval()
    x = torch.randn(2, 15, 32, 32)
    expected = network(x[:, 6:9])
    network.stem = Stem()
    assert torch.equal(network(x), expected)
    assert network.entry(x[:, :3]).shape == (2, 64, 8, 8)


@pytest.mark.parametrize("arch", RESNETS)
def test_infer_arch_distinguishes_the_resnets(arch):
    with torch.device("meta"):
        assert infer_arch(shapes(build_backbone(arch))) == arch


@pytest.mark.parametrize("other", ["vgg11", "densenet121"])
def test_infer_arch_does_not_take_another_network_for_a_resnet(other):
    with torch.device("meta"):
        assert infer_arch(shapes(torchvision.models.get_model(other))) is None


def test_infer_arch_of_incomplete_networks():
    with torch.device("meta"):
        known = shapes(torchvision.models.resnet18())
    assert infer_arch({}) is None
    assert (
        infer_arch({key: shape for key, shape in known.items() if not key.startswith("layer4.1")})
        is None
    )


def test_unknown_backbone():
    with pytest.raises(
        UserError,
        match=r"--arch vgg99: unknown backbone; known are resnet18, .*mobilenetv2, BNInception",
    ):
        build_backbone("vgg99")
