"""TDN: Temporal Difference Networks (Wang et al., CVPR 2021, arXiv 2012.10071).

It has two modules. :class:`ShortTermDifference` is inserted into the stem and processes the L = 5
frames of a segment (S-TDM, section 3.2 of the paper). :class:`LongTermDifference` is inserted
before the second conv of a block and compares neighbouring segments (L-TDM, section 3.3); a
temporal convolution follows, which starts as a shift and is learned.

Shapes: ``N = B * T`` frames, time fastest; ``[N, C, H, W]`` in either memory format, which the
modules keep.
"""

import torch
import torch.nn.functional as F
from torch import nn

FRAMES = 5  # L, frames of a segment


class ShortTermDifference(nn.Module):
    """S-TDM: the middle frame of each segment, enriched by the differences of its neighbours.

    Args:
        first_conv: a first conv (3 -> 64); the difference conv starts from its mean over RGB.
        stage: a first stage of its own, 64 -> C channels.
        num_segments: T. The two paths are mixed 1:1 at T = 8 and 3:1 at every other T, as in the
            original.
    """

    def __init__(self, first_conv, stage, num_segments):
        super().__init__()
        out_channels = first_conv.out_channels
        self.conv = nn.Conv2d(3 * (FRAMES - 1), out_channels, 7, stride=2, padding=3, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(
                first_conv.weight.mean(dim=1, keepdim=True).expand_as(self.conv.weight)
            )
        self.bn = nn.BatchNorm2d(out_channels)
        self.stage = stage
        self.beta = 0.25
        if num_segments == 8:
            self.beta = 0.5

    def forward(self, frames, entry, stage1):
        """``[N, 15, H, W]`` to ``[N, C, H/4, W/4]``.

        Args:
            frames: the five pictures of each segment, one after the other.
            entry: the backbone from its first conv to its max-pool.
            stage1: its first stage.
        """
        # Pooling is linear: pool the 15 channels once, then subtract at half size.
        pooled = F.avg_pool2d(frames, 2)
        d = F.relu(self.bn(self.conv(pooled[:, 3:] - pooled[:, :-3])))
        d = F.max_pool2d(d, 3, stride=2, padding=1)
        middle = FRAMES // 2 * 3
        # A copy: the first conv would otherwise keep the memory of all 15 channels for backward.
        x = stage1(self.mix(entry(frames[:, middle : middle + 3].clone()), d))
        return self.mix(x, self.stage(d))

    def mix(self, x, d):
        """``(1 - beta) * x + beta * d``, d at half the resolution of x."""
        return torch.lerp(x, F.interpolate(d, size=x.shape[-2:], mode="nearest"), self.beta)


def initialize_convs(module):
    """Initialize every Conv2d of a module from N(0, 2 / (kh * kw * out_channels)), in place.

    TDN's ResNet initializes all its convs so, those of the L-TDM included, before the ImageNet
    weights replace those of the trunk. PyTorch counts the outputs of a depthwise conv as the
    original does: ``out_channels``, not one per group.

    Args:
        module: any module; parameters other than the weights of Conv2d stay.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


class LongTermDifference(nn.Module):
    """L-TDM and the learned temporal convolution: ``[N, C, H, W]`` to the same shape.

    Args:
        channels: C.
        num_segments: T.
    """

    REDUCTION = 16

    def __init__(self, channels, num_segments):
        super().__init__()
        c = channels // self.REDUCTION
        self.num_segments = num_segments
        self.squeeze = nn.Conv2d(channels, c, 1, bias=False)
        self.squeeze_bn = nn.BatchNorm2d(c)
        self.spatial = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        self.coarse = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.coarse_bn = nn.BatchNorm2d(c)
        self.fine = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.fine_bn = nn.BatchNorm2d(c)
        self.expand = nn.Conv2d(c, channels, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(channels)
        initialize_convs(self)
        self.temporal = TemporalConv(channels, num_segments)

    def forward(self, x):
        b = self.squeeze_bn(self.squeeze(x))
        z = neighbour_differences(b, self.spatial(b), self.num_segments)
        pooled = z
        if min(z.shape[-2:]) > 1:  # a map with a side of 1 cannot be halved
            pooled = F.avg_pool2d(z, 2)
        coarse = _each_direction(self.coarse_bn, self.coarse(pooled))
        coarse = F.interpolate(coarse, size=z.shape[-2:], mode="nearest")
        z = z + coarse + _each_direction(self.fine_bn, self.fine(z))
        # Not chunk(2): torch.export would take the number of halves for the batch size.
        forward, backward = self.expand(z * (1 / 3)).unflatten(0, (2, -1)).unbind()
        forward = torch.sigmoid(self.expand_bn(forward))
        backward = torch.sigmoid(self.expand_bn(backward))
        # x + x * (0.5 * (forward - 0.5) + 0.5 * (backward - 0.5)), as a sum of products, for which
        # autograd keeps no sum of gates.
        y = torch.addcmul(0.5 * x, x, forward, value=0.5).addcmul_(x, backward, value=0.5)
        return self.temporal(y)


def _each_direction(bn, z):
    """BatchNorm of ``[2N, c, h, w]``.

    In training the two directions are two batches, the forward one first.
    """
    if bn.training:
        return torch.cat([bn(half) for half in z.chunk(2)])
    return bn(z)


def neighbour_differences(b, g, num_segments):
    """Differences of each segment to its neighbours.

    Args:
        b: ``[N, c, h, w]``.
        g: ``[N, c, h, w]``.
        num_segments: T.

    Returns:
        ``[2N, c, h, w]``: first ``g[t+1] - b[t]`` (zero at the last t), then ``g[t-1] - b[t]``
        (zero at the first).
    """
    # [N, c, h, w] in memory order as [B, T, features]: slicing and joining time then costs the same
    # in both formats.
    channels_last = not b.is_contiguous() and b.is_contiguous(memory_format=torch.channels_last)
    if channels_last:
        b, g = b.permute(0, 2, 3, 1), g.permute(0, 2, 3, 1)
    shape = b.shape
    b = b.reshape(shape[0] // num_segments, num_segments, -1)
    g = g.reshape(shape[0] // num_segments, num_segments, -1)
    zero = torch.zeros_like(b[:, :1])
    to_next = torch.cat([g[:, 1:] - b[:, :-1], zero], dim=1)
    to_previous = torch.cat([zero, g[:, :-1] - b[:, 1:]], dim=1)
    z = torch.cat([to_next, to_previous]).reshape(-1, *shape[1:])
    if channels_last:
        return z.permute(0, 3, 1, 2)
    return z


class TemporalConv(nn.Conv1d):
    """Depthwise convolution over time, kernel 3, zero padded.

    ``y[t] = w0*x[t-1] + w1*x[t] + w2*x[t+1]`` per channel; ``weight`` is ``[C, 1, 3]``.
    ``[N, C, H, W]`` to the same shape, in the memory format of the input. It starts as a temporal
    shift: the first eighth of the channels comes from the future, the second from the past, the
    rest stays.
    """

    def __init__(self, channels, num_segments):
        super().__init__(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.num_segments = num_segments
        fold = channels // 8
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:fold, 0, 2] = 1
            self.weight[fold : 2 * fold, 0, 0] = 1
            self.weight[2 * fold :, 0, 1] = 1

    def forward(self, x):
        weight = self.weight.to(x.dtype)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _temporal_conv_plain(x, weight, self.num_segments)
        if _suits_onednn(x):
            return _temporal_conv_2d(x, weight, self.num_segments)
        return _TemporalConv.apply(x, weight, self.num_segments)


def _taps(weight):
    return weight.reshape(-1, 3, 1, 1).unbind(1)  # past, present, future: [C, 1, 1] each


def _temporal_conv_plain(x, weight, num_segments):
    """The same sum by out-of-place operations, which a compiler fuses."""
    past, present, future = _taps(weight)
    x = x.unflatten(0, (-1, num_segments))
    zero = torch.zeros_like(x[:, :1])
    before = torch.cat([zero, x[:, :-1]], 1)
    after = torch.cat([x[:, 1:], zero], 1)
    return (before * past + x * present + after * future).flatten(0, 1)


def _suits_onednn(x):
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def _temporal_conv_2d(x, weight, num_segments):
    """The same sum as a depthwise 3x1 convolution, without a copy.

    Frames ``[B*T, C, H, W]`` in channels-last order lie in memory as pictures ``[B, C, T, H*W]`` in
    that order. On a CPU this is about 4 times as fast as slices in float32, and 10 to 17 times in
    bfloat16.
    """
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1)
    x = x.reshape(n // num_segments, num_segments, h * w, c).permute(0, 3, 1, 2)
    y = F.conv2d(x, weight.unsqueeze(-1), padding=(1, 0), groups=c)
    return y.permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)


def _weighted_neighbours(x, past, present, future, num_segments):
    """``past*x[t-1] + present*x[t] + future*x[t+1]`` into a new tensor of x's memory format."""
    y = x * present
    xs = x.unflatten(0, (-1, num_segments))
    ys = y.unflatten(0, (-1, num_segments))
    ys[:, 1:].addcmul_(xs[:, :-1], past)
    ys[:, :-1].addcmul_(xs[:, 1:], future)
    return y


class _TemporalConv(torch.autograd.Function):
    """The sum with a hand-written backward.

    Autograd would copy the whole gradient for every slice that is written in place.
    """

    @staticmethod
    def forward(ctx, x, weight, num_segments):
        ctx.save_for_backward(x, weight)
        ctx.num_segments = num_segments
        return _weighted_neighbours(x, *_taps(weight), num_segments)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        past, present, future = _taps(weight)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            # The adjoint exchanges past and future.
            grad_x = _weighted_neighbours(grad, future, present, past, ctx.num_segments)
        if ctx.needs_input_grad[1]:
            xs = x.unflatten(0, (-1, ctx.num_segments))
            gs = grad.unflatten(0, (-1, ctx.num_segments))
            taps = [xs[:, :-1] * gs[:, 1:], xs * gs, xs[:, 1:] * gs[:, :-1]]
            sums = [tap.sum(dim=(0, 1, 3, 4)) for tap in taps]
            grad_weight = torch.stack(sums, dim=-1).unsqueeze(1)
        return grad_x, grad_weight, None
