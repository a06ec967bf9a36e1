"""What several processes use, with a group of one process: NCCL on a GPU, gloo on a CPU."""

import contextlib
import copy

import pytest
import torch
import torch.distributed as dist
from helpers.models import pixels, small_model
from torch.nn import functional as F

from ops.distributed import World
from ops.training.sync_batchnorm import synchronize

pytestmark = pytest.mark.gpu


@pytest.fixture
def world(device, tmp_path):
    """A World that behaves as if there were other processes."""
    on_gpu = device.type == "cuda"
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=0, world_size=1)
    cpu_group = dist.new_group(backend="gloo")
    yield World(0, 2, device, cpu_group=cpu_group)
    dist.destroy_process_group()


def gradients(model, net, clip, exchanges):
    """Gradients of two batches, of which DDP exchanges the second only, if there is an exchange."""
    net.zero_grad()
    labels = torch.tensor([0, 3], device=clip.device)
    for context in exchanges:
        with context:
            F.cross_entropy(model(clip), labels).backward()
    return [parameter.grad.clone() for parameter in net.parameters()]


@pytest.mark.parametrize("module", ["tsm", "tdn", "tam", "tin"])
def test_data_parallel_gives_the_gradients_of_the_model(device, deterministic, world, module):
    net = small_model(module, dropout=0.0).to(device).to_channels_last().train()
    alone = copy.deepcopy(net)
    clip = pixels(net, size=64).to(device)
    nothing = contextlib.nullcontext()
    expected = gradients(alone, alone, clip, [nothing, nothing])
    model = world.data_parallel(net)
    found = gradients(model, net, clip, [model.no_sync(), nothing])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_collectives(device, world):
    net = torch.nn.BatchNorm2d(3).to(device)
    world.broadcast_buffers(net)
    assert world.sum([1, 2.5]) == [1.0, 2.5] and world.max(3, -1) == [3, -1]
    assert world.from_main({"a": 1}) == {"a": 1}
    world.barrier()


def test_synchronized_norms(cuda, world):
    plain = small_model("tam", dropout=0.0).to(cuda).to_channels_last().train()
    synced = copy.deepcopy(plain)
    synchronize(synced, world)
    clip = pixels(plain, size=64).to(cuda)
    torch.testing.assert_close(synced(clip), plain(clip), rtol=1e-4, atol=1e-5)
