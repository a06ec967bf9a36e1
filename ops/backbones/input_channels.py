"""The first conv of a backbone, and how it takes another number of channels than three."""

import torch
from torch import nn

from ops.backbones import build_backbone


def first_conv(arch):
    """Dotted name, inside the backbone, of the conv that receives the frames."""
    with torch.device("meta"):
        return build_backbone(arch).first_conv


def spread_channels(weight, channels):
    """A first conv's weight for another number of input channels: the mean over its own, repeated.

    It is not rescaled by ``C / channels``, as in TSN's cross-modality initialisation (section 3.2
    of the paper; tsn-pytorch models.py).

    Args:
        weight: ``[out, C, k, k]``.
        channels: the new number of input channels.

    Returns:
        ``[out, channels, k, k]``; the weight itself if it has that many channels.
    """
    if weight.shape[1] == channels:
        return weight
    return weight.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1).contiguous()


def set_input_channels(backbone, channels):
    """Change the number of input channels in place; the first conv starts from its own weights.

    Args:
        backbone: any backbone.
        channels: the new number of input channels.
    """
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
