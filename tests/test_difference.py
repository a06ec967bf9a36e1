import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ops.backbones import build_backbone
from ops.backbones.resnet import Bottleneck
from ops.temporal import difference as temporal
from ops.temporal.difference import (
    LongTermDifference,
    ShortTermDifference,
    TemporalConv,
    neighbour_differences,
)

SEGMENTS = (1, 2, 4, 8)
SIZES = ((1, 1), (1, 4), (2, 2), (5, 7), (6, 4))
LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def randomize(module, seed=0):
    """Every weight and running statistic away from its initial value, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.5)
                if name.endswith("running_var"):
                    value.abs_().add_(0.5)
    return module


def draw(*shape, seed=1, layout="nchw"):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def close(value, expected, tolerance=1e-9):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def naive_temporal_conv(weight, x, segments):
    """The depthwise Conv1d of the original on (n*h*w, c, t)."""
    n, c, h, w = x.shape
    series = (
        x.reshape(n // segments, segments, c, h, w).permute(0, 3, 4, 2, 1).reshape(-1, c, segments)
    )
    series = F.conv1d(series, weight, padding=1, groups=c)
    return (
        series.reshape(n // segments, h, w, c, segments).permute(0, 4, 3, 1, 2).reshape(n, c, h, w)
    )


def naive_long_term(m, x, segments):
    """L-TDM, formula by formula: both directions in turn, each shared BatchNorm called for both."""
    size = x.shape[-2:]
    b = m.squeeze_bn(F.conv2d(x, m.squeeze.weight))
    g = F.conv2d(b, m.spatial.weight, padding=1, groups=b.shape[1])
    forward, backward = [], []
    for n in range(len(x)):
        t = n % segments
        forward.append(g[n + 1] - b[n] if t < segments - 1 else torch.zeros_like(b[n]))
        backward.append(g[n - 1] - b[n] if t > 0 else torch.zeros_like(b[n]))

    def branch(z):
        half = F.avg_pool2d(z, 2, 2) if min(size) > 1 else z
        coarse = F.interpolate(m.coarse_bn(F.conv2d(half, m.coarse.weight, padding=1)), size=size)
        fine = m.fine_bn(F.conv2d(z, m.fine.weight, padding=1))
        return m.expand_bn(F.conv2d(z / 3 + coarse / 3 + fine / 3, m.expand.weight))

    y_forward = torch.sigmoid(branch(torch.stack(forward))) - 0.5
    y_backward = torch.sigmoid(branch(torch.stack(backward))) - 0.5
    return naive_temporal_conv(
        m.temporal.weight, x + x * (0.5 * y_forward + 0.5 * y_backward), segments
    )


def naive_short_term(m, frames, entry, stage1, alpha, beta):
    """S-TDM, formula by formula: four differences at full size."""
    f = [frames[:, 3 * j : 3 * j + 3] for j in range(5)]
    d = torch.cat([f[1] - f[0], f[2] - f[1], f[3] - f[2], f[4] - f[3]], dim=1)
    d = F.avg_pool2d(d, 2, 2)
    d = F.relu(m.bn(F.conv2d(d, m.conv.weight, stride=2, padding=3)))
    d0 = F.max_pool2d(d, 3, 2, 1)
    d1 = m.stage(d0)
    x = entry(f[2])
    x = stage1(alpha * x + beta * F.interpolate(d0, x.shape[2:]))
    return alpha * x + beta * F.interpolate(d1, x.shape[2:])


def compare(module, naive, x, y, x_naive, y_naive):
    """Outputs, gradients of the input and of every weight, and running statistics."""
    close(y, y_naive)
    probe = torch.randn_like(y_naive)
    y.backward(probe)
    y_naive.backward(probe)
    close(x.grad, x_naive.grad, 1e-8)
    pairs = list(zip(module.parameters(), naive.parameters(), strict=True))
    assert any(p.grad.abs().max() > 0 for p, _ in pairs)
    for p, q in pairs:
        close(
            p.grad, torch.zeros_like(q) if q.grad is None else q.grad, 1e-8
        )  # one segment has no differences
    for buffer, expected in zip(module.buffers(), naive.buffers(), strict=True):
        close(buffer, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("segments", SEGMENTS)
def test_long_term_difference_is_the_formula(segments, size, training, layout):
    module = randomize(LongTermDifference(32, segments)).train(training)
    naive = copy.deepcopy(module)
    x, x_naive = draw(3 * segments, 32, *size, layout=layout), draw(3 * segments, 32, *size)
    y = module(x)
    assert y.shape == x.shape and y.is_contiguous(memory_format=LAYOUTS[layout])
    compare(module, naive, x, y, x_naive, naive_long_term(naive, x_naive, segments))
    assert module.coarse_bn.num_batches_tracked == (
        2 if training else 0
    )  # one batch for each direction
    assert module.squeeze_bn.num_batches_tracked == (1 if training else 0)


def test_long_term_difference_updates_forward_before_backward():
    module = randomize(LongTermDifference(16, 4)).train()
    for bn in (module.coarse_bn, module.fine_bn, module.expand_bn):
        bn.momentum = 1.0  # the last batch alone remains: it must be the backward one
    naive = copy.deepcopy(module)
    x = draw(8, 16, 4, 4)
    module(x)
    naive_long_term(naive, x, 4)
    swapped = copy.deepcopy(module)
    swapped(
        x.reshape(2, 4, 16, 4, 4).flip(1).flatten(0, 1)
    )  # time reversed: the directions change places
    for name in ("coarse_bn", "fine_bn", "expand_bn"):
        close(getattr(module, name).running_mean, getattr(naive, name).running_mean)
        assert (
            getattr(module, name).running_mean - getattr(swapped, name).running_mean
        ).abs().max() > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_neighbour_differences_keep_the_layout(layout):
    b, g = draw(6, 4, 5, 7, layout=layout), draw(6, 4, 5, 7, seed=2, layout=layout)
    z = neighbour_differences(b, g, 3)
    assert z.shape == (12, 4, 5, 7) and z.is_contiguous(memory_format=LAYOUTS[layout])
    zero = torch.zeros_like(b[0])
    close(
        z,
        torch.stack(
            [
                g[1] - b[0],
                g[2] - b[1],
                zero,
                g[4] - b[3],
                g[5] - b[4],
                zero,
                zero,
                g[0] - b[1],
                g[1] - b[2],
                zero,
                g[3] - b[4],
                g[4] - b[5],
            ]
        ),
    )
    mixed = neighbour_differences(b, g.contiguous(memory_format=torch.channels_last), 3)
    close(mixed, z)


def test_segments_of_one_video_do_not_reach_another():
    module = randomize(LongTermDifference(16, 4)).eval()
    x = draw(8, 16, 5, 5).detach()
    changed = x.clone()
    changed[4:] += 1
    assert torch.equal(module(x)[:4], module(changed)[:4])
    assert not torch.equal(module(x)[4:], module(changed)[4:])


def stem(segments):
    """A small trunk with one bottleneck as first stage, and the S-TDM around it."""
    backbone = build_backbone("resnet18")
    narrow = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256))
    backbone.layer1 = nn.Sequential(Bottleneck(64, 64, downsample=narrow))
    del backbone.layer2, backbone.layer3, backbone.layer4
    module = ShortTermDifference(backbone.conv1, copy.deepcopy(backbone.layer1), segments)
    return randomize(nn.ModuleDict({"stem": module, "trunk": backbone}))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("segments", "alpha", "beta"), [(8, 0.5, 0.5), (4, 0.75, 0.25)])
@pytest.mark.parametrize("size", [(2, 2), (19, 23), (16, 12)])
def test_short_term_difference_is_the_formula(segments, alpha, beta, size, layout):
    module = stem(segments).train(size != (16, 12))
    naive = copy.deepcopy(module)
    x, x_naive = draw(4, 15, *size, layout=layout), draw(4, 15, *size)
    y = module["stem"](x, module["trunk"].entry, module["trunk"].layer1)
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    y_naive = naive_short_term(
        naive["stem"], x_naive, naive["trunk"].entry, naive["trunk"].layer1, alpha, beta
    )
    compare(module, naive, x, y, x_naive, y_naive)


def test_difference_conv_starts_from_the_mean_of_the_first_conv():
    first = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    module = ShortTermDifference(first, nn.Identity(), 8)
    assert module.conv.weight.shape == (64, 12, 7, 7) and module.conv.bias is None
    for channel in range(12):
        torch.testing.assert_close(module.conv.weight[:, channel], first.weight.mean(1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("segments", SEGMENTS)
def test_temporal_conv_is_a_conv1d(segments, size, layout):
    module = randomize(TemporalConv(24, segments))
    naive = copy.deepcopy(module)
    x, x_naive = draw(2 * segments, 24, *size, layout=layout), draw(2 * segments, 24, *size)
    y = module(x)
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    compare(module, naive, x, y, x_naive, naive_temporal_conv(naive.weight, x_naive, segments))
    assert x.grad.is_contiguous(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_temporal_conv_gradcheck(layout):
    module = randomize(TemporalConv(5, 3))
    x = draw(6, 5, 2, 2, layout=layout)

    def run(x, weight):
        return torch.func.functional_call(module, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, module.weight))


def test_temporal_conv_takes_any_gradient_and_leaves_its_input():
    module = randomize(TemporalConv(8, 4))
    naive = copy.deepcopy(module)
    x, x_naive = draw(8, 8, 3, 3), draw(8, 8, 3, 3)
    before = x.detach().clone()
    module(x).sum().backward()  # an expanded gradient, all strides zero
    naive_temporal_conv(naive.weight, x_naive, 4).sum().backward()
    close(x.grad, x_naive.grad)
    close(module.weight.grad, naive.weight.grad)
    assert torch.equal(x, before)
    frozen = randomize(TemporalConv(8, 4)).requires_grad_(False)
    x.grad = None
    frozen(x).sum().backward()
    close(x.grad, x_naive.grad)
    module.weight.grad = None
    module(x.detach()).sum().backward()
    close(module.weight.grad, naive.weight.grad)


@pytest.mark.parametrize("channels", [8, 24, 64])
def test_temporal_conv_starts_as_a_shift(channels):
    module = TemporalConv(channels, 4)
    assert module.weight.shape == (channels, 1, 3) and list(module.state_dict()) == ["weight"]
    fold = channels // 8
    expected = torch.zeros(channels, 1, 3)
    expected[:fold, 0] = torch.tensor([0.0, 0, 1])
    expected[fold : 2 * fold, 0] = torch.tensor([1.0, 0, 0])
    expected[2 * fold :, 0] = torch.tensor([0.0, 1, 0])
    assert torch.equal(module.weight, expected)
    x = torch.randn(2, 4, channels, 3, 3)
    y = module(x.flatten(0, 1)).unflatten(0, (2, 4))
    assert torch.equal(y[:, :-1, :fold], x[:, 1:, :fold]) and not y[:, -1, :fold].any()
    assert (
        torch.equal(y[:, 1:, fold : 2 * fold], x[:, :-1, fold : 2 * fold])
        and not y[:, 0, fold : 2 * fold].any()
    )
    assert torch.equal(y[:, :, 2 * fold :], x[:, :, 2 * fold :])


def test_compiled_module_is_the_same_function(monkeypatch):
    monkeypatch.setattr(
        temporal, "_TemporalConv", None
    )  # a compiler is given the plain sum, which it can fuse
    module = randomize(LongTermDifference(16, 4)).train()
    naive = copy.deepcopy(module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x, x_naive = draw(8, 16, 4, 6, layout="channels_last"), draw(8, 16, 4, 6)
    compare(module, naive, x, compiled(x), x_naive, naive_long_term(naive, x_naive, 4))


def test_exported_module_takes_other_batches():
    module = randomize(LongTermDifference(16, 4)).eval()
    frames = 4 * torch.export.Dim("videos", min=1, max=64)
    example = draw(8, 16, 4, 6).detach()
    exported = torch.export.export(module, (example,), dynamic_shapes=({0: frames},)).module()
    for videos in (2, 3):
        x = draw(videos * 4, 16, 4, 6).detach()
        close(exported(x), module(x))


@pytest.mark.parametrize("segments", [1, 3, 7, 8, 9, 16, 32])
def test_paths_are_mixed_by_the_number_of_segments(segments):
    """alpha and beta are not in the state dict: the number of segments alone decides."""
    module = ShortTermDifference(nn.Conv2d(3, 4, 7, bias=False), nn.Identity(), segments)
    x, d = draw(1, 4, 6, 6), draw(1, 4, 3, 3, seed=2)
    alpha, beta = (0.5, 0.5) if segments == 8 else (0.75, 0.25)
    close(module.mix(x, d), alpha * x + beta * d.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_half_precision_is_close_and_learns():
    module = LongTermDifference(32, 4).train()
    x = torch.randn(8, 32, 6, 6)
    exact = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    y.float().square().sum().backward()
    assert all(
        p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters()
    )


def test_convs_start_as_those_of_the_original():
    """N(0, 2 / (kh * kw * out_channels)) in every Conv2d, the depthwise one included."""
    torch.manual_seed(0)
    module = LongTermDifference(2048, 8)
    convs = {name: conv for name, conv in module.named_modules() if isinstance(conv, nn.Conv2d)}
    assert set(convs) == {"squeeze", "spatial", "coarse", "fine", "expand"}
    for name, conv in convs.items():
        expected = (2 / (conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1), name
        assert abs(conv.weight.mean().item()) < 0.15 * expected, name
    for name, bn in module.named_modules():
        if isinstance(bn, nn.BatchNorm2d):
            assert (bn.weight == 1).all() and (bn.bias == 0).all(), name
