import copy

import pytest
import torch
from helpers.models import pixels, small_model
from torch import nn
from torch.nn.functional import cross_entropy

from ops.backbones.layers import module_places
from ops.temporal import MODULES
from ops.training.ema import WeightAverage
from ops.training.freeze import freeze, parse_parts
from ops.training.optim import build_optimizer, parameter_groups
from ops.utils.errors import UserError

LABELS = torch.tensor([0, 1])


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def backward(model):
    torch.manual_seed(0)
    loss = cross_entropy(model(pixels(model)), LABELS)
    loss.backward()


def step(model):
    """One step of training. Returns the names of the tensors that it changed."""
    before = state_of(model)
    optimizer = build_optimizer(parameter_groups(model, "groups", weight_decay=1e-4), lr=0.1)
    backward(model)
    optimizer.step()
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("stem", {0}),
        ("stages:2", {2}),
        ("stages:1-3", {1, 2, 3}),
        ("stem,stages:1-2,stages:4", {0, 1, 2, 4}),
        ("backbone", None),
    ],
)
def test_parts_are_parsed(text, stages):
    assert parse_parts(text) == stages


@pytest.mark.parametrize("text", ["", "head", "stages:0", "stages:3-1", "stages:", "stem,", "1-2"])
def test_other_parts_are_refused(text):
    with pytest.raises(ValueError, match=r"stem|before"):
        parse_parts(text)


def test_a_stage_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"--freeze stages:1-5: resnet18 has 4 stages"):
        freeze(small_model("tsn"), "stages:1-5", pretrained="all")


FROZEN = tuple(f"backbone.{name}." for name in ("conv1", "bn1", "stem", "layer1", "layer2"))


@pytest.mark.parametrize(
    ("module", "partial_bn"), [*((module, False) for module in MODULES), ("tdn", True)]
)
def test_a_step_changes_the_other_layers_only(module, partial_bn):
    model = small_model(module, stochastic_depth=0.2, partial_bn=partial_bn).train()
    freeze(model, "stem,stages:1-2", pretrained="all")
    changed = step(model)
    assert not {name for name in changed if name.startswith(FROZEN)}
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    weights = {
        name
        for name, _ in model.named_parameters()
        if name.endswith(("conv1.weight", "head.weight")) and not name.startswith(FROZEN)
    }
    assert len(weights) > 4 and weights <= changed
    assert ("backbone.layer3.0.bn1.running_mean" in changed) != partial_bn


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_the_gradients_of_the_other_layers_are_the_usual_ones(module):
    """Those of a network whose first layers compute as in evaluation, and are trained."""
    model = small_model(module)
    usual = copy.deepcopy(model).train()
    for part, place in module_places(usual.backbone).items():
        part.training = place.stage > 2
    freeze(model, "stem,stages:1-2", pretrained="all")
    model.train()
    backward(model)
    backward(usual)
    for own, other in zip(model.parameters(), usual.parameters(), strict=True):
        if own.requires_grad:
            assert torch.equal(own.grad, other.grad)


@pytest.mark.parametrize("arch", ["mobilenetv2", "BNInception"])
def test_a_frozen_backbone_leaves_the_classifier(arch):
    model = small_model("tsn", arch=arch).train()
    freeze(model, "backbone", pretrained="all")
    assert step(model) == {"head.weight", "head.bias"}
    assert not any(m.training for m in model.backbone.modules())
    assert model.dropout.training


def test_frozen_norms_stay_frozen_when_partial_bn_is_switched():
    model = small_model("tsn").train()
    freeze(model, "stages:2", pretrained="all")
    model.partial_bn = True
    model.partial_bn = False
    norms = [m for m in model.backbone.layer2.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(bn.training or bn.weight.requires_grad for bn in norms)
    assert model.backbone.layer1[0].bn1.training and model.backbone.layer3[0].bn1.training


def test_the_average_of_frozen_weights_is_exact():
    model = small_model("tsm").train()
    freeze(model, "stem,stages:1-3", pretrained="all")
    ema = WeightAverage(model, 0.9)
    for _ in range(2):
        step(model)
        ema.update(model)
    trained, averages = model.state_dict(), ema.module.state_dict()
    same = {name for name, value in trained.items() if value.equal(averages[name])}
    assert {name for name in trained if name.startswith("backbone.layer3")} <= same
    assert "head.weight" not in same and "backbone.layer4.0.conv1.weight" not in same
    assert not ema.module.train().backbone.layer3[0].bn1.training


@pytest.mark.parametrize(
    ("module", "text", "pretrained", "warned"),
    [
        ("tsm", "stem", "backbone", ""),
        ("tam", "stem", "backbone", ""),
        ("tam", "stages:1", "backbone", "the tam modules"),
        ("tdn", "stem", "backbone", "the tdn modules"),
        ("tsn", "stages:1", "none", "the frozen layers"),
        ("tam", "backbone", "all", ""),
    ],
)
def test_frozen_weights_that_were_never_trained_are_named(module, text, pretrained, warned):
    net = small_model(module)
    first, *others = freeze(net, text, pretrained=pretrained)
    trained = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert text in first and f"{trained:,} of" in first
    assert len(others) == bool(warned)
    assert all(warned in line and "--tune_from" in line for line in others)
