import pytest
import torch
from helpers.golden_fill import clip as filled_clip
from helpers.golden_fill import difference, load

from lib.benchmarks.baselines_temporal import AdaptiveModule as Original
from ops.checkpoints import load_model
from ops.temporal import adaptive
from ops.temporal.adaptive import TemporalAdaptive

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}
NAMES = {
    "kernel_fc1": "G.0",
    "kernel_bn": "G.1",
    "kernel_fc2": "G.3",
    "gate_conv1": "L.0",
    "gate_bn": "L.1",
    "gate_conv2": "L.3",
}


def theirs(key):
    ours, kind = key.rsplit(".", 1)
    return f"{NAMES[ours]}.{kind}"


def pair(channels, segments, training=True):
    """The module and the original with the same random weights and statistics, in float64."""
    generator = torch.Generator().manual_seed(0)
    module, original = (
        TemporalAdaptive(channels, segments).double(),
        Original(channels, segments).double(),
    )
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
            if name.endswith("running_var"):
                value.abs_().add_(0.5)
    original.load_state_dict({theirs(key): value for key, value in module.state_dict().items()})
    return module.train(training), original.train(training)


def draw(*shape, seed=1, layout="nchw"):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def close(value, expected, tolerance=1e-9):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def compare(module, original, x, y):
    """Output, gradients of the input and of every weight, and running statistics."""
    x_original = x.detach().clone().contiguous().requires_grad_()
    expected = original(x_original)
    close(y, expected)
    probe = torch.randn(
        expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    y.backward(probe)
    expected.backward(probe)
    close(x.grad, x_original.grad)
    of_original = dict(original.named_parameters())
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 0
        close(parameter.grad, of_original[theirs(name)].grad, 1e-8)
    buffers = dict(original.named_buffers())
    for name, buffer in module.named_buffers():
        close(buffer, buffers[theirs(name)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 7), (6, 4)])
@pytest.mark.parametrize(("videos", "segments"), [(2, 1), (1, 2), (3, 3), (2, 8)])
def test_the_module_is_the_original(videos, segments, size, training, layout):
    module, original = pair(16, segments, training)
    x = draw(videos * segments, 16, *size, layout=layout)
    before = x.detach().clone()
    y = module(x)
    assert y.shape == x.shape and y.is_contiguous(memory_format=LAYOUTS[layout])
    compare(module, original, x, y)
    assert x.grad.is_contiguous(memory_format=LAYOUTS[layout])
    assert torch.equal(x, before)


def test_the_formula_by_hand():
    """T = 3, one pixel: a kernel of (past, present, future) after the gate of each frame."""
    kernel, gate = torch.tensor([[[0.5, 0.25, 2.0]]]), torch.tensor([[[1.0, 10.0, 100.0]]])
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    expected = [0.25 * 1 + 2 * 20, 0.5 * 1 + 0.25 * 20 + 2 * 300, 0.5 * 20 + 0.25 * 300]
    weights = adaptive.fold_weights(kernel, gate)
    assert weights.shape == (3, 1, 3, 1)
    for weighted_sum in (adaptive.WeightedSum.apply, adaptive.weighted_sum_plain):
        assert weighted_sum(x, weights).flatten().tolist() == expected


