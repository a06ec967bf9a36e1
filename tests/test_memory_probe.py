"""The probe of memory, with a CPU in place of a GPU and its counters."""

import pytest
import torch
from helpers.models import assert_same_weights, small_model

from ops.training.freeze import freeze
from ops.training.memory_probe import MemoryProbe

CPU = torch.device("cpu")
PER_VIDEO = 1000
FREE = 100 * PER_VIDEO


@pytest.fixture
def network(monkeypatch):
    """A network whose steps need 1000 bytes per video; 20 of them are too many for the device."""
    net = small_model("tsm", num_segments=2, stochastic_depth=0.2, input_size=32).train()
    batches = [0]

    def note(_, inputs):
        batches.append(len(inputs[0]))
        if batches[-1] >= 20:
            raise torch.OutOfMemoryError("out of memory")

    net.register_forward_pre_hook(note)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (FREE, 2 * FREE))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: batches[-1] * PER_VIDEO)
    return net


def test_steps_that_need_more_than_the_usable_memory_do_not_fit(network):
    probe = MemoryProbe(network, CPU, amp="none", has_average=False)
    probe.reserve = 80 * PER_VIDEO
    found = {batch: probe.fits(batch) for batch in (2, 10, 11, 20)}
    assert found == {2: True, 10: True, 11: False, 20: False}


def test_the_network_stays_as_it_is(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    probe = MemoryProbe(network, CPU, amp="bf16", has_average=False)
    for batch in (2, 20):
        probe.fits(batch)
        assert_same_weights(network, before)
        assert all(parameter.grad is None for parameter in network.parameters())


def test_the_states_of_the_optimizer_and_the_average_are_reserved(network):
    def reserve(has_average):
        return MemoryProbe(network, CPU, amp="none", has_average=has_average).reserve

    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    assert (reserve(False), reserve(True)) == (2 * weights, 3 * weights)
    freeze(network, "backbone", pretrained="all")
    assert reserve(False) == 8 * sum(p.numel() for p in network.head.parameters())
