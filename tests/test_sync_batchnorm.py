import os

import pytest
import torch
from helpers.launch import run_ranks
from torch import nn

from ops import distributed
from ops.distributed import World
from ops.models import TSN
from ops.training.optim import parameter_groups
from ops.training.sync_batchnorm import each_alone, frozen_norms, synchronize
from ops.utils.errors import UserError

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
GPUS = World(0, 2, torch.device("cuda"))  # nothing is computed there: the layers are only replaced


@pytest.mark.parametrize("module", ["tsm", "tam", "tdn"])
@pytest.mark.parametrize("partial_bn", [False, True])
def test_synchronize_replaces_the_layers_only(module, partial_bn):
    model = TSN(3, 4, arch="resnet18", module=module, partial_bn=partial_bn).train()
    keys, parameters = list(model.state_dict()), list(model.parameters())
    training = {name: m.training for name, m in model.named_modules()}
    groups = [
        len(group["params"]) for group in parameter_groups(model, "groups", weight_decay=1e-4)
    ]
    synchronize(model, GPUS)
    assert not any(isinstance(m, NORMS) for m in model.modules())
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


def test_alone_and_frozen_are_restored():
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


def normalize_alone():
    """Main function of each of two ranks."""
    with distributed.start("cpu") as world:
        torch.manual_seed(world.rank)
        plain = nn.BatchNorm2d(3)
        synced = nn.Sequential(nn.BatchNorm2d(3))
        synchronize(synced, GPUS)
        x = torch.randn(4 + world.rank, 3, 2, 2)
        with each_alone(synced):  # waits for no other rank, and works where torch's cannot
            assert torch.equal(plain(x), synced(x))
        assert torch.equal(plain.running_var, synced[0].running_var)
        with pytest.raises(ValueError, match="GPU"):
            synced(x)


@pytest.mark.slow
def test_two_processes_each_alone(tmp_path):
    for end in run_ranks(tmp_path, (normalize_alone,), (normalize_alone,)):
        assert end[:2] == (0, "")


def normalize_together():
    """Main function of each of two ranks, with a GPU each."""
    os.environ["LOCAL_RANK"] = os.environ["RANK"]
    with distributed.start() as world:
        torch.manual_seed(0)
        whole = torch.randn(8, 3, 2, 2, device=world.device)
        plain = nn.BatchNorm2d(3).to(world.device)
        synced = nn.Sequential(nn.BatchNorm2d(3)).to(world.device)
        synchronize(synced, world)
        part = slice(0, 3) if world.rank == 0 else slice(3, 8)
        torch.testing.assert_close(synced(whole[part]), plain(whole)[part])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_see_each_others_batches(tmp_path):
    for end in run_ranks(tmp_path, (normalize_together,), (normalize_together,)):
        assert end.status == 0, end.text
