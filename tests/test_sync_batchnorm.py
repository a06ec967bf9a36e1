import pytest
import torch
from helpers.launch import launch_two_ranks
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from ops.distributed import World
from ops.models import TSN
from ops.training.optim import parameter_groups
from ops.training.sync_batchnorm import SyncNorm, each_alone, frozen_norms, synchronize
from ops.utils.errors import UserError

GPUS = World(0, 2, torch.device("cuda"))  # nothing is computed there: the layers are only replaced


@pytest.mark.parametrize("module", ["tsm", "tam", "tdn"])
@pytest.mark.parametrize("partial_bn", [False, True])
def test_only_the_kind_of_the_layers_changes(module, partial_bn):
    model = TSN(3, 4, arch="resnet18", module=module, partial_bn=partial_bn).train()
    keys, parameters = list(model.state_dict()), list(model.parameters())
    training = {name: m.training for name, m in model.named_modules()}
    groups = [
        len(group["params"]) for group in parameter_groups(model, "groups", weight_decay=1e-4)
    ]
    synchronize(model, GPUS)
    assert all(isinstance(m, SyncNorm) for m in model.modules() if isinstance(m, BatchNorm))
    assert list(model.state_dict()) == keys and all(
        a is b for a, b in zip(model.parameters(), parameters, strict=True)
    )
    assert {name: m.training for name, m in model.train().named_modules()} == training
    assert [
        len(group["params"]) for group in parameter_groups(model, "groups", weight_decay=1e-4)
    ] == groups
    with torch.no_grad(), each_alone(model):
        plain = TSN(3, 4, arch="resnet18", module=module).eval()
        plain.load_state_dict(model.state_dict())
        clip = torch.randint(256, (2, 4, plain.frame_channels, 64, 64), dtype=torch.uint8)
        assert torch.equal(model.eval()(clip), plain(clip))


def test_alone_and_frozen_are_given_back():
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3))
    synchronize(model, GPUS)
    with pytest.raises(KeyError), each_alone(model), frozen_norms(model):
        assert all(norm.alone and not norm.training for norm in model)
        raise KeyError
    assert not any(norm.alone for norm in model) and all(norm.training for norm in model)
    with each_alone(model, False):
        assert not any(norm.alone for norm in model)


def test_one_process_and_cpus():
    model = nn.Sequential(nn.BatchNorm2d(3))
    synchronize(model, World(0, 1, torch.device("cpu")))
    assert type(model[0]) is nn.BatchNorm2d
    with pytest.raises(UserError, match="--sync_bn needs GPUs"):
        synchronize(model, World(0, 2, torch.device("cpu")))


PROGRAM = """
import sys, torch
sys.path.insert(0, ".")
from torch import nn
from ops import distributed
from ops.distributed import World
from ops.training.sync_batchnorm import each_alone, synchronize
with distributed.start("cpu") as world:
    torch.manual_seed(world.rank)
    plain, synced = nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
    synchronize(synced, World(0, 2, torch.device("cuda")))
    x = torch.randn(4 + world.rank, 3, 2, 2)
    with each_alone(synced):
        assert torch.equal(plain(x), synced(x))  # waits for nobody, and works where torch's cannot
    assert torch.equal(plain.running_var, synced[0].running_var)
    try:
        synced(x)
    except ValueError as error:
        assert "GPU" in str(error)
    else:
        raise AssertionError("it was not asked to be alone")
sys.stdout.write(f"{world.rank}\\n")
"""


@pytest.mark.slow
def test_two_processes_each_alone(tmp_path):
    assert launch_two_ranks(PROGRAM, tmp_path) == ["0", "1"]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_see_each_others_batches(tmp_path):
    launch_two_ranks(
        """
import sys, torch
sys.path.insert(0, ".")
from torch import nn
from ops import distributed
from ops.training.sync_batchnorm import synchronize
with distributed.start() as world:
    torch.manual_seed(0)
    whole, plain, synced = torch.randn(8, 3, 2, 2, device=world.device), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
    synced.to(world.device), plain.to(world.device)
    synchronize(synced, world)
    part = slice(0, 3) if world.rank == 0 else slice(3, 8)
    torch.testing.assert_close(synced(whole[part]), plain(whole)[part])
""",
        tmp_path,
    )
