"""Every row script is run; what it starts is recorded by stand-ins on PATH and then dry-run here, in this process."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from fronts import ROOT, call

from ops.checkpoints import export_state_dict
from ops.models import TSN

ROWS = sorted(str(path.relative_to(ROOT / "scripts")) for path in (ROOT / "scripts").glob("*/*.sh"))
WITH_MODES = [row for row in ROWS if "case $mode" in (ROOT / "scripts" / row).read_text()]
RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "${0##*/}" "$@" >>"$RECORD"
echo >>"$RECORD"
"""
CLASSES = {"something": 174, "somethingv2": 174, "kinetics": 400, "ucf101": 101}
AVERAGE = {
    "tdn": "softmax per view",
    "tsn": "mean of logits",
    "tsm": "mean of logits",
    "tam": "mean of logits",
    "tin": "softmax per view",
}
T_IN_WEIGHTS = ("tam", "tin")  # trained and tested with one T, that of the row's name


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    for name in ("python", "torchrun"):
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Flags of three videos that are there, though nobody reads them: by whether they are flow, which is never a video file."""
    folder = tmp_path_factory.mktemp("lists")
    for name in "abc":
        (folder / f"{name}.mp4").write_bytes(b"never read")
        (folder / f"frames_{name}").mkdir()
    (folder / "rgb.txt").write_text("a 0\nb 1\nframes_c 30 100\n")
    (folder / "flow.txt").write_text("frames_a 30 0\nframes_b 30 1\nframes_c 30 100\n")
    names = {False: "rgb.txt", True: "flow.txt"}
    return {
        flow: ["--val_list", folder / name, "--root_path", folder] for flow, name in names.items()
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Files in the layout that the authors released, made when first asked for; their weights are zeros, of little space."""
    folder, made = tmp_path_factory.mktemp("released"), {}

    def get(num_class, num_segments=8, **options):
        key = str((num_class, num_segments, options))
        if key not in made:
            made[key] = folder / f"{len(made)}.pth.tar"
            with torch.device("meta"):
                model = TSN(num_class, num_segments, **options)
            module = options["module"]
            layout = (
                "tsm-mobilenetv2"
                if options["arch"] == "mobilenetv2"
                else "tsm"
                if module == "tsn"
                else module
            )
            state = export_state_dict(model, layout)
            zeros = torch.zeros(
                max(value.numel() for value in state.values())
            )  # all weights are parts of it
            state = {key: zeros[: value.numel()].view(value.shape) for key, value in state.items()}
            torch.save({"state_dict": state}, made[key])
        return made[key]

    return get


def run_script(row, *args, **env):
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GPUS", "SPLIT", "PRETRAIN")
    }
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / row), *map(str, args)],
        env={**own, **env},
        capture_output=True,
        text=True,
    )


def commands(row, stand_ins, tmp_path, *args, **env):
    """What a script starts, as argument lists."""
    record = tmp_path / "record.txt"
    record.touch()
    run = run_script(
        row, *args, PATH=f"{stand_ins}:{os.environ['PATH']}", RECORD=str(record), **env
    )
    assert run.returncode == 0, run.stderr
    started = [line.split("\0")[:-1] for line in record.read_text().splitlines()]
    record.unlink()
    return started


def modes_of(row):
    """The modes of a script as its usage comment lists them, [None] for one that has none."""
    text = (ROOT / "scripts" / row).read_text()
    listed = re.findall(rf"^# .*bash scripts/{row} (\w+)", text, re.M)
    assert listed == re.findall(r"^(\w+)\)$", text, re.M)
    assert not listed or f'choose_mode "{" ".join(listed)}" "$@"' in text
    return listed or [None]


def value_of(command, flag, default=None):
    return command[command.index(flag) + 1] if flag in command else default


@pytest.mark.parametrize("row", ROWS)
def test_row(row, stand_ins, lists, released, tmp_path, capsys):
    comment = " ".join(
        re.sub(r"^# *", "", line)
        for line in (ROOT / "scripts" / row).read_text().splitlines()
        if line.startswith("#")
    )
    assert "effective batch" in comment and (
        "Expected: Prec@1" in comment or "No number is published" in comment
    )
    folders = []
    for mode in modes_of(row):
        started = commands(row, stand_ins, tmp_path, *([mode] if mode else []), "--dry_run")
        assert not any("pkl_to_results.py" in command for command in started)
        for command in started:
            if "main.py" in command:
                check_training(row, comment, command, lists, released, capsys)
            else:
                check_test(row, comment, command, lists, released, capsys)
                folders.append(value_of(command, "--output_dir"))
    assert folders and len(set(folders)) == len(
        folders
    )  # a folder holds the scores of one network and one protocol


