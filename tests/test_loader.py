import gc
import itertools
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from helpers.datasets import TEST, TRAIN, make_root, videos_of
from helpers.launch import ROOT, is_running, wait_until
from hypothesis import given
from hypothesis import strategies as st

from ops.data.clips import Failure, Sample, TestDataset, TrainDataset
from ops.data.loader import (
    LoaderError,
    QueueSampler,
    ShardSampler,
    TrainSampler,
    collate,
    loader_errors,
    make_loader,
)
from ops.utils.errors import UserError
from ops.utils.machine import available_cores


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("data"))


def epoch_of(loader, epoch):
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a.clips, b.clips)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        and a.failures == b.failures
        for a, b in zip(left, right, strict=True)
    )


def test_epochs_do_not_depend_on_the_number_of_workers(root, tmp_path):
    videos = videos_of(root, tmp_path)
    epochs = []
    for workers in (0, 2):
        sampler = TrainSampler(7, 2, seed=3)
        loader = make_loader(TrainDataset(videos, **TRAIN, seed=3), sampler, 2, workers=workers)
        epochs.append([epoch_of(loader, epoch) for epoch in (0, 1, 0)])
    for one, two in zip(*epochs, strict=True):
        assert len(one) == 3 and same(one, two)
    first, second, again = epochs[1]
    assert same(first, again) and not same(first, second)
    assert first[0].clips.dtype == torch.uint8 and first[0].clips.shape == (2, 4, 6, 32, 32)
    assert first[0].labels.dtype == first[0].indices.dtype == torch.int64


def test_every_video_once_in_shards(root, tmp_path):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST)
    seen = []
    for rank in range(3):
        sampler = ShardSampler(7, rank=rank, world_size=3)
        for item in make_loader(dataset, sampler, None, workers=0):
            assert item.frames.shape[1:] == (40, 53, 3) and item.picks.shape == (1, 4, 2)
            seen.append(item.index)
    assert sorted(seen) == list(range(7))


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_videos_are_named_and_left_out(root, tmp_path, workers):
    (tmp_path / "text.mp4").write_text("not a video\n" * 50)
    lines = [
        "v0.mp4 0",
        f"{tmp_path}/text.mp4 1",
        "gone.mp4 2",
        "v1.mp4 1",
        "gone 9 0",
        "frames 20 0",
    ]
    videos = videos_of(root, tmp_path, *lines)
    train = TrainDataset(videos, **{**TRAIN, "flip_map": None})
    loader = make_loader(train, ShardSampler(6), 2, workers=workers)
    batches = list(loader)
    assert [batch.indices.tolist() for batch in batches] == [[0], [3], []]
    assert [batch.labels.tolist() for batch in batches] == [[0], [1], []]
    assert batches[2].clips is None and batches[2].labels.dtype == torch.int64
    failures = [failure for batch in batches for failure in batch.failures]
    assert [(f.index, f.id, f.line) for f in failures] == [
        (1, f"{tmp_path}/text.mp4", 2),
        (2, "gone.mp4", 3),
        (4, "gone", 5),
        (5, "frames", 6),
    ]
    assert all(isinstance(f, Failure) and f.reason and "\n" not in f.reason for f in failures)
    items = list(make_loader(TestDataset(videos, **TEST), ShardSampler(6), None, workers=workers))
    assert [getattr(item, "index", None) for item in items] == list(range(6))
    assert [item.index for item in items if isinstance(item, Failure)] == [1, 2, 4, 5]


