"""Experiment trackers: with stand-ins, and with the real packages where they are installed."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import call, refused
from PIL import Image

from ops.training import trackers
from ops.training.trackers import TRACKERS, Trackers

# A package wandb of which only what is used here exists: it appends each call to a file.
STAND_IN = """
import json, os

def record(name, *values):
    with open(os.environ["STAND_IN_CALLS"], "a") as file:
        file.write(json.dumps([name, *values]) + "\\n")

class Settings(dict):
    def __init__(self, **settings):
        super().__init__(settings)

class Image:
    def __init__(self, image):
        self.size = image.size

class Run:
    def __init__(self, id):
        self.id = id

    def log(self, values, step):
        if os.environ.get("STAND_IN_FAILS"):
            raise ConnectionError("no\\nroute")
        images = [name for name, value in values.items() if isinstance(value, Image)]
        record("log", step, sorted(values.keys()), images)

    def finish(self, exit_code):
        record("finish", exit_code)

def init(project, name, id, resume, config, settings):
    record("init", project, name, id, resume, config["lr"])
    return Run(id or "first")
"""
TINY = ["--module", "tsn", "--arch", "mobilenetv2", "--pretrain", "none", "--num_segments", 2]
TINY += ["--input_size", 32, "--batch-size", 8, "-j", 0, "--device", "cpu", "--epochs", 1]


CONFIG = {"lr_steps": [1, 2.5], **{f"option_{number}": None for number in range(150)}}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The file of the calls of a stand-in for wandb."""
    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    calls = tmp_path / "calls"
    monkeypatch.setenv("STAND_IN_CALLS", str(calls))
    yield calls
    sys.modules.pop("wandb", None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_motion(tmp_path_factory.mktemp("motion"))


def calls_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_run_continues_its_curves(stand_in, data, tmp_path):
    command = ["main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out"]
    command += ["--log_to", "wandb"]
    assert call(*command) == 0
    calls = calls_of(stand_in)
    assert calls[0] == ["init", "motion", "out", None, "allow", 0.01]
    assert calls[1] == ["log", 0, ["first_batch"], ["first_batch"]]
    assert calls[2] == ["log", 2, ["val/confusion"], ["val/confusion"]]
    name, step, keys, images = calls[3]
    assert (name, step, images) == ("log", 2, []) and {"train/loss", "val/top1", "lr"} <= set(keys)
    assert calls[4:] == [["finish", 0]]
    saved = torch.load(tmp_path / "out" / "last.pth", weights_only=True)
    assert saved["trackers"] == {"wandb": "first"}

    stand_in.unlink()
    assert call(*command, "--resume", "--epochs", 2) == 0
    calls = calls_of(stand_in)
    assert calls[0][:5] == ["init", "motion", "out", "first", "allow"]
    assert [call[1] for call in calls if call[0] == "log"] == [4, 4]  # no first batch again


def test_a_tracker_that_fails_does_not_stop_the_run(stand_in, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    command = ["main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out"]
    assert call(*command, "--log_to", "wandb") == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "--log_to wandb" in line]
    assert len(lines) == 1 and "ConnectionError: no" in lines[0] and lines[0].startswith("warning")
    assert "finished: best" in out
    assert [call[0] for call in calls_of(stand_in)] == ["init"]
    # The next start of the run tries it again, and finds the same run.
    saved = torch.load(tmp_path / "out" / "last.pth", weights_only=True)
    assert saved["trackers"] == {"wandb": "first"}


def test_an_exception_marks_the_run_as_failed(stand_in, data, tmp_path):
    command = ["main", "motion", "RGB", *data, *TINY, "--output_dir", tmp_path / "out"]
    assert call(*command, "--log_to", "wandb", "--lr", 1e30, "--print-freq", 1) == 2
    assert calls_of(stand_in)[-1] == ["finish", 1]


def test_a_missing_package_is_reported_at_the_start(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setattr(sys, "path", [])
    line = refused(capsys, "main", "mine", "RGB", "--log_to", "trackio")
    assert "--log_to trackio: the package is not installed: pip install trackio" in line


def test_ids_of_trackers_that_are_not_used_are_kept():
    ids = {"mlflow": "a1"}
    assert Trackers([], "project", "name", {}, ids, print).run_ids == ids


class Recorder:
    """A tracker that fails when it is closed."""

    run_id = "r"

    def __init__(self, *run):
        self.run = run
        self.scalars = []

    def log_scalars(self, step, values):
        self.scalars.append((step, values))

    def close(self, failed):
        raise OSError("disk full")


def test_other_trackers_go_on_when_one_fails(monkeypatch):
    def broken(*run):
        raise RuntimeError("x" * 1000)

    recorder = Recorder()
    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": broken, "mlflow": lambda *run: recorder})
    warnings = []
    log = Trackers(["wandb", "mlflow"], "p", "n", {}, {}, warnings.append)
    log.log_scalars(3, {"a": 1.0})
    assert recorder.scalars == [(3, {"a": 1.0})] and log.run_ids == {"mlflow": "r"}
    log.close(failed=False)
    assert [("wandb" in line, "mlflow" in line) for line in warnings] == [
        (True, False),
        (False, True),
    ]
    assert all(len(line) < 300 for line in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_the_real_package_offline(name, tmp_path, monkeypatch):
    """Two sessions of one run write numbers and images; the second continues the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pytest.importorskip(name)  # it may read the variables when it is imported
    image = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    warnings, ids = [], {}
    for step in (1, 2):
        log = Trackers([name], "project", "name", CONFIG, ids, warnings.append)
        log.log_image(step, "val/confusion", image)
        log.log_scalars(step, {"val/top1": 10.0 * step})
        log.close(failed=False)
        assert not ids or log.run_ids == ids
        ids = log.run_ids
    assert warnings == [] and ids.keys() == {name}
    assert any(tmp_path.rglob("*"))
