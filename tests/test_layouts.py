import re

import pytest
import torch
import torchvision
from helpers.golden_fill import load

from ops.checkpoints import export_state_dict, load_model
from ops.checkpoints.layouts import LAYOUTS, from_ours, infer_layout, strip_wrappers, to_ours
from ops.models import TSN
from ops.utils.errors import UserError


def filled(module, arch="resnet18", seed=0, **options):
    """A model whose every weight and statistic is random."""
    torch.manual_seed(seed)
    model = TSN(6, 4, arch=arch, module=module, **options).eval()
    for value in model.state_dict().values():
        value.copy_(
            torch.rand_like(value) + 0.5 if value.is_floating_point() else torch.full_like(value, 7)
        )
    return model


def assert_same_weights(state, expected):
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert state[key].dtype == value.dtype and torch.equal(state[key], value), key


def test_every_key_of_a_published_tdn_file_is_translated_back_and_forth():
    _, _, released = load("tdn_resnet50_8f_fc.npz")
    model = load_model(released, num_segments=8, quiet=True)
    exported = export_state_dict(model, "tdn")
    assert exported.keys() == released.keys()
    assert "module.new_fc.weight" in exported and "module.base_model.conv1_temp.bias" in exported
    for key, value in released.items():
        assert exported[key].shape == value.shape and exported[key].dtype == value.dtype, key
    # A round trip keeps all but the folded biases, which move into the running mean.
    norms = {
        key.replace("conv", "bn").replace("downsample.0", "downsample.1")
        for key in released
        if is_folded(key)
    }
    folded = {norm.replace(".bias", ".running_mean") for norm in norms}
    assert len(folded) == 63
    for key, value in released.items():
        if is_folded(key) or key.startswith("module.base_model.conv1_temp."):
            continue
        assert torch.equal(exported[key], value) != (key in folded), key
    for key in filter(is_folded, released):
        assert not exported[key].any()
        mean = (
            key.replace("conv", "bn")
            .replace("downsample.0", "downsample.1")
            .replace(".bias", ".running_mean")
        )
        assert torch.equal(exported[mean], released[mean] - released[key])
    assert torch.equal(
        exported["module.base_model.conv1_temp.weight"], exported["module.base_model.conv1.weight"]
    )
    assert_same_weights(
        load_model(exported, num_segments=8, quiet=True).state_dict(), model.state_dict()
    )


def is_folded(key):
    """A bias of one of the original's ordinary convs."""
    return (
        key.endswith(".bias")
        and (".conv" in key or ".downsample.0." in key)
        and ".conv1_5." not in key
        and ".conv1_temp." not in key
    )


def test_head_of_a_tdn_file_without_dropout():
    _, _, released = load("tdn_resnet50_8f.npz")
    model = load_model(released, num_segments=8, quiet=True)
    assert torch.equal(model.head.weight, released["module.base_model.fc.weight"])
    assert torch.equal(model.head.bias, released["module.base_model.fc.bias"])


def test_export_to_tsn_has_the_published_names():
    _, _, released = load("tsn_resnet50_8f.npz")
    model = load_model(released, num_segments=8, quiet=True)
    exported = export_state_dict(model, "tsm")
    assert exported.keys() == released.keys()
    assert all(torch.equal(exported[key], value) for key, value in released.items())


@pytest.mark.parametrize(
    ("module", "arch", "layout"),
    [
        ("tdn", "resnet18", "tdn"),
        ("tdn", "resnet50", "tdn"),
        ("tsn", "resnet18", "tsm"),
        ("tsn", "resnet34", "tsm"),
        ("tsm", "resnet18", "tsm"),
        ("tsm", "mobilenetv2", "tsm-mobilenetv2"),
        ("tsn", "BNInception", "tsm"),
        ("tam", "resnet18", "tam"),
        ("tam", "resnet50", "ours"),
        ("tin", "resnet50", "tin"),
        ("tin", "resnet18", "ours"),
        ("tsn", "mobilenetv2", "mobilenetv2"),
        ("tsn", "mobilenetv2", "torchvision"),
        ("tsn", "mobilenetv2", "ours"),
        ("tsn", "resnet18", "torchvision"),
        ("tsn", "resnet50", "torchvision"),
        ("tsn", "resnet18", "ours"),
        ("tdn", "resnet18", "ours"),
    ],
)
def test_export_and_load_again_is_the_same_model(module, arch, layout):
    model = filled(module, arch)
    exported = export_state_dict(model, layout)
    stripped = strip_wrappers(exported)
    assert infer_layout(stripped) == layout
    again = load_model(exported, None if module in ("tam", "tin") else 4, module=module, quiet=True)
    assert (again.num_segments, again.spec["module"], again.spec["arch"], again.num_class) == (
        4,
        module,
        arch,
        6,
    )
    assert_same_weights(again.state_dict(), model.state_dict())


