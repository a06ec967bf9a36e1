"""Run the fronts as a user does: in this process (quick) or in processes of their own."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ops.utils.errors import run_front

ROOT = Path(__file__).resolve().parents[1]


def call(front, *args):
    """Run ``front.py args`` in this process, as its last line would; returns the exit status."""
    module = importlib.import_module(front)
    argv, sys.argv = sys.argv, [f"{front}.py", *map(str, args)]
    try:
        run_front(module.main)
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = argv
    return 0


def launch(*args, timeout=300):
    """Run ``python args`` from the root of the project in a process of its own, one thread each; returns the process."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_two(program, tmp_path, port):
    """What two processes of a program, given as text, print, as sorted lines; both must end well."""
    (tmp_path / "program.py").write_text(program)
    run = launch(
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        2,
        "--master_port",
        port,
        tmp_path / "program.py",
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return sorted(run.stdout.splitlines())


def refused(capsys, front, *args):
    """Run a front that must refuse its input: exit status 2 and one line. Returns the line."""
    capsys.readouterr()
    assert call(front, *args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if "error: " in line]
    assert len(errors) == 1 and "Traceback" not in "".join(lines), lines
    return errors[0]


def make_motion(folder, videos=16, val_videos=8, size=48, frames=12):
    """The motion data set, small; returns the flags that name it."""
    made = launch(
        "tools/make_motion_dataset.py",
        "--videos",
        videos,
        "--val_videos",
        val_videos,
        "--size",
        size,
        "--frames",
        frames,
        "--out",
        folder,
        "-j",
        1,
    )
    if made.returncode:
        pytest.fail(made.stderr)
    return [
        "--root_path",
        folder,
        "--class_names",
        folder / "classes.txt",
        "--train_list",
        folder / "train.txt",
        "--val_list",
        folder / "val.txt",
    ]


def make_flow(folder, videos, size=40, frames=9, template="flow_{}_{:05d}.jpg"):
    """Folders of x and y flow for the ids of a list of videos: (id, label) each. Returns the list file, of `id n label`."""
    rng = np.random.default_rng(0)
    lines = []
    for video, label in videos:
        place = folder / video
        place.mkdir(parents=True)
        for number in range(1, frames + 1):
            for axis in "xy":
                level = 128 + (label * 9 if axis == "x" else -label * 5)
                picture = (rng.normal(level, 3, (size, size))).clip(0, 255).astype(np.uint8)
                Image.fromarray(picture).save(place / template.format(axis, number))
        lines.append(f"{video}\t{frames}\t{label}\n")
    (folder / "flow.txt").write_text("".join(lines))
    return folder / "flow.txt"
