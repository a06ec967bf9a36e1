"""Training that is killed, stopped, or has a full or damaged disk resumes bit-identically."""

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import ROOT, call, free_port, is_running, refused, start_command
from helpers.runs import assert_same_training

from ops.training.run_dir import damage
from ops.training.trainer import Trainer

pytestmark = pytest.mark.slow

WAYS = {
    "plain": [],
    "bf16, accumulated": ["--amp", "bf16", "--accumulate", 2],
    "fp16": ["--amp", "fp16", "--gd", 5],
    "averaged, mixed": [
        "--ema",
        0.9,
        "--mixup",
        0.5,
        "--cutmix",
        1,
        "--stochastic_depth",
        0.2,
        "--label_smoothing",
        0.1,
    ],
}


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    data = make_motion(folder, videos=24)
    bad = folder / "videos" / "train" / "00005.mp4"
    bad.write_bytes(b"")  # skipped and counted, once
    return [
        "motion",
        "RGB",
        *data,
        "--module",
        "tsm",
        "--arch",
        "mobilenetv2",
        "--pretrain",
        "none",
        "--num_segments",
        2,
        "--input_size",
        32,
        "--batch-size",
        4,
        "--lr",
        0.001,
        "--lr_scheduler",
        "cosine",
        "--warmup_epoch",
        1,
        "--epochs",
        2,
        "--device",
        "cpu",
        "--print-freq",
        1,
        "--resume",
        "auto",
    ]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The directory of a run of ``flags`` that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert call("main", *flags, "-j", 0, "--output_dir", out) == 0
    return out


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_any_step_and_resumed(flags, tmp_path, way):
    """SIGKILL at ten random moments, a checkpoint after every step."""
    command = [*flags, *WAYS[way], "-j", 0, "--save_every", 1]
    assert call("main", *command, "--output_dir", tmp_path / "whole") == 0
    out, draw, kills = tmp_path / "out", random.Random(way), 0
    while kills < 10:
        process = start_command("main", *command, "--output_dir", out, log=tmp_path / "log")
        process.join(draw.uniform(0.05, 1))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:  # through before it could be killed
            assert process.exitcode == 0, (tmp_path / "log").read_text()
            assert_same_training(out, tmp_path / "whole")
            shutil.rmtree(out)
    process = start_command("main", *command, "--output_dir", out, log=tmp_path / "log")
    process.join(120)
    assert process.exitcode == 0, (tmp_path / "log").read_text()
    assert_same_training(out, tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_stops(flags, whole, tmp_path, number):
    """To the whole job, as Slurm and the terminal send it: data-loading workers get it too."""
    command = [*flags, "-j", 1]
    out = tmp_path / "out"
    process = start_command("main", *command, "--output_dir", out, log=tmp_path / "log")
    while not (out / "log.txt").exists() or "[2/6]" not in (out / "log.txt").read_text():
        assert process.is_alive(), (tmp_path / "log").read_text()
        time.sleep(0.02)
    children = [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    for pid in (*children, process.pid):
        os.kill(pid, number)
    asked = time.monotonic()
    process.join(60)
    assert process.exitcode == (130 if number == signal.SIGINT else 75)
    assert time.monotonic() - asked < 20
    text = (tmp_path / "log").read_text()
    what = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert re.fullmatch(
        rf"{what} in epoch 1; continue with --resume auto "
        r"\(saved after step \d of 6 in .*/last.pth\)",
        text.splitlines()[-1],
    )
    assert "Traceback" not in text and not any(map(is_running, children))
    assert call("main", *command, "--output_dir", out) == 0
    assert_same_training(out, whole)


def test_a_signal_in_the_last_step_of_an_epoch(flags, tmp_path, monkeypatch):
    """Saved before the validation, which is done when the run goes on."""
    command, real = [*flags, "-j", 0, "--accumulate", 2], Trainer.on_step_end
    assert call("main", *command, "--output_dir", tmp_path / "whole") == 0

    def signalled(self, epoch, step, meters):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, epoch, step, meters)

    monkeypatch.setattr(Trainer, "on_step_end", signalled)
    assert call("main", *command, "--output_dir", tmp_path / "out") == 75
    monkeypatch.undo()
    assert torch.load(tmp_path / "out" / "last.pth", weights_only=True)["step_in_epoch"] == 3
    out = tmp_path / "out"
    processes = ranks([*command, "--accumulate", 1], out, free_port(), tmp_path / "two")
    for process in processes:
        process.join(60)
    assert {process.exitcode for process in processes} == {2}
    assert "was saved within an epoch by 1 process, not 2" in (tmp_path / "two0").read_text()
    assert call("main", *command, "--output_dir", tmp_path / "out") == 0
    assert_same_training(tmp_path / "out", tmp_path / "whole")


def ranks(command, out, port, log):
    """Two processes of one job, as a launcher starts them."""
    return [
        start_command(
            "main",
            *command,
            "--output_dir",
            out,
            log=f"{log}{rank}",
            RANK=str(rank),
            WORLD_SIZE="2",
            LOCAL_RANK=str(rank),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        for rank in range(2)
    ]


def run_both(command, out, log):
    """Two processes to their end."""
    for process in ranks(command, out, free_port(), log):
        process.join(120)
        assert process.exitcode == 0, Path(f"{log}0").read_text()


def test_two_processes_are_killed_and_stopped_from_either(flags, tmp_path):
    command = [*flags, "-j", 0, "--save_every", 1, "--batch-size", 2, "--ema", 0.9]
    run_both(command, tmp_path / "whole", tmp_path / "whole.log")
    out = tmp_path / "out"
    faults = [(1, signal.SIGKILL), (1, signal.SIGTERM), (0, signal.SIGUSR1), (0, signal.SIGKILL)]
    for attempt, (victim, number) in enumerate(faults):
        processes = ranks(command, out, free_port(), tmp_path / f"log{attempt}")
        steps = (out / "log.txt").read_text().count("lr ") if (out / "log.txt").exists() else 0
        while (
            not (out / "log.txt").exists() or (out / "log.txt").read_text().count("lr ") < steps + 3
        ):
            assert processes[0].is_alive(), (tmp_path / f"log{attempt}0").read_text()
            time.sleep(0.02)
        os.kill(processes[victim].pid, number)
        if number == signal.SIGKILL:  # the launcher ends the others
            processes[victim].join()
            processes[1 - victim].kill()
        for process in processes:
            process.join(60)
        assert {process.exitcode for process in processes} == (
            {-9} if number == signal.SIGKILL else {75}
        )
    run_both(command, out, tmp_path / "end.log")
    assert_same_training(out, tmp_path / "whole")


def test_a_signal_to_the_other_process_during_validation(flags, tmp_path):
    """Both stop validating, and the epoch is saved; when the run goes on, it is validated."""
    flags = list(flags)
    flags[flags.index("--val_list") + 1] = flags[
        flags.index("--train_list") + 1
    ]  # three times as long
    command, out = [*flags, "-j", 0, "--batch-size", 2], tmp_path / "out"
    run_both(command, tmp_path / "whole", tmp_path / "whole.log")
    processes = ranks(command, out, free_port(), tmp_path / "log")
    while not (out / "log.txt").exists() or "epoch 1/2" not in (out / "log.txt").read_text():
        assert processes[0].is_alive(), (tmp_path / "log0").read_text()
        time.sleep(0.005)
    os.kill(processes[1].pid, signal.SIGTERM)
    for process in processes:
        process.join(60)
    assert {process.exitcode for process in processes} == {75}
    last = torch.load(out / "last.pth", weights_only=True)
    assert last["step_in_epoch"] == 6 and last["epoch"] == 0 and not (out / "best.pth").exists()
    run_both(command, out, tmp_path / "end.log")
    assert_same_training(out, tmp_path / "whole")


def children_of(pid):
    return [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def test_torchrun_starts_a_dead_rank_again(flags, tmp_path):
    """--max-restarts: both processes begin anew from the last state."""
    command = [*flags, "-j", 0, "--save_every", 1, "--batch-size", 2, "--epochs", 4]
    run_both(command, tmp_path / "whole", tmp_path / "whole.log")
    out = tmp_path / "out"
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        2,
        "--max-restarts",
        2,
        "main.py",
    ]
    with open(tmp_path / "log", "w") as log:
        agent = subprocess.Popen(
            [sys.executable, *map(str, [*launcher, *command, "--output_dir", out])],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        while not (out / "log.txt").exists() or "[2/6]" not in (out / "log.txt").read_text():
            assert agent.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.02)
        os.kill(children_of(agent.pid)[1], signal.SIGKILL)
        assert agent.wait(180) == 0, (tmp_path / "log").read_text()
    assert "resumed" in (out / "log.txt").read_text()
    assert_same_training(out, tmp_path / "whole")


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_passed_over(flags, whole, tmp_path, capsys, kind):
    command = [*flags, "-j", 0]
    out = tmp_path / "out"
    assert call("main", *command, "--output_dir", out) == 0
    newest = bytearray((out / "last.pth").read_bytes())
    newest[len(newest) // 2] ^= 1
    (out / "last.pth").write_bytes({"cut": newest[:-500], "flipped": newest, "empty": b""}[kind])
    assert damage(out / "last.pth") and damage(out / "last.1.pth") is None
    rows = (out / "log.jsonl").read_text().splitlines(keepends=True)
    (out / "log.jsonl").write_text(rows[0])  # the second epoch is trained again
    capsys.readouterr()
    assert call("main", *command, "--output_dir", out) == 0
    said = capsys.readouterr().out
    assert (
        f"warning: {out}/last.pth: damaged" in said
        and f"resumed {out}/last.1.pth after epoch 1" in said
    )
    assert_same_training(out, whole)
    for path in out.glob("last*.pth"):
        path.write_bytes(b"")
    assert "all 2 checkpoints are damaged" in refused(capsys, "main", *command, "--output_dir", out)


def test_a_loss_that_is_not_finite_names_its_videos(flags, tmp_path, capsys):
    command = [*flags, "-j", 0, "--save_every", 1, "--print-freq", 3]
    line = refused(
        capsys,
        "main",
        *command,
        "--lr",
        1e30,
        "--warmup_epoch",
        0,
        "--output_dir",
        tmp_path / "out",
    )
    assert re.search(
        r"the (loss|norm of the gradient) is (nan|inf) at epoch 1, step [23] of 6, "
        r"lr 9.8e\+29, videos vid",
        line,
    )
    saved = torch.load(tmp_path / "out" / "last.pth", weights_only=True)
    assert (
        all(value.isfinite().all() for value in saved["state_dict"].values())
        and saved["step_in_epoch"] >= 1
    )


@pytest.mark.parametrize("size", [200, 10**7])
def test_a_full_disk(flags, whole, tmp_path, capsys, size):
    """With a limit of ``size`` bytes per file the options do not fit, or only the checkpoint."""
    command, out = [*flags, "-j", 0], tmp_path / "out"
    assert call("main", *command, "--output_dir", out, "--epochs", 1) == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        line = refused(capsys, "main", *command, "--output_dir", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    name = "args.json" if size < 1000 else "last.pth"
    assert f"/out/{name}: File too large; " in line
    assert damage(out / "last.pth") is None and not list(out.glob("*.tmp"))
    assert call("main", *command, "--output_dir", out) == 0
    assert_same_training(out, whole)
