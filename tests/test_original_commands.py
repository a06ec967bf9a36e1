"""Every command of docs/original_commands.md as a dry run, as the page says to type it."""

import re
import shlex

import pytest
import torch
from helpers.launch import ROOT, call

from ops.checkpoints import export_state_dict
from ops.models import TSN

CLASSES = {"something": 174, "somethingv2": 174, "kinetics": 400, "ucf101": 101}
PROGRAMS = ("main", "test_models_center_crop", "test_models_three_crops", "pkl_to_results")


def rows():
    """(original command, command to type) of each row; both are equal for "the same"."""
    found = []
    for line in (ROOT / "docs" / "original_commands.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) != 2 or not cells[0].startswith("`python"):
            continue
        original = cells[0].split("`")[1]
        here = original if cells[1].startswith("the same") else cells[1].split("`")[1]
        if cells[1].startswith("the same") and "plus" in cells[1]:
            here += " " + cells[1].rpartition("plus `")[2].split("`")[0]
        found.append((original, here))
    return found


ROWS = rows()


def test_every_system_has_commands():
    originals = " ".join(original for original, _ in ROWS)
    assert len(ROWS) >= 25
    for flag in ("--snapshot_pref", "--shift ", "--tam", "--tin", "--lr_scheduler", "eval_scores"):
        assert flag in originals


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of a list, of frame folders that are not read, and of checkpoints, made on use."""
    folder = tmp_path_factory.mktemp("files")
    for name in "abc":
        (folder / name).mkdir()
    (folder / "list.txt").write_text("a 30 0\nb 30 1\nc 30 2\n")
    return folder


def checkpoint(folder, system, modality, num_class):
    """A file in the layout of its authors, whose weights are zeros."""
    path = folder / f"{system}_{modality}_{num_class}.pth.tar"
    if path.exists():
        return path
    arch = "BNInception" if system == "tsn" else "resnet50"
    with torch.device("meta"):
        model = TSN(num_class, module=system, arch=arch, modality=modality)
    state = export_state_dict(model, "tsm" if system == "tsn" else system)
    zeros = torch.zeros(max(value.numel() for value in state.values()))  # all are parts of it
    state = {key: zeros[: value.numel()].view(value.shape) for key, value in state.items()}
    torch.save({"state_dict": state}, path)
    return path


def arguments(words, folder):
    """The words of a command with files in the place of its placeholders."""
    dataset = next((word for word in words if word in CLASSES), "something")
    modality = next((word for word in words if word in ("Flow", "RGBDiff")), "RGB")
    filled = []
    for word in words:
        flag, equals, value = word.rpartition("=")
        if value in ("TRAIN_LIST", "VAL_LIST"):
            value = folder / "list.txt"
        elif value.endswith("_WEIGHTS"):
            system = value.removesuffix("_WEIGHTS").lower()
            value = checkpoint(folder, system, modality, CLASSES[dataset])
        elif value == "DIR" or value.endswith("SCORES"):
            value = folder / "out"
        filled.append(f"{flag}{equals}{value}")
    return filled


@pytest.mark.slow
@pytest.mark.parametrize(("original", "here"), ROWS, ids=[here[:60] for _, here in ROWS])
def test_command(original, here, files, tmp_path, monkeypatch, capsys):
    words = shlex.split(here)
    start = next(i for i, word in enumerate(words) if word.endswith(".py"))
    program = words[start].removesuffix(".py")
    assert program in PROGRAMS
    monkeypatch.chdir(tmp_path)
    args = arguments(words[start + 1 :], files)
    if program == "pkl_to_results":
        assert call(program, *args) == 2  # the flags are understood, and the scores are missing
        assert f"{files / 'out'}" in capsys.readouterr().err
        return
    if not re.search(r"_LIST\b", here):
        lists = ["--val_list", files / "list.txt"]
        args += lists + (["--train_list", files / "list.txt"] if program == "main" else [])
    args += ["--root_path", files, "--dry_run", "--device", "cpu"]
    if "--gpus" in args:  # names the GPU, as --device does
        del args[-2:]
    if program == "main":
        args += ["--batch-size", 2]
    assert call(program, *args) == 0
    out = capsys.readouterr().out
    assert "dry run" in out
    check_module(original, program, out)


MODULE_OF = (  # the first that is in a command
    ("--shift ", "tsm"),
    ("--tam", "tam"),
    ("--self_conv", "tam"),
    ("--tin", "tin"),
    ("BNInception", "tsn"),
    ("--num_segments 5", "tsn"),
    ("", "tdn"),
)


def check_module(original, program, out):
    """A training builds the network of the original command."""
    if program == "main":
        module = next(module for part, module in MODULE_OF if part in original)
        assert f"\n{module} " in f"\n{out}"
