import argparse
import collections
import os
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from helpers.models import assert_same_weights, load_refused, saved, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ops.checkpoints import export_state_dict, load_model, save_checkpoint
from ops.checkpoints.layouts import strip_wrappers
from ops.checkpoints.torch_file import find_weights, read_checkpoint, read_state_dict
from ops.utils.errors import UserError

# Files of this project.


def released_like(state):
    """Everything a released TDN file holds, from a run of real torch objects."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    weight.square().sum().backward()
    optimizer.step()
    scheduler.step()
    return {
        "epoch": 60,
        "arch": "resnet50",
        "state_dict": {f"module.{key}": value for key, value in state.items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": {**scheduler.state_dict(), "after_scheduler": scheduler},
        "prec1": np.float64(52.3),
        "best_prec1": torch.tensor(52.3),
        "args": argparse.Namespace(lr=0.1),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_a_released_file_loads_and_its_objects_are_inert(tmp_path, legacy):
    model = small_model()
    state = strip_wrappers(export_state_dict(model, "tdn"))
    path = saved(
        tmp_path,
        released_like(state),
        "ckpt.best.pth.tar",
        _use_new_zipfile_serialization=not legacy,
    )
    assert_same_weights(load_model(path, num_segments=4, quiet=True), model)
    content = read_checkpoint(path)
    assert content["epoch"] == 60 and content["best_prec1"].item() == pytest.approx(52.3)
    assert (
        content["scheduler"]["milestones"] == {2: 1, 3: 1}
        and content["scheduler"]["last_epoch"] == 1
    )
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
    content = {"state_dict": {"a": torch.ones(2)}, "x": Unknown()}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    monkeypatch.undo()
    content = read_checkpoint(path)
    assert (
        torch.equal(content["state_dict"]["a"], torch.ones(2))
        and type(content["x"]).__name__ == "_Inert"
    )


def test_inert_names_are_forgotten_after_reading(tmp_path):
    entries = collections.defaultdict(list, {1: [2]})
    path = saved(tmp_path, {"a": torch.ones(1), "x": argparse.Namespace(b=1), "d": entries})
    before = set(torch.serialization.get_safe_globals())
    content = read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == before
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
    args = {
        os.system: (f"touch '{mark}'",),
        exec: (f"open({str(mark)!r}, 'w')",),
        subprocess.check_call: (["touch", str(mark)],),
        getattr: (Attack(os.mkdir, str(mark)), "x"),
    }[function]
    path = saved(
        tmp_path,
        {"state_dict": {"a": torch.ones(1)}, "x": Attack(function, *args)},
        _use_new_zipfile_serialization=not legacy,
    )
    try:
        content = read_checkpoint(path)
    except UserError as error:
        assert "posix.system" in str(error) or "posix.mkdir" in str(error)
        assert "weights_only" not in str(error)  # no advice on how to switch the protection off
    else:
        assert type(content["x"]).__name__ == "_Inert"
    assert not mark.exists()


SHARED = torch.arange(12.0)
NEW_DTYPES = [torch.uint16, torch.uint32, torch.float8_e4m3fn]  # not in the old format
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.complex128,
]
CONTENT = {
    "dtypes": [torch.zeros(2, 3).to(dtype) for dtype in DTYPES],
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 512),
    "views": [SHARED[2:5], SHARED.view(3, 4).t(), SHARED[::3], SHARED],
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "plain": [None, True, 2**70, -1, 0.5, 1j, "é", b"\xff", (1, (2,)), {3: {4}}, set()],
    "torch": [torch.Size([2, 3]), torch.device("cpu"), torch.float32],
    "counts": collections.Counter("aab"),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, {1: [2]}),
    "pairs": {(1, 2): 3},
    "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]).state_dict(),
    "module": torch.nn.Linear(2, 2).state_dict(),
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return type(one) is type(other) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of complex numbers made real
def test_plain_values_and_tensors_are_read(tmp_path, legacy):
    content = dict(CONTENT)
    if not legacy:
        content["new"] = [torch.zeros(2, 3).to(dtype) for dtype in NEW_DTYPES]
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    loaded = read_checkpoint(path)
    for key in content:
        assert same(content[key], loaded[key]), key
    assert len({view.untyped_storage().data_ptr() for view in loaded["views"]}) == 1


def test_a_compressed_checkpoint_is_refused(tmp_path):
    """A small one could be unpacked to any size."""
    stored = zipfile.ZipFile(saved(tmp_path, {"a": torch.zeros(1000)}))
    path = tmp_path / "compressed.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))
    load_refused(path, path, "compressed")


def test_a_torchscript_archive_is_refused(tmp_path):
    path = tmp_path / "script.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    load_refused(path, path, "TorchScript")


# Damaged files.


def test_a_missing_file(tmp_path):
    load_refused(tmp_path / "none.pth", tmp_path / "none.pth", "no such checkpoint file")
    load_refused(str(tmp_path), tmp_path, "folder without best.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_or_a_device_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.pth")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    for name in ("fifo.pth", "zero.pth"):
        load_refused(tmp_path / name, tmp_path / name, "not a regular file")


def test_the_loss_of_a_lightning_module_is_left_out(tmp_path):
    tensors = {"criterion.weight": torch.ones(2), "model.a.weight": torch.ones(3)}
    content = {"state_dict": tensors, "pytorch-lightning_version": "2.5.0"}
    found = find_weights(content, "x.ckpt")
    assert list(found.state) == ["a.weight"]
    assert "criterion.weight" in found.note
    # Without the network as an attribute of a usual name, all are of the network.
    content["state_dict"] = {"backbone.weight": torch.ones(2), "head.weight": torch.ones(3)}
    found = find_weights(content, "x.ckpt")
    assert list(found.state) == ["backbone.weight", "head.weight"] and not found.note


def test_a_folder_of_a_run_means_its_best_checkpoint(tmp_path):
    model = small_model()
    save_checkpoint(tmp_path / "last.pth", small_model(seed=1))
    load_refused(tmp_path, "folder without best.pth", "last.pth")
    save_checkpoint(tmp_path / "best.pth", model)
    loaded = load_model(tmp_path, quiet=True)
    assert_same_weights(loaded, model)
    assert loaded.report.startswith(f"{tmp_path / 'best.pth'}: ")


@pytest.mark.parametrize("data", [b"", b"not a checkpoint\n", b"{}", b"PK\x03\x04", bytes(1000)])
def test_a_file_that_is_no_checkpoint(tmp_path, data):
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    load_refused(path, path, "not a PyTorch checkpoint", "is the download complete?")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<!DOCTYPE html><html>", "web page"),
        ("\n <HTML lang=en>", "web page"),
        ("<!-- a\ncomment --><html>", "web page"),
        ("<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_what_a_download_leaves_in_place_of_the_file(tmp_path, name, text, word):
    path = tmp_path / name
    path.write_text(text)
    load_refused(path, path, word)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file(tmp_path, legacy):
    path = saved(
        tmp_path, small_model("tsn").state_dict(), _use_new_zipfile_serialization=not legacy
    )
    data = path.read_bytes()
    for size in (3, 20, 1000, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:size])
        load_refused(path, path, "not a PyTorch checkpoint")


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files_are_refused_or_read(tmp_path, legacy):
    content = {
        "epoch": 3,
        "state_dict": {"a.b": torch.ones(2), "c": torch.zeros(3)},
        "s": "text",
        "l": [1, 2.5, None],
        "o": argparse.Namespace(q=1),
    }
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        st.lists(
            st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), min_size=1, max_size=4
        )
    )
    def damage(changes):
        damaged = bytearray(data)
        for position, value in changes:
            damaged[position] = value
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error) and "not a PyTorch checkpoint" in str(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickle protocols that it does not know
        damage()


# Writing.
