import argparse
import collections
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ops.checkpoints import export_state_dict, fill, load_model, read_checkpoint, read_state_dict, save_checkpoint
from ops.errors import UserError
from ops.layouts import strip_wrappers
from ops.models import TSN


def small(module="tdn", num_class=5, seed=0, **options):
    torch.manual_seed(seed)
    return TSN(num_class, 4, arch="resnet18", module=module, **options).eval()


def saved(tmp_path, content, name="file.pth", **options):
    path = tmp_path / name
    torch.save(content, path, **options)
    return path


def refused(source, *parts, **options):
    """load_model must refuse this source in one line that holds all the parts."""
    with pytest.raises(UserError) as error:
        load_model(source, quiet=True, **options)
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message
    return message


def assert_same_weights(model, expected):
    expected = expected if isinstance(expected, dict) else expected.state_dict()
    assert list(model.state_dict()) == list(expected)
    for key, value in model.state_dict().items():
        assert value.dtype == expected[key].dtype and torch.equal(value, expected[key]), key


# Files of this project.

@pytest.mark.parametrize("module", ["tdn", "tsn"])
def test_round_trip(tmp_path, module):
    model = small(module, dropout=0.3, input_size=112).train()
    clip = torch.randint(256, (2, 4, model.frame_channels, 32, 32), dtype=torch.uint8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(clip).square().sum().backward()
    optimizer.step()
    path = tmp_path / "last.pth"
    save_checkpoint(path, model, optimizer=optimizer, class_names=["a", "b", "c", "d", "é"], recipe={"lr": 0.1}, epoch=3,
                    metrics={"top1": 50.0})
    again = load_model(path, quiet=True)
    assert_same_weights(again, model)
    assert again.spec == model.spec and again.class_names == ["a", "b", "c", "d", "é"]
    assert not again.training and again.dropout.p == 0.3 and again.input_size == 112
    with torch.no_grad():
        assert torch.equal(again(clip), model.eval()(clip))
    content = read_checkpoint(path)
    assert content["epoch"] == 3 and content["recipe"] == {"lr": 0.1} and content["metrics"] == {"top1": 50.0}
    assert content["versions"]["torch"] == torch.__version__.split("+")[0] and content["format"] == 1
    # Tensors and plain values only: torch names nothing in it as foreign, and the optimiser goes on from it.
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
    other = torch.optim.SGD(again.parameters(), lr=0.1, momentum=0.9)
    other.load_state_dict(content["optimizer"])
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])


def test_a_checkpoint_of_a_channels_last_model_is_the_same(tmp_path):
    plain, model = small(), small().to_channels_last()
    save_checkpoint(tmp_path / "a.pth", model)
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, plain)
    assert all(p.is_contiguous() for p in again.parameters()) and not again.channels_last


def test_loading_and_saving_leave_the_model_alone(tmp_path):
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    again = load_model(model.state_dict(), num_segments=4, quiet=True)
    with torch.no_grad():
        for p in again.parameters():
            p.add_(1)
    assert_same_weights(model, before)


def test_the_report_is_printed(tmp_path, capsys):
    save_checkpoint(tmp_path / "a.pth", small())
    model = load_model(tmp_path / "a.pth")
    line = capsys.readouterr().out.strip()
    count = len(model.state_dict())
    assert line == model.report == (f"{tmp_path / 'a.pth'}: ours layout, tdn resnet18, 4 segments; loaded {count}, unexpected 0, "
                                    f"missing 0")
    load_model(tmp_path / "a.pth", quiet=True)
    assert capsys.readouterr().out == ""


def test_number_of_segments(tmp_path):
    model = small()
    save_checkpoint(tmp_path / "a.pth", model)
    assert load_model(tmp_path / "a.pth", quiet=True).num_segments == 4
    assert load_model(tmp_path / "a.pth", num_segments=16, quiet=True).num_segments == 16
    bare = load_model(model.state_dict(), quiet=True)
    assert bare.num_segments == 8 and "8 segments (assumed: the file does not tell)" in bare.report
    told = load_model(model.state_dict(), num_segments=8, quiet=True)
    assert "8 segments; " in told.report and told.class_names is None


@pytest.mark.parametrize("layout", ["ours", "tdn"])
def test_another_number_of_classes_gives_a_new_head(layout):
    model = small(num_class=5)
    state = export_state_dict(model, layout)
    torch.manual_seed(1)
    other = load_model(state, num_class=7, quiet=True)
    backbone = len(model.backbone.state_dict())
    assert other.report.endswith(f"loaded {backbone}, head new (5 -> 7), unexpected 0, missing 0")
    assert other.head.weight.shape == (7, 512) and 0 < other.head.weight.abs().max() < 0.01 and not other.head.bias.any()
    assert_same_weights(other.backbone, model.backbone)
    same = load_model(state, num_class=5, quiet=True)
    assert "head new" not in same.report and torch.equal(same.head.weight, model.head.weight)


