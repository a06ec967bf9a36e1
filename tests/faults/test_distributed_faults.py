"""One of several processes fails, is killed or is missing: the others end with one line."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from helpers.launch import ROOT, call, free_port, launch, run_ranks
from helpers.runs import assert_same_training
from test_training_faults import children_of, flags  # noqa: F401 (a fixture)

from ops.checkpoints import save_checkpoint
from ops.data.clips import TrainDataset
from ops.models import TSN
from ops.testing import run
from ops.training import trainer
from ops.training.run_dir import latest_checkpoint
from ops.utils.errors import UserError

pytestmark = pytest.mark.slow

BOUND = 20  # seconds from the first end to the last
TWO = ["--batch-size", 2, "--save_every", 1]


def run_with_fault(fault, *arguments):
    """Run a command in which a fault is injected."""
    if fault:
        fault[0](*fault[1:])
    sys.exit(call(*arguments))


def at_step(number, act, *arguments):
    """Do something as soon as that step of an epoch has been saved."""
    real = trainer.Trainer.on_step_end

    def on_step_end(self, epoch, step, meters):
        real(self, epoch, step, meters)
        if step == number:
            act(*arguments)

    trainer.Trainer.on_step_end = on_step_end


def fail(*_, **__):
    raise UserError("val.txt:1: torn")


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_the_loader():
    os.kill(children_of(os.getpid())[0], signal.SIGKILL)


def in_validation():
    trainer.validate = fail


def in_scoring():
    run.score_views = fail


def silent_loader():
    TrainDataset.__getitem__ = lambda *_: time.sleep(600)


def check_others(found, failing):
    """One process printed its own error; the others one line, soon after it."""
    first = found[failing]
    for rank, end in enumerate(found):
        if rank != failing:
            said = [text for text in end.text.splitlines() if re.match("error|Traceback", text)]
            assert len(said) == 1, end.text
            assert said[0].startswith(f"error: process {rank} of {len(found)} lost the connection")
            assert 0 < end.time - first.time < BOUND and end.status == 2


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):  # noqa: F811
    """The directory of a run of two processes that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    run = [
        (run_with_fault, None, "main", *flags, "-j", 0, *TWO, "--output_dir", folder / "out")
    ] * 2
    assert [end.status for end in run_ranks(folder, *run)] == [0, 0]
    return folder / "out"


def test_run_resumes_after_each_failure(flags, whole, tmp_path):  # noqa: F811
    """In training and validation, of either process; process 0 has the store."""
    command, out = ["main", *flags, "-j", 0, *TWO, "--output_dir"], tmp_path / "out"
    for failing, fault, status in [
        (1, (at_step, 2, fail), 2),
        (1, (at_step, 4, kill_oneself), -9),
        (0, (at_step, 5, kill_oneself), -9),
        (1, (in_validation,), 2),
    ]:
        found = run_ranks(
            tmp_path,
            *[
                (run_with_fault, fault if rank == failing else None, *command, out)
                for rank in range(2)
            ],
        )
        assert found[failing].status == status, found[failing].text
        assert status < 0 or found[failing].text.endswith("error: val.txt:1: torn\n")
        check_others(found, failing)
        assert latest_checkpoint(out) == (out / "last.pth", [])
    assert [
        end.status for end in run_ranks(tmp_path, *[(run_with_fault, None, *command, out)] * 2)
    ] == [
        0,
        0,
    ]
    assert_same_training(out, whole)


@pytest.mark.parametrize(
    "fault, line",
    [
        ((at_step, 2, kill_the_loader), "a data-loading worker ended: DataLoader worker .*"),
        (
            (silent_loader,),
            "the data-loading workers .*: DataLoader timed out after 2 seconds; .*",
        ),
    ],
)
def test_the_loader_of_one_process_fails(flags, tmp_path, fault, line):  # noqa: F811
    command = ["main", *flags, "-j", 1, *TWO, "--output_dir", tmp_path / "out"]
    short = ["--timeout", 2] if fault[0] is silent_loader else []
    found = run_ranks(
        tmp_path, (run_with_fault, None, *command), (run_with_fault, fault, *command, *short)
    )
    assert found[1].status == 2 and re.search(rf"^error: {line}$", found[1].text, re.M), found[
        1
    ].text
    check_others(found, 1)


