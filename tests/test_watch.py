"""ops/jobs/watch.py with real processes: who ends, with which status, and what is printed."""

import ctypes
import os
import re
import signal
import sys
import time

import pytest
from fronts import ROOT, launch
from ranks import HOST, LOOK, SILENCE, ends, run_all, start_all

from ops import distributed
from ops.errors import UserError, explain
from ops.jobs import watch
from ops.jobs.stopping import Stopped

BOUND = 10  # seconds in which all end


def job(act=None, *arguments):
    """Meet, do something, meet again."""
    with distributed.start("cpu") as world:
        distributed.barrier()
        if act:
            act(*arguments)
        distributed.barrier()
        print(f"done {world.rank}", flush=True)


def leave_early(*others):
    """Those of these ranks leave at once, the others after longer than a silence."""
    with distributed.start("cpu") as world:
        distributed.barrier()
        if world.rank not in others:
            time.sleep((SILENCE + 5) * LOOK)
        print(f"done {world.rank}", flush=True)


def fail(text):
    raise UserError(text)


def defect():
    raise ZeroDivisionError("two\nlines")


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_there(place):
    """And say so."""
    (place / f"at {os.getpid()}").touch()
    time.sleep(600)


def hold_the_interpreter(seconds):
    """As C code does that does not let Python's other threads run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def be_stopped(seconds):
    time.sleep(seconds)
    raise Stopped("saved")


def stop(before, after):
    """One that is saved, closes its files and ends, and these take seconds."""
    try:
        job(be_stopped, before)
    finally:
        time.sleep(after)


def blocked_output():
    """Ends while its output is a full pipe that nobody empties."""
    _, write = os.pipe()
    os.dup2(write, 2)
    os.set_blocking(write, False)
    while True:
        try:
            os.write(write, b"x" * 4096)
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    watch.END = 1
    job(time.sleep, 600)


def line(rank, size, what):
    return f"process {rank} of {size} ({HOST}) failed: {what}; ending\n"


def test_a_good_end_is_silent(tmp_path):
    assert [end[:2] for end in run_all(tmp_path, *[(job,)] * 3)] == [
        (0, f"done {rank}\n") for rank in range(3)
    ]


def test_who_has_left_is_not_missed(tmp_path):
    """Nor is its store."""
    jobs = {}
    for name, early in (("first", (0,)), ("others", (1, 2))):
        (tmp_path / name).mkdir()
        jobs[name] = start_all(tmp_path / name, *[(leave_early, *early)] * 3)
    for name, processes in jobs.items():
        assert [end[:2] for end in ends(tmp_path / name, processes)] == [
            (0, f"done {rank}\n") for rank in range(3)
        ]


@pytest.mark.parametrize(
    "failing, act, status, own, last",
    [
        (
            0,
            (fail, "a.txt:3: no label"),
            2,
            "error: a.txt:3: no label\n",
            "error: a.txt:3: no label",
        ),
        (2, (defect,), 1, "ZeroDivisionError: two\nlines\n", "ZeroDivisionError: two"),
        (2, (sys.exit, 3), 3, "ended with status 3\n", "ended with status 3"),
        (0, (signal.raise_signal, signal.SIGINT), 130, "interrupted\n", "interrupted"),
    ],
)
def test_the_first_failure_is_printed_first_and_its_status_is_that_of_all(
    tmp_path, act, status, own, last, failing
):
    """Wherever the others are: one is in a collective, and one waits for what no exception ends."""
    acts = [(), (time.sleep, 600), ()]
    acts[failing] = act
    found = run_all(tmp_path, *[(job, *act) for act in acts])
    assert [end.status for end in found] == [status] * 3
    assert found[failing].text.endswith(own) and found[failing].text.count(own) == 1
    for rank in {0, 1, 2} - {failing}:
        assert found[rank].text == line(failing, 3, last)
        assert found[failing].time < found[rank].time < found[failing].time + BOUND


def test_all_fail_at_once(tmp_path):
    found = run_all(tmp_path, *[(job, fail, "list.txt is missing")] * 3)
    first = [rank for rank, end in enumerate(found) if end.text == "error: list.txt is missing\n"]
    assert len(first) == 1 and [end.status for end in found] == [2] * 3
    assert [end.text for end in found].count(line(first[0], 3, "error: list.txt is missing")) == 2


def test_who_is_killed_is_missed(tmp_path):
    """At once by the process that stands in a collective with it, which tells the other."""
    found = run_all(tmp_path, (job, time.sleep, 600), (job,), (job, kill_oneself))
    assert [end.status for end in found] == [1, 1, -signal.SIGKILL] and found[2].text == ""
    for end in found[:2]:
        assert end.text == line(
            2, 3, "silent for 1 s: it was killed, hangs, or its machine is gone"
        )
        assert end.time < found[2].time + BOUND


def test_the_store_is_gone(tmp_path):
    found = run_all(tmp_path, (job, kill_oneself), (job,), (job, time.sleep, 600))
    assert [end.status for end in found] == [-signal.SIGKILL, 1, 1]
    for end in found[1:]:
        assert re.fullmatch(
            rf"the store of the job at 127.0.0.1:\d+ closed the connection: process 0 \({HOST}\) or its "
            r"launcher has ended, was killed, or its machine is gone; ending\n",
            end.text,
        )
        assert end.time < found[0].time + BOUND


def test_one_is_suspended_and_later_continued(tmp_path):
    """Process 0 has the store, which does not answer then: as if its machine were gone."""
    jobs = {}
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        jobs[folder] = start_all(folder, (job, sleep_there, folder), (job, sleep_there, folder))
    for number, (folder, processes) in enumerate(jobs.items()):
        while len(list(folder.glob("at *"))) < 2:
            time.sleep(0.02)
        os.kill(processes[number].pid, signal.SIGSTOP)
    for number, (folder, processes) in enumerate(jobs.items()):
        processes[1 - number].join(BOUND)
        os.kill(processes[number].pid, signal.SIGCONT)
        found = ends(folder, processes, 15)
        assert [end.status for end in found] == [1, 1]
        assert re.fullmatch(
            [
                rf"the store .* has not answered for 3 s: process 0 \({HOST}\) .*; ending\n",
                re.escape(
                    line(1, 2, "silent for 3 s: it was killed, hangs, or its machine is gone")
                ),
            ][number],
            found[1 - number].text,
        )


def test_the_slow_and_the_suspended_together_are_left_alone(tmp_path):
    processes = start_all(
        tmp_path, (job, time.sleep, 3), (job, hold_the_interpreter, 0.6 * SILENCE * LOOK)
    )
    time.sleep(1)
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    time.sleep((SILENCE + 5) * LOOK)
    for process in processes:
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.5)
    assert [end[:2] for end in ends(tmp_path, processes)] == [(0, "done 0\n"), (0, "done 1\n")]


def test_a_saved_stop_keeps_its_status(tmp_path):
    """Launchers send SIGTERM to the others as soon as one has ended."""
    processes = start_all(tmp_path, (stop, 0.3, 1), (stop, 0, 0))
    processes[1].join()
    os.kill(processes[0].pid, signal.SIGTERM)
    assert [end[:2] for end in ends(tmp_path, processes)] == [(75, "saved\n")] * 2


def test_an_output_that_nobody_reads_holds_nobody(tmp_path):
    found = run_all(tmp_path, (blocked_output,), (job, fail, "wrong"), limit=30)
    assert [end.status for end in found] == [-signal.SIGALRM, 2]


def test_torchrun_blames_the_process_that_failed(tmp_path):
    """And not one that ended because of it, even if that is killed by torchrun's SIGTERM."""
    (tmp_path / "program.py").write_text(
        f"import os, sys\nsys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]}\n"
        "from ops.errors import run_front\nfrom test_watch import fail, job\n"
        "run_front(lambda: job(*[fail, 'wrong'] * (os.environ['RANK'] == '1')))\n"
    )
    run = launch(
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        2,
        tmp_path / "program.py",
    )
    assert run.returncode == 1 and run.stderr.count("error: wrong\n") == 1, run.stderr
    assert re.search(r"Root Cause .*?rank +: 1 .*?exitcode +: 2 ", run.stderr, re.S), run.stderr


def test_explain():
    assert explain(UserError("a: b")) == ("error: a: b", 2) and explain(Stopped("saved")) == (
        "saved",
        75,
    )
    assert explain(SystemExit("text"))[1] == 1 and explain(BrokenPipeError())[1] == 141
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("half a file")
    except RuntimeError as error:
        assert explain(error) == ("interrupted", 130)
    text, status = explain(ZeroDivisionError("zero"))
    assert text == "ZeroDivisionError: zero" and status == 1
