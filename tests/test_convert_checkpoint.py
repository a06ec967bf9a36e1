from functools import cache

import pytest
import safetensors.torch
import torch
from helpers.golden_fill import load
from helpers.launch import call, refused
from helpers.models import assert_same_weights, saved, small_model

from lib.weights import conversion
from ops.checkpoints import export_state_dict, load_model, save_checkpoint
from ops.checkpoints.identify import read_weights
from ops.checkpoints.layouts import LAYOUTS
from ops.checkpoints.torch_file import find_weights
from ops.models import TSN
from ops.temporal import MODULES

TSM_NAME = "TSM_kinetics_RGB_resnet18_shift4_blockres_avg_segment16_e50.pth"


def convert(*args):
    return call("convert_checkpoint", *args)


def names(tmp_path, count):
    path = tmp_path / "classes.txt"
    path.write_text("".join(f"class {label}\n" for label in range(count)))
    return path


@cache
def published():
    """A published state dict, to be copied before it is changed."""
    return export_state_dict(small_model("tsm"), "tsm")


def tsm(tmp_path, name=TSM_NAME):
    return saved(tmp_path, {"state_dict": published()}, name)


def test_a_published_file_becomes_a_checkpoint_that_explains_itself(tmp_path, capsys):
    out = tmp_path / "out.pth"
    assert convert(tsm(tmp_path), out, "--class_names", names(tmp_path, 5)) == 0
    printed = capsys.readouterr().out
    for line in (
        "layout: tsm, dataset kinetics",
        "model       tsm resnet18, shift 1/4 blockres, 16 segments",
        "T           16 (the file's name)",
        "classes     5 (with their names)",
        "layout: this project; loaded again: the same 122 tensors",
    ):
        assert line in printed, printed
    assert "assumed" not in printed
    content = torch.load(out, weights_only=True)
    assert content["model"]["shift_div"] == 4 and content["recipe"] == {"dataset": "kinetics"}
    assert content["converted_from"] == {"file": TSM_NAME, "layout": "tsm"}
    model = load_model(out, quiet=True)
    assert model.num_segments == 16 and model.class_names == [
        f"class {label}" for label in range(5)
    ]
    assert_same_weights(model, small_model("tsm"))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [TSM_NAME, "classes.txt", "out.pth"]
    )