def test_overrides_win(tmp_path):
    model = small()
    save_checkpoint(tmp_path / "a.pth", model)
    other = load_model(tmp_path / "a.pth", dropout=0.1, consensus="identity", partial_bn=True, quiet=True)
    assert other.dropout.p == 0.1 and other.partial_bn and other.spec["consensus"] == "identity"
    assert other(torch.zeros(1, 4, 15, 32, 32)).shape == (1, 4, 5)


def test_the_precision_is_the_files(tmp_path):
    double = small().double()
    save_checkpoint(tmp_path / "a.pth", double)
    again = load_model(tmp_path / "a.pth", quiet=True)
    assert_same_weights(again, double)
    assert {p.dtype for p in again.parameters()} == {torch.float64}
    half = {key: value.half() if value.is_floating_point() else value for key, value in small().state_dict().items()}
    single = load_model(half, num_segments=4, quiet=True)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert torch.equal(single.head.weight, half["head.weight"].float())


# What is wrong is named.

def test_missing_unexpected_and_misshapen_weights_are_named():
    state = small().state_dict()
    key = "backbone.layer3.0.before_conv2.squeeze.weight"
    refused({k: v for k, v in state.items() if k != key}, "1 weights missing", key, "tdn resnet18")
    refused({**state, "backbone.extra.weight": torch.ones(1)}, "1 weights unexpected", "backbone.extra.weight")
    refused({**state, key: torch.ones(3, 3)}, "1 weights of another shape", key)
    gone = {k: v for k, v in state.items() if ".before_conv2.fine_bn." not in k}
    message = refused(gone, "weights missing", "backbone.layer2.0.before_conv2.fine_bn.weight", ", ...")
    assert "30 weights" not in message and f"{len(state) - len(gone) - 6} weights missing" in message  # counters may be absent


def test_batch_counters_may_be_absent_as_in_old_files():
    state = small().state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    model = load_model(old, num_segments=4, quiet=True)
    assert_same_weights(model, state)
    assert f"loaded {len(old)}," in model.report


def test_a_file_of_ours_without_its_head(tmp_path):
    content = {"model": small().spec, "state_dict": {k: v for k, v in small().state_dict().items() if "head" not in k}}
    refused(saved(tmp_path, content), "2 weights missing", "head.weight, head.bias")
    model = load_model(content, num_class=9, quiet=True)
    assert "head new (5 -> 9)" in model.report
    refused(content["state_dict"], "with a classifier")


def test_files_of_other_systems_are_refused_with_names():
    refused({"features.0.weight": torch.ones(1)}, "unknown layout of weights (first key: features.0.weight)", "torchvision")
    with torch.device("meta"):
        wide = torchvision.models.wide_resnet50_2()
    refused(wide.state_dict(), "looks like the torchvision layout", "fit no known backbone")
    model = torchvision.models.resnet18()
    refused({k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}, "fit no known backbone with a classifier")
    # A TSM file: the shifted conv is called net there.
    tsm = {k.replace("conv1.weight", "conv1.net.weight") if "layer" in k else k: v for k, v in model.state_dict().items()}
    tsm = {f"module.base_model.{k}" if "fc." not in k else k.replace("fc.", "module.new_fc."): v for k, v in tsm.items()}
    refused(tsm, "weights missing", "backbone.layer1.0.conv1.weight")


def test_an_option_of_another_version_is_named(tmp_path):
    model = small()
    content = {"model": {**model.spec, "fourier": 3}, "state_dict": model.state_dict()}
    refused(saved(tmp_path, content), "an option this version does not know", "fourier")
    refused(model.state_dict(), "an option this version does not know", "shift", shift=3)
    refused({**content, "model": {**model.spec, "module": "warp"}}, "--module warp: unknown")
    # A dictionary that is no specification of a model does not stand in the way of the weights.
    assert load_model({**content, "model": {"note": "hello"}}, num_segments=4, quiet=True).spec == {**model.spec, "dropout": 0.5}


@pytest.mark.parametrize("content", [[1, 2], "text", torch.ones(3), {}, {"epoch": 3}, {"state_dict": {}}, {1: torch.ones(2)}, None])
def test_a_file_without_weights(tmp_path, content):
    path = saved(tmp_path, content)
    refused(path, path, "holds no weights")


def test_fill_is_strict():
    model = small()
    with pytest.raises(UserError, match="here: .* weights missing"):
        fill(model, {}, "here")
    assert fill(model, model.state_dict(), "here") == f"loaded {len(model.state_dict())}, unexpected 0, missing 0"


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
    assert model.spec["module"] == "tsn" and model.spec["arch"] == "resnet18" and model.num_class == 1000
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(frames.flatten(0, 1)).unflatten(0, (2, 3)).mean(1)
        torch.testing.assert_close(model(frames), expected, rtol=1e-5, atol=1e-5)


# Files as other projects release them.

