import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ops.temporal.shift import TemporalShift

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def naive(x, segments, fold, direction="both"):
    """The original's three slices, element by element."""
    y = x.clone()
    for n in range(len(x)):
        t = n % segments
        later = x[n + 1] if t < segments - 1 else torch.zeros_like(x[n])
        earlier = x[n - 1] if t > 0 else torch.zeros_like(x[n])
        if direction == "both":
            y[n, :fold], y[n, fold : 2 * fold] = later[:fold], earlier[fold : 2 * fold]
        else:
            y[n, :fold] = earlier[:fold]
    return y


def draw(*shape, layout="nchw"):
    return (
        torch.randn(shape, dtype=torch.float64)
        .contiguous(memory_format=LAYOUTS[layout])
        .requires_grad_()
    )


def test_the_originals_example():
    """T = 4, 8 channels, shift_div 8, x[t] = t + 1."""
    x = torch.arange(1.0, 5).reshape(4, 1, 1, 1).expand(4, 8, 1, 1)
    y = TemporalShift(8, 4, 8)(x)
    assert y[:, 0].flatten().tolist() == [2, 3, 4, 0] and y[:, 1].flatten().tolist() == [0, 1, 2, 3]
    assert all(y[:, channel].flatten().tolist() == [1, 2, 3, 4] for channel in range(2, 8))
    online = TemporalShift(8, 4, 8, shift_direction="past")(x)
    assert online[:, 0].flatten().tolist() == [0, 1, 2, 3] and torch.equal(online[:, 1:], x[:, 1:])


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    videos=st.integers(1, 3),
    segments=st.integers(1, 9),
    channels=st.integers(1, 20),
    div=st.integers(2, 9),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    direction=st.sampled_from(["both", "past"]),
)
def test_shift_is_the_formula_forward_and_backward(
    layout, videos, segments, channels, div, size, direction
):
    x = draw(videos * segments, channels, *size, layout=layout)
    before = x.detach().clone()
    expected_x = before.clone().requires_grad_()
    y = TemporalShift(channels, segments, div, direction)(x)
    expected = naive(expected_x, segments, channels // div, direction)
    assert torch.equal(y, expected) and y.is_contiguous(memory_format=LAYOUTS[layout])
    probe = torch.randn_like(expected)
    given_probe = probe.clone()
    y.backward(probe)
    expected.backward(given_probe)
    assert torch.equal(x.grad, expected_x.grad)
    assert torch.equal(x, before) and torch.equal(
        probe, given_probe
    )  # neither input nor gradient is written to


def test_the_backward_is_the_adjoint():
    x = draw(8, 16, 2, 2)
    assert torch.autograd.gradcheck(TemporalShift(16, 4, 4), (x,))


def test_the_input_may_be_used_again():
    """As the identity of a residual block: what a shift in place would spoil."""
    x = draw(8, 16, 2, 2)
    shift = TemporalShift(16, 4)
    (x + shift(x)).sum().backward()
    assert torch.equal(x.grad, 1 + naive_gradient(x, 4, 2))


def naive_gradient(x, segments, fold):
    z = x.detach().clone().requires_grad_()
    naive(z, segments, fold).sum().backward()
    return z.grad


@pytest.mark.parametrize("direction", ["both", "past"])
def test_compiled_and_traced_it_is_the_same(direction):
    shift = TemporalShift(16, 4, 4, direction)
    x = draw(8, 16, 3, 3)
    compiled = torch.compile(nn.Sequential(shift), backend="aot_eager", fullgraph=True)
    y = compiled(x)
    assert torch.equal(y, shift(x))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    (expected,) = torch.autograd.grad(shift(x).square().sum(), x)
    assert torch.equal(gradient, expected)
    traced = torch.jit.trace(shift, x.detach())
    again = draw(12, 16, 3, 3).detach()
    assert torch.equal(traced(again), shift(again))  # another number of videos


def test_a_causal_network_is_the_online_network():
    """Frame by frame with a cache of channels (TSM's online demo) equals the whole clip."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1).double()
    frames = draw(6, 16, 4, 4).detach()
    offline = frames + conv(TemporalShift(16, 6, 8, shift_direction="past")(frames))
    buffer = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    for t, frame in enumerate(frames.split(1)):
        online = frame + conv(torch.cat([buffer, frame[:, 2:]], dim=1))
        buffer = frame[:, :2]
        torch.testing.assert_close(online, offline[t : t + 1], rtol=1e-12, atol=1e-12)


def test_steps_of_a_causal_shift_are_the_shift_of_the_clip():
    shift = TemporalShift(16, 5, 4, shift_direction="past")
    clip = draw(10, 16, 3, 3, layout="channels_last").detach()
    state = None
    steps = []
    for frame in clip.unflatten(0, (2, 5)).unbind(1):
        y, state = shift.step(frame, state)
        steps.append(y)
    assert torch.equal(torch.stack(steps, 1).flatten(0, 1), shift(clip))
    assert state.shape == (2, 4, 3, 3)
