"""ops/data/sharing.py: how batches travel on machines with little shared memory."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.datasets import TEST, TRAIN, make_root, videos_of
from helpers.launch import ROOT

from ops.data import sharing
from ops.data.clips import Failure, Sample, TestDataset, TrainDataset
from ops.data.loader import ShardSampler, collate, make_loader
from ops.data.sharing import Plan, plan_sharing, to_arrays, to_tensors

MB = 2**20


class Sized:
    """A dataset of which only the size of an item is asked."""

    item_bytes = 6 * MB


@pytest.fixture
def free(monkeypatch):
    """A function that sets the free bytes of /dev/shm."""
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def have(size):
        monkeypatch.setattr(sharing, "free_shared_memory", lambda: size)

    return have


@pytest.mark.parametrize(
    "free_mb, plan",
    [
        (1000, Plan(4)),
        (500, Plan(4)),  # (4 workers * 2 batches + 1) * 48 MB = 432 MB
        (300, Plan(4, prefetch=1)),
        (64, Plan(4, in_pipes=True)),
        (0, Plan(0)),
    ],
)
def test_batches_travel_as_the_room_allows(free, free_mb, plan):
    free(free_mb * MB)
    found = plan_sharing(Sized, 8, 4)
    assert found[:3] == plan[:3]
    assert (found.warning is None) == (free_mb >= 500)
    if found.warning:
        assert "/dev/shm" in found.warning and "\n" not in found.warning


def test_the_processes_of_a_machine_share_its_memory(free, monkeypatch):
    free(500 * MB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert plan_sharing(Sized, 8, 4).in_pipes


def test_without_shared_memory_or_workers(monkeypatch):
    def missing():
        raise FileNotFoundError(2, "No such file or directory", "/dev/shm")

    assert plan_sharing(Sized, 8, 0) == Plan(0)
    monkeypatch.setattr(sharing, "free_shared_memory", missing)
    found = plan_sharing(Sized, 8, 4)
    assert found.workers == 0 and "No such file" in found.warning
    monkeypatch.setattr(sharing, "free_shared_memory", lambda: None)  # not Linux
    assert plan_sharing(Sized, 8, 4) == Plan(4)


def test_items_survive_the_pipe():
    clip = torch.arange(6, dtype=torch.uint8)
    failure = Failure(3, "b", 4, "torn")
    batch = collate([Sample(clip, 1, 0), failure, Sample(clip, 2, 1)])
    again = to_tensors(to_arrays(batch))
    assert torch.equal(again.clips, batch.clips) and torch.equal(again.labels, batch.labels)
    assert again.failures == [failure] and to_tensors(to_arrays(failure)) == failure


def test_the_estimated_size_is_that_of_a_sample(tmp_path):
    videos = videos_of(make_root(tmp_path), tmp_path)
    dataset = TrainDataset(videos, **TRAIN)
    assert dataset.item_bytes == dataset[0, 0].clip.numel()
    assert TestDataset(videos, **TEST).item_bytes > 0


def test_batches_are_the_same_in_pipes_and_in_shared_memory(free, tmp_path):
    dataset = TrainDataset(videos_of(make_root(tmp_path), tmp_path), **TRAIN)
    batches = []
    for size in (1000 * MB, MB):
        free(size)
        dataset.item_bytes = MB
        with make_loader(dataset, ShardSampler(7), 2, workers=2) as loader:
            batches.append([batch.clips for batch in loader])
    assert loader.plan.in_pipes
    assert all(torch.equal(*pair) for pair in zip(*batches, strict=True))


# With a /dev/shm of its own, of which the arguments say how it is mounted.
IN_A_SMALL_MACHINE = """
set -e
mount -t tmpfs -o "$1" none /dev/shm
shift
exec "$@"
"""
READ_ALL = """
import pathlib, sys
sys.path.insert(0, "tests")
from helpers.datasets import TRAIN, make_root, videos_of
from ops.data.clips import TrainDataset
from ops.data.loader import ShardSampler, make_loader
folder = pathlib.Path(sys.argv[1])
options = {**TRAIN, "crop_size": 640}
dataset = TrainDataset(videos_of(make_root(folder), folder), **options)
with make_loader(dataset, ShardSampler(7), 3, workers=2) as loader:
    print(sum(len(batch.indices) for batch in loader))
print(loader.plan.warning)
"""


def can_mount():
    if not shutil.which("unshare") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, words",
    [("size=16m", "pipes"), ("size=16m,ro", "cannot be used"), ("size=64k", "-j 0")],
)
def test_a_small_shared_memory_for_real(tmp_path, options, words):
    """A batch has 29 MB: without care the workers are killed by SIGBUS."""
    if not can_mount():
        pytest.skip("needs the right to mount")
    program = [sys.executable, "-c", READ_ALL, str(tmp_path)]
    run = subprocess.run(
        ["unshare", "-m", "bash", "-c", IN_A_SMALL_MACHINE, "bash", options, *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    count, warning = run.stdout.splitlines()
    assert count == "7" and words in warning and "Traceback" not in run.stderr