def released_like(state):
    """Everything a released TDN file holds, from a run of real torch objects."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    weight.square().sum().backward()
    optimizer.step()
    scheduler.step()
    return {"epoch": 60, "arch": "resnet50", "state_dict": {f"module.{key}": value for key, value in state.items()},
            "optimizer": optimizer.state_dict(), "scheduler": {**scheduler.state_dict(), "after_scheduler": scheduler},
            "prec1": np.float64(52.3), "best_prec1": torch.tensor(52.3), "args": argparse.Namespace(lr=0.1)}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_released_file_loads_and_its_objects_are_inert(tmp_path, legacy):
    model = small()
    state = strip_wrappers(export_state_dict(model, "tdn"))
    path = saved(tmp_path, released_like(state), "ckpt.best.pth.tar", _use_new_zipfile_serialization=not legacy)
    assert_same_weights(load_model(path, num_segments=4, quiet=True), model)
    content = read_checkpoint(path)
    assert content["epoch"] == 60 and content["best_prec1"].item() == pytest.approx(52.3)
    assert content["scheduler"]["milestones"] == {2: 1, 3: 1} and content["scheduler"]["last_epoch"] == 1
    for stranger in (content["scheduler"]["after_scheduler"], content["args"]):
        assert type(stranger).__name__ == "_Inert" and not vars(stranger)
    assert read_state_dict(path).keys() == state.keys()


class Unknown:
    """A class that a file names and the reader does not have."""

    def __init__(self):
        self.value = 3


@pytest.mark.parametrize("legacy", [False, True])
def test_a_class_that_is_not_installed(tmp_path, monkeypatch, legacy):
    monkeypatch.setattr(Unknown, "__module__", "someones.private.code")
    monkeypatch.setitem(sys.modules, "someones.private.code", sys.modules[__name__])
    for name in ("someones", "someones.private"):
        monkeypatch.setitem(sys.modules, name, sys.modules[__name__])
    path = saved(tmp_path, {"state_dict": {"a": torch.ones(2)}, "x": Unknown()}, _use_new_zipfile_serialization=not legacy)
    monkeypatch.undo()
    content = read_checkpoint(path)
    assert torch.equal(content["state_dict"]["a"], torch.ones(2)) and type(content["x"]).__name__ == "_Inert"


def test_inert_names_are_forgotten_after_reading(tmp_path):
    path = saved(tmp_path, {"a": torch.ones(1), "x": argparse.Namespace(b=1), "d": collections.defaultdict(list, {1: [2]})})
    before = torch.serialization.get_safe_globals()
    content = read_checkpoint(path)
    assert torch.serialization.get_safe_globals() == before
    assert content["d"] == {1: [2]}


class Attack:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("function", [os.system, exec, subprocess.check_call, getattr])
def test_a_malicious_file_runs_nothing(tmp_path, function, legacy):
    mark = tmp_path / "it ran"
    args = {os.system: (f"touch '{mark}'",), exec: (f"open({str(mark)!r}, 'w')",), subprocess.check_call: (["touch", str(mark)],),
            getattr: (Attack(os.mkdir, str(mark)), "x")}[function]
    path = saved(tmp_path, {"state_dict": {"a": torch.ones(1)}, "x": Attack(function, *args)},
                 _use_new_zipfile_serialization=not legacy)
    try:
        content = read_checkpoint(path)
    except UserError as error:
        assert "posix.system" in str(error) or "posix.mkdir" in str(error)
        assert "weights_only" not in str(error)  # no advice on how to switch the protection off
    else:
        assert type(content["x"]).__name__ == "_Inert"
    assert not mark.exists()


# Damaged files.

def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.pth", tmp_path / "none.pth", "no such checkpoint file")
    refused(str(tmp_path), "no such checkpoint file")


@pytest.mark.parametrize("data", [b"", b"not a checkpoint\n", b"<!DOCTYPE html><html></html>", b"PK\x03\x04", bytes(1000)])
def test_a_file_that_is_no_checkpoint(tmp_path, data):
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    refused(path, path, "not a readable checkpoint", "is the download complete?")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file(tmp_path, legacy):
    path = saved(tmp_path, small("tsn").state_dict(), _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    for size in (3, 20, 1000, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:size])
        refused(path, path, "not a readable checkpoint")


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_refused_or_read(tmp_path, legacy):
    content = {"epoch": 3, "state_dict": {"a.b": torch.ones(2), "c": torch.zeros(3)}, "s": "text", "l": [1, 2.5, None],
               "o": argparse.Namespace(q=1)}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()

    @settings(max_examples=150, deadline=None, derandomize=True, database=None,
              suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def damage(changes):
        damaged = bytearray(data)
        for position, value in changes:
            damaged[position] = value
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error) and "not a readable checkpoint" in str(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickle protocols that it does not know
        damage()


# Writing.

def test_a_write_that_fails_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "last.pth"
    model = small("tsn")
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


def test_a_killed_process_leaves_the_previous_file(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, small("tsn"), epoch=1)
    before = path.read_bytes()
    code = ("import os, signal, sys, torch; real = torch.save\n"
            "def save(content, file):\n    real(content, file); os.kill(os.getpid(), signal.SIGKILL)\n"
            "torch.save = save\n"
            "from ops.checkpoints import load_model, save_checkpoint\n"
            "save_checkpoint(sys.argv[1], load_model(sys.argv[1], quiet=True), epoch=2)\n")
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=120)
    assert run.returncode == -9, run.stderr
    assert path.read_bytes() == before and read_checkpoint(path)["epoch"] == 1
