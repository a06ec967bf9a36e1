import copy
import json

import pytest
import torch
from helpers.datasets import make_motion
from helpers.launch import call, run_ranks
from helpers.models import pixels, small_model

from ops import distributed
from ops.backbones.norms import BATCH_NORMS
from ops.data.loader import Batch
from ops.training.freeze import freeze
from ops.training.precise_bn import estimate_statistics

ALONE = distributed.World(0, 1, torch.device("cpu"))


def batches_of(model, number=3):
    """Batches of two random clips each."""
    clips = pixels(model, batch=2 * number)
    labels = torch.zeros(2, dtype=torch.int64)
    return [Batch(part, labels, labels, []) for part in clips.split(2)]


def expected_statistics(model, batches):
    """Name of each BatchNorm -> mean and variance over its inputs in all batches, by a naive loop.

    The variance of a batch is the unbiased one, as in the running statistics of torch.
    """
    model = copy.deepcopy(model).eval()
    inputs = {}
    for name, module in model.named_modules():
        if isinstance(module, BATCH_NORMS):
            module.train()
            inputs[name] = []
            module.register_forward_hook(
                lambda _, given, __, name=name: inputs[name].append(given[0].transpose(0, 1))
            )
    with torch.no_grad():
        for batch in batches:
            model(batch.clips)
    found = {}
    for name, values in inputs.items():
        values = [value.flatten(1).double() for value in values]
        mean = torch.stack([value.mean(1) for value in values]).mean(0)
        square = torch.stack([value.var(1) + value.mean(1) ** 2 for value in values]).mean(0)
        found[name] = mean, square - mean**2
    return found


@pytest.mark.parametrize("module", ["tsn", "tdn", "tam"])
def test_statistics_are_those_of_all_batches(module):
    model = small_model(module, stochastic_depth=0.3)
    batches = batches_of(model)
    expected = expected_statistics(model, batches)
    weights = copy.deepcopy(dict(model.named_parameters()))
    random_state = torch.get_rng_state()
    empty = Batch(None, batches[0].labels, batches[0].indices, [])
    assert estimate_statistics(model, [batches[0], empty, *batches[1:]], ALONE)
    assert not any(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
    for name, (mean, variance) in expected.items():
        norm = model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1 and norm.num_batches_tracked == 0


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def changed(model, before):
    return {name for name, buffer in model.named_buffers() if not buffer.equal(before[name])}


def test_norms_that_are_not_trained_keep_their_statistics():
    model = small_model("tsm", partial_bn=True)
    batches, before = batches_of(model, 1), statistics(model)
    assert estimate_statistics(model, batches, ALONE)
    first = {"backbone.bn1.running_mean", "backbone.bn1.running_var"}
    assert changed(model, before) == first
    freeze(model, "stem", pretrained="all")
    before = statistics(model)
    assert estimate_statistics(model, batches_of(model, 2), ALONE)
    assert not changed(model, before)


def test_a_stopped_estimation_changes_nothing():
    model = small_model("tsn")
    before = statistics(model)
    calls = iter([0, 15])
    assert not estimate_statistics(model, batches_of(model), ALONE, stop=lambda: next(calls))
    assert not changed(model, before)
    assert estimate_statistics(model, [], ALONE)
    assert not changed(model, before)


def estimate_own_share(out):
    """One of two processes; the first has two batches, the second one."""
    with distributed.start("cpu") as world:
        model = small_model("tsn")
        batches = batches_of(model)
        own = batches[:2] if world.is_main else batches[2:]
        assert estimate_statistics(model, own, world)
        torch.save(statistics(model), f"{out}.{world.rank}")


@pytest.mark.slow
def test_processes_share_their_batches(tmp_path):
    out = tmp_path / "statistics"
    found = run_ranks(tmp_path, *[(estimate_own_share, out)] * 2)
    assert [end.status for end in found] == [0, 0], [end.text for end in found]
    model = small_model("tsn")
    estimate_statistics(model, batches_of(model), ALONE)
    for rank in range(2):
        shared = torch.load(f"{out}.{rank}", weights_only=True)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(shared[name], buffer)


TINY = ["--module", "tsn", "--arch", "mobilenetv2", "--pretrain", "none", "--num_segments", 2]
TINY += ["--input_size", 32, "--batch-size", 4, "--lr", 0.01, "-j", 0, "--epochs", 2]
TINY += ["--device", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize("ema", [[], ["--ema", 0.5]])
def test_only_the_statistics_of_the_validated_network_differ(tmp_path, ema):
    """The weights are trained as without them."""
    data = make_motion(tmp_path / "motion")
    saved, logs = [], []
    for name, flags in (("usual", []), ("precise", ["--precise_bn", 3])):
        out = tmp_path / name
        assert call("main", "motion", "RGB", *data, *TINY, *ema, *flags, "--output_dir", out) == 0
        saved.append(torch.load(out / "last.pth", weights_only=True))
        logs.append([json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()])
    usual, precise = saved
    differing = {
        name
        for name, value in usual["state_dict"].items()
        if not value.equal(precise["state_dict"][name])
    }
    assert differing and all("running_" in name for name in differing)
    if ema:
        trained = usual["trained_state_dict"].items()
        assert all(value.equal(precise["trained_state_dict"][name]) for name, value in trained)
    for own, other in zip(*logs, strict=True):
        assert own["train_loss"] == other["train_loss"] and own["val_loss"] != other["val_loss"]