def test_export_to_torchvision_is_loaded_by_torchvision():
    model = filled("tsn", "resnet50")
    theirs = torchvision.models.resnet50(num_classes=6).eval()
    theirs.load_state_dict(export_state_dict(model, "torchvision"))
    frames = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(frames[None]), theirs(frames).mean(0, keepdim=True))


def test_exports_that_cannot_be():
    with pytest.raises(UserError, match="a tsn model cannot be written in the tdn layout"):
        export_state_dict(filled("tsn"), "tdn")
    for layout in ("tsm", "torchvision"):
        with pytest.raises(
            UserError, match=f"a tdn model cannot be written in the {layout} layout"
        ):
            export_state_dict(filled("tdn"), layout)
    with pytest.raises(UserError, match="cannot be written in the onyx layout"):
        export_state_dict(filled("tsn"), "onyx")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", ""]
)
def test_wrappers_are_stripped(prefix):
    state = {"backbone.conv1.weight": 1, "head.bias": 2}
    assert strip_wrappers({prefix + key: value for key, value in state.items()}) == state


def test_only_prefixes_of_all_keys_are_wrappers():
    state = {"module.conv1.weight": 1, "head.bias": 2}
    assert strip_wrappers(state) == state and strip_wrappers({}) == {}
    assert strip_wrappers({"modules.a": 1}) == {"modules.a": 1}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("layout", ["ours", "tdn"])
def test_wrapped_files_load(prefix, layout):
    model = filled("tdn")
    state = strip_wrappers(export_state_dict(model, layout))
    again = load_model(
        {prefix + key: value for key, value in state.items()}, num_segments=4, quiet=True
    )
    assert_same_weights(again.state_dict(), model.state_dict())


def test_signatures_tell_the_layouts_apart():
    for name, module in (
        ("ours", "tdn"),
        ("tdn", "tdn"),
        ("tsm", "tsn"),
        ("tsm", "tsm"),
        ("torchvision", "tsn"),
        ("tam", "tam"),
        ("tin", "tin"),
    ):
        assert infer_layout(strip_wrappers(export_state_dict(filled(module), name))) == name
    for name in ("tsm-mobilenetv2", "mobilenetv2", "torchvision"):
        assert (
            infer_layout(strip_wrappers(export_state_dict(filled("tsn", "mobilenetv2"), name)))
            == name
        )
    read_only = {"mmaction2", "mmaction2-mobilenetv2"}
    assert (
        set(LAYOUTS)
        == {"ours", "tdn", "tsm", "tsm-mobilenetv2", "mobilenetv2", "torchvision", "tam", "tin"}
        | read_only
    )
    for keys in (["features.0.0.bias"], ["fc.weight"], []):
        assert infer_layout(dict.fromkeys(keys)) is None


def test_a_folded_bias_is_the_same_function():
    """A conv with a bias before a BatchNorm, in eval mode."""
    conv, bn = (
        torch.nn.Conv2d(3, 4, 3).double().requires_grad_(False),
        torch.nn.BatchNorm2d(4).double().eval(),
    )
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    expected = bn(conv(x))
    out = to_ours(
        {
            "base_model.conv1.weight": conv.weight,
            "base_model.conv1.bias": conv.bias,
            "base_model.bn1.running_mean": bn.running_mean,
        },
        "tdn",
    )
    assert out.keys() == {"backbone.conv1.weight", "backbone.bn1.running_mean"}
    bn.running_mean.copy_(out["backbone.bn1.running_mean"])
    torch.testing.assert_close(
        bn(torch.nn.functional.conv2d(x, conv.weight)), expected, rtol=1e-12, atol=1e-12
    )


def test_translation_leaves_its_input_alone():
    _, _, released = load("tdn_resnet50_8f.npz")
    state = strip_wrappers(released)
    before = {key: value.clone() for key, value in state.items()}
    from_ours(to_ours(state, "tdn"), "tdn")
    assert state.keys() == before.keys() and all(
        torch.equal(state[key], value) for key, value in before.items()
    )


def test_keys_that_no_rule_knows_keep_their_names():
    state = {"base_model.conv1.weight": torch.ones(1), "extra.weight": torch.ones(2)}
    assert list(to_ours(state, "tsm")) == ["backbone.conv1.weight", "extra.weight"]
    # A bias with no BatchNorm to fold it into is left for the strict load to report.
    assert "backbone.conv1.bias" in to_ours({"base_model.conv1.bias": torch.ones(1)}, "tdn")


