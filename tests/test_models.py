import functools

import pytest
import torch
import torch.nn.functional as F
from helpers.models import pixels, randomize_norms, small_model
from torch import nn

from ops.backbones import BACKBONES, build_backbone
from ops.backbones.infer import infer_arch
from ops.backbones.modalities import MODALITIES
from ops.checkpoints import load_model, save_checkpoint
from ops.models import TSN
from ops.temporal import MODULES
from ops.temporal.insertion import insert, supported_modules
from ops.training.optim import parameter_groups
from ops.utils.errors import UserError

# Shapes and inputs.

FEATURES = {"resnet18": 512, "resnet34": 512, "mobilenetv2": 1280, "BNInception": 1024}


# One backbone of every kind of block, and a deep one, where TSM skips every second block.
KINDS = ("resnet18", "resnet101", "resnext50_32x4d", "mobilenetv2", "BNInception")


@functools.cache
def blocks_and_modules(arch):
    """The blocks of a backbone, and the names of the modules that it supports."""
    with torch.device("meta"):
        backbone = build_backbone(arch)
    blocks = [block for stage in backbone.stages() for block in stage]
    return blocks, supported_modules(backbone)


def fitting_options(module, arch):
    """Options with which a module runs on a backbone that supports it."""
    if (module, arch) == ("tin", "mobilenetv2"):
        return {"shift_div": 2}  # its first blocks have too few channels for the default
    blocks, _ = blocks_and_modules(arch)
    for name, option in MODULES[module].options.items():
        for value, slot in option.slots.items():
            if all(slot in block.slots for block in blocks):
                return {name: value}
    return {}


def check_shapes(arch, **options):
    """A network on the meta device: the shapes of its scores and weights."""
    with torch.device("meta"):
        model = TSN(7, 3, arch=arch, **options)
        clip = torch.empty((2, 3, model.frame_channels, 64, 64), dtype=torch.uint8)
        assert model(clip).shape == (2, 7)
    shapes = {key: tuple(value.shape) for key, value in model.backbone.state_dict().items()}
    assert infer_arch(shapes) == arch
    assert model.backbone.feature_dim == FEATURES.get(arch, 2048)


@pytest.mark.parametrize(
    ("arch", "modules"),
    [
        ("resnet18", ["tsn", "tsm", "tdn", "tam", "tin"]),
        ("mobilenetv2", ["tsn", "tsm", "tin"]),
        ("BNInception", ["tsn", "tsm"]),
    ],
)
def test_modules_that_a_backbone_supports(arch, modules):
    known = ("tsn", "tsm", "tdn", "tam", "tin")
    assert [name for name in blocks_and_modules(arch)[1] if name in known] == modules


@pytest.mark.slow
@pytest.mark.parametrize("arch", BACKBONES)
def test_every_backbone(arch):
    check_shapes(arch)


@pytest.mark.slow
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("arch", ["resnet18", "mobilenetv2", "BNInception"])
def test_every_modality(arch, modality):
    check_shapes(arch, modality=modality)


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("arch", KINDS)
def test_every_module_with_every_kind_of_block(arch, module):
    if module in blocks_and_modules(arch)[1]:
        check_shapes(arch, module=module, **fitting_options(module, arch))
        return
    with pytest.raises(UserError, match=f"--module {module} does not run on {arch}"):
        TSN(7, 3, arch=arch, module=module)


@pytest.mark.parametrize(
    ("module", "arch", "options", "modality"),
    [
        (*kind, modality)
        for kind in (
            ("tsn", "resnet18", {}),
            ("tsm", "resnet18", {"shift_place": "block", "temporal_pool": True, "non_local": True}),
            ("tsm", "mobilenetv2", {}),
            ("tsm", "BNInception", {"shift_place": "block"}),
            ("tam", "resnet18", {"non_local": True}),
            ("tam", "resnext50_32x4d", {}),
            ("tin", "resnet18", {"temporal_pool": True}),
            ("tin", "mobilenetv2", {"shift_div": 2}),
            ("tdn", "resnet18", {"non_local": True, "temporal_pool": True}),
        )
        for modality in MODULES[kind[0]].modalities
    ],
)
def test_a_step_of_every_kind_of_network(module, arch, options, modality, tmp_path):
    """Forward, backward, an optimiser step, saved and loaded again."""
    model = small_model(
        module=module, arch=arch, modality=modality, partial_bn=True, **options
    ).train()
    groups = parameter_groups(model, "groups", weight_decay=5e-4)
    optimizer = torch.optim.SGD(groups, lr=0.001)
    loss = F.cross_entropy(model(pixels(model, size=64)), torch.tensor([0, 1]))
    loss.backward()
    assert all(p.grad is not None for group in groups for p in group["params"])
    optimizer.step()
    save_checkpoint(tmp_path / "a.pth", model)
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert again.spec == model.spec
    with torch.no_grad():
        assert torch.equal(again(pixels(model, size=64)), model.eval()(pixels(model, size=64)))


