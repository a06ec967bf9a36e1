import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ops.models import TSN
from ops.temporal.interlace import TemporalInterlace, interlacing_matrices
from ops.utils.errors import UserError

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def build(channels=16, segments=4, shift_div=2, seed=0):
    """A module whose offsets lie anywhere in (-2, 2) and differ from video to video, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module = TemporalInterlace(channels, segments, shift_div).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.6
            )
    return module


def draw(*shape, layout="nchw", seed=1):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def close(value, expected, tolerance=1e-10):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def naive_move(frames, offset):
    """One group of one video, ``[T, c, h, w]``, moved by a fraction: a mix of two whole shifts."""
    whole = math.floor(offset.item())
    rest = offset - whole
    moved = []
    for t in range(len(frames)):
        near, far = t - whole, t - whole - 1
        y = torch.zeros_like(frames[t])
        if 0 <= near < len(frames):
            y = y + (1 - rest) * frames[near]
        if 0 <= far < len(frames):
            y = y + rest * frames[far]
        moved.append(y)
    return torch.stack(moved)


def naive(m, x):
    """The original (its TemporalDeform), video by video, group by group, frame by frame."""
    videos = []
    for clip in x.split(m.num_segments):
        d = clip[:, : m.fold]
        means = d.mean(dim=(2, 3)).t().unsqueeze(0)
        o = F.conv1d(means, m.offset_conv.weight, m.offset_conv.bias, padding=1).reshape(1, -1)
        o = F.linear(
            F.relu(F.linear(o, m.offset_fc1.weight, m.offset_fc1.bias)),
            m.offset_fc2.weight,
            m.offset_fc2.bias,
        )
        o = 4 * (torch.sigmoid(o[0]) - 0.5)
        w = (
            2
            * torch.sigmoid(F.conv1d(means, m.weight_conv.weight, m.weight_conv.bias, padding=1))[0]
        )
        groups = []
        for number, (group, offset) in enumerate(
            zip(d.chunk(4, dim=1), [o[0], o[1], -o[0], -o[1]], strict=True)
        ):
            groups.append(naive_move(group, offset) * w[number % 2].reshape(-1, 1, 1, 1))
        videos.append(torch.cat([*groups, clip[:, m.fold :]], dim=1))
    return torch.cat(videos)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(deadline=None, max_examples=25)
@given(
    videos=st.integers(1, 3),
    segments=st.integers(1, 9),
    width=st.integers(1, 3),
    div=st.integers(1, 4),
    rest=st.integers(0, 3),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_interlace_is_the_formula_forward_and_backward(
    layout, videos, segments, width, div, rest, size, seed
):
    channels = 4 * width * div + min(rest, div - 1)
    module = build(channels, segments, div, seed)
    naive_module = copy.deepcopy(module)
    x, x_naive = (
        draw(videos * segments, channels, *size, layout=layout),
        draw(videos * segments, channels, *size),
    )
    before = x.detach().clone()
    y, expected = module(x), naive(naive_module, x_naive)
    assert y.shape == x.shape and y.is_contiguous(memory_format=LAYOUTS[layout])
    close(y, expected)
    assert torch.equal(y[:, module.fold :], x[:, module.fold :])
    probe = torch.randn_like(expected)
    given_probe = probe.clone()
    y.backward(probe)
    expected.backward(given_probe)
    close(x.grad, x_naive.grad)
    assert x.grad.is_contiguous(memory_format=LAYOUTS[layout])
    for parameter, wanted in zip(module.parameters(), naive_module.parameters(), strict=True):
        close(
            parameter.grad, torch.zeros_like(wanted) if wanted.grad is None else wanted.grad
        )  # all moved out of the clip
    assert torch.equal(x, before) and torch.equal(
        probe, given_probe
    )  # neither input nor gradient is written to


def test_matrices_of_whole_and_half_offsets():
    """Rows are output frames; a positive offset brings the past.

    T = 3, offsets 1, 0.5 and their opposites, weights 1 and 2.
    """
    offsets = torch.tensor([[1, 0.5, -1, -0.5]])
    weights = torch.tensor([1.0, 2, 1, 2]).expand(1, 3, 4)
    later, half_later, earlier, half_earlier = interlacing_matrices(offsets, weights)[:, 0].tolist()
    assert later == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and earlier == [
        [0, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert half_later == [[1, 0, 0], [1, 1, 0], [0, 1, 1]] and half_earlier == [
        [1, 1, 0],
        [0, 1, 1],
        [0, 0, 1],
    ]
    extremes = interlacing_matrices(torch.tensor([[2.0, 0, -2, -0.0]]), torch.ones(1, 3, 4))[:, 0]
    assert torch.equal(
        extremes,
        torch.stack(
            [
                torch.eye(3).roll(2, 0).tril(-2),
                torch.eye(3),
                torch.eye(3).roll(1, 0).triu(2),
                torch.eye(3),
            ]
        ),
    )


@pytest.mark.parametrize("offset", [-2.0, -1.25, -1, 0, 0.3, 1, 2])
def test_the_gradient_of_an_offset_is_the_difference_of_its_two_frames(offset):
    """Also at whole numbers, where the slope of the next branch counts: b = floor(o)."""
    offsets = torch.full((1, 4), offset, dtype=torch.float64, requires_grad=True)
    matrices = interlacing_matrices(offsets, torch.ones(1, 6, 4, dtype=torch.float64))
    frames, probe = torch.randn(2, 6, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(probe @ matrices[0, 0] @ frames, offsets)
    expected = 0
    for t in range(6):
        near, far = (
            frames[u] if 0 <= u < 6 else 0
            for u in (t - math.floor(offset), t - math.floor(offset) - 1)
        )
        expected += probe[t] * (far - near)
    close(gradient, torch.stack([torch.as_tensor(expected), *torch.zeros(3)]).unsqueeze(0).double())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck_away_from_whole_offsets(layout):
    module = build(8, 3, 2)
    x = draw(6, 8, 2, 1 if layout == "nchw" else 2, layout=layout)
    offsets, _ = module.offsets(x)
    assert ((offsets - offsets.round()).abs() > 0.01).all()
    names = [name for name, _ in module.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, (x, *module.parameters()))


def test_offsets_for_inspection():
    module, x = build(16, 4), draw(8, 16, 3, 3)
    offsets, weights = module.offsets(x)
    assert offsets.shape == (2, 4) and weights.shape == (2, 4, 4)
    assert torch.equal(offsets[:, 2:], -offsets[:, :2]) and torch.equal(
        weights[..., 2:], weights[..., :2]
    )
    assert offsets.abs().max() < 2 and 0 < weights.min() < weights.max() < 2
    offsets[0, 0].backward()
    assert x.grad[:4].any() and not x.grad[4:].any()


def test_starts_at_half_a_frame_and_weight_one():
    module = TemporalInterlace(64, 8)
    assert module.fold == 16
    nn.init.zeros_(module.offset_fc2.weight)
    nn.init.zeros_(module.weight_conv.weight)
    offsets, weights = module.offsets(torch.randn(8, 64, 2, 2))
    torch.testing.assert_close(offsets, torch.tensor([[0.5, 0.5, -0.5, -0.5]]), rtol=0, atol=1e-4)
    assert torch.equal(weights, torch.ones(1, 8, 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_videos_do_not_reach_each_other(layout):
    module, x = build(), draw(8, 16, 3, 3, layout=layout).detach()
    changed = x.clone()
    changed[4:] += 1
    assert torch.equal(module(x)[:4], module(changed)[:4]) and not torch.equal(
        module(x)[4:], module(changed)[4:]
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_any_layout_twice_and_of_a_reused_input(layout):
    module = build()
    reference = copy.deepcopy(module)
    x, x_naive = draw(8, 16, 3, 2, layout=layout), draw(8, 16, 3, 2)
    for probe in (
        torch.ones(()).expand(8, 16, 3, 2),
        draw(8, 16, 3, 2, seed=2).detach(),
        draw(8, 16, 3, 2, layout="channels_last", seed=3).detach(),
    ):
        y = x + module(x)  # as the identity of a residual block
        y.backward(probe, retain_graph=True)
        y.backward(probe)
        (x_naive + naive(reference, x_naive)).backward(2 * probe.double())
    close(x.grad, x_naive.grad)
    close(module.offset_conv.weight.grad, reference.offset_conv.weight.grad)


def test_part_of_the_gradients_is_enough():
    module, x = build(), draw(8, 16, 3, 3)
    probe = torch.randn_like(x)
    module(x).backward(probe)
    wanted, wanted_x = module.offset_conv.weight.grad.clone(), x.grad.clone()
    module.zero_grad()
    module(x.detach()).backward(probe)
    assert torch.equal(module.offset_conv.weight.grad, wanted)
    x.grad = None
    module.requires_grad_(False)
    module(x).backward(probe)
    assert torch.equal(x.grad, wanted_x)


def test_an_input_that_is_a_part_of_another():
    module = build()
    x = draw(8, 32, 4, 4)[:, ::2, 1:, ::2]
    close(module(x), naive(module, x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision(layout):
    """Whole network in bfloat16; and under autocast, which must not make the offsets coarse."""
    module, x = build().float(), draw(8, 16, 3, 3, layout=layout).detach().float()
    expected = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(x), expected)
        assert module.offsets(x.bfloat16())[0].dtype == torch.float32
        leaf = x.bfloat16().requires_grad_()
        y = module(leaf)
    y.float().square().sum().backward()
    assert y.dtype == leaf.grad.dtype == torch.bfloat16 and leaf.grad.isfinite().all()
    assert (y - expected).norm() < 0.01 * expected.norm()
    assert module.weight_conv.weight.grad.any()
    assert module.bfloat16()(leaf).dtype == torch.bfloat16


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("autocast", [False, True])
def test_compiled_it_is_the_same(layout, autocast):
    module = build()
    x = draw(8, 16, 3, 3, layout=layout)
    with torch.autocast(
        "cpu", dtype=torch.bfloat16, enabled=autocast
    ):  # leaves float64 alone, but is compiled in
        y = torch.compile(nn.Sequential(module), backend="aot_eager", fullgraph=True)(x)
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    close(y, module(x))
    inputs = (x, *module.parameters())
    for gradient, expected in zip(
        torch.autograd.grad(y.square().sum(), inputs),
        torch.autograd.grad(module(x).square().sum(), inputs),
        strict=True,
    ):
        close(gradient, expected)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_exported_and_traced_it_takes_other_batches(layout):
    module = build().eval()
    x, other = (draw(videos * 4, 16, 3, 3, layout=layout).detach() for videos in (2, 3))
    frames = 4 * torch.export.Dim("videos", min=1, max=64)
    exported = torch.export.export(module, (x,), dynamic_shapes=({0: frames},)).module()
    traced = torch.jit.trace(module, x)
    for values in (x, other):
        close(exported(values), module(values))
        close(traced(values), module(values))


@pytest.mark.slow
def test_an_onnx_runtime_gives_the_same(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    module = build().float().eval()
    x, other = (draw(videos * 4, 16, 3, 3).detach().float() for videos in (2, 3))
    frames = 4 * torch.export.Dim("videos", min=1, max=64)
    file = str(tmp_path / "tin.onnx")
    torch.onnx.export(module, (x,), dynamo=True, verbose=False, dynamic_shapes=({0: frames},)).save(
        file
    )
    session = runtime.InferenceSession(file)
    for values in (x, other):
        (y,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})
        close(torch.from_numpy(y), module(values).detach(), 1e-5)


@pytest.mark.parametrize(("channels", "div"), [(16, 3), (24, 4), (8, 16)])
def test_channels_that_make_no_four_groups_are_refused(channels, div):
    with pytest.raises(UserError, match=f"--shift_div {div}: .*{channels}") as error:
        TemporalInterlace(channels, 8, div)
    assert "\n" not in str(error.value)


def test_parameter_counts():
    """TIN-R50 of 8 frames and 174 classes in MMAction2's metafile."""
    with torch.device("meta"):
        model = TSN(174, 8, module="tin")
    modules = [m for m in model.modules() if isinstance(m, TemporalInterlace)]
    assert (
        len(modules) == 16
        and sum(p.numel() for module in modules for p in module.parameters()) == 31_008
    )
    assert sum(p.numel() for p in model.parameters()) == 23_895_566