def test_what_the_file_does_not_contain_is_assumed_or_given(tmp_path, capsys):
    source = tsm(tmp_path, "anonymous.pth")
    assert convert(source, tmp_path / "a.pth") == 0
    printed = capsys.readouterr().out
    assert (
        "T           8 (assumed)" in printed
        and "assumed     num_segments 8, shift_div 8, shift_direction both" in printed
    )
    assert (
        convert(
            source,
            tmp_path / "b.pth",
            "--num_segments",
            3,
            "--shift_div",
            4,
            "--shift_direction",
            "past",
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "T           3 (a flag)" in printed and "assumed" not in printed
    spec = load_model(tmp_path / "b.pth", quiet=True).spec
    assert (spec["num_segments"], spec["shift_div"], spec["shift_direction"]) == (3, 4, "past")


ROUND_TRIPS = [
    (module, arch, layout)
    for layout, row in LAYOUTS.items()
    if row.written
    for module in row.modules or tuple(MODULES)[-1:]
    for arch in ("resnet18", "mobilenetv2")
    if ("mobilenetv2" in layout) == (arch == "mobilenetv2")
    and not (layout == "mobilenetv2" and module != "tsn")
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "arch", "layout"), ROUND_TRIPS)
def test_every_written_layout_and_back(module, arch, layout, tmp_path, capsys):
    torch.manual_seed(0)
    model = TSN(5, 4, arch=arch, module=module)
    save_checkpoint(
        tmp_path / "in.pth", model, class_names=list("abcde"), recipe={"dataset": "mine"}
    )
    assert convert(tmp_path / "in.pth", tmp_path / "theirs.pth", "--to", layout) == 0
    printed = capsys.readouterr().out
    content = torch.load(tmp_path / "theirs.pth", weights_only=True)
    if layout == "ours":
        assert content["class_names"] == list("abcde") and content["recipe"] == {"dataset": "mine"}
    else:
        state = content["state_dict"] if LAYOUTS[layout].prefix else content
        expected = export_state_dict(model, layout)
        assert state.keys() == expected.keys() and all(
            key.startswith(LAYOUTS[layout].prefix) for key in state
        )
        # The shapes of some modules contain T; else it is reported as missing.
        has_segments = "num_segments" in read_weights(tmp_path / "theirs.pth").spec
        assert ("not in it" in printed and "num_segments 4" in printed) != has_segments
    assert (
        convert(tmp_path / "theirs.pth", tmp_path / "back.pth", "--num_segments", 4, "--keys") == 0
    )
    assert_same_weights(load_model(tmp_path / "back.pth", quiet=True), model)
    rows = [line for line in capsys.readouterr().out.splitlines() if "  -> " in line]
    assert len(rows) == len(state if layout != "ours" else content["state_dict"])
    assert len({line.index("  -> ") for line in rows}) == 1  # aligned
    targets = [line.split("  -> ")[1] for line in rows]
    assert sorted(target for target in targets if target in model.state_dict()) == sorted(
        model.state_dict()
    )


@pytest.mark.parametrize("layout", ["ours", "tsm"])
def test_safetensors_and_back(layout, tmp_path):
    """The format of the file follows from its name."""
    out = tmp_path / "out.safetensors"
    source = tsm(tmp_path)
    flags = ["--class_names", names(tmp_path, 5)] if layout == "ours" else []
    assert convert(source, out, "--to", layout, *flags) == 0
    state = safetensors.torch.load_file(out)
    expected = load_model(source, quiet=True)
    if layout == "ours":
        found = load_model(out, quiet=True)
        assert found.spec == expected.spec and found.class_names[4] == "class 4"
        assert state.keys() == expected.state_dict().keys()
    else:
        assert state.keys() == published().keys()
    assert convert(out, tmp_path / "back.pth", "--num_segments", 16, "--shift_div", 4) == 0
    back = load_model(tmp_path / "back.pth", quiet=True)
    assert back.spec == expected.spec
    assert_same_weights(back, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("golden", "layout", "folded", "dropped"),
    [
        ("tdn_resnet50_8f.npz", "tdn", 63, 2),
        ("tsm_resnet50_nl_8f.npz", "tsm", 0, 0),
        ("tsm_mobilenetv2_8f.npz", "tsm-mobilenetv2", 0, 0),
        ("tam_resnet50_8f.npz", "tam", 0, 0),
        ("tin_resnet50_8f.npz", "tin", 0, 0),
    ],
)
def test_fate_of_every_key_of_the_published_files(golden, layout, folded, dropped):
    state = find_weights(load(golden)[2], golden).state
    fates = conversion.follow_keys(list(state), layout)
    assert list(fates) == list(state)
    assert sum(fate.startswith("folded into backbone.") for fate in fates.values()) == folded
    assert sum(fate.startswith("dropped") for fate in fates.values()) == dropped
    model = load_model(state, 8, quiet=True)
    plain = {key: fate for key, fate in fates.items() if fate in model.state_dict()}
    assert len(plain) == len(model.state_dict()) == len(state) - folded - dropped
    if folded:
        assert (
            fates["base_model.layer2_bak.0.downsample.0.bias"]
            == "folded into backbone.layer2.0.downsample.1.running_mean"
        )
        assert fates["base_model.conv1_temp.weight"].startswith("dropped")
    for key, ours in plain.items():
        if ours.endswith(".weight"):
            assert torch.equal(state[key].flatten(), model.state_dict()[ours].flatten()), key


def test_added_entries_are_named(tmp_path, capsys):
    """Files before torch 0.4.1 have no num_batches_tracked."""
    state = {key: value for key, value in published().items() if "num_batches_tracked" not in key}
    assert convert(saved(tmp_path, state), tmp_path / "out.pth", "--keys") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("(nothing)")]
    assert len(rows) == 20 and rows[0].endswith("-> backbone.bn1.num_batches_tracked, added")


