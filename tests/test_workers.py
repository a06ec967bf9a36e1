import errno
import os
import signal
import time
from pathlib import Path

import pytest
from workers import work_on

from ops.data.reader_base import UnreadableVideo
from ops.errors import UserError


def work(job):
    """What a job is called is what happens to it."""
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "gone":
        os._exit(3)
    if job in RAISED:
        raise RAISED[job]
    if isinstance(job, tuple):
        folder, number = job
        (folder / f"{os.getpid()}-{number}").touch()
        time.sleep(0.05)


RAISED = {"unreadable": UnreadableVideo("a.mp4", "empty file"), "user": UserError("mend it"), "bug": KeyError("x"),
          "full": OSError(errno.ENOSPC, "No space left on device", "out"),
          "long": OSError(errno.ENAMETOOLONG, "File name too long", "out")}


@pytest.mark.parametrize("processes", [1, 3])
def test_failures_are_of_one_job(processes):
    jobs = ["fine", "unreadable", "killed", "user", "gone", "bug", "fine too", "long", "killed"]
    ends = list(work_on(jobs, work, processes))
    assert sorted(job for job, _ in ends) == sorted(jobs)
    reasons = dict(ends)
    assert reasons["fine"] is None and reasons["fine too"] is None
    assert reasons["unreadable"] == "empty file" and reasons["user"] == "mend it"
    assert reasons["bug"] == "KeyError: 'x'" and "File name too long" in reasons["long"]
    assert reasons["killed"] == "the process that worked on it died (exit status -9)"
    assert reasons["gone"] == "the process that worked on it died (exit status 3)"


def test_an_error_of_the_results_ends_all():
    with pytest.raises(OSError, match="No space left") as caught:
        list(work_on(["fine", "full", *["fine"] * 50], work, 2))
    assert caught.value.filename == "out"


def test_processes_work_side_by_side_and_end_with_the_generator(tmp_path):
    ends = work_on([(tmp_path, number) for number in range(40)], work, 3)
    for _ in range(12):
        next(ends)
    ends.close()
    pids = {int(path.name.split("-")[0]) for path in tmp_path.iterdir()}
    assert len(pids) == 3 and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    before = len(list(tmp_path.iterdir()))
    time.sleep(0.2)
    assert len(list(tmp_path.iterdir())) == before < 40


def test_no_jobs():
    assert list(work_on([], work, 2)) == []
