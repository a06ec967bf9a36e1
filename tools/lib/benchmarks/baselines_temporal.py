"""The temporal modules of TSM, TAM and TIN in a ResNet, operation for operation.

Written from the description of mit-han-lab/temporal-shift-module (ops/temporal_shift.py; arXiv
1811.08383), liu-zhy/temporal-adaptive-module (ops/temporal_module.py; arXiv 2005.06803) and
deepcs233/TIN (ops/temporal_interlace.py; arXiv 2001.06499). It keeps what costs time there: a shift
by three slices into zeros, a grouped convolution over a permuted copy, a gather for each of two
integer shifts. TIN's CUDA kernel is written as that gather. Parameters have the names of the
released files.
"""

import torch
import torch.nn.functional as F
from torch import nn


def three_slices(x, num_segments, shift_div=8):
    """TSM's shift, whose backward autograd derives: ``[B*T, C, h, w]`` to the same shape."""
    nt, c, h, w = x.size()
    x = x.reshape(nt // num_segments, num_segments, c, h, w)
    fold = c // shift_div
    out = torch.zeros_like(x)
    out[:, :-1, :fold] = x[:, 1:, :fold]
    out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
    out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
    return out.view(nt, c, h, w)


class TemporalShift(nn.Module):
    """A conv behind the shift: ``[B*T, C, h, w]`` to the conv's output."""

    def __init__(self, net, num_segments):
        super().__init__()
        self.net = net
        self.num_segments = num_segments

    def forward(self, x):
        return self.net(three_slices(x, self.num_segments))


class AdaptiveModule(nn.Module):
    """TAM: a grouped conv over ``[1, B*C, T, h*w]``; ``[B*T, C, h, w]`` to the same shape."""

    def __init__(self, channels, num_segments):
        super().__init__()
        self.num_segments = T = num_segments
        self.G = nn.Sequential(
            nn.Linear(T, 2 * T, bias=False),
            nn.BatchNorm1d(2 * T),
            nn.ReLU(inplace=True),
            nn.Linear(2 * T, 3, bias=False),
            nn.Softmax(-1),
        )
        self.L = nn.Sequential(
            nn.Conv1d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm1d(channels // 4),
            nn.ReLU(inplace=True),
            nn.Conv1d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        nt, c, h, w = x.shape
        t, b = self.num_segments, nt // self.num_segments
        x = x.reshape(b, t, c, h, w).permute(0, 2, 1, 3, 4).contiguous()
        pooled = F.adaptive_avg_pool2d(x.view(b * c, t, h, w), 1).view(b * c, t)
        kernel = self.G(pooled).view(b * c, 1, 3, 1)
        gate = self.L(pooled.view(b, c, t)).view(b, c, t, 1, 1)
        y = F.conv2d(
            (x * gate).view(1, b * c, t, h * w), kernel.to(x.dtype), padding=(1, 0), groups=b * c
        )
        return y.view(b, c, t, h, w).permute(0, 2, 1, 3, 4).contiguous().view(nt, c, h, w)


class AdaptiveBlock(nn.Module):
    """A bottleneck with TAM between its first activation and its second conv."""

    def __init__(self, net, num_segments):
        super().__init__()
        self.net = net
        self.tam = AdaptiveModule(net.conv1.out_channels, num_segments)

    def forward(self, x):
        net = self.net
        out = self.tam(net.relu(net.bn1(net.conv1(x))))
        out = net.bn3(net.conv3(net.relu(net.bn2(net.conv2(out)))))
        out += x if net.downsample is None else net.downsample(x)
        return net.relu(out)


class OffsetNet(nn.Module):
    """TIN's offsets, ``[B, F, T]`` to ``[B, 2]``."""

    def __init__(self, channels, num_segments):
        super().__init__()
        self.conv = nn.Conv1d(channels, 1, 3, padding=1)
        self.fc = nn.Linear(num_segments, num_segments)
        self.lastlayer = nn.Linear(num_segments, 2)
        nn.init.constant_(self.lastlayer.bias, 0.5108)

    def forward(self, x):
        return 4 * (torch.sigmoid(self.lastlayer(F.relu(self.fc(self.conv(x).squeeze(1))))) - 0.5)


class WeightNet(nn.Module):
    """TIN's weights, ``[B, F, T]`` to ``[B, T, 2]``."""

    def __init__(self, channels):
        super().__init__()
        self.lastlayer = nn.Conv1d(channels, 2, 3, padding=1)
        nn.init.zeros_(self.lastlayer.bias)

    def forward(self, x):
        return 2 * torch.sigmoid(self.lastlayer(x).permute(0, 2, 1))


class Interlace(nn.Module):
    """TIN's interlacing of the first quarter of the channels, ``[B*T, C, h, w]`` to the same."""

    def __init__(self, channels, num_segments, shift_div=4):
        super().__init__()
        self.num_segments = num_segments
        self.fold = channels // shift_div
        # Named as there: biasnet.net, weightnet.net
        self.biasnet = nn.ModuleDict({"net": OffsetNet(self.fold, num_segments)})
        self.weightnet = nn.ModuleDict({"net": WeightNet(self.fold)})

    def forward(self, x):
        nt, c, h, w = x.shape
        t, f, b = self.num_segments, self.fold, nt // self.num_segments
        x = x.reshape(b, t, c, h, w)
        moved = x[:, :, :f].reshape(b, t, f, h * w)
        pooled = moved.mean(-1).transpose(1, 2)
        offset, weight = self.biasnet["net"](pooled), self.weightnet["net"](pooled)
        offset = torch.cat([offset, -offset], dim=1)
        whole = offset.detach().floor()
        rest = (offset - whole).repeat_interleave(f // 4, 1)[:, None, :, None]
        moved = (1 - rest) * whole_shift(moved, whole.int()) + rest * whole_shift(
            moved, whole.int() + 1
        )
        moved = moved * weight.repeat(1, 1, 2).repeat_interleave(f // 4, 2)[..., None]
        out = torch.zeros_like(x)
        out[:, :, :f] = moved.view(b, t, f, h, w)
        out[:, :, f:] = x[:, :, f:]
        return out.view(nt, c, h, w)


def whole_shift(x, shift):
    """``x[t - shift]``, zero outside: x ``[B, T, F, S]``, shift whole numbers ``[B, groups]``."""
    _, t, f, s = x.shape
    groups = shift.shape[1]
    source = torch.arange(t, device=x.device).view(1, t, 1) - shift[:, None]
    inside = ((source >= 0) & (source < t)).repeat_interleave(f // groups, 2)[..., None]
    index = (
        source.clamp(0, t - 1)
        .long()
        .repeat_interleave(f // groups, 2)[..., None]
        .expand(-1, -1, -1, s)
    )
    return x.gather(1, index) * inside.to(x.dtype)


class Interlaced(nn.Module):
    """A conv behind TIN's interlacing."""

    def __init__(self, net2, num_segments):
        super().__init__()
        self.net1 = Interlace(net2.in_channels, num_segments)
        self.net2 = net2

    def forward(self, x):
        return self.net2(self.net1(x))


def _layers(base):
    return base.layer1, base.layer2, base.layer3, base.layer4


def _shift(base, num_segments):
    step = 2 if len(base.layer3) >= 23 else 1
    for layer in _layers(base):
        for block in layer[::step]:
            block.conv1 = TemporalShift(block.conv1, num_segments)


def _adapt(base, num_segments):
    for layer in _layers(base):
        for index, block in enumerate(layer):
            layer[index] = AdaptiveBlock(block, num_segments)


def _interlace(base, num_segments):
    for layer in _layers(base):
        for block in layer:
            block.conv1 = Interlaced(block.conv1, num_segments)


# Functions that insert a module into a torchvision ResNet, in place.
INSERTIONS = {"tsm": _shift, "tam": _adapt, "tin": _interlace}
