"""ops/utils/machine.py: the limits of this machine."""

import os
import platform
import subprocess
import sys

import pytest
from helpers.launch import ROOT, launch

from ops.utils import machine

OPEN_FILES = """
import resource, sys
from ops.utils.errors import run_cli
from ops.utils.machine import check_open_files
soft, hard, needed = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
run_cli(lambda: check_open_files(needed, "-j 9"))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    "cores, processes, workers", [(1, 1, 1), (4, 1, 4), (64, 1, 8), (64, 16, 4), (2, 8, 1)]
)
def test_default_workers_are_a_share_of_the_cores(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(machine, "available_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert machine.default_workers() == workers


def test_cores_follow_the_affinity():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from ops.utils.machine import available_cores; print(available_cores())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "1\n"


@pytest.mark.parametrize("soft, hard, needed, after", [(50, 50, 40, 50), (50, 90, 80, 80)])
def test_the_limit_of_open_files_is_raised_if_it_may(soft, hard, needed, after):
    assert open_files(soft, hard, needed).stdout == f"{after}\n"


def test_a_hard_limit_of_open_files_is_one_line():
    run = open_files(50, 50, 60)
    assert run.returncode == 2 and run.stderr.count("\n") == 1
    assert run.stderr.startswith("error: -j 9 ") and "ulimit -n" in run.stderr


def open_files(*numbers):
    return subprocess.run(
        [sys.executable, "-c", OPEN_FILES, *map(str, numbers)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_shared_memory_is_measured_or_absent(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    assert machine.free_shared_memory() > 0
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "none")
    with pytest.raises(OSError):
        machine.free_shared_memory()
    monkeypatch.setattr(machine.sys, "platform", "win32")
    assert machine.free_shared_memory() is None


# Page faults of making and freeing byte arrays of 64 MiB.
PAGE_FAULTS = """
import resource, sys
from ops.utils.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(8):
    bytearray(b"1") * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system has no glibc")
def test_freed_memory_is_kept_unless_the_user_configured_the_allocator(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)

    def page_faults(mode):
        run = launch("-c", PAGE_FAULTS, mode)
        assert run.returncode == 0, run.stderr
        return int(run.stdout)

    returned = page_faults("default")
    assert page_faults("keep") < returned / 3
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert page_faults("keep") > returned / 2