class Broken:
    def scale(self, frames):
        raise ZeroDivisionError("two\nlines")


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_name_the_line(root, tmp_path, workers):
    videos = videos_of(root, tmp_path, "v0.mp4 0", "v1.mp4 0")
    dataset = TestDataset(videos, **{**TEST, "scale_size": 0, "crop_size": 64})
    with pytest.raises(UserError) as error:
        list(make_loader(dataset, ShardSampler(2), None, workers=workers))
    message = str(error.value)
    assert message.startswith(f"{videos.path}:1: v0.mp4: ") and "\n" not in message
    assert "64x64" in message and "64x48" in message and "--scale_size" in message
    dataset = TestDataset(videos, **TEST)
    dataset.transform = Broken()
    with pytest.raises(RuntimeError, match="ZeroDivisionError") as error:
        list(make_loader(dataset, ShardSampler(2, rank=1), None, workers=workers))
    assert f"{videos.path}:2: v1.mp4: ZeroDivisionError: two" in str(error.value)


@pytest.mark.parametrize("in_worker", [True, False])
def test_workers_stop_at_once_after_an_error(root, tmp_path, in_worker):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST)
    if in_worker:
        dataset.transform = Broken()

    def fail():
        try:
            for _ in make_loader(dataset, ShardSampler(7), None, workers=1):
                raise RuntimeError("not in the worker")
        except RuntimeError as error:
            kept = error  # and with it, in a cycle, this frame and the loader
            assert ("ZeroDivisionError" in str(kept)) == in_worker

    gc.collect()
    before = multiprocessing.active_children()
    fail()
    start = time.perf_counter()
    gc.collect()
    assert time.perf_counter() - start < 4  # without care torch waits for 5 s
    assert multiprocessing.active_children() == before


class OneThread:
    def scale(self, frames):
        return torch.tensor([torch.get_num_threads()])


def test_more_workers_than_cores_do_not_warn(root, tmp_path):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST)
    many = available_cores() + 1
    with (
        warnings.catch_warnings(action="error"),
        make_loader(dataset, ShardSampler(len(dataset)), None, workers=many) as loader,
    ):
        assert len(list(loader)) == len(dataset)


def test_workers_run_on_one_thread(root, tmp_path):
    dataset = TestDataset(videos_of(root, tmp_path, "v0.mp4 0"), **TEST)
    dataset.transform = OneThread()
    (item,) = make_loader(dataset, ShardSampler(1), None, workers=1)
    assert item.frames.tolist() == [1]


def test_loading_does_not_change_global_random_states(root, tmp_path):
    dataset = TrainDataset(videos_of(root, tmp_path), **TRAIN)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for workers in (0, 1):
        list(make_loader(dataset, TrainSampler(7, 2), 2, workers=workers))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (np.random.get_state()[1].tolist(), random.getstate())


def test_datasets_travel_to_spawned_workers(root, tmp_path):
    for dataset in (
        TrainDataset(videos_of(root, tmp_path), **TRAIN),
        TestDataset(videos_of(root, tmp_path), **TEST),
    ):
        assert torch.equal(pickle.loads(pickle.dumps(dataset))[0, 3][0], dataset[0, 3][0])


def test_collate_keeps_order_and_failures():
    failure = Failure(1, "b", 2, "reason")
    batch = collate(
        [
            Sample(torch.full((1, 2), 7, dtype=torch.uint8), 4, 0),
            failure,
            Sample(torch.full((1, 2), 9, dtype=torch.uint8), 5, 2),
        ]
    )
    assert batch.clips.tolist() == [[[7, 7]], [[9, 9]]]
    assert (
        batch.labels.tolist() == [4, 5]
        and batch.indices.tolist() == [0, 2]
        and batch.failures == [failure]
    )


def test_too_few_videos_for_one_step():
    message = r"32 training videos .*2 processes x 8 videos x 4 accumulated = 64\).*--accumulate"
    with pytest.raises(UserError, match=message):
        TrainSampler(32, 8, accumulate=4, world_size=2)
    assert len(TrainSampler(70, 8, accumulate=4, world_size=2)) == 32
    with pytest.raises(UserError, match=r"1 process x 2 videos"):
        TrainSampler(1, 2)


