"""The temporal modules and where each one sits in a backbone. A new module is a file beside this one and a row below."""
import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ops.temporal.difference import FRAMES, LongTermDifference, ShortTermDifference


@dataclass(frozen=True)
class TemporalModule:
    """Where a temporal module moves in, and how its authors trained it.

    slot: attribute of a block, ``before_conv1`` or ``before_conv2``; stages: numbers of the stages whose blocks get a
    guest; make: ``(channels, num_segments) -> nn.Module`` for ``[N, channels, H, W]``; stem: ``(first_conv, stage,
    num_segments) -> nn.Module``, the guest of the stem; frames_per_segment: L; lr_policy: "groups" (the lr and decay
    multipliers of TSN) or "flat"; partial_bn: whether its authors froze every BN but the first; mark: part of a key that
    only this module's weights have.
    """

    slot: str = ""
    stages: tuple[int, ...] = ()
    make: Callable[[int, int], nn.Module] | None = None
    stem: Callable[[nn.Conv2d, nn.Module, int], nn.Module] | None = None
    frames_per_segment: int = 1
    lr_policy: str = "groups"
    partial_bn: bool = True
    mark: str = ""


MODULES = {
    "tsn": TemporalModule(),
    "tdn": TemporalModule(
        slot="before_conv2", stages=(2, 3, 4), make=LongTermDifference, stem=ShortTermDifference,
        frames_per_segment=FRAMES, lr_policy="flat", partial_bn=False, mark="before_conv2.squeeze.",
    ),
}


def insert(module, backbone, num_segments):
    """Put the guests of ``MODULES[module]`` into the slots of a backbone, in place.

    Weights that a guest takes over from the backbone are those the backbone has now: load pretrained ones first.
    """
    row = MODULES[module]
    stages = backbone.stages()
    if row.stem:
        backbone.stem = row.stem(backbone.conv1, copy.deepcopy(backbone.layer1), num_segments)
    for number in row.stages:
        for block in stages[number - 1]:
            channels = getattr(block, row.slot.removeprefix("before_")).in_channels
            setattr(block, row.slot, row.make(channels, num_segments))
