from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ops import distributed
from ops.training import memory_probe
from ops.training.batch_size import check_auto, largest_batch, resolve_batch_size
from ops.utils.errors import UserError

ALONE = distributed.World(0, 1, torch.device("cpu"))


@given(capacity=st.integers(0, 2000), limit=st.integers(1, 1024))
def test_the_largest_batch_fits_and_is_close(capacity, limit):
    tried = []

    def fits(batch):
        assert 1 <= batch <= limit
        tried.append(batch)
        return batch <= capacity

    best = min(capacity, limit)
    found = largest_batch(fits, limit)
    assert found <= best and best - found <= max(0, found // 8)
    assert len(tried) == len(set(tried)) <= 16


def arguments(**changes):
    return Namespace(
        **{
            "batch_size": "auto",
            "dry_run": False,
            "amp": "none",
            "ema": 0.0,
            "accumulate": 1,
            **changes,
        }
    )


def checkpoint(**recipe):
    return SimpleNamespace(path="runs/a/last.pth", recipe=recipe)


def test_a_resumed_run_has_the_batch_size_of_its_checkpoint():
    size, note = resolve_batch_size(arguments(), None, ALONE, checkpoint(batch_size=24), 100)
    assert size == 24 and "24" in note and "runs/a/last.pth" in note


@pytest.mark.parametrize("saved", [{}, {"batch_size": "auto"}, {"batch_size": 0}])
def test_a_checkpoint_without_a_batch_size_is_refused(saved):
    with pytest.raises(UserError, match=r"runs/a/last\.pth.*--batch-size"):
        resolve_batch_size(arguments(), None, ALONE, checkpoint(**saved), 100)


@pytest.mark.parametrize(("other", "smallest"), [(3, 3), (90, 40)])
def test_all_processes_take_the_smallest_result(monkeypatch, other, smallest):
    """This process has memory for 40 videos, another one for 3 or 90."""
    probe = SimpleNamespace(fits=lambda batch: batch <= 40, describe=lambda: "90% of it")
    monkeypatch.setattr(memory_probe, "MemoryProbe", lambda *_, **__: probe)
    world = SimpleNamespace(
        size=2, device=torch.device("cuda:0"), max=lambda own: [max(own, -other)]
    )
    size, note = resolve_batch_size(arguments(), None, world, None, 10_000)
    assert size == smallest and str(smallest) in note and "90% of it" in note
    size, _ = resolve_batch_size(arguments(accumulate=2), None, world, None, 8)
    assert size == 2  # 8 videos are one step of 2 processes x 2 videos x 2 accumulated


def test_a_video_that_does_not_fit_is_an_error(monkeypatch):
    probe = SimpleNamespace(fits=lambda batch: False)
    monkeypatch.setattr(memory_probe, "MemoryProbe", lambda *_, **__: probe)
    world = SimpleNamespace(size=1, device=torch.device("cuda:0"), max=lambda own: [own])
    with pytest.raises(UserError, match="--checkpoint_activations"):
        resolve_batch_size(arguments(), None, world, None, 100)


def test_it_is_refused_without_a_gpu_and_in_a_dry_run():
    with pytest.raises(UserError, match=r"--batch-size auto .*cpu"):
        check_auto(arguments(), ALONE, None)
    with pytest.raises(UserError, match=r"--batch-size auto .*--dry_run"):
        check_auto(arguments(dry_run=True), ALONE, None)
    check_auto(arguments(), ALONE, checkpoint(batch_size=24))
    check_auto(arguments(batch_size=8), ALONE, None)