def test_it_starts_with_pytorchs_own_weights():
    torch.manual_seed(0)
    module = TemporalAdaptive(64, 8)
    shapes = {
        "kernel_fc1": (16, 8),
        "kernel_fc2": (3, 16),
        "gate_conv1": (16, 64, 3),
        "gate_conv2": (64, 16, 1),
    }
    assert {name: tuple(module.get_submodule(name).weight.shape) for name in shapes} == shapes
    assert all(module.get_submodule(name).bias is None for name in shapes)
    assert all(
        torch.equal(bn.weight, torch.ones_like(bn.weight))
        for bn in (module.kernel_bn, module.gate_bn)
    )
    for name in shapes:  # uniform in +- 1 / sqrt(fan in): neither zeros nor an identity
        weight = module.get_submodule(name).weight
        bound = weight[0].numel() ** -0.5
        assert 0.8 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("channels", "segments", "count"),
    [
        (64, 8, 4336),
        (128, 8, 16656),
        (256, 8, 65872),
        (512, 8, 262608),
        (64, 16, 4336 + 464),
        (512, 16, 262608 + 464),
    ],
)
def test_parameter_counts(channels, segments, count):
    assert sum(p.numel() for p in TemporalAdaptive(channels, segments).parameters()) == count


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(layout):
    module, _ = pair(4, 3)
    x = draw(6, 4, 2, 3, layout=layout)
    weights = torch.rand(3, 2, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(adaptive.WeightedSum.apply, (x, weights))
    assert torch.autograd.gradcheck(adaptive.SpatialMean.apply, (x,))
    assert torch.autograd.gradcheck(module, (x,))


def test_any_gradient_is_taken_and_left_as_it_is():
    module, original = pair(8, 4)
    x, x_original = draw(8, 8, 3, 3), draw(8, 8, 3, 3)
    before = x.detach().clone()
    module(x).sum().backward()  # an expanded gradient, all strides zero
    original(x_original).sum().backward()
    close(x.grad, x_original.grad)
    assert torch.equal(x, before)
    probe = draw(
        8, 8, 3, 3, seed=3, layout="channels_last"
    ).detach()  # of another memory format than x
    kept = probe.clone()
    x.grad = x_original.grad = None
    module(x).backward(probe)
    original(x_original).backward(probe)
    close(x.grad, x_original.grad)
    assert torch.equal(probe, kept)


def test_frozen_weights_and_a_frozen_input():
    module, original = pair(8, 4)
    x, x_original = draw(8, 8, 3, 3), draw(8, 8, 3, 3)
    module(x.detach()).square().sum().backward()
    original(x_original).square().sum().backward()
    close(module.gate_conv1.weight.grad, original.L[0].weight.grad, 1e-8)
    module.requires_grad_(False)
    module(x).square().sum().backward()
    close(x.grad, x_original.grad)


def test_the_input_may_be_used_again():
    """As the identity of a residual block."""
    module, original = pair(8, 4)
    x, x_original = draw(8, 8, 3, 3), draw(8, 8, 3, 3)
    (x * module(x)).sum().backward()
    (x_original * original(x_original)).sum().backward()
    close(x.grad, x_original.grad)


def test_videos_do_not_reach_each_other():
    module, _ = pair(16, 4, training=False)
    x = draw(8, 16, 5, 5).detach()
    changed = x.clone()
    changed[4:] += 1
    assert torch.equal(module(x)[:4], module(changed)[:4])
    assert not torch.equal(module(x)[4:], module(changed)[4:])


def test_compiled_module_is_the_same_function(monkeypatch):
    for name in ("WeightedSum", "SpatialMean"):
        monkeypatch.setattr(
            adaptive, name, None
        )  # a compiler is given the plain sums, which it can fuse
    module, original = pair(16, 4)
    x = draw(8, 16, 4, 6, layout="channels_last")
    y = torch.compile(module, backend="aot_eager", fullgraph=True)(x)
    compare(module, original, x, y)


def test_traced_module_takes_another_number_of_videos():
    module, original = pair(16, 4, training=False)
    traced = torch.jit.trace(module, draw(8, 16, 3, 3).detach())
    again = draw(12, 16, 3, 3, seed=4).detach()
    close(traced(again), original(again))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_is_close_and_learns(layout):
    torch.manual_seed(0)
    module = TemporalAdaptive(32, 4).train()
    x = torch.randn(8, 32, 6, 6).contiguous(memory_format=LAYOUTS[layout])
    exact = module(x)
    exact.square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters()}
    module.zero_grad()
    half = x.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = module(half)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=LAYOUTS[layout])
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    assert half.grad.dtype == torch.bfloat16 and half.grad.isfinite().all()
    for name, p in module.named_parameters():
        assert p.grad.dtype == torch.float32 and difference(p.grad, gradients[name].numpy()) < 0.1


def test_the_golden_numbers_see_the_kernel_the_right_way_round():
    """Exchanging past and future changes the golden logits of tests/test_models_golden.py."""
    golden, _, state = load("tam_resnet50_8f.npz")
    model = load_model(state, dropout=0.0, quiet=True)
    for module in model.modules():
        if isinstance(module, TemporalAdaptive):
            module.kernel_fc2.weight.data = module.kernel_fc2.weight.data.flip(0)
    with torch.no_grad():
        logits = model(filled_clip("input", tuple(golden["input_shape"])))
    assert difference(logits, golden["logits"]) > 1e-3
