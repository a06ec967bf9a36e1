import copy

import pytest
import torch
from torch import nn

from ops.backbones import BACKBONES
from ops.backbones.layers import stage_layers
from ops.models import TSN
from ops.temporal import MODULES, TemporalModule, supported_modules
from ops.training.optim import (
    IMPLEMENTATIONS,
    build_optimizer,
    load_optimizer_state,
    parameter_groups,
    set_learning_rate,
)
from ops.utils.errors import UserError


def build(module, arch, **options):
    with torch.device("meta"):
        return TSN(11, 4, arch=arch, module=module, **options)


def sizes(groups):
    return {group["name"]: len(group["params"]) for group in groups}


def multipliers(groups, weight_decay):
    return {
        group["name"]: (group["lr_mult"], group["weight_decay"] / weight_decay) for group in groups
    }


def assert_each_once(model, groups):
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) and set(listed) == {
        id(p) for p in model.parameters() if p.requires_grad
    }


# Tensors by kind: R18 has 20 convs and BNs, R50 53; the first conv is a group of its own. TDN adds
# the stem (a conv and its BN, and layer1 again: 4 or 10 convs) and 6 convs, one of them temporal,
# and 4 BNs in each block of stages 2 to 4 (6 or 13 blocks).
@pytest.mark.parametrize(
    ("module", "arch", "weights", "norms"),
    [
        ("tsn", "resnet18", 19, 2 * 20),
        ("tsm", "resnet50", 52, 2 * 53),
        ("tdn", "resnet18", 19 + 1 + 4 + 6 * 6, 2 * (20 + 1 + 4 + 6 * 4)),
        ("tdn", "resnet50", 52 + 1 + 10 + 13 * 6, 2 * (53 + 1 + 10 + 13 * 4)),
    ],
)
def test_groups_of_tsn(module, arch, weights, norms):
    model = build(module, arch)
    groups = parameter_groups(model, "groups", weight_decay=5e-4)
    assert sizes(groups) == {
        "first_conv_weight": 1,
        "weight": weights,
        "bn": norms,
        "fc_weight": 1,
        "fc_bias": 1,
    }
    assert multipliers(groups, 5e-4) == {
        "first_conv_weight": (1, 1),
        "weight": (1, 1),
        "bn": (1, 0),
        "fc_weight": (5, 1),
        "fc_bias": (10, 0),
    }
    assert_each_once(model, groups)
    by_name = {group["name"]: group["params"] for group in groups}
    assert by_name["fc_weight"][0] is model.head.weight and by_name["fc_bias"][0] is model.head.bias
    assert all(p.dim() == 1 for p in by_name["bn"]) and all(
        p.dim() in (3, 4) for p in by_name["weight"]
    )


def test_classifier_at_the_common_rate():
    model = build("tsn", "resnet18")
    groups = parameter_groups(model, "groups", weight_decay=0.1, fc_lr5=False)
    assert multipliers(groups, 0.1) == {
        "first_conv_weight": (1, 1),
        "weight": (1, 1),
        "bn": (1, 0),
        "fc_weight": (1, 1),
        "fc_bias": (2, 0),
    }
    assert_each_once(model, groups)


def test_flow_networks_learn_faster_in_the_first_conv():
    model = build("tsn", "BNInception", modality="Flow")
    groups = parameter_groups(model, "groups", weight_decay=0.1)
    assert multipliers(groups, 0.1) == {
        "first_conv_weight": (5, 1),
        "first_conv_bias": (10, 0),
        "weight": (1, 1),
        "bias": (2, 0),
        "bn": (1, 0),
        "fc_weight": (5, 1),
        "fc_bias": (10, 0),
    }
    assert sizes(groups) == {
        "first_conv_weight": 1,
        "first_conv_bias": 1,
        "weight": 68,
        "bias": 68,
        "bn": 138,
        "fc_weight": 1,
        "fc_bias": 1,
    }
    assert_each_once(model, groups)


def test_groups_of_non_local_blocks():
    """The original has 72 weights (without first conv and classifier), 20 biases, 116 norms."""
    groups = parameter_groups(build("tsm", "resnet50", non_local=True), "groups", weight_decay=0.1)
    assert sizes(groups) == {
        "first_conv_weight": 1,
        "weight": 72,
        "bias": 20,
        "bn": 116,
        "fc_weight": 1,
        "fc_bias": 1,
    }
    frozen = parameter_groups(
        build("tsm", "resnet50", non_local=True, partial_bn=True), "groups", weight_decay=0.1
    )
    assert sizes(frozen)["bn"] == 2 + 5 * 2  # those of the blocks start at zero and have to learn


