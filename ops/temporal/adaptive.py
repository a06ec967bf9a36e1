"""TAM: Temporal Adaptive Module (Liu et al., ICCV 2021, arXiv 2005.06803).

Each channel of each video is convolved over time with a kernel of its own, computed from the whole
video (global branch, section 3.3 of the paper), after each frame was weighted by a gate computed
from its neighbours (local branch, section 3.2; liu-zhy/temporal-adaptive-module
ops/temporal_module.py).

Shapes: ``N = B * T`` frames, time fastest; ``[N, C, H, W]`` in either memory format, which the
module keeps.
"""

import torch
import torch.nn.functional as F
from torch import nn

TAPS = 3  # K: past, present, future


class TemporalAdaptive(nn.Module):
    """``y[t] = sum_k kernel[k] * gate[t+k-1] * x[t+k-1]`` for each channel, zero padded.

    ``[N, C, H, W]`` to the same shape. kernel (``[B, C, 3]``, sums to 1) and gate (``[B, C, T]``,
    0..1) are computed from the means of x over H and W. The shapes of the weights depend on T: the
    global branch is two linear layers over time, shared by all channels.

    Args:
        channels: C.
        num_segments: T.
    """

    def __init__(self, channels, num_segments):
        super().__init__()
        self.num_segments = num_segments
        self.kernel_fc1 = nn.Linear(num_segments, 2 * num_segments, bias=False)
        self.kernel_bn = nn.BatchNorm1d(2 * num_segments)
        self.kernel_fc2 = nn.Linear(2 * num_segments, TAPS, bias=False)
        self.gate_conv1 = nn.Conv1d(channels, channels // 4, TAPS, padding=TAPS // 2, bias=False)
        self.gate_bn = nn.BatchNorm1d(channels // 4)
        self.gate_conv2 = nn.Conv1d(channels // 4, channels, 1, bias=False)

    def forward(self, x):
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return weighted_sum_plain(x, self.weights(x.mean((2, 3))).to(x.dtype))
        return WeightedSum.apply(x, self.weights(SpatialMean.apply(x)).to(x.dtype))

    def weights(self, pooled):
        """Weights of the neighbours, ``[3, B, T, C]``, from means over H and W, ``[N, C]``."""
        pooled = pooled.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        return fold_weights(self.kernel(pooled), self.gate(pooled))

    def kernel(self, pooled):
        """Global branch: ``[B, C, T]`` to the kernel of each channel, ``[B, C, 3]``.

        The batch of its BatchNorm is B * C.
        """
        hidden = F.relu(self.kernel_bn(self.kernel_fc1(pooled.flatten(0, 1))))
        return torch.softmax(self.kernel_fc2(hidden), dim=-1).unflatten(0, (-1, pooled.shape[1]))

    def gate(self, pooled):
        """Local branch: ``[B, C, T]`` to the gate of each frame and channel, ``[B, C, T]``."""
        return torch.sigmoid(self.gate_conv2(F.relu(self.gate_bn(self.gate_conv1(pooled)))))


def fold_weights(kernel, gate):
    """Kernel and gate as one weight per neighbour, frame and channel, ``[3, B, T, C]``.

    x is then read once. The gate belongs to the source frame:
    ``weights[k, b, t, c] = kernel[b, c, k] * gate[b, c, t+k-1]``.
    """
    kernel = kernel.transpose(1, 2)
    gate = F.pad(gate.transpose(1, 2), (0, 0, 1, 1))
    segments = gate.shape[1] - 2
    return torch.stack([kernel[:, k : k + 1] * gate[:, k : k + segments] for k in range(TAPS)])


class SpatialMean(torch.autograd.Function):
    """``[N, C, H, W]`` to ``[N, C]``.

    The backward of autograd's mean would write the whole gradient to memory before it is added.
    """

    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.mean((2, 3))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        height, width = ctx.shape[2:]
        return (grad / (height * width))[:, :, None, None].expand(ctx.shape)


def weighted_sum_plain(x, weights):
    """``sum_k weights[k, t] * x[t+k-1]`` by out-of-place operations, which a compiler fuses."""
    past, present, future = weights[..., None, None].unbind()
    x = x.unflatten(0, (-1, weights.shape[2]))
    zero = torch.zeros_like(x[:, :1])
    before = torch.cat([zero, x[:, :-1]], 1)
    after = torch.cat([x[:, 1:], zero], 1)
    return (before * past + x * present + after * future).flatten(0, 1)


def _neighbours(x, from_past, present, from_future):
    """Each frame times present, plus its neighbours' parts, into a new tensor of x's memory format.

    Args:
        x: ``[N, C, H, W]``.
        from_past: ``[B, T-1, C, 1, 1]``, weights of each earlier frame in the later one.
        present: ``[B, T, C, 1, 1]``.
        from_future: ``[B, T-1, C, 1, 1]``, weights of each later frame in the earlier one.
    """
    y = x * present.flatten(0, 1)
    xs = x.unflatten(0, present.shape[:2])
    ys = y.unflatten(0, present.shape[:2])
    ys[:, 1:].addcmul_(xs[:, :-1], from_past)
    ys[:, :-1].addcmul_(xs[:, 1:], from_future)
    return y


class WeightedSum(torch.autograd.Function):
    """``y[t] = sum_k weights[k, t] * x[t+k-1]`` with a hand-written backward.

    x is ``[N, C, H, W]``, weights is ``[3, B, T, C]`` of the same dtype. Autograd would copy the
    whole gradient for every slice that is written in place.
    """

    @staticmethod
    def forward(ctx, x, weights):
        ctx.save_for_backward(x, weights)
        past, present, future = weights[..., None, None].unbind()
        return _neighbours(x, past[:, 1:], present, future[:, :-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weights = ctx.saved_tensors
        grad_x = grad_weights = None
        if ctx.needs_input_grad[0]:  # the adjoint exchanges past and future
            past, present, future = weights[..., None, None].unbind()
            grad_x = _neighbours(grad, future[:, :-1], present, past[:, 1:])
        if ctx.needs_input_grad[1]:
            grad_weights = _products(x, grad, weights)
        return grad_x, grad_weights


def _products(x, grad, weights):
    """``sum_hw x[t+k-1] * grad[t]``, in the shape of the weights, ``[3, B, T, C]``."""
    sums = torch.zeros_like(weights)
    xs = x.unflatten(0, weights.shape[1:3])
    gs = grad.unflatten(0, weights.shape[1:3])
    # On a CPU video by video, through memory that stays in its cache; on a GPU all at once, for
    # fewer launches.
    videos = len(xs)
    if x.device.type == "cpu":
        videos = 1
    product = torch.empty_like(xs[:videos])
    for v, g, out in zip(
        xs.split(videos), gs.split(videos), sums.split(videos, dim=1), strict=True
    ):
        out[0, :, 1:] = torch.mul(v[:, :-1], g[:, 1:], out=product[:, 1:]).sum((3, 4))
        out[1] = torch.mul(v, g, out=product).sum((3, 4))
        out[2, :, :-1] = torch.mul(v[:, 1:], g[:, :-1], out=product[:, 1:]).sum((3, 4))
    return sums


def param_group(layer, name, parameter):
    """The parameter group of a weight: TAM's authors train linear layers like the classifier."""
    if isinstance(layer, nn.Linear):
        return f"fc_{name}"
    return None


def infer_options(shapes):
    """T, which is in the shapes of the global branch."""
    key = next(key for key in shapes if key.endswith(".before_conv2.kernel_fc1.weight"))
    return {"num_segments": shapes[key][1]}