# TSM's files: what a wrapper around a layer adds to a key.


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("tsm_resnet50_8f.npz", "tsm"),
        ("tsm_resnet50_nl_8f.npz", "tsm"),
        ("tsm_mobilenetv2_8f.npz", "tsm-mobilenetv2"),
        ("tsm_resnet50_flow_8f.npz", "tsm"),
        ("tsn_bninception_3f.npz", "tsm"),
        ("tam_resnet50_8f.npz", "tam"),
        ("tin_resnet50_8f.npz", "tin"),
    ],
)
def test_every_key_of_the_published_files_is_translated_back_and_forth(file, layout):
    _, _, released = load(file)
    model = load_model(released, num_segments=8, quiet=True)
    exported = export_state_dict(model, layout)
    heads = {
        "module.base_model.fc.": "module.new_fc.",
        "module.base_model.classifier.": "module.new_fc.",
    }
    for key, value in released.items():
        for old, new in heads.items():  # with dropout 0 the head is the backbone's own
            key = key.replace(old, new)
        assert torch.equal(exported.pop(key), value), key
    assert not exported


def shifted(state):
    return sorted(key.removesuffix(".net.weight") for key in state if key.endswith(".net.weight"))


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("resnet18", 8),
        ("resnet34", 16),
        ("resnet50", 16),
        ("resnet101", 18),
        ("resnet152", 26),
        ("resnext101_32x8d", 18),
        ("mobilenetv2", 10),
    ],
)
def test_shifted_convs_are_wrapped(arch, count):
    """16 renames between TSN and TSM of a ResNet-50; every second block of a ResNet-101 or -152."""
    with torch.device("meta"):
        state = export_state_dict(
            TSN(5, 4, arch=arch, module="tsm"), "tsm-mobilenetv2" if "mobile" in arch else "tsm"
        )
    names = shifted(state)
    assert len(names) == count
    if arch == "resnet101":
        blocks = {
            stage: [int(name.split(".")[3]) for name in names if f".layer{stage}." in name]
            for stage in (1, 2, 3, 4)
        }
        assert {stage: sorted(numbers) for stage, numbers in blocks.items()} == {
            1: [0, 2],
            2: [0, 2],
            3: list(range(0, 23, 2)),
            4: [0, 2],
        }
    if arch == "mobilenetv2":
        assert sorted(int(name.split(".")[3]) for name in names) == [
            3,
            5,
            6,
            8,
            9,
            10,
            12,
            13,
            15,
            16,
        ]


@pytest.mark.parametrize(
    "options",
    [
        {"shift_place": "block"},
        {"temporal_pool": True},
        {"temporal_pool": True, "shift_place": "block"},
        {"non_local": True},
        {"non_local": True, "temporal_pool": True},
        {"modality": "Flow"},
        {"modality": "RGBDiff"},
    ],
)
def test_tsm_options_are_seen_in_the_keys_and_shapes(options):
    model = filled("tsm", "resnet50" if "non_local" in options else "resnet18", **options)
    state = export_state_dict(model, "tsm")
    again = load_model(state, num_segments=4, quiet=True)
    assert again.spec == {**model.spec, "dropout": 0.5}
    assert_same_weights(again.state_dict(), model.state_dict())


def test_names_of_a_pooled_shifted_network():
    state = strip_wrappers(
        export_state_dict(filled("tsm", "resnet50", temporal_pool=True, non_local=True), "tsm")
    )
    second = "base_model.layer2.net."
    assert {
        f"{second}0.block.conv1.net.weight",
        f"{second}0.nl.phi.0.weight",
        f"{second}1.conv1.net.weight",
        "base_model.layer1.0.conv1.net.weight",
    } <= state.keys()
    assert state[f"{second}0.nl.theta.weight"].shape == (256, 512, 1, 1, 1)


# MMAction2's files.


