import os
import re

import pytest
import torch
import torchvision
from helpers.models import assert_same_weights, load_refused, saved, small_model

from ops.checkpoints import export_state_dict, fill, load_model, save_checkpoint, tune
from ops.checkpoints.torch_file import WEIGHT_KEYS, read_checkpoint
from ops.models import TSN
from ops.utils.errors import UserError

# Files of this project.


@pytest.mark.parametrize("module", ["tdn", "tsn"])
def test_round_trip(tmp_path, module):
    model = small_model(module, dropout=0.3, input_size=112).train()
    clip = torch.randint(256, (2, 4, model.frame_channels, 32, 32), dtype=torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(clip).square().sum().backward()
    optimizer.step()
    path = tmp_path / "last.pth"
    save_checkpoint(
        path,
        model,
        optimizer=optimizer,
        class_names=["a", "b", "c", "d", "é"],
        recipe={"lr": 0.1},
        epoch=3,
        metrics={"top1": 50.0},
    )
    again = load_model(path, quiet=True)
    assert_same_weights(again, model)
    assert again.spec == model.spec and again.class_names == ["a", "b", "c", "d", "é"]
    assert not again.training and again.dropout.p == 0.3 and again.input_size == 112
    with torch.no_grad():
        assert torch.equal(again(clip), model.eval()(clip))
    content = read_checkpoint(path)
    assert (
        content["epoch"] == 3
        and content["recipe"] == {"lr": 0.1}
        and content["metrics"] == {"top1": 50.0}
    )
    assert (
        content["versions"]["torch"] == torch.__version__.split("+")[0] and content["format"] == 1
    )
    # Tensors and plain values only: torch finds no unsafe global, and the optimizer resumes.
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
    other = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
    other.load_state_dict(content["optimizer"])
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])


def test_a_checkpoint_of_a_channels_last_model_is_the_same(tmp_path):
    plain, model = small_model(), small_model().to_channels_last()
    save_checkpoint(tmp_path / "a.pth", model)
    assert all(
        value.is_contiguous()
        for value in read_checkpoint(tmp_path / "a.pth")["state_dict"].values()
    )
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, plain)
    assert all(p.is_contiguous() for p in again.parameters()) and not again.channels_last


def test_loading_and_saving_leave_the_model_alone(tmp_path):
    model = small_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    again = load_model(model.state_dict(), num_segments=4, quiet=True)
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1)
    assert_same_weights(model, before)


def test_the_report_is_printed(tmp_path, capsys):
    save_checkpoint(tmp_path / "a.pth", small_model())
    model = load_model(tmp_path / "a.pth")
    line = capsys.readouterr().out.strip()
    count = len(model.state_dict())
    assert (
        line
        == model.report
        == (
            f"{tmp_path / 'a.pth'}: layout: this project, tdn resnet18, 4 segments; "
            f"loaded {count}, unexpected 0, missing 0"
        )
    )
    load_model(tmp_path / "a.pth", quiet=True)
    assert capsys.readouterr().out == ""


def test_number_of_segments(tmp_path):
    model = small_model()
    save_checkpoint(tmp_path / "a.pth", model)
    assert load_model(tmp_path / "a.pth", quiet=True).num_segments == 4
    assert load_model(tmp_path / "a.pth", num_segments=16, quiet=True).num_segments == 16
    bare = load_model(model.state_dict(), quiet=True)
    assert bare.num_segments == 8 and "assumed num_segments 8" in bare.report
    given = load_model(model.state_dict(), num_segments=8, quiet=True)
    assert "assumed" not in given.report and given.class_names is None


def test_a_bare_state_dict_of_ours_needs_its_module():
    """Its keys do not show a shift: it would load as a TSN without a word."""
    model = small_model("tsm")
    load_refused(model.state_dict(), "--module")
    loaded = load_model(model.state_dict(), 4, module="tsm", quiet=True)
    assert loaded.spec == model.spec | {"dropout": loaded.spec["dropout"]}
    assert "assumed shift_div 8, shift_place blockres, shift_direction both" in loaded.report
    assert_same_weights(loaded, model)