def segments_of(row):
    """T of a row, as its name tells it: 16 of ``k400_r50_16f_dense``."""
    return int(re.search(r"_(\d+)f(?=[_.])", row)[1])


def modality_of(folder):
    return next((modality for modality in ("Flow", "RGBDiff") if modality.lower() in folder), "RGB")


def check_training(row, comment, command, lists, released, capsys):
    dataset, modality, *flags = command[command.index("main.py") + 1 :]
    assert (
        command[:3] == ["torchrun", "--nproc_per_node", "8"]
        and value_of(flags, "--module") == row.split("/")[0]
    )
    assert modality == modality_of(value_of(flags, "--output_dir"))
    assert row.split("/")[0] not in T_IN_WEIGHTS or int(
        value_of(flags, "--num_segments")
    ) == segments_of(row)
    batch = int(value_of(flags, "--batch-size"))
    assert re.search(
        rf"effective batch {8 * batch} = 8 processes x {batch} videos, lr {value_of(flags, '--lr')}[., ]",
        comment,
    )
    assert int(value_of(flags, "--lr_batch")) == 8 * batch
    stand_in = list(lists[modality == "Flow"])
    if "--tune_from" in flags:  # a dry run reads it
        stand_in += ["--tune_from", released(400, module="tsm", arch="resnet50")]
    assert (
        call(
            "main",
            dataset,
            modality,
            *flags,
            *stand_in,
            "--train_list",
            value_of(stand_in, "--val_list"),
            "--batch-size",
            "2",
        )
        == 0
    )  # the stand-in list is short
    out = capsys.readouterr().out
    assert f"3 train videos, 3 val videos, {CLASSES[dataset]} classes; nothing was trained" in out
    assert ("non-local" in out) == ("_nl_" in row) and ("--dense_sample" in flags) == (
        "dense" in row
    )


def check_test(row, comment, command, lists, released, capsys):
    script, dataset, *flags = command[1:]
    module, modality = row.split("/")[0], value_of(flags, "--modality", "RGB")
    folder = value_of(flags, "--output_dir")
    assert (
        modality == modality_of(folder)
        and value_of(flags, "--weights") == f"{os.path.dirname(folder)}/best.pth"
    )
    weights = released(
        CLASSES[dataset],
        segments_of(row) if module in T_IN_WEIGHTS else 8,
        module=module,
        arch=value_of(flags, "--archs"),
        modality=modality,
        non_local="_nl_" in row,
    )
    assert (
        call(Path(script).stem, dataset, *flags, *lists[modality == "Flow"], "--weights", weights)
        == 0
    )
    out = capsys.readouterr().out
    assert f"3/3 videos, {AVERAGE[module]}; nothing was scored" in out
    dense = "--dense_sample" in flags or value_of(flags, "--sample", "").startswith("dense")
    assert dense == ("dense" in row)
    if module != "tdn":  # whose comments put it in other words
        assert protocol_in_words(out) in comment


def protocol_in_words(line):
    """The protocol of a result line as a comment says it: ``8 frames x 1 clip x 10 crops, 224``."""
    frames, crops, clips, size = re.search(
        r"(\d+) frames x (\d+) crops? x (\d+) clips?, (\d+)", line
    ).groups()
    clips, crops = (
        f"{number} {unit}{'s' * (number != '1')}"
        for number, unit in ((clips, "clip"), (crops, "crop"))
    )
    return f"{frames} frames x {clips} x {crops}, {size}"


def test_thirty_views_are_put_together(stand_ins, tmp_path):
    started = commands("tdn/k400_r50_8f.sh", stand_ins, tmp_path, "test")
    assert [value_of(command, "--clips") for command in started[:-1]] == ["10"]
    assert started[-1][1:6] == ["pkl_to_results.py", "--num_clips", "10", "--test_crops", "3"]


