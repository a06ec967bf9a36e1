import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from golden_fill import clip as filled_clip
from golden_fill import difference, load
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ops.errors import UserError
from ops.models import TSN
from ops.temporal.interlace import TemporalInterlace, interlacing_matrices

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def build(channels=16, segments=4, shift_div=2, seed=0):
    """A module whose offsets lie anywhere in (-2, 2) and differ from video to video, in float64."""
    generator = torch.Generator().manual_seed(seed)
    module = TemporalInterlace(channels, segments, shift_div).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def draw(*shape, layout="nchw", seed=1):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()


def close(value, expected, tolerance=1e-10):
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)


def naive_move(frames, offset):
    """One group of one video, ``[T, c, h, w]``, moved by a fraction of a frame: two whole shifts, mixed."""
    whole = math.floor(offset)
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
        d = clip[:, :m.fold]
        means = d.mean(dim=(2, 3)).t().unsqueeze(0)
        o = F.conv1d(means, m.offset_conv.weight, m.offset_conv.bias, padding=1).reshape(1, -1)
        o = F.linear(F.relu(F.linear(o, m.offset_fc1.weight, m.offset_fc1.bias)), m.offset_fc2.weight, m.offset_fc2.bias)
        o = 4 * (torch.sigmoid(o[0]) - 0.5)
        w = 2 * torch.sigmoid(F.conv1d(means, m.weight_conv.weight, m.weight_conv.bias, padding=1))[0]
        groups = []
        for number, (group, offset) in enumerate(zip(d.chunk(4, dim=1), [o[0], o[1], -o[0], -o[1]], strict=True)):
            groups.append(naive_move(group, offset) * w[number % 2].reshape(-1, 1, 1, 1))
        videos.append(torch.cat([*groups, clip[:, m.fold:]], dim=1))
    return torch.cat(videos)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(videos=st.integers(1, 3), segments=st.integers(1, 9), fold=st.integers(1, 3), rest=st.integers(0, 5),
       size=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=st.integers(0, 99))
def test_interlace_is_the_formula_forward_and_backward(layout, videos, segments, fold, rest, size, seed):
    channels = 4 * fold + rest
    module = build(2 * channels, segments, 2, seed) if not rest else build(8 * fold, segments, 2, seed)
    expected_module = copy.deepcopy(module)
    x = draw(videos * segments, 8 * fold, *size, layout=layout, seed=seed)
    before = x.detach().clone()
    expected_x = before.clone(memory_format=torch.contiguous_format).requires_grad_()
    y, expected = module(x), naive(expected_module, expected_x)
    assert y.shape == x.shape and y.is_contiguous(memory_format=LAYOUTS[layout])
    close(y, expected)
    probe = torch.randn_like(expected)
    given_probe = probe.clone()
    y.backward(probe)
    expected.backward(given_probe)
    close(x.grad, expected_x.grad)
    assert x.grad.is_contiguous(memory_format=LAYOUTS[layout])
    for parameter, wanted in zip(module.parameters(), expected_module.parameters(), strict=True):
        close(parameter.grad, wanted.grad)
    assert torch.equal(x, before) and torch.equal(probe, given_probe)  # neither input nor gradient is written to
