import fcntl
import subprocess
import sys

import pytest
from helpers.launch import ROOT

from ops.utils.errors import UserError
from ops.utils.locks import exclusive_lock

HOLD = """
import sys
from ops.utils.locks import exclusive_lock
with exclusive_lock(sys.argv[1], "run", "OUT"):
    print("locked", flush=True)
    sys.stdin.read()
"""
# Each round writes a file that must not be there, and must stay as it is.
TAKE_TURNS = """
import sys
from pathlib import Path
from ops.utils.errors import UserError
from ops.utils.locks import exclusive_lock
folder, name = Path(sys.argv[1]), sys.argv[2]
turns = refused = 0
while turns < 200:
    try:
        with exclusive_lock(folder, "run", "OUT"):
            with open(folder / "mine", "x") as file:
                file.write(name)
            assert (folder / "mine").read_text() == name
            (folder / "mine").unlink()
        turns += 1
    except UserError:
        refused += 1
print(turns, refused)
"""


def start(program, *args):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def hold():
    """A function that starts a process holding the lock; all end with the test."""
    started = []

    def begin(folder):
        started.append(start(HOLD, folder))
        assert started[-1].stdout.readline() == "locked\n", started[-1].stderr.read()
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def refuse(folder):
    """The line in which another user of the folder is refused."""
    with pytest.raises(UserError) as error, exclusive_lock(folder, "test", "--output_dir"):
        pytest.fail("two at once")
    return str(error.value)


def test_the_second_is_refused_until_the_first_ends(hold, tmp_path):
    folder = tmp_path / "-new" / "größe 视频"
    first = hold(folder)
    assert (
        refuse(folder)
        == f"{folder}: another test is writing there; wait for it, or give another --output_dir"
    )
    assert [path.name for path in folder.iterdir()] == [".lock"]
    second = start(HOLD, folder)
    assert (
        "another run is writing there; wait for it, or give another OUT"
        in second.communicate(timeout=60)[1]
    )
    first.communicate()
    assert first.returncode == 0 and not list(folder.iterdir())
    with (
        exclusive_lock(folder, "test", "--output_dir"),
        exclusive_lock(folder / "in it", "test", "--output_dir"),
    ):
        assert "another test" in refuse(folder)
    assert [path.name for path in folder.iterdir()] == ["in it"]


def test_the_lock_goes_with_a_process_that_is_killed(hold, tmp_path):
    first = hold(tmp_path)
    assert "another test" in refuse(tmp_path)
    first.kill()
    first.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    hold(tmp_path)
    assert "another test" in refuse(tmp_path)


def test_an_exception_ends_it(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive_lock(tmp_path, "test", "--output_dir"):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
    with exclusive_lock(tmp_path, "test", "--output_dir"):
        (tmp_path / ".lock").unlink()  # by a user who thought it a leftover


def test_processes_that_come_and_go_are_never_two(tmp_path):
    takers = [start(TAKE_TURNS, tmp_path, name) for name in "ab"]
    for taker in takers:
        out, errors = taker.communicate(timeout=60)
        assert taker.returncode == 0 and out.startswith("200 "), errors
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_opened_before_it_was_removed_is_none(tmp_path, monkeypatch):
    """Between opening and locking the file, its owner ends and the next one comes."""
    flock, first, second = (
        fcntl.flock,
        exclusive_lock(tmp_path, "run", "OUT"),
        exclusive_lock(tmp_path, "run", "OUT"),
    )
    first.__enter__()

    def late(file, how):
        monkeypatch.setattr(fcntl, "flock", flock)
        first.__exit__(None, None, None)
        second.__enter__()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert "another test" in refuse(tmp_path)
    second.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_a_disk_without_locks_refuses_nobody(tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with (
        exclusive_lock(tmp_path, "test", "--output_dir"),
        exclusive_lock(tmp_path, "test", "--output_dir"),
    ):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "scores"):
        assert refuse(folder).startswith(f"{folder}: cannot be written (")
        assert refuse(folder).endswith("); give another --output_dir")
    (tmp_path / ".lock").mkdir()
    assert (
        refuse(tmp_path)
        == f"{tmp_path}/.lock: cannot be written (Is a directory); give another --output_dir"
    )


def test_what_killed_processes_left_is_removed_under_the_lock(tmp_path, hold):
    code = (
        "import os, sys; from ops.utils.files import atomic_write\n"
        "with atomic_write(sys.argv[1] + '/a.pth'):\n    os._exit(1)"
    )
    start(code, tmp_path).communicate()
    (left,) = tmp_path.iterdir()
    first = hold(tmp_path)
    assert not left.exists()
    left.touch()
    assert "another test" in refuse(tmp_path)
    assert left.exists()
    first.communicate()