def test_attributes_of_a_model():
    model = small_model(module="tdn", input_size=112)
    assert (
        model.num_class,
        model.num_segments,
        model.frames_per_segment,
        model.frame_channels,
    ) == (5, 4, 5, 15)
    assert (model.input_size, model.scale_size, small_model(module="tsn").scale_size) == (
        112,
        128,
        256,
    )
    assert model.spec == {
        "num_class": 5,
        "num_segments": 4,
        "arch": "resnet18",
        "module": "tdn",
        "modality": "RGB",
        "dropout": 0.5,
        "consensus": "avg",
        "non_local": False,
        "temporal_pool": False,
        "stochastic_depth": 0.0,
        "input_size": 112,
    }
    assert (
        small_model(module="tsm", shift_div=4).spec.items()
        >= {"shift_div": 4, "shift_place": "blockres", "shift_direction": "both"}.items()
    )
    tsn = small_model(module="tsn")
    assert (tsn.frames_per_segment, tsn.frame_channels) == (1, 3)
    assert not [key for key in model.state_dict() if key in ("mean", "std")]
    assert model.head.bias.abs().max() == 0 and 0.0005 < model.head.weight.std() < 0.002


def test_long_term_modules_sit_in_stages_2_to_4():
    model = small_model(arch="resnet34", module="tdn")
    for number, stage in enumerate(model.backbone.stages(), 1):
        for block in stage:
            assert isinstance(block.before_conv1, nn.Identity)
            assert isinstance(block.before_conv2, nn.Identity) == (number == 1)


def test_second_stage1_has_weights_of_its_own():
    """Drawn independently, as by the original, which builds two ResNets."""
    model = small_model(module="tdn")
    stage, second = model.backbone.layer1, model.backbone.stem.stage
    assert list(stage.state_dict()) == list(second.state_dict())
    for p, q in zip(stage.parameters(), second.parameters(), strict=True):
        assert p.shape == q.shape and p.data_ptr() != q.data_ptr()
        assert torch.equal(p, q) == (p.dim() == 1)
    mean = model.backbone.conv1.weight.mean(dim=1)
    assert not torch.equal(model.backbone.stem.conv.weight[:, 0], mean)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_a_new_tdn_starts_from_the_weights_of_the_original(arch):
    """Every Conv2d is N(0, 2 / (kh * kw * out_channels)); the stem is a mean over RGB of those."""
    model = small_model(module="tdn", arch=arch)
    for name, conv in model.backbone.named_modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        variance = 2 / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels)
        if name == "stem.conv":
            variance /= 3
        count = conv.weight.numel() / (12 if name == "stem.conv" else 1)
        tolerance = max(0.03, 4 / (2 * count) ** 0.5)
        assert conv.weight.std().item() == pytest.approx(variance**0.5, rel=tolerance), name


@pytest.mark.parametrize("module", MODULES)
def test_flattened_clips_and_pixels(module):
    model = randomize_norms(small_model(module=module)).eval()
    clip = pixels(model)
    mean = torch.tensor([0.485, 0.456, 0.406]).repeat(model.frames_per_segment).reshape(-1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).repeat(model.frames_per_segment).reshape(-1, 1, 1)
    normalised = (clip / 255 - mean) / std
    before, normalised_before = clip.clone(), normalised.clone()
    with torch.no_grad():
        scores = model(clip)
        assert torch.equal(model(clip.flatten(1, 2)), scores)
        torch.testing.assert_close(model(normalised), scores, rtol=1e-4, atol=1e-6)
        assert torch.equal(model(normalised.flatten(1, 2)), model(normalised))
        # As a loader may hand it over: frames in channels-last order.
        strided = clip.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        assert not strided.is_contiguous() and torch.equal(model(strided), scores)
        assert torch.equal(model(clip.expand(2, -1, -1, -1, -1)), scores)
    assert torch.equal(clip, before) and torch.equal(normalised, normalised_before)
    assert (scores[0] - scores[1]).abs().max() > 1e-6


