import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
from helpers.launch import free_port, run_ranks, start_rank

from ops import distributed
from ops.utils.errors import UserError


def use_collectives():
    """Main function of each of two ranks."""
    with distributed.start("cpu") as world:
        assert world.sum([1, world.rank]) == [2.0, 1.0]
        assert world.gather({"rank": world.rank}) == [{"rank": 0}, {"rank": 1}]
        bn = torch.nn.BatchNorm2d(2)
        bn.running_mean.fill_(world.rank + 1)
        world.broadcast_buffers(bn)
        assert bn.running_mean.tolist() == [1, 1]
        assert world.from_main(world.rank) == 0 and world.max(world.rank, -world.rank) == [1, 0]
        assert world.any(world.rank == 1) and not world.any(world.rank == 2)
        count = world.counter("numbers")
        parts = world.gather([count() for _ in range(5)])
        assert sorted(parts[0] + parts[1]) == list(range(10))  # each number once
        world.barrier()
    assert not torch.distributed.is_initialized()
    print(f"{world.rank} of {world.size}, main {world.is_main}")


@pytest.mark.slow
def test_two_processes(tmp_path):
    found = run_ranks(tmp_path, (use_collectives,), (use_collectives,))
    assert [end[:2] for end in found] == [(0, "0 of 2, main True\n"), (0, "1 of 2, main False\n")]


def test_collectives_of_one_process_are_the_identity():
    with distributed.start("cpu") as world:
        assert (
            (world.rank, world.size, world.device) == (0, 1, torch.device("cpu"))
            and world.is_main
            and world.max(3, 1) == [3, 1]
        )
        count = world.counter("numbers")
        assert [count(), count()] == [0, 1] and world.from_main("x") == "x"
        assert world.sum([1, 2]) == [1.0, 2.0]
        assert world.gather(3) == [3]
        world.barrier()
        world.broadcast_buffers(torch.nn.BatchNorm2d(1))
    assert not torch.distributed.is_initialized()


MISSING_MPS = [] if torch.backends.mps.is_available() else ["mps"]


@pytest.mark.parametrize("device", ["warp", "cuda:99", *MISSING_MPS])
def test_a_device_that_does_not_exist_is_refused(device):
    with pytest.raises(UserError, match=device), distributed.start(device):
        pass


def job(act=None, *arguments):
    """Meet, do something, meet again."""
    with distributed.start("cpu") as world:
        world.barrier()
        if act:
            act(*arguments)
        world.barrier()
        print(f"done {world.rank}", flush=True)


def fail(text):
    raise UserError(text)


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def count_for_ever():
    """Use the store of the job until it ends."""
    with distributed.start("cpu") as world:
        count = world.counter("numbers")
        if world.is_main:
            count()
            kill_oneself()
        while True:
            count()


def wait_briefly(seconds):
    distributed.JOIN_TIMEOUT = timedelta(seconds=seconds)
    job()


def check_lost(end, rank, size):
    """One line that says that another process is gone, and nothing of torch's own reports."""
    assert end.status == 2
    assert re.fullmatch(rf"error: process {rank} of {size} lost the connection .*\n", end.text)


@pytest.mark.slow
def test_successful_run_prints_nothing(tmp_path):
    found = run_ranks(tmp_path, *[(job,)] * 3)
    assert [end[:2] for end in found] == [(0, f"done {rank}\n") for rank in range(3)]


@pytest.mark.slow
def test_a_failure_is_printed_once_and_ends_the_others(tmp_path):
    found = run_ranks(tmp_path, (job,), (job, fail, "a.txt:3: no label"))
    assert found[1][:2] == (2, "error: a.txt:3: no label\n")
    check_lost(found[0], 0, 2)
    assert found[1].time < found[0].time  # launchers blame the process that ends first


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_others(tmp_path, killed):
    """Process 0 has the store."""
    jobs = [(job,), (job,)]
    jobs[killed] = (job, kill_oneself)
    found = run_ranks(tmp_path, *jobs)
    assert found[killed][:2] == (-signal.SIGKILL, "")
    check_lost(found[1 - killed], 1 - killed, 2)


@pytest.mark.slow
def test_a_store_that_ends_is_one_line(tmp_path):
    found = run_ranks(tmp_path, (count_for_ever,), (count_for_ever,))
    assert found[0].status == -signal.SIGKILL
    check_lost(found[1], 1, 2)


@pytest.mark.slow
def test_missing_processes(tmp_path):
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        process = start_rank(folder, wait_briefly, 1, rank=rank, size=2, port=free_port())
        process.join(60)
        text = (folder / f"log{rank}").read_text()
        assert process.exitcode == 2
        assert re.fullmatch(
            rf"error: process {rank} of 2: no connection to all others at .*\n", text
        )


def test_each_start_with_the_same_store_gets_another_token():
    """The store of torchrun keeps the keys of processes that it restarts."""
    store = torch.distributed.HashStore()
    timeout = timedelta(seconds=30)

    def tokens_of_start(late_rank):
        def start(rank):
            if rank == late_rank:
                time.sleep(0.2)
            return distributed.agree_on_token(store, rank, 3, timeout)

        with ThreadPoolExecutor(3) as threads:
            return list(threads.map(start, range(3)))

    starts = [tokens_of_start(late_rank) for late_rank in (0, 1, 2)]
    assert all(len(set(tokens)) == 1 for tokens in starts)
    assert len({tokens[0] for tokens in starts}) == 3


def test_a_missing_process_is_not_waited_for_forever():
    store = torch.distributed.HashStore()
    for rank in (0, 1):
        with pytest.raises(torch.distributed.DistError):
            distributed.agree_on_token(store, rank, 3, timedelta(seconds=0.2))


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR .* must be, too"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT 0"),
        ({"MASTER_PORT": "many"}, "MASTER_PORT is 'many'"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE 2"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ],
)
def test_invalid_launcher_variables_raise(monkeypatch, variables, message):
    launched = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in {**launched, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), distributed.start("cpu"):
        pass


def test_a_port_that_is_taken(monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        launched = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in launched.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(UserError, match=f"MASTER_PORT {port} .*taken"), distributed.start():
            pass


class Narrow(torch.nn.Module):
    """A gradient whose strides differ from those of its parameter where a dimension has size 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(4, 1, 3))

    def forward(self, x):
        return torch.nn.functional.conv2d(x, self.weight.unsqueeze(-1), groups=4).sum()


def train_narrow():
    with distributed.start("cpu") as world:
        model = world.data_parallel(Narrow())
        x = torch.ones(2, 4, 5, 5).contiguous(memory_format=torch.channels_last)
        model(x).backward()
        grad = model.module.weight.grad
        print(grad.stride(), grad.sum().item(), flush=True)


def test_gradients_have_the_strides_of_their_parameters(tmp_path):
    """Otherwise DDP warns about its speed."""
    for end in run_ranks(tmp_path, (train_narrow,), (train_narrow,)):
        assert end[:2] == (0, "(3, 3, 1) 360.0\n")