def test_assumptions_about_a_published_file_are_reported():
    """tonylins' MobileNetV2 files show no shift, and hold image classifiers as well."""
    state = export_state_dict(small_model("tsn").to("cpu"), "torchvision")
    assert "assumed num_segments 8 " in load_model(state, quiet=True).report
    torch.manual_seed(0)
    mobile = TSN(5, 4, arch="mobilenetv2", module="tsm").eval()
    report = load_model(export_state_dict(mobile, "mobilenetv2"), quiet=True).report
    assert "assumed module tsn, num_segments 8 " in report


# Files with several sets of weights.


def test_raw_and_averaged_weights():
    raw, averaged = small_model("tdn", seed=0), small_model("tdn", seed=1)
    content = {
        "model": raw.state_dict(),
        "model_ema": {"n_averaged": torch.tensor(3), **_prefixed(averaged, "module.")},
        "criterion": {"weight": torch.ones(5)},
    }
    loaded = load_model(content, 4, quiet=True)
    assert_same_weights(loaded, raw)
    assert "weights model (not model_ema; --weights_key" in loaded.report
    chosen = load_model(content, 4, weights_key="model_ema", quiet=True)
    assert_same_weights(chosen, averaged)
    assert "weights model_ema (not model; --weights_key" in chosen.report
    load_refused(content, "--weights_key state_dict", "model, model_ema", weights_key="state_dict")


def test_weights_key_of_our_own_checkpoints(tmp_path):
    averaged, trained = small_model("tsm", seed=0), small_model("tsm", seed=1)
    path = tmp_path / "a.pth"
    save_checkpoint(path, averaged, trained_state_dict=trained.state_dict())
    assert_same_weights(load_model(path, quiet=True), averaged)
    loaded = load_model(path, weights_key="trained_state_dict", quiet=True)
    assert_same_weights(loaded, trained)
    assert loaded.spec == trained.spec


@pytest.mark.parametrize("key", [*WEIGHT_KEYS, "anything"])
def test_weights_under_the_keys_of_other_tools(key):
    model = small_model("tdn")
    content = {"epoch": 3, key: _prefixed(model, "model."), "optimizer": {"state": {}}}
    loaded = load_model(content, 4, quiet=True)
    assert_same_weights(loaded, model)
    assert "--weights_key" not in loaded.report


def test_several_unknown_sets_of_weights_are_not_guessed():
    state = small_model("tdn").state_dict()
    load_refused({"one": state, "two": state}, "one, two", "--weights_key")


def _prefixed(model, prefix):
    return {prefix + key: value for key, value in model.state_dict().items()}


# Networks that look like a TSM and are none.


@pytest.mark.parametrize("conv", ["conv2", "conv1"])
def test_shifts_at_other_places_are_refused(conv):
    """--shift of the TIN repository: before conv2 as well; or in another choice of blocks."""
    state = export_state_dict(small_model("tsm"), "tsm")
    changed = {}
    for key, value in state.items():
        if conv == "conv1":  # one block without its shift
            key = key.replace("layer3.1.conv1.net.", "layer3.1.conv1.")
        else:
            key = key.replace(".conv2.", ".conv2.net.")
        changed[key] = value
    load_refused(
        changed, "not supported", "TIN repository" if conv == "conv2" else "shifts 7 blocks"
    )


def test_every_block_of_a_deep_network_shifted_is_no_tsm():
    """n_round 1, as the TIN repository has it; TSM shifts every second block there."""
    torch.manual_seed(0)
    state = export_state_dict(TSN(3, 4, arch="resnet101", module="tsm"), "tsm")
    assert load_model(state, 4, quiet=True).spec["module"] == "tsm"
    everywhere = {
        re.sub(r"(layer\d\.\d+\.conv1)\.(net\.)?weight", r"\1.net.weight", key): value
        for key, value in state.items()
    }
    load_refused(everywhere, "shifts 33 blocks", "TSM shifts 18")


@pytest.mark.parametrize("layout", ["ours", "tdn"])
def test_another_number_of_classes_gives_a_new_head(layout):
    model = small_model(num_class=5)
    state = export_state_dict(model, layout)
    torch.manual_seed(1)
    other = load_model(state, num_class=7, quiet=True)
    backbone = len(model.backbone.state_dict())
    assert other.report.endswith(f"loaded {backbone}, head new (5 -> 7), unexpected 0, missing 0")
    assert other.head.weight.shape == (7, 512) and 0 < other.head.weight.abs().max() < 0.01
    assert not other.head.bias.any()
    assert_same_weights(other.backbone, model.backbone)
    same = load_model(state, num_class=5, quiet=True)
    assert "head new" not in same.report and torch.equal(same.head.weight, model.head.weight)


