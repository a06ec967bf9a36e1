"""The package on a platform without POSIX: without what Windows lacks, it is imported and used."""

import subprocess
import sys

import pytest
from helpers.datasets import make_motion
from helpers.launch import ROOT
from helpers.models import small_model

from ops.checkpoints import save_checkpoint

# What Windows lacks of Python's standard library, as far as this project could use it.
WITHOUT_POSIX = """
import os, signal, sys
sys.path[:0] = [os.getcwd(), os.path.join(os.getcwd(), "tools")]
for name in ("SIGUSR1", "SIGCHLD", "SIGALRM", "SIGKILL", "alarm", "pthread_sigmask"):
    delattr(signal, name)
for name in ("sched_getaffinity", "killpg"):
    delattr(os, name)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
"""
IMPORT_ALL = """
import importlib, pathlib
names = [
    ".".join(path.with_suffix("").parts)
    for path in sorted(pathlib.Path("ops").rglob("*.py"))
    if path.name != "__init__.py"
]
names += [path.stem for path in sorted(pathlib.Path("tools").glob("*.py"))]
names += ["main", "test_models_center_crop", "test_models_three_crops", "pkl_to_results"]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
RUN = """
import runpy
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""
LOCK = """
from ops.utils.errors import UserError
from ops.utils.locks import exclusive_lock
with exclusive_lock(sys.argv[1], "run", "--out"):
    try:
        with exclusive_lock(sys.argv[1], "run", "--out"):
            print("two at once")
    except UserError as error:
        print(error)
with exclusive_lock(sys.argv[1], "run", "--out"):
    print("free again")
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_everything_imports():
    assert int(run(IMPORT_ALL)) > 80


def test_locks(tmp_path):
    first, second = run(LOCK, tmp_path).splitlines()
    assert "another run is writing there" in first and second == "free again"


@pytest.mark.slow
def test_conversion_inference_and_report(tmp_path):
    data = make_motion(tmp_path / "motion", videos=8, val_videos=8)
    save_checkpoint(tmp_path / "tsm.pth", small_model("tsm", num_class=8, input_size=32))
    run(RUN, "tools/convert_checkpoint.py", tmp_path / "tsm.pth", tmp_path / "copy.pth")
    run(
        RUN,
        "test_models_center_crop.py",
        "motion",
        *data[:4],
        *data[6:],
        "--weights",
        tmp_path / "copy.pth",
        "--device",
        "cpu",
        "-j",
        0,
        "--output_dir",
        tmp_path / "out",
    )
    printed = run(
        RUN, "pkl_to_results.py", "--output_dir", tmp_path / "out", "--report", tmp_path / "report"
    )
    assert "8/8 videos" in printed and list((tmp_path / "report").glob("*.html"))
