"""torchvision's ResNets with slots for temporal modules; parameter names are torchvision's own.

Every block has five slots, all ``nn.Identity`` while they are empty::

  before_block ┬ before_conv1 ─ conv1 ─ before_conv2 ─ conv2 ─ ... ─ before_sum ─ (+) ─ after_block
                 └───────────────────── identity or downsample ─────────────────────┘

(BatchNorms and ReLUs are left out). The network has two more: ``stem`` around its first stage, for
modules that process the raw frames, and ``before_stage2``, for modules that change the number of
frames.
"""

import torch
import torchvision.models.resnet as tv
from torch import nn

from ops.backbones.pixels import IMAGENET
from ops.backbones.recompute import recomputable


def _add_slots(block, last_conv):
    """Give a block its slots; ``slots`` maps each to the channels that pass there."""
    channels = block.conv1.in_channels
    block.slots = {
        "before_block": channels,
        "before_conv1": channels,
        "before_conv2": block.conv2.in_channels,
        "before_sum": last_conv.out_channels,
        "after_block": last_conv.out_channels,
    }
    for slot in block.slots:
        setattr(block, slot, nn.Identity())


class BasicBlock(tv.BasicBlock):
    """torchvision's BasicBlock with the slots. ``[N, C, H, W]`` to ``[N, planes, H', W']``."""

    recompute = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _add_slots(self, self.conv2)

    @recomputable
    def forward(self, x):
        x = self.before_block(x)
        out = self.relu(self.bn1(self.conv1(self.before_conv1(x))))
        out = self.before_sum(self.bn2(self.conv2(self.before_conv2(out))))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.after_block(self.relu(out))


class Bottleneck(tv.Bottleneck):
    """torchvision's Bottleneck (stride in the 3x3) with the slots.

    ``[N, C, H, W]`` to ``[N, 4*planes, H', W']``.
    """

    recompute = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _add_slots(self, self.conv3)

    @recomputable
    def forward(self, x):
        x = self.before_block(x)
        out = self.relu(self.bn1(self.conv1(self.before_conv1(x))))
        out = self.relu(self.bn2(self.conv2(self.before_conv2(out))))
        out = self.before_sum(self.bn3(self.conv3(out)))
        if self.downsample is not None:
            x = self.downsample(x)
        out += x
        return self.after_block(self.relu(out))


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


class PlainStem(nn.Module):
    """The stem of a 2D network: first conv to max-pool, then the first stage."""

    def forward(self, frames, entry, stage1):
        return stage1(entry(frames))


class ResNet(tv.ResNet):
    """torchvision's ResNet without its classifier.

    ``[N, C, H, W]`` to features ``[N, feature_dim]``.
    """

    pixels = IMAGENET
    first_conv = "conv1"
    first_stage = "layer1"
    network_slots = ("stem", "before_stage2")

    def __init__(self, block, layers, **kwargs):
        super().__init__(BLOCKS[block], list(layers), **kwargs)
        self.feature_dim = self.fc.in_features
        del self.fc
        self.stem = PlainStem()
        self.before_stage2 = nn.Identity()

    def stages(self):
        """The blocks of layer1..layer4, as four lists."""
        return [list(getattr(self, f"layer{i}")) for i in range(1, 5)]

    def entry(self, x):
        """``[N, 3, H, W]`` to ``[N, 64, H/4, W/4]``: first conv, BN, ReLU, max-pool."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def forward(self, x):
        x = self.stem(x, self.entry, self.layer1)
        x = self.layer4(self.layer3(self.layer2(self.before_stage2(x))))
        return torch.flatten(self.avgpool(x), 1)


def matches(block, layers, shapes, groups=1, width_per_group=64):
    """Whether a state dict with these shapes is of a ResNet.

    Args:
        block: "basic" or "bottleneck".
        layers: number of blocks in layer1..4.
        shapes: torchvision's key -> tuple.
        groups: of the 3x3 convs.
        width_per_group: channels of a group in the first stage.

    Returns:
        True if the kind of block, their number in every stage and the width of the first fit.
    """
    counts = tuple(
        len({key.split(".")[1] for key in shapes if key.startswith(f"layer{i}.")})
        for i in range(1, 5)
    )
    kind = "basic"
    if "layer1.0.conv3.weight" in shapes:
        kind = "bottleneck"
    # The second conv of a block differs in ResNet, ResNeXt and wide ResNet.
    width = 64
    if block == "bottleneck":
        width = width_per_group * groups
    middle = (width, width // groups, 3, 3)
    return (kind, counts) == (block, layers) and shapes.get("layer1.0.conv2.weight") == middle
