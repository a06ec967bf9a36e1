"""What the original networks compute, operation for operation, for ``benchmark.py model``.

Written from the description of MCG-NJU/TDN (ops/models.py, ops/tdn_net.py, ops/base_module.py;
arXiv 2012.10071) and of yjxiong/tsn-pytorch. It keeps what costs time there: a bias before every
BatchNorm, differences at full size, the two directions one after the other, a temporal conv between
two permuted copies, a classifier on every frame. TSM, TAM and TIN are in baselines_temporal.py.
Parameters have the names of the released files, so that
``ops.checkpoints.load_model(model.state_dict())`` is the same function.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from lib.benchmarks.baselines_temporal import INSERTIONS

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


class MotionExcitation(nn.Module):
    """L-TDM as the original runs it (its ``mSEModule``): ``[B*T, C, h, w]`` to the same shape."""

    def __init__(self, channels, num_segments):
        super().__init__()
        c = channels // 16
        self.num_segments = num_segments
        self.conv1 = nn.Conv2d(channels, c, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1, groups=c, bias=False)
        self.avg_pool = nn.AvgPool2d(2, 2)
        self.conv3 = nn.Conv2d(c, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.conv3_smallscale2 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bn3_smallscale2 = nn.BatchNorm2d(c)
        self.conv3_smallscale4 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bn3_smallscale4 = nn.BatchNorm2d(c)

    def forward(self, x):
        b = self.bn1(self.conv1(x))
        g = self.conv2(b)
        b, g = (a.view(-1, self.num_segments, *a.shape[1:]) for a in (b, g))
        forward = F.pad(g[:, 1:] - b[:, :-1], (0, 0, 0, 0, 0, 0, 0, 1)).flatten(0, 1)
        backward = F.pad(g[:, :-1] - b[:, 1:], (0, 0, 0, 0, 0, 0, 1, 0)).flatten(0, 1)
        y_forward = torch.sigmoid(self.branch(forward)) - 0.5
        y_backward = torch.sigmoid(self.branch(backward)) - 0.5
        return x + x * (0.5 * y_forward + 0.5 * y_backward)

    def branch(self, z):
        coarse = self.bn3_smallscale2(self.conv3_smallscale2(self.avg_pool(z)))
        fine = self.bn3_smallscale4(self.conv3_smallscale4(z))
        coarse = F.interpolate(coarse, z.shape[2:])
        return self.bn3(self.conv3(1.0 / 3.0 * z + 1.0 / 3.0 * coarse + 1.0 / 3.0 * fine))


class Shift(nn.Module):
    """The original's learned temporal conv (``ShiftModule``), ``[B*T, C, h, w]`` to the same."""

    def __init__(self, channels, num_segments):
        super().__init__()
        self.num_segments = num_segments
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False)
        fold = channels // 8
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[:fold, 0, 2] = 1
            self.conv.weight[fold : 2 * fold, 0, 0] = 1
            self.conv.weight[2 * fold :, 0, 1] = 1

    def forward(self, x):
        nt, c, h, w = x.shape
        x = (
            x.view(-1, self.num_segments, c, h, w).permute(0, 3, 4, 2, 1).contiguous()
        )  # [B, h, w, C, T]
        x = self.conv(x.view(-1, c, self.num_segments))
        return (
            x.view(-1, h, w, c, self.num_segments)
            .permute(0, 4, 3, 1, 2)
            .contiguous()
            .view(nt, c, h, w)
        )


class Bottleneck(nn.Module):
    def __init__(self, inplanes, planes, stride=1, num_segments=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        if num_segments is not None:
            self.mse = MotionExcitation(planes, num_segments)
            self.shift = Shift(planes, num_segments)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes * 4:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes * 4, 1, stride), nn.BatchNorm2d(planes * 4)
            )
        self.temporal = num_segments is not None

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        if self.temporal:
            out = self.shift(self.mse(out))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def _layer(inplanes, planes, blocks, stride=1, num_segments=None):
    rest = [Bottleneck(planes * 4, planes, 1, num_segments) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(inplanes, planes, stride, num_segments), *rest)


class TDNNet(nn.Module):
    """The original's backbone, ``[N, 15, H, W]`` to features ``[N, 2048]``.

    As there, ``conv1_temp`` is never used.
    """

    def __init__(self, arch, num_segments):
        super().__init__()
        blocks = BLOCKS[arch]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.conv1_temp = nn.Conv2d(3, 64, 7, 2, 3)
        self.avg_diff = nn.AvgPool2d(2, 2)
        self.conv1_5 = nn.Sequential(
            nn.Conv2d(12, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)
        )
        self.maxpool_diff = nn.MaxPool2d(3, 2, 1)
        self.resnext_layer1 = _layer(64, 64, blocks[0])
        self.layer1_bak = _layer(64, 64, blocks[0])
        self.layer2_bak = _layer(256, 128, blocks[1], 2, num_segments)
        self.layer3_bak = _layer(512, 256, blocks[2], 2, num_segments)
        self.layer4_bak = _layer(1024, 512, blocks[3], 2, num_segments)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.beta = 0.5 if num_segments == 8 else 0.25

    def forward(self, x):
        x1, x2, x3, x4, x5 = (x[:, 3 * j : 3 * j + 3] for j in range(5))
        d = self.conv1_5(self.avg_diff(torch.cat([x2 - x1, x3 - x2, x4 - x3, x5 - x4], 1)))
        d0 = self.maxpool_diff(1.0 / 1.0 * d)
        d1 = self.resnext_layer1(d0)
        x = self.maxpool(self.relu(self.bn1(self.conv1(x3))))
        x = (1 - self.beta) * x + self.beta * F.interpolate(d0, x.shape[2:])
        x = self.layer1_bak(x)
        x = (1 - self.beta) * x + self.beta * F.interpolate(d1, x.shape[2:])
        x = self.layer4_bak(self.layer3_bak(self.layer2_bak(x)))
        return self.avgpool(x).flatten(1)


class Segments(nn.Module):
    """A classifier on every segment: ``[B, T*L*3, H, W]`` to logits ``[B, num_class]``."""

    def __init__(self, base_model, num_class, num_segments, dropout, features=2048):
        super().__init__()
        self.base_model = base_model
        self.num_segments = num_segments
        self.dropout = nn.Dropout(dropout)
        self.new_fc = nn.Linear(features, num_class)
        nn.init.normal_(self.new_fc.weight, 0, 0.001)
        nn.init.zeros_(self.new_fc.bias)

    def forward(self, clip):
        frames = clip.view(-1, clip.shape[1] // self.num_segments, *clip.shape[2:])
        scores = self.new_fc(self.dropout(self.base_model(frames)))
        return scores.view(-1, self.num_segments, scores.shape[1]).mean(dim=1)


def original(module, arch="resnet50", num_class=400, num_segments=8, dropout=0.5):
    """The original's model, in training mode.

    Args:
        module: "tsn", "tdn" or a key of ``INSERTIONS``.
        arch: a ResNet of torchvision; for "tdn" a key of ``BLOCKS``.
        num_class: number of classes.
        num_segments: T.
        dropout: probability.
    """
    if module == "tdn":
        base, features = TDNNet(arch, num_segments), 2048
    else:
        base = torchvision.models.get_model(arch, weights=None)
        features = base.fc.in_features
        base.fc = nn.Identity()
    if module in INSERTIONS:
        INSERTIONS[module](base, num_segments)
    return Segments(base, num_class, num_segments, dropout, features)
