"""scripts/slurm_train.sh with stand-ins for Slurm's commands: srun runs its tasks in turn."""

import os
import shlex
import subprocess
import sys

import pytest
from helpers.datasets import make_motion
from helpers.launch import ROOT, free_port

SCRIPT = ROOT / "scripts" / "slurm_train.sh"
STAND_INS = {
    "srun": '[ "$1" = --kill-on-bad-exit=1 ] || exit 9; shift\n'
    'for rank in 0 1 2; do SLURM_PROCID=$rank SLURM_LOCALID=$((rank % 2)) "$@" || worst=$?; done; '
    "exit ${worst:-0}",
    "scontrol": 'case $1 in show) printf "node7\\nnode8\\n" ;; requeue) echo "requeued $2" ;; esac',
    "python": 'echo "rank $RANK of $WORLD_SIZE, local $LOCAL_RANK, $MASTER_ADDR:$MASTER_PORT:"; '
    'printf "<%s>" "$@"; echo\n'
    "exit $CODE",
}


def plain_environment():
    """The environment without the variables of launchers and batch systems."""
    set_by_launchers = ("SLURM_", "MASTER_")
    return {
        name: value for name, value in os.environ.items() if not name.startswith(set_by_launchers)
    }


@pytest.fixture
def batch(tmp_path):
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(*arguments, code=0, **environment):
        environment = {
            "SLURM_JOB_ID": "41234",
            "SLURM_JOB_NODELIST": "node[7-8]",
            "SLURM_NTASKS": "3",
            **environment,
        }
        return subprocess.run(
            ["bash", SCRIPT, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={
                **plain_environment(),
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "SLURM_SUBMIT_DIR": str(tmp_path),
                "CODE": str(code),
                **environment,
            },
        )

    return run


def test_each_task_is_a_rank(batch):
    done = batch("something", "RGB", "--output_dir", "a b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        line
        for rank in range(3)
        for line in (
            f"rank {rank} of 3, local {rank % 2}, node7:11234:",
            "<main.py><something><RGB><--output_dir><a b><--resume><auto>",
        )
    ]


def test_a_job_that_saved_itself_is_requeued(batch):
    assert batch("something", code=75).stdout.splitlines()[-2:] == [
        "stopped and saved; requeueing the job",
        "requeued 41234",
    ]
    failed = batch("something", code=2)
    assert failed.returncode == 2 and "requeued" not in failed.stdout
    outside = batch("something", SLURM_JOB_ID="")
    assert outside.returncode == 2 and outside.stderr.startswith("error: start it with sbatch")


TWO_NODES = {
    "srun": 'shift; for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=0 "$@" & done\n'
    "wait -n; worst=$?; wait -n || worst=$?; exit $worst",
    "scontrol": '[ "$1" = show ] && echo 127.0.0.1 || echo requeued',
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
}


@pytest.mark.slow
def test_two_nodes_with_the_real_program(tmp_path):
    """One task on each: they find each other."""
    data = make_motion(tmp_path / "motion", videos=8, val_videos=8)
    for name, text in TWO_NODES.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = [
        "bash",
        SCRIPT,
        "motion",
        "RGB",
        *data,
        "--module",
        "tsm",
        "--arch",
        "resnet18",
        "--num_segments",
        "2",
        "--input_size",
        "32",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        "--dry_run",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **plain_environment(),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_NTASKS": "2",
            "MASTER_PORT": str(free_port()),
        },
    )
    assert (
        done.returncode == 0 and done.stdout.count("total batch 4 = 2 processes x 2 videos") == 1
    ), done.stderr
