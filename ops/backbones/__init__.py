"""2D CNNs with named slots for temporal modules, and the table of them.

A backbone is a module that maps ``[N, C, H, W]`` to features ``[N, feature_dim]`` and has:

* ``feature_dim``: length of a feature vector;
* ``pixels``: a :class:`Pixels`, how uint8 frames become its input;
* ``first_conv``: dotted name of the conv that receives the frames;
* ``stages()``: the blocks that temporal modules can be inserted into, stage by stage. A block has
  ``slots``, a dict of slot name -> channels there, and an attribute of each such name,
  ``nn.Identity`` while the slot is empty: ``before_block`` (before the residual branch and the
  identity), ``before_conv1``, ``before_conv2`` and ``before_sum`` (inside the branch),
  ``after_block``;
* ``network_slots``: names of the slots around whole stages, each an attribute of the backbone:
  ``stem`` (around the first stage, whose dotted name is ``first_stage``) and ``before_stage2``.
  An attribute of such a name is a slot only if it is declared here.

docs/adding_a_backbone.md explains how to add one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ops.backbones import bn_inception, mobilenet_v2, resnet
from ops.backbones.pixels import Pixels
from ops.utils.errors import UserError

__all__ = [
    "BACKBONES",
    "Backbone",
    "Pixels",
    "build_backbone",
    "first_conv",
    "has_same_convs",
    "infer_arch",
    "set_input_channels",
    "slot_prefixes",
    "spread_channels",
]


@dataclass(frozen=True)
class Backbone:
    """An entry of the table of backbones.

    Attributes:
        build: ``() -> nn.Module``, with newly initialised weights.
        torchvision_name: torchvision's name of the network, whose ImageNet weights
            ``--pretrain imagenet`` loads; None: torchvision does not have it.
        matches: shapes of a state dict (key -> tuple) -> whether they are of this backbone. None
            compares all 2D convs, see :func:`has_same_convs`.
    """

    build: Callable[[], nn.Module]
    torchvision_name: str | None = None
    matches: Callable[[Mapping[str, tuple[int, ...]]], bool] | None = None


BACKBONES = {
    **{
        arch: Backbone(
            build=partial(resnet.build, arch),
            torchvision_name=arch,
            matches=partial(resnet.matches, arch),
        )
        for arch in resnet.ARCHS
    },
    "mobilenetv2": Backbone(build=mobilenet_v2.MobileNetV2, torchvision_name="mobilenet_v2"),
    "BNInception": Backbone(build=bn_inception.BNInception),
}


def build_backbone(arch):
    """A backbone with newly initialised weights.

    Args:
        arch: name in ``BACKBONES``.

    Returns:
        the backbone, in training mode.

    Raises:
        UserError: an unknown name.
    """
    if arch not in BACKBONES:
        raise UserError(f"--arch {arch}: unknown backbone; known are {', '.join(BACKBONES)}")
    return BACKBONES[arch].build()


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


def first_conv(arch):
    """Dotted name, inside the backbone, of the conv that receives the frames."""
    with torch.device("meta"):
        return build_backbone(arch).first_conv


def slot_prefixes(backbone):
    """The starts of the keys that weights of inserted modules have in a backbone's state dict.

    Args:
        backbone: any backbone, with modules inserted or without.

    Returns:
        a tuple of texts such as ``layer1.0.before_conv1.``.
    """
    names = {module: name for name, module in backbone.named_modules()}
    prefixes = [f"{slot}." for slot in backbone.network_slots]
    for stage in backbone.stages():
        for block in stage:
            prefixes += [f"{names[block]}.{slot}." for slot in block.slots]
    return tuple(prefixes)


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
