"""2D CNNs with named slots for temporal modules.

A backbone is a module that maps ``[N, C, H, W]`` to features ``[N, feature_dim]`` and carries:

* ``feature_dim``  length of a feature vector;
* ``pixels``       a :class:`Pixels`: how uint8 frames become its input;
* ``first_conv``   dotted name of the conv that sees the frames;
* ``stages()``     the blocks that can take guests, stage by stage. A block has ``slots``, a dict of slot name -> channels
  there, and an attribute of each such name, ``nn.Identity`` while it is free: ``before_block`` (before the residual branch
  and the identity), ``before_conv1``, ``before_conv2`` and ``before_sum`` (inside the branch), ``after_block``;
* a ResNet also ``stem``, the slot around its first stage, and ``before_stage2``.
"""

import torch
from torch import nn

from ops.backbones import bn_inception, mobilenet_v2, resnet
from ops.backbones.pixels import Pixels
from ops.utils.errors import UserError

__all__ = [
    "ARCHS",
    "Pixels",
    "build_backbone",
    "first_conv",
    "infer_arch",
    "is_resnet",
    "set_input_channels",
    "spread_channels",
]

_FAMILIES = (resnet, mobilenet_v2, bn_inception)
ARCHS = tuple(arch for family in _FAMILIES for arch in family.ARCHS)


def build_backbone(arch):
    """A backbone of a known name with freshly initialised weights. Raises UserError for an unknown name."""
    for family in _FAMILIES:
        if arch in family.ARCHS:
            return family.build(arch)
    raise UserError(f"--arch {arch}: unknown backbone; known are {', '.join(ARCHS)}")


def is_resnet(arch):
    """Whether a backbone of this name is one of the ResNet family, which has every slot."""
    return arch in resnet.ARCHS


def infer_arch(shapes):
    """Name of the backbone whose weights have these shapes.

    shapes: dict of key (``layer1.0.conv1.weight``) -> tuple. Returns None if no backbone fits.
    """
    return next(filter(None, (family.infer_arch(shapes) for family in _FAMILIES)), None)


def first_conv(arch):
    """Dotted name, inside the backbone, of the conv that sees the frames."""
    with torch.device("meta"):
        return build_backbone(arch).first_conv


def spread_channels(weight, channels):
    """A first conv's weight for another number of input channels: the mean over the channels it has, repeated.

    ``[out, C, k, k]`` to ``[out, channels, k, k]``; not rescaled by ``C / channels``, as in TSN's cross-modality
    initialisation (section 3.2 of the paper; tsn-pytorch models.py). A weight of that many channels is returned as it is.
    """
    if weight.shape[1] == channels:
        return weight
    return weight.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1).contiguous()


def set_input_channels(backbone, channels):
    """Let a backbone see frames of another number of channels, in place; its first conv starts from what it has."""
    parent, _, name = backbone.first_conv.rpartition(".")
    parent = backbone.get_submodule(parent)
    conv = getattr(parent, name)
    if conv.in_channels == channels:
        return
    new = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        bias=conv.bias is not None,
    )
    new.weight.data = spread_channels(conv.weight.data, channels)
    if conv.bias is not None:
        new.bias.data = conv.bias.data
    setattr(parent, name, new)
