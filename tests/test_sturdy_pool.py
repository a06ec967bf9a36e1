import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.launch import ROOT, is_running, launch, wait_until

from lib.videos import sturdy_pool
from lib.videos.sturdy_pool import Lost, run_jobs
from ops.utils.errors import UserError


def killed_once(job):
    path, number = job
    if number == 3 and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 2


def test_job_of_a_process_killed_from_outside_is_repeated(tmp_path):
    jobs = [(tmp_path / "was here", number) for number in range(6)]
    assert dict(run_jobs(killed_once, jobs, 2, 60)) == {number: number * 2 for number in range(6)}
    assert (tmp_path / "was here").exists()


def leaves(job):
    os._exit(job)


def complains(job):
    raise UserError("decoder not installed")


@pytest.mark.slow
def test_job_whose_processes_end_is_lost():
    assert dict(run_jobs(leaves, [3, 0], 1, 60)) == {
        0: Lost("ended with status 3"),
        1: Lost("ended with status 0"),
    }
    with pytest.raises(UserError, match="not installed"):
        list(run_jobs(complains, [1, 2], 1, 60))


def sleeps(job):
    Path(job).write_text(str(os.getpid()))
    time.sleep(600)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_no_process_outlives_the_pool_or_its_parent(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        for _ in run_jobs(sleeps, [tmp_path / "pid"], 1, 1):
            raise KeyboardInterrupt
    assert not is_running(int((tmp_path / "pid").read_text()))
    (tmp_path / "start.py").write_text(
        "from test_sturdy_pool import *\nif __name__ == '__main__':\n"
        f"    list(run_jobs(sleeps, [{str(tmp_path / 'child')!r}], 1, 600))\n"
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tools", ROOT / "tests"])),
    }
    parent = subprocess.Popen([sys.executable, str(tmp_path / "start.py")], env=env)
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(int((tmp_path / "child").read_text())))


def blocks_ctrl_c(job):
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_processes_ignore_ctrl_c():
    """The first one too, which multiprocessing starts in another way than the others."""
    process = launch(
        "-c",
        "import sys; sys.path[:0] = ['tests', 'tools']; from test_sturdy_pool import *; "
        "print(dict(run_jobs(blocks_ctrl_c, range(3), 1, 60)), blocks_ctrl_c(0))",
    )
    assert process.stdout == "{0: True, 1: True, 2: True} False\n", process.stderr


class SlowToSend:
    """Work during whose pickling another thread, such as a progress bar's, gets Ctrl-C."""

    thread = None
    is_sent = False

    def __reduce__(self):
        signal.pthread_kill(SlowToSend.thread.ident, signal.SIGINT)
        time.sleep(0.2)
        SlowToSend.is_sent = True
        return os._exit, (7,)


def test_ctrl_c_during_the_start_of_a_process():
    end = threading.Event()
    SlowToSend.thread = threading.Thread(target=end.wait)
    SlowToSend.thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_jobs(SlowToSend(), [1], 1, 60))
    finally:
        end.set()
    assert SlowToSend.is_sent


def test_process_that_cannot_start_raises(monkeypatch):
    monkeypatch.setattr(sturdy_pool, "serve", stops_at_once)
    with pytest.raises(UserError, match="status 7"):
        list(run_jobs(leaves, [0], 1, 60))


def stops_at_once(connection, work):
    os._exit(7)
