"""torchvision's ResNets with slots for temporal modules; parameter names are torchvision's own.

Every block has two slots, both ``nn.Identity`` until a guest moves in::

    x ── before_conv1 ── conv1 ── bn1 ── relu ── before_conv2 ── conv2 ── bn2 ── ... ── (+) ── relu
     └────────────────────────── identity or downsample ────────────────────────────────┘

and the network has one more around its first stage, ``stem``, for guests that look at the raw frames.
"""
import torch
import torchvision.models.resnet as tv
from torch import nn

from ops.backbones.pixels import IMAGENET

# name -> block, blocks in layer1..4, and the arguments of torchvision's constructor that differ from the default
ARCHS = {
    "resnet18": ("basic", (2, 2, 2, 2), {}),
    "resnet34": ("basic", (3, 4, 6, 3), {}),
    "resnet50": ("bottleneck", (3, 4, 6, 3), {}),
    "resnet101": ("bottleneck", (3, 4, 23, 3), {}),
    "resnet152": ("bottleneck", (3, 8, 36, 3), {}),
}


class BasicBlock(tv.BasicBlock):
    """torchvision's BasicBlock with the two slots. ``[N, C, H, W]`` to ``[N, planes, H', W']``."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before_conv1 = nn.Identity()
        self.before_conv2 = nn.Identity()

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(self.before_conv1(x))))
        out = self.bn2(self.conv2(self.before_conv2(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(tv.Bottleneck):
    """torchvision's Bottleneck (stride in the 3x3) with the two slots. ``[N, C, H, W]`` to ``[N, 4*planes, H', W']``."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.before_conv1 = nn.Identity()
        self.before_conv2 = nn.Identity()

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(self.before_conv1(x))))
        out = self.relu(self.bn2(self.conv2(self.before_conv2(out))))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class PlainStem(nn.Module):
    """The stem of a 2D network: first conv to max-pool, then the first stage."""

    def forward(self, frames, entry, stage1):
        return stage1(entry(frames))


class ResNet(tv.ResNet):
    """torchvision's ResNet without its classifier: ``[N, C, H, W]`` to features ``[N, feature_dim]``."""

    pixels = IMAGENET

    def __init__(self, block, layers, **kwargs):
        super().__init__(BLOCKS[block], list(layers), **kwargs)
        self.feature_dim = self.fc.in_features
        del self.fc
        self.stem = PlainStem()

    def stages(self):
        """The blocks of layer1..layer4, as four lists."""
        return [list(getattr(self, f"layer{i}")) for i in range(1, 5)]

    def entry(self, x):
        """``[N, 3, H, W]`` to ``[N, 64, H/4, W/4]``: first conv, BN, ReLU, max-pool."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def forward(self, x):
        x = self.stem(x, self.entry, self.layer1)
        x = self.layer4(self.layer3(self.layer2(x)))
        return torch.flatten(self.avgpool(x), 1)


def build(arch):
    """A ResNet of a name in ``ARCHS`` with torchvision's initialisation."""
    block, layers, kwargs = ARCHS[arch]
    return ResNet(block, layers, **kwargs)


def infer_arch(shapes):
    """Name in ``ARCHS`` whose state dict has these shapes (torchvision key -> tuple), or None."""
    counts = tuple(
        len({key.split(".")[1] for key in shapes if key.startswith(f"layer{i}.")}) for i in range(1, 5)
    )
    kind = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    for name, (block, layers, kwargs) in ARCHS.items():
        if (block, layers) == (kind, counts) and _middle_conv(block, **kwargs) == shapes.get("layer1.0.conv2.weight"):
            return name
    return None


def _middle_conv(block, groups=1, width_per_group=64):
    """Shape of ``layer1.0.conv2.weight``: it tells ResNet, ResNeXt and wide ResNet apart."""
    width = 64 if block == "basic" else width_per_group * groups
    return (width, width // groups, 3, 3)