def test_bninception_takes_bgr_of_0_to_255():
    model = small_model(module="tsn", arch="BNInception")
    clip = pixels(model, size=8)[0]
    expected = clip.flip(1).float() - torch.tensor([104.0, 117, 128]).reshape(3, 1, 1)
    assert torch.equal(model.preprocess(clip), expected)


@pytest.mark.parametrize(
    ("arch", "scale", "mean", "std"), [("resnet18", 255, 0.5, 0.226), ("BNInception", 1, 128, 1)]
)
def test_flow_is_normalised_around_no_motion(arch, scale, mean, std):
    model = small_model(module="tsm", arch=arch, modality="Flow", shift_place="block")
    assert (model.frames_per_segment, model.frame_channels) == (5, 10)
    clip = pixels(model, size=8)[0]
    assert clip.shape == (4, 10, 8, 8)
    torch.testing.assert_close(
        model.preprocess(clip), (clip / scale - mean) / std, rtol=1e-5, atol=1e-5
    )  # every channel


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("arch", "scale"), [("resnet18", 255), ("BNInception", 1)])
def test_differences_are_taken_of_pixels_and_of_normalised_frames(arch, scale, channels_last):
    model = small_model(module="tsn", arch=arch, modality="RGBDiff")
    if channels_last:
        model.to_channels_last()
    assert (model.frames_per_segment, model.frame_channels) == (6, 18)
    clip = pixels(model, size=8)[0]
    frames = clip.float().unflatten(1, (6, 3))
    if arch == "BNInception":
        frames = frames.flip(2)
    expected = (frames[:, 1:] - frames[:, :-1]).flatten(1, 2) / scale
    for given, wanted in ((clip, expected), (clip.float(), None)):
        seen = model.preprocess(given)
        assert seen.shape == (4, 15, 8, 8) and seen.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        if wanted is not None:
            torch.testing.assert_close(seen, wanted, rtol=1e-6, atol=1e-6)
    still = clip[:, :3].repeat(1, 6, 1, 1)
    assert not model.preprocess(still).any() and not model.preprocess(still.float()).any()


def test_float64_network_takes_pixels():
    model = small_model(module="tsn").double().eval()
    with torch.no_grad():
        assert model(pixels(model)).dtype == torch.float64


@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 15, 8, 8),
        (1, 4, 3, 8, 8),
        (1, 45, 8, 8),
        (1, 15, 4, 8, 8),
        (1, 4, 14, 8, 8),
        (4, 15, 8, 8),
        (60, 8, 8),
        (1, 2, 30, 8, 8),
        (1, 1, 4, 15, 8, 8),
        (60,),
    ],
)
def test_clips_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, 4, 15, H, W\]"):
        small_model(module="tdn")(torch.zeros(shape))


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet17"},
        {"module": "tsx"},
        {"modality": "Flows"},
        {"consensus": "max"},
        {"num_class": 0},
        {"num_segments": 0},
    ],
)
def test_unknown_names_are_user_errors(options):
    with pytest.raises(UserError) as error:
        TSN(**{"num_class": 3, **options})
    assert str(next(iter(options.values()))) in str(error.value) and "\n" not in str(error.value)


def test_consensus():
    torch.manual_seed(0)
    average = small_model(module="tdn").eval()
    identity = small_model(module="tdn", consensus="identity").eval()
    identity.load_state_dict(average.state_dict())
    clip = pixels(average)
    with torch.no_grad():
        segments = identity(clip)
        assert segments.shape == (2, 4, 5)
        torch.testing.assert_close(average(clip), segments.mean(1))
    assert (segments[:, 0] - segments[:, 1]).abs().max() > 0


