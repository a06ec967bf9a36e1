"""Interrupted, killed and concurrent tests leave the files of an undisturbed one, or one error."""

import os
import pickle
import random
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import call, refused, run_command_ranks, start_command

from ops.checkpoints import save_checkpoint
from ops.models import TSN
from ops.scores.metadata import read_metadata
from ops.testing import journal, run
from ops.testing.journal import Journal

SCRIPT = "test_models_three_crops"


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """A test of 12 videos x 4 clips x 3 crops, of which the videos 4 and 9 cannot be read."""
    folder = tmp_path_factory.mktemp("motion")
    data = make_motion(folder, videos=8, val_videos=16)
    del data[4:6]  # --train_list
    for number, content in ((4, b""), (9, b"not a video\n" * 99)):
        (folder / "videos" / "val" / f"{number:05d}.mp4").write_bytes(content)
    torch.manual_seed(0)
    model = TSN(8, 4, arch="resnet18", module="tsm", input_size=32)
    torch.nn.init.normal_(model.head.weight)
    save_checkpoint(folder / "tsm.pth", model)
    return [
        "motion",
        *data,
        "--weights",
        folder / "tsm.pth",
        "--sample",
        "dense-4",
        "--max_num",
        12,
        "--on-error",
        "count-wrong",
        "--device",
        "cpu",
    ]


