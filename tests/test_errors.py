"""ops/utils/errors.py: exit statuses and what the user sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.utils.errors import UserError, repeatable, run_cli
from ops.utils.files import atomic_write


@pytest.mark.parametrize(
    "error, status, shown",
    [
        (UserError("a.txt:3: no label"), 2, "error: a.txt:3: no label\n"),
        (
            UserError("a\x1b[2J\u202e\r\n.txt: no label"),
            2,
            "error: a\\x1b[2J\\u202e\\r\\n.txt: no label\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_errors_for_users(capsys, error, status, shown):
    def main():
        raise error

    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    assert caught.value.code == status
    assert capsys.readouterr() == ("", shown)


def test_interrupt_of_repeatable_work(capsys):
    def main():
        with repeatable():
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "interrupted; continue with the same command\n"


def test_a_full_disk_is_one_line_and_other_errors_of_the_system_are_not(capsys, tmp_path):
    def full():
        with atomic_write(tmp_path / "a.txt") as file:
            os.write(os.open("/dev/full", os.O_WRONLY), b"text")
            file.write(b"never")

    with pytest.raises(SystemExit) as caught:
        run_cli(full)
    assert caught.value.code == 2 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/a.txt: No space left on device; ")
    with pytest.raises(FileNotFoundError):
        run_cli(lambda: (tmp_path / "none").read_text())


def test_a_loader_process_that_hangs_holds_nobody():
    """Python waits for its daemonic children when it ends, and these do not hear SIGTERM."""
    code = (
        "import multiprocessing, signal, time\n"
        "from ops.utils.errors import UserError, run_cli\n"
        "from ops.utils.signals import start_worker\n"
        "def hang():\n"
        "    start_worker()\n"
        "    while True:\n"
        "        time.sleep(100)\n"
        "def main():\n"
        "    multiprocessing.get_context('fork').Process(target=hang, daemon=True).start()\n"
        "    time.sleep(0.3)\n"
        "    raise UserError('enough')\n"
        "run_cli(main)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert run.returncode == 2 and run.stderr == "error: enough\n"


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 / 0)


def test_success_returns():
    assert run_cli(lambda: None) is None


def test_closed_pipe_is_not_a_defect():
    """As in ``... list | head -1``: much more than a pipe holds, of which one line is read."""
    code = (
        "from ops.utils.errors import run_cli\n"
        "run_cli(lambda: [print('line') for _ in range(100_000)])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 141