def test_overrides_win(tmp_path):
    model = small_model()
    save_checkpoint(tmp_path / "a.pth", model)
    other = load_model(
        tmp_path / "a.pth", dropout=0.1, consensus="identity", partial_bn=True, quiet=True
    )
    assert other.dropout.p == 0.1 and other.partial_bn and other.spec["consensus"] == "identity"
    assert other(torch.zeros(1, 4, 15, 32, 32)).shape == (1, 4, 5)


def test_the_precision_is_the_files(tmp_path):
    double = small_model().double()
    save_checkpoint(tmp_path / "a.pth", double)
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, double)
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    half = {
        key: value.half() if value.is_floating_point() else value
        for key, value in small_model().state_dict().items()
    }
    single = load_model(half, num_segments=4, quiet=True)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert torch.equal(single.head.weight, half["head.weight"].float())


# Published files of TSM: the name of the file or folder gives what keys and shapes do not.


def published(folder, name, module="tsm", layout="tsm", **options):
    model = small_model(module, **options)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    content = {
        "state_dict": export_state_dict(model, layout),
        "epoch": 50,
        "arch": "resnet18",
        "best_prec1": 70.0,
    }
    torch.save(content, folder / name)
    return folder / name, model


@pytest.mark.parametrize(
    "name",
    [
        "TSM_kinetics_RGB_resnet18_shift4_blockres_avg_segment16_e50.pth",
        "TSM_kinetics_RGB_resnet18_shift4_blockres_avg_segment16_e50/ckpt.best.pth.tar",
    ],
)
def test_the_name_of_a_file_or_its_folder_completes_it(tmp_path, name):
    path, _ = published(
        tmp_path / "TSM_other_Flow_resnet50_avg_segment3_e1_nl" / "shift8_dir", name, shift_div=4
    )
    model = load_model(path)
    assert (model.num_segments, model.spec["shift_div"], model.spec["shift_place"]) == (
        16,
        4,
        "blockres",
    )
    assert "(assumed" not in model.report
    flags = load_model(path, num_segments=8, shift_div=8, quiet=True)  # flags win
    assert (flags.num_segments, flags.spec["shift_div"]) == (8, 8)


@pytest.mark.parametrize(
    ("name", "said", "held"),
    [
        (
            "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth",
            "arch resnet50",
            "arch resnet18",
        ),
        (
            "TSM_kinetics_Flow_resnet18_shift8_blockres_avg_segment8_e50.pth",
            "modality Flow",
            "modality RGB",
        ),
        ("TSM_kinetics_RGB_resnet18_avg_segment8_e50.pth", "module tsn", "module tsm"),
        (
            "TSM_kinetics_RGB_resnet18_shift8_block_avg_segment8_e50.pth",
            "shift_place block",
            "shift_place blockres",
        ),
        (
            "TSM_kinetics_RGB_resnet18_shift8_blockres_avg_segment8_e50_dense_nl.pth",
            "non_local True",
            "non_local False",
        ),
        (
            "TSM_kinetics_RGB_resnet18_shift8_blockres_tpool_avg_segment8_e50.pth",
            "temporal_pool True",
            "temporal_pool False",
        ),
    ],
)
def test_a_name_that_contradicts_the_weights(tmp_path, name, said, held):
    path, _ = published(tmp_path, name)
    load_refused(path, f"its name says {said}, its weights are of {held}")


def test_only_the_name_of_a_bninception_file_contains_its_shift(tmp_path):
    model = TSN(5, 4, arch="BNInception", module="tsm", shift_place="block")
    path = saved(
        tmp_path,
        {"state_dict": export_state_dict(model, "tsm")},
        "TSM_ucf101_RGB_BNInception_shift8_block_avg_segment4_e50.pth",
    )
    assert load_model(path, quiet=True).spec == {**model.spec, "dropout": 0.5}
    assert load_model(export_state_dict(model, "tsm"), 4, quiet=True).spec["module"] == "tsn"
    given = load_model(
        export_state_dict(model, "tsm"), 4, module="tsm", shift_place="block", quiet=True
    )
    assert given.spec == load_model(path, quiet=True).spec


