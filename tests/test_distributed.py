import pytest
import torch
from fronts import run_two
from ranks import run_all

from ops import distributed
from ops.errors import UserError

PROGRAM = """
import sys, torch
sys.path.insert(0, ".")
from ops import distributed
with distributed.start("cpu") as world:
    assert distributed.sum_over_ranks([1, world.rank], world.device) == [2.0, 1.0]
    assert distributed.gather({"rank": world.rank}) == [{"rank": 0}, {"rank": 1}]
    bn = torch.nn.BatchNorm2d(2)
    bn.running_mean.fill_(world.rank + 1)
    distributed.broadcast_buffers(bn)
    assert bn.running_mean.tolist() == [1, 1]
    assert distributed.from_main(world.rank) == 0 and world.largest(world.rank, -world.rank) == [1, 0]
    count = world.counter("numbers")
    parts = distributed.gather([count() for _ in range(5)])
    assert sorted(parts[0] + parts[1]) == list(range(10))  # each number once
    distributed.barrier()
assert not torch.distributed.is_initialized()
# One write, since both processes share the pipe
sys.stdout.write(f"{world.rank} of {world.size}, main {world.is_main}\\n")
"""


def test_two_processes(tmp_path):
    assert run_two(PROGRAM, tmp_path, 29533) == ["0 of 2, main True", "1 of 2, main False"]


def test_alone_every_function_is_the_identity():
    with distributed.start("cpu") as world:
        assert (
            world[:3] == (0, 1, torch.device("cpu"))
            and world.is_main
            and world.largest(3, 1) == [3, 1]
        )
        count = world.counter("numbers")
        assert [count(), count()] == [0, 1] and distributed.from_main("x") == "x"
        assert distributed.sum_over_ranks([1, 2], world.device) == [1.0, 2.0]
        assert distributed.gather(3) == [3]
        distributed.barrier()
        distributed.broadcast_buffers(torch.nn.BatchNorm2d(1))
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("device", ["warp", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(UserError, match=device), distributed.start(device):
        pass


def on_a_device(device):
    with distributed.start(device):
        distributed.barrier()


def test_a_device_that_one_machine_has_not_is_told_to_all(tmp_path):
    first, second = run_all(tmp_path, (on_a_device, "cpu"), (on_a_device, "cuda:99"))
    assert (first.status, second.status) == (2, 2) and second.text.startswith(
        "error: device cuda:99 is not there"
    )
    assert first.text.endswith("; ending\n") and "failed: error: device cuda:99" in first.text
