import pytest
import torch

from ops.temporal.pooling import TemporalPool

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def test_the_originals_example():
    assert TemporalPool(8)(torch.arange(8.0).reshape(8, 1, 1, 1)).flatten().tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("segments", [2, 4, 8])
def test_pool_is_the_largest_of_three_frames(segments, layout):
    x = (
        torch.randn(3 * segments, 5, 2, 3, dtype=torch.float64)
        .contiguous(memory_format=LAYOUTS[layout])
        .requires_grad_()
    )
    y = TemporalPool(segments)(x)
    assert y.shape == (3 * segments // 2, 5, 2, 3) and y.is_contiguous(
        memory_format=LAYOUTS[layout]
    )
    clips = x.detach().unflatten(0, (3, segments))
    for row, value in enumerate(y):
        video, t = divmod(row, segments // 2)
        assert torch.equal(value, clips[video, max(0, 2 * t - 1) : 2 * t + 2].amax(0))
    y.sum().backward()
    assert x.grad.sum() == y.numel() and set(x.grad.unique().tolist()) <= {0, 1, 2}