def test_the_bare_file_of_the_online_demo(tmp_path):
    model = TSN(27, 8, arch="mobilenetv2", module="tsm", shift_direction="past")
    state = export_state_dict(model, "mobilenetv2")
    assert (
        len(state) == 314 and "features.3.conv.0.weight" in state and "classifier.weight" in state
    )
    again = load_model(saved(tmp_path, state, "mobilenetv2_jester_online.pth.tar"), quiet=True)
    assert again.spec == {**model.spec, "dropout": 0.5}
    assert_same_weights(again, model)


def test_another_module_takes_over_the_weights_of_a_file():
    tsn = load_model(export_state_dict(small_model("tsm"), "tsm"), 4, module="tsn", quiet=True)
    assert tsn.spec["module"] == "tsn" and "shift_div" not in tsn.spec
    ours = {
        "model": small_model("tsm").spec,
        "state_dict": small_model("tsm").state_dict(),
    }  # None: a flag that was not given
    assert "shift_div" not in load_model(ours, module="tsn", shift_div=None, quiet=True).spec
    tsm = load_model(
        export_state_dict(small_model("tsn"), "tsm"), 4, module="tsm", shift_div=4, quiet=True
    )
    assert (tsm.spec["module"], tsm.spec["shift_div"]) == ("tsm", 4)


# Fine-tuning.


def tuned(model, source, dataset="mine", class_names=None):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report, head_kept = tune(model, source, dataset=dataset, class_names=class_names)
    assert "\n" not in report
    return report, head_kept, before


def test_tuning_takes_the_backbone_and_leaves_a_head_of_other_classes():
    source, model = small_model("tsn", num_class=5, seed=1), small_model("tsm", num_class=7)
    report, kept, before = tuned(model, export_state_dict(source, "tsm"))
    assert (
        not kept
        and "head new (5 -> 7)" in report
        and f"loaded {len(source.backbone.state_dict())}" in report
    )
    assert_same_weights(model.backbone, source.backbone)
    assert torch.equal(model.head.weight, before["head.weight"])


@pytest.mark.parametrize(
    ("names", "theirs", "kept"),
    [
        ("abcde", "abcde", True),
        ("abcde", None, False),
        (None, None, False),
    ],
)
def test_tuning_keeps_the_head_of_the_same_class_names(tmp_path, names, theirs, kept):
    source = small_model("tsm", seed=1)
    save_checkpoint(tmp_path / "a.pth", source, class_names=theirs)
    model = small_model("tsm")
    report, head_kept, _ = tuned(model, tmp_path / "a.pth", class_names=names and list(names))
    assert head_kept == kept and torch.equal(model.head.weight, source.head.weight) == kept
    assert ("head taken over" in report) == kept and ("head new (5 -> 5): " in report) != kept


@pytest.mark.parametrize(
    ("theirs", "ours", "labels", "text"),
    [
        ("abcde", "abced", [0, 1, 2, 4, 3], "head of all 5 classes"),
        ("abcde", "abcdef", [0, 1, 2, 3, 4, None], "head of 5 of 6 classes"),
        ("abcde", "xeay", [None, 4, 0, None], "head of 2 of 4 classes"),
        ("aacde", "abcde", [None, None, 2, 3, 4], "head of 3 of 5 classes"),
        ("abcde", "vwxyz", [None] * 5, "head new (5 -> 5): other classes"),
        ("abcde", "vwxyzu", [None] * 6, "head new (5 -> 6)"),
    ],
)
def test_tuning_keeps_the_rows_of_the_same_class_names(tmp_path, theirs, ours, labels, text):
    source = small_model("tsm", seed=1)
    torch.nn.init.normal_(source.head.bias)
    save_checkpoint(tmp_path / "a.pth", source, class_names=theirs)
    model = small_model("tsm", num_class=len(ours))
    before = model.head.weight.detach().clone()
    report, head_kept, _ = tuned(model, tmp_path / "a.pth", class_names=list(ours))
    assert text in report and head_kept == (None not in labels)
    for label, theirs_label in enumerate(labels):
        if theirs_label is None:
            assert torch.equal(model.head.weight[label], before[label])
            assert model.head.bias[label] == 0
        else:
            assert torch.equal(model.head.weight[label], source.head.weight[theirs_label])
            assert model.head.bias[label] == source.head.bias[theirs_label]