def test_biases_of_convs_are_a_group_of_their_own():
    model = build("tsn", "resnet18")
    model.backbone.layer1[0].conv1 = nn.Conv2d(64, 64, 3, bias=True)
    groups = parameter_groups(model, "groups", weight_decay=0.1)
    assert sizes(groups)["bias"] == 1 and multipliers(groups, 0.1)["bias"] == (2, 0)
    assert_each_once(model, groups)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
@pytest.mark.parametrize("module", MODULES)
def test_flat_is_one_group(module, arch):
    model = build(module, arch)
    groups = parameter_groups(model, "flat", weight_decay=5e-4)
    assert len(groups) == 1 and groups[0]["name"] == "all"
    assert (groups[0]["lr_mult"], groups[0]["weight_decay"]) == (1, 5e-4)
    assert_each_once(model, groups)


@pytest.mark.parametrize("policy", ["groups", "flat"])
@pytest.mark.parametrize("module", MODULES)
def test_frozen_norms_are_left_out(module, policy):
    model = build(module, "resnet18", partial_bn=True)
    groups = parameter_groups(model, policy, weight_decay=5e-4)
    assert_each_once(model, groups)
    if policy == "groups":
        trained = next(group["params"] for group in groups if group["name"] == "bn")
        norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        expected = [p for norm in norms for p in norm.parameters() if p.requires_grad]
        assert {id(p) for p in trained} == {id(p) for p in expected}
        assert {id(p) for p in model.backbone.bn1.parameters()} <= {id(p) for p in trained}
    else:
        assert len(groups[0]["params"]) < len(list(model.parameters()))


@pytest.mark.parametrize("policy", ["groups", "flat"])
@pytest.mark.parametrize(
    ("module", "arch"), [("tdn", "resnet18"), ("tsn", "mobilenetv2"), ("tsn", "BNInception")]
)
def test_layer_decay_lowers_the_rate_towards_the_stem(module, arch, policy):
    model = build(module, arch)
    plain = parameter_groups(model, policy, weight_decay=0.1)
    split = parameter_groups(model, policy, weight_decay=0.1, layer_decay=0.5)
    assert_each_once(model, split)
    usual = {p: (g["lr_mult"], g["weight_decay"]) for g in plain for p in g["params"]}
    factors = {}
    for group in split:
        for parameter in group["params"]:
            rate, decay = usual[parameter]
            assert group["weight_decay"] == decay
            factors[parameter] = group["lr_mult"] / rate
    blocks = sum(len(stage) for stage in stage_layers(model.backbone))
    first_conv = model.backbone.get_submodule(model.backbone.first_conv)
    last_block = stage_layers(model.backbone)[-1][-1]
    assert factors[model.head.weight] == factors[model.head.bias] == 1
    assert factors[first_conv.weight] == 0.5 ** (blocks + 1)
    assert {factors[p] for module in last_block for p in module.parameters()} == {0.5}
    if module == "tdn":
        assert {factors[p] for p in model.backbone.stem.parameters()} == {0.5 ** (blocks + 1)}
        assert factors[model.backbone.layer2[1].before_conv2.squeeze.weight] == 0.5 ** (blocks - 3)
    names = [group["name"] for group in split]
    assert len(names) == len(set(names))


def test_without_layer_decay_the_groups_are_the_usual_ones():
    model = build("tsm", "resnet18")
    names = [group["name"] for group in parameter_groups(model, "groups", weight_decay=0.1)]
    assert names == ["first_conv_weight", "weight", "bn", "fc_weight", "fc_bias"]


class AnyKind(nn.Module):
    """Parameters of kinds that no published module has."""

    def __init__(self, channels=8):
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.group_norm = nn.GroupNorm(2, channels)
        self.conv3d = nn.Conv3d(channels, channels, 3)
        self.attention = nn.MultiheadAttention(channels, 2)
        self.scale = nn.Parameter(torch.zeros(channels))
        self.gate = nn.Parameter(torch.zeros(()))
        self.table = nn.Parameter(torch.zeros(3, channels))


