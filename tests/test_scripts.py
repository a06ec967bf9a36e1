"""Every row script is run; what it starts is recorded by stand-ins on PATH and then dry-run here, in this process."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fronts import ROOT, call

from ops.checkpoints import export_state_dict
from ops.models import TSN

ROWS = sorted(path.name for path in (ROOT / "scripts" / "tdn").glob("*.sh"))
RECORDER = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""
CLASSES = {"something": 174, "somethingv2": 174, "kinetics": 400}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    for name in ("python", "torchrun"):
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Three videos that are there, though nobody reads them."""
    folder = tmp_path_factory.mktemp("lists")
    for name in "abc":
        (folder / f"{name}.mp4").write_bytes(b"never read")
    (folder / "list.txt").write_text("a 0\nb 1\nc 173\n")
    return ["--val_list", folder / "list.txt", "--root_path", folder]


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Released files by (backbone, data set), made when first asked for."""
    folder, made = tmp_path_factory.mktemp("released"), {}

    def get(arch, dataset):
        key = arch, CLASSES[dataset]
        if key not in made:
            made[key] = folder / f"{arch}_{key[1]}.pth.tar"
            torch.save({"state_dict": export_state_dict(TSN(key[1], 8, arch=arch, module="tdn"), "tdn")}, made[key])
        return made[key]

    return get


def commands(script, stand_ins, tmp_path, *args):
    """What a script starts, as argument lists."""
    record = tmp_path / "record.jsonl"
    record.touch()
    env = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "RECORD": str(record)}
    run = subprocess.run(["bash", str(ROOT / "scripts" / "tdn" / script), *map(str, args)], env=env, capture_output=True,
                         text=True)
    assert run.returncode == 0, run.stderr
    started = [json.loads(line) for line in record.read_text().splitlines()]
    record.unlink()
    return started


@pytest.mark.parametrize("script", ROWS)
def test_row(script, stand_ins, lists, released, tmp_path, capsys):
    text = (ROOT / "scripts" / "tdn" / script).read_text()
    assert "effective batch" in text and ("Expected: Prec@1" in text or "No number is published" in text)
    modes = ["train", "test"] + ["test1"] * ("test1)" in text) if "case $mode" in text else [None]
    for mode in modes:
        started = commands(script, stand_ins, tmp_path, *([mode] if mode else []), "--dry_run")
        assert not any("pkl_to_results.py" in command for command in started)
        by_clip = {json.dumps([a for i, a in enumerate(c) if c[i - 1] != "--clip_index"]): c for c in started}
        for command in by_clip.values():  # the ten clips of a test differ in their index alone
            front = next(i for i, arg in enumerate(command) if arg.endswith(".py"))
            name, dataset, flags = Path(command[front]).stem, command[front + 1], [*command[front + 2:], *lists]
            if name == "main":
                assert command[:3] == ["torchrun", "--nproc_per_node", "8"]
                flags += ["--train_list", lists[1], "--batch-size", "2"]  # the stand-in list is short
                expected = f"3 train videos, 3 val videos, {CLASSES[dataset]} classes; nothing was trained"
            else:
                flags += ["--weights", str(released(flags[flags.index("--archs") + 1], dataset))]
                expected = "3/3 videos, softmax per view; nothing was scored"
            assert call(name, dataset, *flags) == 0
            assert expected in capsys.readouterr().out


def test_thirty_views_are_put_together(stand_ins, tmp_path):
    started = commands("k400_r50_8f.sh", stand_ins, tmp_path, "test")
    assert [command[command.index("--clip_index") + 1] for command in started[:-1]] == [str(k) for k in range(10)]
    assert started[-1][1:6] == ["pkl_to_results.py", "--num_clips", "10", "--test_crops", "3"]


def test_an_unknown_mode_is_refused():
    run = subprocess.run(["bash", str(ROOT / "scripts/tdn/sthv1_r50_8f.sh"), "tset"], capture_output=True, text=True)
    assert run.returncode == 2 and "tset is not one of train, test" in run.stderr
