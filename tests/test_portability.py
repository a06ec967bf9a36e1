"""The package as on Windows and macOS, as far as Linux can show it.

It runs without what Windows lacks, with new processes in place of forked ones, and with the
encoding of a Windows console; and nothing on the device is float64, which Apple's GPUs do not have.
"""

import os
import subprocess
import sys

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import ROOT
from helpers.models import pixels, small_model
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ops.checkpoints import save_checkpoint
from ops.inference import to_device
from ops.temporal import MODULES
from ops.training.mixup import mixer

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
# As on macOS and Windows: data-loading workers are new processes, which import everything again.
SPAWN = """
import multiprocessing
import ops.data.loader
signal.SIGCHLD = signal.Signals.SIGCHLD  # torch knows a Windows without it by its name only
multiprocessing.set_start_method("spawn")
ops.data.loader.START_METHOD = None
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


# Standard output that cannot encode Chinese characters, as a console of Windows in the west.
CONSOLE = {"PYTHONIOENCODING": "cp1252"}
HELP = """
import contextlib, pathlib, runpy
commands = [*pathlib.Path(".").glob("*.py"), *pathlib.Path("tools").glob("*.py")]
for command in sorted(commands):
    sys.argv = [str(command), "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(command), run_name="__main__")
"""


def run(code, *arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="cp1252",
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


@pytest.mark.slow
def test_predictions_by_new_processes_on_a_console_that_cannot_encode_the_class_names(tmp_path):
    save_checkpoint(
        tmp_path / "tsn.pth",
        small_model("tsn", num_class=2, input_size=32),
        class_names=["\u8df3\u821e", "Tai chi"],
    )
    make_motion(tmp_path / "motion", videos=8, val_videos=8)
    videos = sorted((tmp_path / "motion").rglob("*.mp4"))[:2]
    command = ["tools/predict.py", *videos, "--weights", tmp_path / "tsn.pth", "-j", 1]
    printed = run(SPAWN + RUN, *command, "--device", "cpu", **CONSOLE)
    assert all(video.name in printed for video in videos) and len(videos) == 2
    assert "Tai chi" in printed and "\\u8df3\\u821e" in printed


@pytest.mark.slow
def test_help_of_all_commands_on_such_a_console():
    assert run(HELP, **CONSOLE).count("usage:") > 15


class NoFloat64(TorchFunctionMode):
    """Context in which no result on the device "meta" may be float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "meta":
            assert result.dtype != torch.float64, function
        return result


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_no_float64_on_the_device(module):
    device = torch.device("meta")
    with device:
        net = small_model(module, num_class=4).train()
    with NoFloat64():
        clips, labels = mixer(4, mixup=0.4, cutmix=1.0)(
            pixels(net).to(device), torch.tensor([0, 1]).to(device)
        )
        F.cross_entropy(net(clips).float(), labels).backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in net.parameters())


def test_float64_networks_are_float32_on_apples_gpus(monkeypatch):
    """No Mac is needed to see what ``to`` is given."""
    net = small_model("tsn", num_class=2).double()
    moved = []
    monkeypatch.setattr(net, "to", moved.append)
    to_device(net, torch.device("mps"))
    assert moved == [torch.device("mps")] and net.head.weight.dtype == torch.float32


def test_the_workflow_tests_the_oldest_torch_of_the_requirements():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("torch"):
            assert line.replace(">=", "==") + ".*" in workflow