def test_an_existing_file_is_kept_unless_forced(tmp_path, capsys):
    out = tmp_path / "out.pth"
    out.write_text("precious")
    source = tsm(tmp_path)
    assert "out.pth exists; give another OUT, or --force" in refused(
        capsys, "convert_checkpoint", source, out
    )
    assert out.read_text() == "precious"
    assert convert(source, out, "--force") == 0
    assert load_model(out, quiet=True).num_segments == 16


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.pth").symlink_to("real.pth")
    (tmp_path / "real.pth").write_text("old")
    assert convert(tsm(tmp_path), tmp_path / "link.pth", "--force") == 0
    assert (tmp_path / "link.pth").is_symlink() and load_model(
        tmp_path / "real.pth", quiet=True
    ).num_segments == 16


def test_weights_that_are_not_numbers_are_converted(tmp_path):
    state = {**published(), "module.new_fc.bias": torch.tensor([0, 0, float("nan"), 0, 0])}
    assert convert(saved(tmp_path, state), tmp_path / "out.pth") == 0
    assert load_model(tmp_path / "out.pth", quiet=True).head.bias.isnan().tolist() == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_file_that_differs_when_loaded_again_is_not_kept(tmp_path, capsys, monkeypatch):
    def broken(model, layout):
        state = export_state_dict(model, layout)
        return {**state, "module.new_fc.bias": state["module.new_fc.bias"] + 1}

    monkeypatch.setattr(conversion, "export_state_dict", broken)
    out = tmp_path / "out.pth"
    message = refused(capsys, "convert_checkpoint", tsm(tmp_path), out, "--to", "tsm")
    assert f"{out}: 1 tensor not the same when loaded again (head.bias)" in message
    assert [path.name for path in tmp_path.iterdir()] == [TSM_NAME]


@pytest.mark.parametrize(
    "case",
    [
        "missing",
        "text",
        "cut",
        "extra key",
        "other shape",
        "no folder",
        "folder",
        "below a file",
        "classes",
        "no module option",
        "other system",
        "names for theirs",
        "name of OUT",
        "ending of OUT",
    ],
)
def test_refusals_are_one_line_and_leave_nothing(case, tmp_path, capsys):
    source, out, flags, expected, state = tsm(tmp_path), tmp_path / "out.pth", [], None, published()
    if case == "missing":
        source, expected = tmp_path / "none.pth", "none.pth: no such checkpoint file"
    elif case == "text":
        source.write_text("not found")
        expected = "not a PyTorch checkpoint"
    elif case == "cut":
        source.write_bytes(source.read_bytes()[:100000])
        expected = "is the download complete?"
    elif case == "extra key":
        torch.save({**state, "module.base_model.extra": torch.zeros(1)}, source)
        expected = "1 weights unexpected"
    elif case == "other shape":
        torch.save({**state, "module.base_model.layer3.0.bn1.bias": torch.zeros(3)}, source)
        expected = "1 weights of another shape"
    elif case == "no folder":
        out, expected = (
            tmp_path / "none" / "out.pth",
            "cannot be written (No such file or directory)",
        )
    elif case == "folder":
        out, flags, expected = tmp_path, ["--force"], f"{tmp_path} exists; give another OUT"
    elif case == "below a file":
        out, expected = source / "out.pth", "cannot be written (Not a directory)"
    elif case == "classes":
        flags, expected = ["--class_names", names(tmp_path, 6)], "6"
    elif case == "no module option":
        flags, expected = (
            ["--module", "tsn", "--shift_div", 4],
            "--shift_div 4: tsn has no such option",
        )
    elif case == "other system":
        flags, expected = ["--to", "tdn"], "a tsm model cannot be written in the tdn layout"
    elif case == "names for theirs":
        flags, expected = (
            ["--to", "tsm", "--class_names", "x"],
            "--class_names: the tsm layout has no place for them",
        )
    elif case == "name of OUT":
        out = tmp_path / TSM_NAME.replace("resnet18", "resnet50")
        flags, expected = (
            ["--to", "tsm"],
            f"{out}: its name says arch resnet50, its weights are of arch resnet18",
        )
    elif case == "ending of OUT":
        source, out = tmp_path / "not read.pth", tmp_path / "x.onnx"
        expected = f"{out}: its name must end in"
    assert expected in refused(capsys, "convert_checkpoint", source, out, *flags)
    assert not out.is_file() and {path.name for path in tmp_path.iterdir()} <= {
        TSM_NAME,
        "classes.txt",
    }