def test_two_streams_are_put_together(stand_ins, tmp_path):
    rgb, flow, fusion = commands("tsn/ucf101_rgb_flow.sh", stand_ins, tmp_path, SPLIT="3")
    folders = [value_of(command, "--output_dir") for command in (rgb, flow)]
    assert fusion == ["python", "pkl_to_results.py", *folders, "--score_weights", "1", "1.5"]
    assert value_of(rgb, "--val_list").endswith("ucf101_rgb_val_split_3.txt")
    assert value_of(flow, "--val_list").endswith("ucf101_flow_val_split_3.txt")


def test_a_split_has_lists_and_a_folder_of_its_own(stand_ins, tmp_path):
    for row in (
        "tsm/ucf101_r50_8f.sh",
        "tsn/ucf101_rgb.sh",
        "tsn/ucf101_flow.sh",
        "tsn/ucf101_rgbdiff.sh",
    ):
        one, two = (
            commands(row, stand_ins, tmp_path, "train", **env)[0] for env in ({}, {"SPLIT": "2"})
        )
        assert [re.sub("split(_?)1", r"split\g<1>2", arg) for arg in one] == two
        assert [one[i - 1] for i in range(len(one)) if one[i] != two[i]] == [
            "--train_list",
            "--val_list",
            "--output_dir",
        ]
        run = run_script(row, "train", SPLIT="4")
        assert run.returncode == 2 and "SPLIT=4 is not 1, 2 or 3" in run.stderr


def test_the_weights_of_bn_inception_are_named_in_the_environment(stand_ins, tmp_path):
    (command,) = commands(
        "tsn/ucf101_rgb.sh", stand_ins, tmp_path, "train", PRETRAIN="my weights.pth"
    )
    assert value_of(command, "--pretrain") == "my weights.pth"


@pytest.mark.parametrize("row", WITH_MODES)
def test_an_unknown_mode_is_refused(row):
    run = run_script(row, "tset")
    usage = f"{row} {' or '.join(modes_of(row))} [flags]"
    assert run.returncode == 2 and run.stderr.startswith("usage: bash ") and usage in run.stderr


def test_a_script_without_a_mode_prints_its_usage():
    run = run_script("tsn/k400_r50_8f.sh")
    assert run.returncode == 2
    (line,) = run.stderr.splitlines()
    assert line.endswith("scripts/tsn/k400_r50_8f.sh train or test or test1 [flags]")


@pytest.mark.parametrize("row", ["tdn/sthv1_r50_8f.sh", "tdn/k400_r101_16f.sh"])
@pytest.mark.parametrize("form", [["--output_dir", "my scores"], ["--output_dir=my scores"]])
def test_results_are_read_from_the_folder_of_the_test(row, form, stand_ins, tmp_path):
    scored, printed = commands(row, stand_ins, tmp_path, "test", "--weights", "other.pth", *form)
    assert scored[-len(form) :] == form
    assert value_of(printed, "--output_dir") == "my scores"


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("tdn/sthv2_r50_8f16f.sh", ["8f", "16f"]),
        ("tdn/sthv2_r101_8f16f_3crops.sh", ["8f", "16f"]),
        ("tsn/ucf101_rgb_flow.sh", ["rgb", "flow"]),
    ],
)
def test_an_ensemble_has_a_folder_for_each_network(row, names, stand_ins, tmp_path):
    started = commands(row, stand_ins, tmp_path, "--output_dir", "scores here")
    folders = [f"scores here/{name}" for name in names]
    scored = [command for command in started if "pkl_to_results.py" not in command]
    last_folders = []
    for command in scored:
        positions = [i for i, word in enumerate(command) if word == "--output_dir"]
        last_folders.append(command[positions[-1] + 1])  # argparse takes the last one
    assert last_folders == folders
    assert set(folders) <= set(started[-1])
    run = run_script(row, "--weights", "one.pth", PATH=f"{stand_ins}:{os.environ['PATH']}")
    assert run.returncode == 2 and "--weights" in run.stderr


def test_without_torchrun_there_is_one_line(tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    (tmp_path / "scripts" / "tsn").mkdir(parents=True)
    row = "tsn/k400_r50_8f.sh"
    for name in (row, "recipe.sh"):
        (tmp_path / "scripts" / name).write_text((ROOT / "scripts" / name).read_text())
    run = subprocess.run(
        ["bash", tmp_path / "scripts" / row, "train"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2 and "torchrun" in run.stderr
    assert len(run.stderr.splitlines()) == 1
