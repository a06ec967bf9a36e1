import copy

import pytest
import torch
from helpers.models import pixels, small_model
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from ops.backbones.recompute import recompute_activations
from ops.temporal import MODULES
from ops.training.ema import WeightAverage
from ops.training.freeze import freeze
from ops.training.sync_batchnorm import frozen_norms
from ops.utils.amp import autocast
from ops.utils.errors import UserError

CPU = torch.device("cpu")


def twins(module, **options):
    """Two equal networks in training mode, the second with recomputed activations."""
    usual = small_model(module, **options).train()
    recomputing = copy.deepcopy(usual)
    recompute_activations(recomputing.backbone)
    return usual, recomputing


def backward(model, amp="none"):
    """A forward and a backward pass. Returns the random state after the forward pass."""
    torch.manual_seed(0)
    with autocast(CPU, amp):
        loss = cross_entropy(model(pixels(model)), torch.tensor([0, 1]))
    state = torch.get_rng_state()
    loss.backward()
    return state


def assert_same_step(usual, recomputing, **options):
    assert torch.equal(backward(usual, **options), backward(recomputing, **options))
    named = zip(usual.named_parameters(), recomputing.named_parameters(), strict=True)
    for (name, one), (_, other) in named:
        assert (one.grad is None) == (other.grad is None), name
        assert one.grad is None or torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(
        usual.named_buffers(), recomputing.named_buffers(), strict=True
    ):
        assert torch.equal(one, other), name
    assert [m.training for m in usual.modules()] == [m.training for m in recomputing.modules()]


@pytest.mark.parametrize("module", MODULES)
def test_gradients_and_statistics_are_the_usual_ones(module):
    assert_same_step(*twins(module, stochastic_depth=0.5, partial_bn=module == "tsm"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mobilenetv2", "BNInception"])
def test_other_backbones(arch):
    assert_same_step(*twins("tsn", arch=arch))


@pytest.mark.slow
def test_mixed_precision_non_local_blocks_and_frozen_layers():
    usual, recomputing = twins("tsm", non_local=True)
    for model in (usual, recomputing):
        model.to_channels_last()
        freeze(model, "stem,stages:1", pretrained="all")
    assert_same_step(usual, recomputing, amp="bf16")


def test_the_second_pass_has_the_modes_of_the_first():
    """As for a batch of which no video can be decoded."""
    usual, recomputing = twins("tdn")
    for model in (usual, recomputing):
        torch.manual_seed(0)
        with frozen_norms(model):
            loss = model(pixels(model)).square().sum()
        loss.backward()
    for one, other in zip(usual.parameters(), recomputing.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(usual.buffers(), recomputing.buffers(), strict=True):
        assert torch.equal(one, other)
    assert all(m.training for m in recomputing.modules())


def bytes_kept(model):
    """The memory of the tensors that the graph of a forward pass keeps itself."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    with saved_tensors_hooks(note, lambda tensor: tensor):
        model(pixels(model, size=64))
    return sum(kept.values()) - weights


def test_blocks_run_twice_and_keep_their_input_only():
    usual, recomputing = twins("tsn")
    runs = []
    for model in (usual, recomputing):
        counts = []
        for stage in model.backbone.stages():
            for block in stage:
                block.conv1.register_forward_hook(lambda *_, counts=counts: counts.append(1))
        backward(model)
        runs.append(len(counts))
    assert runs == [8, 16]
    assert bytes_kept(recomputing) < 0.5 * bytes_kept(usual)


def test_an_average_of_the_weights_has_blocks_of_its_own():
    _, recomputing = twins("tsn")
    ema = WeightAverage(recomputing, 0.9).module
    clip = pixels(ema)
    expected = ema.eval()(clip)
    with torch.no_grad():
        for parameter in recomputing.parameters():
            parameter.zero_()
    assert torch.equal(ema(clip), expected) and expected.std() > 0


def test_a_backbone_without_such_blocks_is_refused():
    with pytest.raises(UserError, match="--checkpoint_activations does not run on mine"):
        recompute_activations(nn.Linear(2, 2), "mine")