def test_parameters_of_any_kind_are_grouped_by_dimension():
    model = build("tsn", "resnet18")
    plain = parameter_groups(model, "groups", weight_decay=0.1)
    model.backbone.extra = extra = AnyKind()
    groups = parameter_groups(model, "groups", weight_decay=0.1)
    assert_each_once(model, groups)
    assert_each_once(model, parameter_groups(model, "flat", weight_decay=0.1))
    names = {p: name for name, p in extra.named_parameters()}
    members = {g["name"]: {names[p] for p in g["params"] if p in names} for g in groups}
    assert {name: found for name, found in members.items() if found} == {
        "weight": {
            "conv3d.weight",
            "attention.in_proj_weight",
            "attention.out_proj.weight",
            "table",
        },
        "bias": {
            "layer_norm.bias",
            "group_norm.bias",
            "conv3d.bias",
            "attention.in_proj_bias",
            "attention.out_proj.bias",
        },
        "no_decay": {"layer_norm.weight", "group_norm.weight", "scale", "gate"},
    }
    assert multipliers(groups, 0.1)["no_decay"] == (1, 0)
    assert "no_decay" not in sizes(plain)


def test_a_shared_parameter_is_in_one_group():
    model = build("tsn", "resnet18")
    model.backbone.extra = nn.Module()
    model.backbone.extra.shared = model.backbone.layer1[0].conv1.weight
    assert_each_once(model, parameter_groups(model, "groups", weight_decay=0.1))


def test_a_group_that_does_not_exist_is_refused(monkeypatch):
    entry = TemporalModule(param_group=lambda layer, name, parameter: "fast")
    monkeypatch.setitem(MODULES, "mine", entry)
    with pytest.raises(ValueError, match=r"mine.*fast"):
        parameter_groups(build("mine", "resnet18"), "groups", weight_decay=0.1)


def groups_by_kind_of_layer(model):
    """Names of the parameters of each group by TSN's rules, which name kinds of layers."""
    conv = model.backbone.get_submodule(model.backbone.first_conv)
    groups = {}
    for path, layer in model.named_modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if layer is conv:
                group = f"first_conv_{name}"
            elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                group = "bn"
            elif isinstance(layer, nn.Linear) and (
                layer is model.head or model.spec["module"] == "tam"
            ):
                group = f"fc_{name}"
            else:
                assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Linear))
                group = name
            if parameter.requires_grad:
                groups.setdefault(group, []).append(f"{path}.{name}")
    return groups


PUBLISHED = ("tsn", "tsm", "tdn", "tam", "tin")


@pytest.mark.parametrize("arch", BACKBONES)
@pytest.mark.parametrize("module", PUBLISHED)
def test_groups_of_the_published_modules(module, arch):
    backbone = build("tsn", arch).backbone
    if module not in supported_modules(backbone):
        pytest.skip("the backbone has no slot for the module")
    special = {
        ("tsm", "BNInception"): {"shift_place": "block"},
        ("tin", "mobilenetv2"): {"shift_div": 2},
    }
    options = special.get((module, arch), {})
    for partial_bn in (False, True):
        model = build(module, arch, partial_bn=partial_bn, **options)
        names = {p: name for name, p in model.named_parameters()}
        groups = parameter_groups(model, "groups", weight_decay=0.1)
        found = {group["name"]: [names[p] for p in group["params"]] for group in groups}
        assert found == groups_by_kind_of_layer(model)


def one_step(optimizer, parameter):
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return parameter.detach().clone()


def optimizer_of(name="sgd", **options):
    parameter = nn.Parameter(torch.arange(4.0))
    groups = [{"name": "all", "params": [parameter], "lr_mult": 1, "weight_decay": 0.1}]
    return build_optimizer(groups, name, lr=0.1, **options), parameter


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("sgd", {}, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1)),
        ("sgd", {"momentum": 0}, lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.1)),
        (
            "sgd",
            {"nesterov": True},
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        ),
        ("adamw", {}, lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.1)),
    ],
)
def test_optimizers_step_as_those_of_torch(name, options, reference):
    optimizer, parameter = optimizer_of(name, **options)
    other = nn.Parameter(torch.arange(4.0))
    expected = reference([other])
    for _ in range(3):
        assert torch.equal(one_step(optimizer, parameter), one_step(expected, other))