def test_a_dry_run_of_tuning_changes_nothing(tmp_path):
    save_checkpoint(tmp_path / "a.pth", small_model("tsm", seed=1))
    with torch.device("meta"):
        model = TSN(5, 4, arch="resnet18", module="tsm")
    report, _ = tune(model, tmp_path / "a.pth", dataset="ucf101", class_names=None, dry_run=True)
    assert "tsm resnet18, 4 segments; loaded 120, head new (5 -> 5)" in report
    with pytest.raises(UserError, match="no such checkpoint file"):
        tune(model, tmp_path / "b.pth", dataset="ucf101", class_names=None, dry_run=True)


@pytest.mark.parametrize(("dataset", "kept"), [("something", False), ("somethingv2", True)])
def test_tuning_by_the_data_set_in_the_name(tmp_path, dataset, kept):
    """The original keeps the head of V2 for V1, whose name is a part of the other's."""
    path, _ = published(
        tmp_path, "TSM_somethingv2_RGB_resnet18_shift8_blockres_avg_segment8_e45.pth", seed=1
    )
    assert tuned(small_model("tsm"), path, dataset=dataset)[1] == kept


def test_tuning_another_modality_starts_from_the_mean_of_the_files_first_conv():
    source, model = small_model("tsm", seed=1), small_model("tsm", modality="Flow")
    report, _, _ = tuned(model, export_state_dict(source, "tsm"))
    assert "first conv 3 -> 10 channels" in report
    expected = source.backbone.conv1.weight.mean(1, keepdim=True).expand(-1, 10, -1, -1)
    torch.testing.assert_close(model.backbone.conv1.weight, expected)
    assert torch.equal(
        model.backbone.layer1[0].conv1.weight, source.backbone.layer1[0].conv1.weight
    )


def test_tuning_leaves_modules_of_one_side_alone():
    source, model = small_model("tdn", seed=1), small_model("tsm", non_local=True)
    report, _, before = tuned(model, source.state_dict())
    inserted = [key for key in model.state_dict() if ".after_block." in key]
    theirs = [key for key in source.state_dict() if ".before_conv2." in key or ".stem." in key]
    counters = sum(key.endswith("num_batches_tracked") for key in inserted)
    assert f"new {len(inserted) - counters}, not used {len(theirs)}" in report
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in inserted)


def test_tuning_a_module_of_another_number_of_segments():
    source, model = small_model("tam", seed=1), TSN(5, 8, arch="resnet18", module="tam")
    report, _, before = tuned(model, source.state_dict())
    changed = [
        key
        for key in before
        if ".before_conv2." in key and before[key].shape != source.state_dict()[key].shape
    ]
    assert changed and all(torch.equal(model.state_dict()[key], before[key]) for key in changed)
    assert f"new {len(changed)}, not used 0" in report
    key = "backbone.layer1.0.before_conv2.gate_conv1.weight"
    assert torch.equal(model.state_dict()[key], source.state_dict()[key])


def test_tuning_another_backbone_is_refused():
    for model in (
        TSN(5, 4, arch="resnet34", module="tsm"),
        TSN(5, 4, arch="resnet50"),
        TSN(5, 4, arch="mobilenetv2"),
    ):
        with pytest.raises(UserError, match="tsm resnet18, whose backbone does not fit a"):
            tune(model, export_state_dict(small_model("tsm"), "tsm"), dataset="x", class_names=None)


# What is wrong is named.


def test_missing_unexpected_and_misshapen_weights_are_named():
    state = small_model().state_dict()
    key = "backbone.layer3.0.before_conv2.squeeze.weight"
    load_refused(
        {k: v for k, v in state.items() if k != key}, "1 weights missing", key, "tdn resnet18"
    )
    load_refused(
        {**state, "backbone.extra.weight": torch.ones(1)},
        "1 weights unexpected",
        "backbone.extra.weight",
    )
    load_refused({**state, key: torch.ones(3, 3)}, "1 weights of another shape", key)
    gone = {k: v for k, v in state.items() if ".before_conv2.fine_bn." not in k}
    message = load_refused(
        gone, "weights missing", "backbone.layer2.0.before_conv2.fine_bn.weight", ", ..."
    )
    assert (
        f"{len(state) - len(gone) - 6} weights missing" in message
    )  # the batch counters of 6 blocks may be absent


