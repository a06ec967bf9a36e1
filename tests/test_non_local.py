import pytest
import torch
import torch.nn.functional as F

from ops.temporal.non_local import NonLocal

LAYOUTS = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


def randomized(channels, segments):
    torch.manual_seed(0)
    block = NonLocal(channels, segments).double()
    for value in block.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) - 0.4)
    block.expand_bn.running_var.abs_().add_(0.5)
    return block


def naive(block, x):
    """The original, video by video, with the whole attention matrix written out."""
    _, c, h, w = x.shape
    T = block.num_segments

    def conv(layer, value):  # 1x1x1
        return (
            torch.einsum("oc,nchw->nohw", layer.weight[..., 0, 0], value)
            + layer.bias[:, None, None]
        )

    attended = []
    for clip in x.split(T):
        theta, phi, g = (conv(layer, clip) for layer in (block.theta, block.phi, block.g))
        phi, g = (F.max_pool2d(value, [min(2, h), min(2, w)]) for value in (phi, g))
        theta, phi, g = (
            value.transpose(0, 1).flatten(1) for value in (theta, phi, g)
        )  # [c / 2, T*h*w]
        y = g @ torch.softmax(theta.T @ phi, dim=1).T
        attended.append(y.reshape(c // 2, T, h, w).transpose(0, 1))
    bn, z = block.expand_bn, conv(block.expand, torch.cat(attended))
    return x + F.batch_norm(
        z, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, bn.training
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("segments", "size"), [(1, (4, 4)), (3, (2, 5)), (4, (1, 1)), (2, (6, 3))])
def test_the_block_is_the_formula(segments, size, training, layout):
    block = randomized(8, segments).train(training)
    x = torch.randn(2 * segments, 8, *size, dtype=torch.float64)
    ours = x.contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    theirs = x.clone().requires_grad_()
    expected = naive(block, theirs)
    y = block(ours)
    assert y.is_contiguous(memory_format=LAYOUTS[layout])
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-10)
    probe = torch.randn_like(expected)
    gradients = torch.autograd.grad(y, [ours, *block.parameters()], probe)
    for a, b in zip(
        gradients, torch.autograd.grad(expected, [theirs, *block.parameters()], probe), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_a_new_block_changes_nothing_and_can_learn():
    block = NonLocal(8, 2).train()
    x = torch.randn(4, 8, 4, 4)
    y = block(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert block.expand_bn.weight.grad.abs().max() > 0


def test_an_onnx_runtime_gives_the_same(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    block = randomized(8, 2).float().eval()
    videos = torch.export.Dim("videos", min=1, max=64)
    program = torch.onnx.export(
        block,
        (torch.randn(4, 8, 4, 4),),
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: 2 * videos},),
    )
    program.save(str(tmp_path / "block.onnx"))
    session = runtime.InferenceSession(tmp_path / "block.onnx")
    for videos in (1, 3):
        x = torch.randn(2 * videos, 8, 4, 4)
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), block(x).detach(), rtol=1e-5, atol=1e-5)