@given(
    n=st.integers(1, 200), batch=st.integers(1, 9), world=st.integers(1, 6), seed=st.integers(0, 3)
)
def test_train_sampler(n, batch, world, seed):
    if n < batch * world:
        with pytest.raises(UserError, match=f"{n} training video"):
            TrainSampler(n, batch, world_size=world)
        return
    samplers = [
        TrainSampler(n, batch, rank=rank, world_size=world, seed=seed) for rank in range(world)
    ]
    orders = []
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        keys = [list(sampler) for sampler in samplers]
        assert all(
            len(part) == len(sampler) == n // (batch * world) * batch
            for part, sampler in zip(keys, samplers, strict=True)
        )
        assert {key[0] for part in keys for key in part} == {epoch}
        used = [index for part in keys for _, index in part]
        assert len(set(used)) == len(used) and set(used) <= set(range(n))
        # The global batches are those of one process with the whole batch.
        alone = TrainSampler(n, batch * world, seed=seed)
        alone.set_epoch(epoch)
        order = [index for _, index in alone]
        for step in range(len(order) // (batch * world)):
            together = {
                index for part in keys for _, index in part[step * batch : (step + 1) * batch]
            }
            assert together == set(order[step * batch * world : (step + 1) * batch * world])
        orders.append(order)
    assert len(orders[0]) < 20 or orders[0] != orders[1]


@given(n=st.integers(0, 200), world=st.integers(1, 9))
def test_shards_hold_everything_once(n, world):
    samplers = [ShardSampler(n, rank=rank, world_size=world) for rank in range(world)]
    keys = [key for sampler in samplers for key in sampler]
    assert sorted(keys) == [(0, index) for index in range(n)]
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_a_queue_hands_everything_out_once():
    """Three processes that take turns in no order; what a counter gives is theirs alone."""
    indices, count = np.array([3, 5, 8, 9, 11]), itertools.count()
    samplers = [QueueSampler(indices, count.__next__) for _ in range(3)]
    keys = [iter(sampler) for sampler in samplers]
    taken = [next(keys[place]) for place in (1, 1, 0, 2)]
    assert taken == [(0, 3), (0, 5), (0, 8), (0, 9)]
    assert list(keys[1]) == [(0, 11)] and list(keys[0]) == list(keys[2]) == []


class Deadly:
    """Kills the worker that scales a picture, or keeps it busy."""

    def __init__(self, seconds=None):
        self.seconds = seconds

    def scale(self, frames):
        if self.seconds is None:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (Deadly(), "a data-loading worker ended: DataLoader worker .*; .* give a smaller -j"),
        (Deadly(60), "1 seconds; .*--timeout"),
    ],
)
def test_dead_and_silent_workers_are_one_line(root, tmp_path, transform, message):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST)
    dataset.transform = transform
    with pytest.raises(LoaderError, match=message) as error:
        list(make_loader(dataset, ShardSampler(7), None, workers=2, timeout=1))
    assert "\n" not in str(error.value)
    assert re.search(
        r"; being read: .*list.txt:[12]: v[01].mp4(, .*list.txt:[12]: v[01].mp4)?$",
        str(error.value),
    )


@pytest.mark.slow
def test_workers_tell_where_they_are(root, tmp_path):
    dataset = TestDataset(videos_of(root, tmp_path), **TEST)
    assert len(list(make_loader(dataset, ShardSampler(7), None, workers=2))) == 7
    assert dataset.reading.tolist() == [-1, -1]
    make_loader(dataset, ShardSampler(7), None, workers=0)
    assert dataset.reading is None


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_memory_of_workers_stays_flat(root, tmp_path):
    videos = videos_of(root, tmp_path, *(f"v{i % 6}.mp4 {i % 3}" for i in range(48)))
    sampler = TrainSampler(48, 4)
    loader = make_loader(TrainDataset(videos, **TRAIN), sampler, 4, workers=1)
    sizes = []
    for epoch in range(8):
        epoch_of(loader, epoch)
        (worker,) = multiprocessing.active_children()
        sizes.append(resident(worker.pid))
    # Measured after the first two epochs, in which buffers and caches fill: a leak of one clip per
    # item would be 7 MB.
    assert sizes[-1] - sizes[1] < 4 * 2**20, sizes