def test_dropout_works_on_each_segment_in_training_only():
    model = small_model(module="tsn", dropout=0.5, consensus="identity").eval()
    clip = pixels(model)[:, :1].expand(-1, 4, -1, -1, -1)
    with torch.no_grad():
        scores = model(clip)
        assert torch.equal(scores, model(clip)) and torch.allclose(
            scores[:, 0], scores[:, 1], atol=1e-6
        )
        model.dropout.train()
        scores = model(clip)
    assert (scores[:, 0] - scores[:, 1]).abs().max() > 1e-4


# Partial BN.


def norms(model):
    return [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("module", MODULES)
def test_partial_bn_trains_the_first_norm_and_those_of_modules(module):
    """The entry of a module says whether partial BN freezes its BatchNorms, too."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    plain = small_model(module="tsn").named_modules()
    of_the_backbone = {name for name, layer in plain if isinstance(layer, kinds)}
    model = randomize_norms(small_model(module=module, partial_bn=True)).train()
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    before = {name: layer.running_mean.clone() for name, layer in layers.items()}
    model(pixels(model)).sum().backward()
    assert len(of_the_backbone) == 20 and of_the_backbone <= layers.keys()
    for name, layer in layers.items():
        trained = name == "backbone.bn1"
        if name not in of_the_backbone:
            trained = not MODULES[module].partial_bn_freezes
        assert torch.equal(layer.running_mean, before[name]) != trained, name
        assert (layer.weight.grad is not None) == trained, name
        assert (layer.bias.grad is not None) == trained, name


def test_partial_bn_leaves_non_local_blocks_alone():
    """In the original no optimizer group has their BatchNorm, so that they stay the identity."""
    model = small_model(module="tsm", non_local=True, partial_bn=True).train()
    block = model.backbone.layer2[0].after_block
    assert block.expand_bn.training and block.expand_bn.weight.requires_grad
    assert not model.backbone.layer2[0].bn1.training
    model(pixels(model)).sum().backward()
    assert block.expand_bn.weight.grad.abs().max() > 0


def test_partial_bn_on_off_on():
    model = small_model(module="tdn")
    state = {"on": [], "off": []}
    for mode in ("off", "on", "off", "on"):
        model.partial_bn = mode == "on"
        assert model.partial_bn == (mode == "on")
        for training in (True, False, True):
            model.train(training)
            first, *later = norms(model)
            assert first.training == training and {bn.training for bn in later} == {
                training and mode == "off"
            }
            assert model.head.training == training
        state[mode].append([p.requires_grad for p in model.parameters()])
    assert all(state["off"][0]) and state["off"][0] == state["off"][1]
    assert state["on"][0] == state["on"][1]
    assert state["on"][0].count(False) == 2 * len(later)
    model.eval()
    model.partial_bn = False  # a switch in eval mode does not start training
    assert not any(m.training for m in model.modules())


def test_train_and_eval_return_the_model():
    model = small_model(module="tsn", partial_bn=True)
    assert (
        model.train() is model
        and model.eval() is model
        and model.train(False) is model
        and not model.training
    )


# Parameters.


def test_every_parameter_is_used():
    """So DistributedDataParallel needs no find_unused_parameters."""
    for module in MODULES:
        model = small_model(module=module).train()
        model(pixels(model)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_insert_keeps_what_the_backbone_has():
    model = small_model(module="tsn")
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    insert("tdn", model.backbone, 4)
    after = model.backbone.state_dict()
    assert len(after) > len(before) and all(
        torch.equal(after[key], value) for key, value in before.items()
    )


@pytest.mark.parametrize("module", ["tsn", "tsm", "tdn"])
def test_scores_are_the_classifier_of_the_features(module):
    model = small_model(module)
    clip = pixels(model)
    with torch.no_grad():
        features = model.features(clip)
        assert features.shape == (2, 4, 512)
        assert torch.allclose(model.head(features).mean(1), model(clip), atol=1e-5)
    assert model.is_framewise == (module == "tsn")


def test_features_of_single_segments():
    model = small_model("tsn")
    clip = pixels(model)
    with torch.no_grad():
        features = model.segment_features(clip.flatten(0, 1)).unflatten(0, (2, 4))
        assert torch.allclose(features, model.features(clip), atol=1e-5)
    assert small_model("tsn", temporal_pool=True).features(clip).shape == (2, 2, 512)
    for other in (small_model("tsm"), small_model("tsn", temporal_pool=True)):
        with pytest.raises(ValueError):
            other.segment_features(clip.flatten(0, 1))