def mmaction2_names(state):
    """A published state dict of TSM with the names of MMAction2's ConvModule."""
    blocks = [
        (stage, block)
        for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1), 1)
        for block in range(count)
    ]
    shifted = {
        key.split(".")[2]
        for key in state
        if key.startswith("base_model.features.") and ".net." in key
    }
    beside_tam = any(".tam." in key for key in state)
    out = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    for key, value in state.items():
        if key.endswith(".nl.W.0.bias"):
            assert not value.any()  # it has none
            continue
        key = key.replace("new_fc.", "cls_head.fc_cls.").replace("base_model.", "backbone.")
        if match := re.fullmatch(r"backbone\.features\.(0|18)\.([01])\.(.*)", key):
            number = 1 if match[1] == "0" else 2
            layer = ("conv", "bn")[int(match[2])]
            key = f"backbone.conv{number}.{layer}.{match[3]}"
        elif match := re.fullmatch(r"backbone\.features\.(\d+)\.conv\.(\d)\.(?:net\.)?(.*)", key):
            stage, block = blocks[int(match[1]) - 1]
            number, part = divmod(int(match[2]), 3)
            net = (
                "net." if match[1] in shifted and number == 0 else ""
            )  # around conv, BatchNorm and activation
            layer = ("conv", "bn")[part]
            key = f"backbone.layer{stage}.{block}.conv.{number}.{net}{layer}.{match[3]}"
        else:
            for pattern, new in (
                (r"nl\.(g|phi)\.0\.", r"non_local_block.\1.0.conv."),
                (r"nl\.theta\.", "non_local_block.theta.conv."),
                (r"nl\.W\.0\.", "non_local_block.conv_out.conv."),
                (r"nl\.W\.1\.", "non_local_block.conv_out.bn."),
                (r"(layer\d\.\d)\.net\.", r"\1.block." if beside_tam else r"\1.net."),
                (r"biasnet\.net\.(conv|fc|lastlayer)\.", r"offset_net.\1."),
                (r"offset_net\.fc\.", "offset_net.fc1."),
                (r"offset_net\.lastlayer\.", "offset_net.fc2."),
                (r"weightnet\.net\.lastlayer\.", "weight_net.conv."),
                (r"\.conv1\.net(\d)\.", r".conv1.conv.net\1."),
                (r"\.conv(\d)\.(net\.)?weight", r".conv\1.conv.\2weight"),
                (r"\.bn(\d)\.", r".conv\1.bn."),
                (r"downsample\.0\.", "downsample.conv."),
                (r"downsample\.1\.", "downsample.bn."),
            ):
                key = re.sub(pattern, new, key)
        out[key] = value
    return out


@pytest.mark.parametrize(
    ("module", "arch", "options"),
    [
        ("tsn", "resnet50", {}),
        ("tsm", "resnet50", {}),
        ("tsm", "resnet101", {}),
        ("tsm", "resnet50", {"non_local": True}),
        ("tsm", "resnet50", {"shift_place": "block"}),
        ("tsm", "resnet50", {"temporal_pool": True}),
        ("tsn", "mobilenetv2", {}),
        ("tsm", "mobilenetv2", {}),
        ("tam", "resnet50", {}),
        ("tin", "resnet50", {}),
    ],
)
def test_files_of_mmaction2(module, arch, options):
    model = filled(module, arch, **options)
    for key, value in model.state_dict().items():
        if key.endswith("after_block.expand.bias"):
            value.zero_()
    layout = (
        "tsm-mobilenetv2"
        if arch == "mobilenetv2"
        else module
        if module in ("tam", "tin")
        else "tsm"
    )
    state = mmaction2_names(strip_wrappers(export_state_dict(model, layout)))
    if options == {} and arch != "mobilenetv2":
        shifted = [key for key in state if key.endswith(".conv1.conv.net.weight")]
        assert len(shifted) == (0 if module != "tsm" else 16 if arch == "resnet50" else 18)
    again = load_model({"meta": {}, "state_dict": state}, 4, quiet=True)
    assert again.spec == {**model.spec, "dropout": 0.5} and "mmaction2" in again.report
    assert_same_weights(again.state_dict(), model.state_dict())
    with pytest.raises(UserError, match="cannot be written in the mmaction2 layout"):
        export_state_dict(model, "mmaction2")


# TAM's and TIN's.


def test_older_names_of_tam():
    model = filled("tam")
    state = {
        key.replace("tam.G", "self_conv.conv_f").replace("tam.L", "self_conv.conv_g"): value
        for key, value in export_state_dict(model, "tam").items()
    }
    assert any(".self_conv.conv_f.0.weight" in key for key in state)
    again = load_model(state, quiet=True)
    assert again.num_segments == 4 and again.spec["module"] == "tam"
    assert_same_weights(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("module", ["tam", "tin"])
def test_the_number_of_segments_is_in_the_weights(module):
    state = export_state_dict(filled(module), module)
    with pytest.raises(UserError, match=f"{module} of 4 segments, .* cannot be used with 16"):
        load_model(state, 16, quiet=True)


def test_the_share_of_moved_channels_is_in_the_weights():
    model = filled("tin", shift_div=8)
    assert load_model(export_state_dict(model, "tin"), quiet=True).spec["shift_div"] == 8
    mobile = TSN(5, 4, arch="mobilenetv2", module="tin", shift_div=2)
    assert (
        load_model(mobile.state_dict(), quiet=True).spec.items()
        >= {"shift_div": 2, "num_segments": 4}.items()
    )


def test_a_resnext_of_mmaction2_has_the_plain_names_of_its_backbone_library():
    """MMAction2 takes this backbone from MMClassification, with the names of torchvision."""
    with torch.device("meta"):
        model = TSN(400, 3, module="tsn", arch="resnext101_32x4d")
    theirs = {
        key.replace("head.", "cls_head.fc_cls."): value for key, value in model.state_dict().items()
    }
    assert infer_layout(theirs) == "mmaction2"
    assert to_ours(theirs, "mmaction2").keys() == model.state_dict().keys()
