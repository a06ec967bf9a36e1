"""The layers of a backbone by depth, by which ``--freeze`` and ``--layer_decay`` choose.

The stem is stage 0 and layer 0. The blocks of all stages are the layers 1, 2, ... in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import nn


class Place(NamedTuple):
    """Where a part of a backbone is.

    Attributes:
        stage: number of its stage, from 1; 0 in the stem.
        layer: number of its block, counted over all stages from 1; 0 in the stem.
    """

    stage: int
    layer: int


STEM = Place(0, 0)


def stage_layers(backbone: nn.Module) -> list[list[list[nn.Module]]]:
    """The modules of each layer, stage by stage.

    These are the blocks of ``stages()``, unless the backbone has a method ``stage_layers``.

    Args:
        backbone: see ``ops.backbones``.

    Returns:
        stages -> layers -> modules.
    """
    if hasattr(backbone, "stage_layers"):
        return backbone.stage_layers()
    return [[[block] for block in stage] for stage in backbone.stages()]


def module_places(backbone: nn.Module) -> dict[nn.Module, Place]:
    """The place of each module of a backbone, of inserted ones as well.

    A module belongs to the layer that contains it. What no layer contains is the stem, and so is a
    temporal module around the first stage.

    Args:
        backbone: see ``ops.backbones``.

    Returns:
        module -> place, for every module of ``backbone.modules()``.
    """
    places = dict.fromkeys(backbone.modules(), STEM)
    layer_number = 0
    for stage_number, layers in enumerate(stage_layers(backbone), start=1):
        for modules in layers:
            layer_number += 1
            place = Place(stage_number, layer_number)
            for module in modules:
                places.update(dict.fromkeys(module.modules(), place))
    return places