@pytest.mark.parametrize(
    "options", [{"name": "sgd"}, {"name": "sgd", "nesterov": True}, {"name": "adamw"}]
)
def test_an_optimizer_resumes_bit_identically(options):
    optimizer, parameter = optimizer_of(**options)
    one_step(optimizer, parameter)
    again, other = optimizer_of(**options)
    other.data.copy_(parameter.data)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["fused"] = True  # as saved on a GPU
    load_optimizer_state(again, state)
    assert again.param_groups[0]["fused"] is None
    assert torch.equal(one_step(optimizer, parameter), one_step(again, other))


@pytest.mark.parametrize(
    "options", [{"name": "sgd"}, {"name": "sgd", "nesterov": True}, {"name": "adamw"}]
)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_implementations_take_the_same_steps(implementation, options):
    """On a CPU bit for bit but for the fused one, which rounds in another order."""
    optimizer, parameter = optimizer_of(implementation=implementation, **options)
    usual, other = optimizer_of(implementation="for-loop", **options)
    tolerance = 1e-6 if implementation == "fused" else 0
    for _ in range(5):
        stepped, expected = one_step(optimizer, parameter), one_step(usual, other)
        torch.testing.assert_close(stepped, expected, rtol=tolerance, atol=tolerance)
    assert optimizer.param_groups[0]["fused"] == IMPLEMENTATIONS[implementation]["fused"]
    assert optimizer.param_groups[0]["foreach"] == IMPLEMENTATIONS[implementation]["foreach"]


@pytest.mark.parametrize(
    "options", [{"name": "sgd"}, {"name": "sgd", "nesterov": True}, {"name": "adamw"}]
)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_skipped_first_step_changes_nothing(implementation, options):
    """As by the GradScaler of fp16, whose first scale is often too large."""
    optimizer, parameter = optimizer_of(implementation=implementation, **options)
    scaler = torch.amp.GradScaler("cpu")
    loss = scaler.scale(parameter.sum() * float("inf"))
    loss.backward()
    scaler.unscale_(optimizer)
    # What torch allocates without filling it is then likely to be one of these.
    poison = [torch.full((4,), float("nan")) for _ in range(64)]
    del poison
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(parameter.detach(), torch.arange(4.0))
    usual, other = optimizer_of(implementation=implementation, **options)
    for _ in range(2):
        assert torch.equal(one_step(optimizer, parameter), one_step(usual, other))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_implementation_is_that_of_the_run_not_of_the_checkpoint(name):
    saved, parameter = optimizer_of(name, implementation="fused")
    one_step(saved, parameter)
    own, other = optimizer_of(name, implementation="foreach")
    other.data.copy_(parameter.data)
    load_optimizer_state(own, copy.deepcopy(saved.state_dict()))
    assert (own.param_groups[0]["foreach"], own.param_groups[0]["fused"]) == (True, False)
    torch.testing.assert_close(one_step(own, other), one_step(saved, parameter))


@pytest.mark.parametrize(
    ("saved", "own"),
    [
        ({"name": "sgd"}, {"name": "adamw"}),
        ({"name": "adamw"}, {"name": "sgd"}),
        ({"name": "sgd"}, {"name": "sgd", "nesterov": True}),
    ],
)
def test_the_state_of_another_optimizer_is_refused(saved, own):
    with pytest.raises(ValueError, match="optimizer"):
        load_optimizer_state(optimizer_of(**own)[0], optimizer_of(**saved)[0].state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "lion"}, r"--optimizer lion.*sgd, adamw"),
        ({"name": "adamw", "nesterov": True}, "--nesterov"),
        ({"nesterov": True, "momentum": 0}, "--nesterov.*--momentum"),
    ],
)
def test_invalid_optimizers_raise(options, message):
    with pytest.raises(UserError, match=message):
        optimizer_of(**options)


def test_groups_drive_sgd():
    model = TSN(11, 4, arch="resnet18")
    optimizer = torch.optim.SGD(
        parameter_groups(model, "groups", weight_decay=5e-4), lr=1.0, momentum=0.9
    )
    set_learning_rate(optimizer, 0.01)
    rates = {
        group["name"]: (group["lr"], group["weight_decay"], group["momentum"])
        for group in optimizer.param_groups
    }
    assert rates == {
        "first_conv_weight": (0.01, 5e-4, 0.9),
        "weight": (0.01, 5e-4, 0.9),
        "bn": (0.01, 0, 0.9),
        "fc_weight": (0.05, 5e-4, 0.9),
        "fc_bias": (0.1, 0, 0.9),
    }
    set_learning_rate(optimizer, 0.001)  # from the base rate, not from the last one
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.001, 0.001, 0.001, 0.005, 0.01]
    )