def test_wrong_on_one_machine_only(flags, tmp_path):  # noqa: F811
    """A list that is missing there."""
    command = ["main", *flags, "-j", 0, *TWO, "--output_dir", tmp_path / "out"]
    found = run_ranks(
        tmp_path,
        (run_with_fault, None, *command),
        (run_with_fault, None, *command, "--train_list", "no/list.txt"),
    )
    assert found[1].status == 2 and found[1].text.startswith("error: no/list.txt")
    check_others(found, 1)
    assert not (tmp_path / "out").exists()


def torchrun(folder, *arguments):
    """torchrun with two processes of a program; returns (status, output, seconds)."""
    began = time.monotonic()
    run = launch(
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        2,
        *arguments,
        timeout=120,
    )
    return run.returncode, run.stdout + run.stderr, time.monotonic() - began


def test_torchrun_shows_the_error_and_ends_the_others(tmp_path):
    """Those as well that are busy elsewhere; the error is in its summary, too."""
    program = tmp_path / "program.py"
    for failing, act, line in [
        (1, "fail('wrong')", r"rank +: 1 .*exitcode +: 2 .*UserError: wrong"),
        (0, "kill_oneself()", r"rank +: 0 .*exitcode +: -9 "),
    ]:
        program.write_text(
            f"import os, sys, time\nsys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]}\n"
            "from ops.utils.errors import run_cli\n"
            "from test_distributed import fail, job, kill_oneself\n"
            f"def act():\n    {act} if os.environ['RANK'] == '{failing}' else time.sleep(600)\n"
            "run_cli(lambda: job(act))\n"
        )
        status, text, seconds = torchrun(tmp_path, program)
        assert status == 1 and seconds < 60
        assert re.search(rf"Root Cause .*{line}", text, re.S), text
        assert text.count("error: wrong\n") == (failing == 1)


def test_test_continues_after_a_failure(flags, tmp_path):  # noqa: F811
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tsm.pth", TSN(8, 2, arch="resnet18", module="tsm", input_size=32))
    data = flags[2 : flags.index("--module")]
    command = [
        "test_models_center_crop",
        "motion",
        *data[:4],
        *data[6:],
        "--weights",
        tmp_path / "tsm.pth",
        "--clip_index",
        0,
        "--device",
        "cpu",
        "-j",
        0,
        "--output_dir",
    ]
    found = run_ranks(
        tmp_path,
        (run_with_fault, None, *command, tmp_path / "out"),
        (run_with_fault, (in_scoring,), *command, tmp_path / "out"),
    )
    assert found[1].status == 2 and found[1].text == "error: val.txt:1: torn\n"
    check_others(found, 1)
    for out in (tmp_path / "out", tmp_path / "whole"):
        assert [
            end.status for end in run_ranks(tmp_path, *[(run_with_fault, None, *command, out)] * 2)
        ] == [
            0,
            0,
        ]
    assert (tmp_path / "out" / "0_crop0.pkl").read_bytes() == (
        tmp_path / "whole" / "0_crop0.pkl"
    ).read_bytes()


def wait_for(path, text, agent):
    while not path.exists() or text not in path.read_text():
        assert agent.poll() is None
        time.sleep(0.02)


def test_two_machines(flags, whole, tmp_path):  # noqa: F811
    """A killed machine is replaced; the run ends with the numbers of two processes on one machine.

    Process 0 alone writes.
    """
    command, out, port = [*flags, "-j", 0, *TWO, "--output_dir"], tmp_path / "out", free_port()

    def machine(number, folder):
        arguments = [
            "--nnodes",
            2,
            "--nproc_per_node",
            1,
            "--max-restarts",
            2,
            "--rdzv_backend",
            "c10d",
            "--rdzv_id",
            "job",
            "--rdzv_endpoint",
            f"127.0.0.1:{port}",
            "main.py",
            *command,
            folder,
        ]
        with open(tmp_path / f"agent{number}", "w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    # or an agent that comes later is not told where the store is
                    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                },
            )

    first = machine(0, out)
    while not listens(port):
        assert first.poll() is None
        time.sleep(0.02)
    second = machine(1, tmp_path / "elsewhere")
    wait_for(out / "log.txt", "[2/6]", first)
    for pid in (second.pid, *children_of(second.pid)):
        os.kill(pid, signal.SIGKILL)
    second.wait()
    wait_for(tmp_path / "agent0", "process 0 of 2 lost the connection", first)
    assert latest_checkpoint(out) == (out / "last.pth", [])
    second = machine(2, out)
    assert [first.wait(300), second.wait(300)] == [0, 0], (tmp_path / "agent0").read_text()
    assert_same_training(out, whole)
    assert not (tmp_path / "elsewhere").exists()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