def files_of(folder):
    """The files of a finished test: {name: content}."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The directory of a test that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert call(SCRIPT, *flags, "-j", 0, "--output_dir", out) == 0
    assert len(files_of(out)) == 14 and read_metadata(out).read == 10
    return out


@pytest.mark.slow
def test_resume_after_ten_kills(flags, whole, tmp_path):
    out = tmp_path / "out"
    arguments = [*flags, "-j", 1, "--output_dir", out]
    draw, hit = random.Random(0), 0
    while hit < 10:
        process = start_command(SCRIPT, *arguments)
        time.sleep(draw.uniform(0.05, 1.5))
        hit += process.is_alive()
        process.kill()
        process.join()
        if (out / "scores.json").exists() and not (out / "unfinished").exists():
            assert files_of(out) == files_of(
                whole
            )  # the test was through before it could be killed
            shutil.rmtree(out)
    process = start_command(SCRIPT, *arguments)
    process.join(120)
    assert process.exitcode == 0 and files_of(out) == files_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["write_failures", "write_metadata", "remove"])
def test_stopped_while_the_files_are_written(flags, whole, tmp_path, monkeypatch, moment):
    """All is scored; the process dies between two of the files."""
    out, place = tmp_path / "out", journal if moment == "remove" else run

    def dies(path, *_):
        raise KeyboardInterrupt

    real = getattr(place, moment)
    # The header of the run is the first thing that write_metadata writes.
    calls = iter([real, dies] if moment == "write_metadata" else [dies])
    monkeypatch.setattr(place, moment, lambda *args: next(calls)(*args))
    assert call(SCRIPT, *flags, "-j", 0, "--output_dir", out) == 130
    monkeypatch.undo()
    monkeypatch.setattr(run, "score_missing", lambda *_: pytest.fail("scored again"))
    assert call(SCRIPT, *flags, "-j", 0, "--output_dir", out) == 0
    assert files_of(out) == files_of(whole)


def test_finished_videos_are_not_scored_again(flags, whole, tmp_path, capsys):
    """The first run stops at the fourth video; the second run scores the others."""
    out, data = tmp_path / "out", tmp_path / "data"
    shutil.copytree(flags[2], data)
    here = [str(flag).replace(str(flags[2]), str(data)) for flag in flags]
    here[here.index("count-wrong")] = "stop"
    assert "val.txt:5: " in refused(capsys, SCRIPT, *here, "-j", 0, "--output_dir", out)
    assert Journal(out / "unfinished", 12, 12 * 8).missing().tolist() == list(range(3, 12))
    assert "clips [0, 1, 2, 3] -> [3]" in refused(
        capsys, SCRIPT, *here, "-j", 0, "--output_dir", out, "--clip_index", 3
    )
    assert "crops 3 -> 1" in refused(
        capsys, SCRIPT, *here, "-j", 0, "--output_dir", out, "--test_crops", 1
    )
    here[here.index("stop")] = "count-wrong"
    capsys.readouterr()
    assert call(SCRIPT, *here, "-j", 0, "--output_dir", out) == 0
    assert "scoring 12 videos, 3 of them scored before" in capsys.readouterr().out
    assert {name: text for name, text in files_of(out).items() if name.endswith("pkl")} == {
        name: text for name, text in files_of(whole).items() if name.endswith("pkl")
    }


@pytest.mark.slow
def test_one_process_resumes_what_two_began(flags, whole, tmp_path):
    """Two ranks are stopped by SIGKILL, one process ends what they began."""
    out = tmp_path / "out"
    run_command_ranks(tmp_path, SCRIPT, *flags, "-j", 0, "--output_dir", out)
    assert files_of(out) == files_of(whole)
    logs, finished = tmp_path / "half", []
    shutil.copytree(out, logs, ignore=shutil.ignore_patterns("*.pkl", "failures.csv"))
    (logs / "unfinished").mkdir()
    shutil.move(logs / "scores.json", logs / "unfinished" / "scores.json")
    for rank, rows in enumerate(([0, 5, 6], [1, 2, 8])):
        with journal.JournalWriter(logs / "unfinished", rank) as log:
            for row in rows:
                views = [
                    pickle.loads((whole / f"{clip}_crop{crop}.pkl").read_bytes())[row][0]
                    for clip in range(4)
                    for crop in range(3)
                ]
                log.add(row, np.concatenate(views))
                finished.append(row)
    assert call(SCRIPT, *flags, "-j", 0, "--output_dir", logs) == 0
    assert {name: text for name, text in files_of(logs).items() if name.endswith("pkl")} == {
        name: text for name, text in files_of(whole).items() if name.endswith("pkl")
    }


@pytest.mark.slow
def test_second_test_in_the_same_directory_raises(flags, whole, tmp_path, capsys):
    out = tmp_path / "out"
    first = start_command(SCRIPT, *flags, "-j", 1, "--output_dir", out)
    while not list(out.glob("unfinished/*.log")):
        assert first.is_alive()
        time.sleep(0.01)
    assert "another test is writing there" in refused(
        capsys, SCRIPT, *flags, "-j", 0, "--output_dir", out
    )
    first.join(120)
    assert first.exitcode == 0 and files_of(out) == files_of(whole)


class Killer:
    """A transform that kills the worker at the seventh image, as a broken decoder would."""

    def __init__(self, transform, flag):
        self.transform, self.flag = transform, flag

    def __getattr__(self, name):
        return getattr(self.__dict__["transform"], name)

    def scale(self, frames):
        if not self.flag.exists() and len(list(self.flag.parent.glob("seen*"))) == 6:
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.flag.parent / f"seen{time.monotonic_ns()}").touch()
        return self.transform.scale(frames)


def test_killed_worker_is_one_error_and_scores_are_kept(
    flags, whole, tmp_path, capsys, monkeypatch
):
    out, real = tmp_path / "out", run.make_loader

    def make_loader(dataset, *args, **options):
        if not isinstance(dataset.transform, Killer):
            dataset.transform = Killer(dataset.transform, tmp_path / "killed")
        return real(dataset, *args, **options)

    monkeypatch.setattr(run, "make_loader", make_loader)
    line = refused(capsys, SCRIPT, *flags, "-j", 1, "--output_dir", out)
    assert "a data-loading worker ended" in line and "start the same command again" in line
    assert re.search("being read: .*[.]txt:", line)
    capsys.readouterr()
    assert call(SCRIPT, *flags, "-j", 1, "--output_dir", out) == 0
    assert re.search(
        "scoring 12 videos, [1-9][0-9]? of them scored before", capsys.readouterr().out
    )
    assert files_of(out) == files_of(whole)


def test_full_disk_while_score_files_are_written(flags, whole, tmp_path, capsys, monkeypatch):
    """The disk takes the logs, but not the score files."""
    out, real = tmp_path / "out", os.fsync

    def full(file):
        if (
            os.readlink(f"/proc/self/fd/{file}").endswith(".tmp")
            and (out / "unfinished" / "scores.json").exists()
        ):
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    line = refused(capsys, SCRIPT, *flags, "-j", 0, "--output_dir", out)
    assert "No space left on device" in line and "start the same command again" in line
    assert not list(out.glob("*.pkl")) and not list(out.glob("*.tmp"))
    monkeypatch.undo()
    assert call(SCRIPT, *flags, "-j", 0, "--output_dir", out) == 0
    assert files_of(out) == files_of(whole)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil-was-here",)


def test_files_with_code_in_the_directory(flags, whole, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "3_crop1.pkl").write_bytes(pickle.dumps([[np.zeros((1, 8), np.float32), Evil()]]))
    arguments = [str(flag) for flag in flags]
    for command in ((SCRIPT, *arguments, "-j", 0, "--output_dir", out), ("pkl_to_results", out)):
        assert "3_crop1.pkl: contains code (" in refused(capsys, *command)
    shutil.rmtree(out)
    (out / "unfinished").mkdir(parents=True)
    shutil.copy(whole / "scores.json", out / "unfinished")
    (out / "unfinished" / "0.log").write_bytes(pickle.dumps(Evil()) * 50)
    assert call(SCRIPT, *arguments, "-j", 0, "--output_dir", out) == 0
    assert files_of(out) == files_of(whole) and not (tmp_path / "evil-was-here").exists()


def test_scores_that_are_not_finite_raise(flags, tmp_path, capsys):
    model = TSN(8, 4, arch="resnet18", module="tsm", input_size=32)
    torch.nn.init.constant_(model.head.bias, float("inf"))
    save_checkpoint(tmp_path / "broken.pth", model)
    line = refused(
        capsys,
        SCRIPT,
        *flags,
        "--weights",
        tmp_path / "broken.pth",
        "-j",
        0,
        "--output_dir",
        tmp_path / "out",
    )
    assert "val.txt:1: " in line and "not finite" in line
