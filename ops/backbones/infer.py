"""Which backbone a state dict is of, inferred from the shapes of its weights."""

from functools import partial

import torch
from torch import nn

from ops.backbones import BACKBONES


def infer_arch(shapes):
    """Name of the backbone whose weights have these shapes.

    Args:
        shapes: key (``layer1.0.conv1.weight``) -> tuple. May contain keys of other layers.

    Returns:
        a name in ``BACKBONES``, None if no backbone fits.
    """
    for arch, entry in BACKBONES.items():
        matches = entry.matches or partial(has_same_convs, entry.build)
        if matches(shapes):
            return arch
    return None


def has_same_convs(build, shapes):
    """Whether the 2D convs of a backbone have these shapes.

    The channels of the frames are not compared, since Flow has other ones.

    Args:
        build: ``() -> nn.Module``.
        shapes: key -> tuple. May contain keys of other layers.

    Returns:
        True if every conv of the backbone is there and of the same shape.
    """
    with torch.device("meta"):
        backbone = build()
    for name, module in backbone.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        expected = tuple(module.weight.shape)
        found = shapes.get(f"{name}.weight", ())
        if name == backbone.first_conv:
            expected = expected[:1] + expected[2:]
            found = found[:1] + found[2:]
        if found != expected:
            return False
    return True