def test_batch_counters_may_be_absent_as_in_old_files():
    state = small_model().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    model = load_model(old, num_segments=4, quiet=True)
    assert_same_weights(model, state)
    assert f"loaded {len(old)}," in model.report


def test_a_file_of_ours_without_its_head(tmp_path):
    content = {
        "model": small_model().spec,
        "state_dict": {k: v for k, v in small_model().state_dict().items() if "head" not in k},
    }
    load_refused(saved(tmp_path, content), "2 weights missing", "head.weight, head.bias")
    model = load_model(content, num_class=9, quiet=True)
    assert "head new (5 -> 9)" in model.report
    load_refused(content["state_dict"], "with a classifier")


def test_files_of_other_systems_are_refused_with_names():
    load_refused(
        {"features.0.weight": torch.ones(1)},
        "unknown layout of weights (first key: features.0.weight)",
    )
    regnet = {"conv1.weight": torch.zeros(1, 3, 3, 3), "trunk_output.block1.weight": torch.ones(1)}
    load_refused(regnet, "looks like the torchvision layout", "fit no known backbone")
    state = torchvision.models.resnet18().state_dict()
    headless = {k: v for k, v in state.items() if not k.startswith("fc.")}
    load_refused(headless, "fit no known backbone with a classifier")
    seven = {**state, "conv1.weight": torch.zeros(64, 7, 7, 7)}
    load_refused(seven, "7 input channels; known are 3 (RGB), 10 (Flow), 15 (RGBDiff)")


def test_an_option_of_another_version_is_named(tmp_path):
    model = small_model()
    content = {"model": {**model.spec, "fourier": 3}, "state_dict": model.state_dict()}
    load_refused(saved(tmp_path, content), "its model needs an option", "fourier")
    load_refused(model.state_dict(), "its model needs an option", "shift", shift=3)
    load_refused({**content, "model": {**model.spec, "module": "warp"}}, "--module warp: unknown")
    # A dictionary that is no specification of a model does not stand in the way of the weights.
    assert (
        load_model({**content, "model": {"note": "hello"}}, num_segments=4, quiet=True).spec
        == model.spec
    )


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        "text",
        torch.ones(3),
        {},
        {"epoch": 3},
        {"state_dict": {}},
        {1: torch.ones(2)},
        None,
    ],
)
def test_a_file_without_weights(tmp_path, content):
    path = saved(tmp_path, content)
    load_refused(path, path, "contains no weights")


def test_fill_is_strict():
    model = small_model()
    with pytest.raises(UserError, match=r"here: .* weights missing"):
        fill(model, {}, "here")
    assert (
        fill(model, model.state_dict(), "here")
        == f"loaded {len(model.state_dict())}, unexpected 0, missing 0"
    )


# torchvision's files.


@pytest.mark.parametrize("legacy", [False, True])
def test_a_plain_torchvision_file(tmp_path, legacy):
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(weights=None).eval()
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    path = saved(tmp_path, theirs.state_dict(), _use_new_zipfile_serialization=not legacy)
    model = load_model(path, num_segments=3, quiet=True)
    assert (
        model.spec["module"] == "tsn"
        and model.spec["arch"] == "resnet18"
        and model.num_class == 1000
    )
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(frames.flatten(0, 1)).unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(model(frames), expected, rtol=1e-5, atol=1e-5)


# Files as other projects release them.


def test_a_write_that_fails_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    model = small_model("tsn")
    save_checkpoint(path, model, epoch=1)
    before = path.read_bytes()
    real = torch.save

    def disk_full(content, file):
        real(content, file)
        raise OSError("No space left on device")

    def stopped(content, file):
        file.write(b"half a")
        raise KeyboardInterrupt

    for failure, error in ((disk_full, OSError), (stopped, KeyboardInterrupt)):
        monkeypatch.setattr(torch, "save", failure)
        with pytest.raises(error):
            save_checkpoint(path, model, epoch=2)
        assert path.read_bytes() == before and os.listdir(tmp_path) == ["last.pth"]
    monkeypatch.undo()
    save_checkpoint(path, model, epoch=2)
    assert read_checkpoint(path)["epoch"] == 2 and os.listdir(tmp_path) == ["last.pth"]
