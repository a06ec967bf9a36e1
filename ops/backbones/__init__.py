"""2D CNNs with named slots for temporal modules, and the table of them.

A backbone is a module that maps ``[N, C, H, W]`` to features ``[N, feature_dim]`` and has:

* ``feature_dim``: length of a feature vector;
* ``pixels``: a :class:`ops.backbones.pixels.Pixels`, how uint8 frames become its input;
* ``first_conv``: dotted name of the conv that receives the frames;
* ``avgpool``: the module that averages the last feature map ``[N, feature_dim, h, w]``, with which
  maps of classes are computed (``ops/explain.py``);
* ``stages()``: the blocks that temporal modules can be inserted into, stage by stage. A block has
  ``slots``, a dict of slot name -> channels there, and an attribute of each such name,
  ``nn.Identity`` while the slot is empty: ``before_block`` (before the residual branch and the
  identity), ``before_conv1``, ``before_conv2`` and ``before_sum`` (inside the branch),
  ``after_block``;
* ``network_slots``: names of the slots around whole stages, each an attribute of the backbone:
  ``stem`` (around the first stage, whose dotted name is ``first_stage``) and ``before_stage2``.
  An attribute of such a name is a slot only if it is declared here;
* ``stage_layers()``, only where the blocks do not contain all weights after the stem: see
  :mod:`ops.backbones.layers`;
* ``recompute``, an attribute of its blocks or of itself, for activation checkpointing: see
  :mod:`ops.backbones.recompute`.

docs/adding_a_backbone.md explains how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.utils.deferred import deferred
from ops.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """An entry of the table of backbones.

    Attributes:
        build: ``() -> nn.Module``, with newly initialised weights.
        torchvision_name: torchvision's name of the network, whose ImageNet weights
            ``--pretrain imagenet`` loads; None: torchvision does not have it.
        matches: shapes of a state dict (key -> tuple) -> whether they are of this backbone. None
            compares all 2D convs, see :func:`ops.backbones.infer.has_same_convs`.
    """

    build: Callable[[], nn.Module]
    torchvision_name: str | None = None
    matches: Callable[[Mapping[str, tuple[int, ...]]], bool] | None = None


def _resnet(name, block, layers, **kwargs):
    """The entry of a ResNet.

    Args:
        name: torchvision's name, or None.
        block: "basic" or "bottleneck".
        layers: number of blocks in layer1..4.
        **kwargs: arguments of torchvision's constructor that differ from the default.
    """
    return Backbone(
        build=deferred("ops.backbones.resnet:ResNet", block, layers, **kwargs),
        torchvision_name=name,
        matches=deferred("ops.backbones.resnet:matches", block, layers, **kwargs),
    )


# "deferred" imports a network when it is built: --help reads this table and needs no torch.
BACKBONES = {
    "resnet18": _resnet("resnet18", "basic", (2, 2, 2, 2)),
    "resnet34": _resnet("resnet34", "basic", (3, 4, 6, 3)),
    "resnet50": _resnet("resnet50", "bottleneck", (3, 4, 6, 3)),
    "resnet101": _resnet("resnet101", "bottleneck", (3, 4, 23, 3)),
    "resnet152": _resnet("resnet152", "bottleneck", (3, 8, 36, 3)),
    "resnext50_32x4d": _resnet(
        "resnext50_32x4d", "bottleneck", (3, 4, 6, 3), groups=32, width_per_group=4
    ),
    "resnext101_32x8d": _resnet(
        "resnext101_32x8d", "bottleneck", (3, 4, 23, 3), groups=32, width_per_group=8
    ),
    # torchvision has no weights of it; MMAction2 has published networks with it.
    "resnext101_32x4d": _resnet(None, "bottleneck", (3, 4, 23, 3), groups=32, width_per_group=4),
    "resnext101_64x4d": _resnet(
        "resnext101_64x4d", "bottleneck", (3, 4, 23, 3), groups=64, width_per_group=4
    ),
    "wide_resnet50_2": _resnet("wide_resnet50_2", "bottleneck", (3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": _resnet(
        "wide_resnet101_2", "bottleneck", (3, 4, 23, 3), width_per_group=128
    ),
    "mobilenetv2": Backbone(
        build=deferred("ops.backbones.mobilenet_v2:MobileNetV2"), torchvision_name="mobilenet_v2"
    ),
    "BNInception": Backbone(build=deferred("ops.backbones.bn_inception:BNInception")),
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