START_LOADER = """
import multiprocessing, pathlib, signal, sys, time
sys.path.insert(0, "tests")
from helpers.launch import ROOT, is_running, wait_until
from helpers.datasets import TRAIN, make_root, videos_of
from ops.data import loader
from ops.data.clips import TrainDataset
from ops.utils.errors import UserError, run_cli

class Slow:
    \"\"\"Keeps a worker busy from the second item on.\"\"\"
    def __init__(self):
        self.calls = 0
    def __call__(self, *_):
        self.calls += 1
        time.sleep(600 * (self.calls > 1))
        return torch.zeros(1)

import torch
def main():
    folder = pathlib.Path(sys.argv[1])
    loader.START_METHOD = sys.argv[2]
    dataset = TrainDataset(videos_of(make_root(folder), folder), **TRAIN)
    if sys.argv[3] == "busy":
        dataset.transform = Slow()
    with loader.make_loader(dataset, loader.ShardSampler(7), 1, workers=2) as batches:
        for _ in batches:
            print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
            if sys.argv[4] == "wait":
                time.sleep(600)
            raise UserError("enough")

if __name__ == "__main__":
    run_cli(main)
"""


def start_loader(tmp_path, method, kind, then):
    """A process with a loader of two workers, and their process ids."""
    (tmp_path / "program.py").write_text(START_LOADER)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path), method, kind, then],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["idle", "busy"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_with_a_run_that_is_killed(tmp_path, method, kind):
    process, workers = start_loader(tmp_path, method, kind, "wait")
    assert len(workers) == 2 and all(map(is_running, workers)), process.communicate()
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(is_running, workers)), seconds=20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["idle", "busy"])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_end_of_a_run_is_one_line(tmp_path, method, kind):
    """torch reports workers that are killed, with tracebacks, unless they end in order."""
    process, workers = start_loader(tmp_path, method, kind, "fail")
    began = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and errors == "error: enough\n"
    assert time.monotonic() - began < 15
    wait_until(lambda: not any(map(is_running, workers)), seconds=5)


forks_are_interrupted = False


def interrupt():
    if forks_are_interrupted:
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_while_workers_start_is_not_lost(root, tmp_path):
    """Python ignores what the hooks around fork raise, KeyboardInterrupt as well."""
    global forks_are_interrupted
    os.register_at_fork(after_in_parent=interrupt)
    dataset = TrainDataset(videos_of(root, tmp_path), **TRAIN)
    before = set(multiprocessing.active_children())
    forks_are_interrupted = True
    try:
        with (
            pytest.raises(KeyboardInterrupt),
            make_loader(dataset, TrainSampler(7, 2), 2, workers=2) as loader,
        ):
            list(loader)
    finally:
        forks_are_interrupted = False
    assert set(multiprocessing.active_children()) <= before


def test_a_closed_loader_starts_again(root, tmp_path):
    dataset = TrainDataset(videos_of(root, tmp_path), **TRAIN)
    loader = make_loader(dataset, ShardSampler(7), 2, workers=1)
    loader.close()
    before = set(multiprocessing.active_children())
    first = list(loader)
    loader.close()
    assert set(multiprocessing.active_children()) <= before
    assert same(first, list(loader))
    loader.close()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset by peer"), EOFError()])
def test_a_worker_killed_while_it_hands_over_a_batch_is_a_loader_error(root, tmp_path, error):
    loader = make_loader(
        TestDataset(videos_of(root, tmp_path), **TEST), ShardSampler(7), None, workers=0
    )
    with pytest.raises(LoaderError, match="a data-loading worker ended"), loader_errors(loader):
        raise error
