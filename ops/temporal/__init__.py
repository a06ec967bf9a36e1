"""The temporal modules and where each one sits in a backbone. A new module is a file beside this one and a row below."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from ops.temporal.adaptive import TemporalAdaptive
from ops.temporal.difference import (
    FRAMES,
    LongTermDifference,
    ShortTermDifference,
    initialize_convs,
)
from ops.temporal.interlace import TemporalInterlace
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.temporal.stochastic_depth import StochasticDepth
from ops.utils.errors import UserError

# What --shift_place calls the slots: inside the residual branch, or before the whole block.
PLACES = {"blockres": "before_conv1", "block": "before_block"}
DIRECTIONS = ("both", "past")
DEEP = 23  # blocks of the third stage from which on TSM shifts every second block only


@dataclass(frozen=True)
class TemporalModule:
    """Where a temporal module moves in, and how its authors trained and tested it.

    slot: slot of a block (``ops.backbones``); stages: numbers of the stages whose blocks get a guest, None for all; make:
    ``(channels, num_segments, **options) -> nn.Module`` for ``[N, channels, H, W]``; options: what a user may set, with
    defaults (``shift_place`` chooses the slot and is not given to ``make``); skips_when_deep: whether every second block stays
    without a guest in backbones with 23 blocks or more in the third stage; stem: ``(first_conv, stage, num_segments) ->
    nn.Module``, the guest of the stem; frames_per_segment: L of RGB; modalities: what it can see; lr_policy: "groups" (the lr
    and decay multipliers of TSN) or "flat"; partial_bn: whether its authors froze every BN but the first; average: what they
    average over the views of a video, "logits" or "softmax"; dense_stride: distance of the frames
    of a clip of dense sampling in their training, None: a window of 64 whatever T is; long_sampling:
    how they test long videos (Kinetics) if not told otherwise; flips: dataset -> what mirroring a
    training clip does to its label in their recipe (a value of ``--flip``), for datasets that go by
    name, where it is not what the dataset says; head_rate: whether its linear layers learn at the
    classifier's rate (TAM's do); mark: part of a key that only this module's weights have; read:
    shapes (``layer1.0...`` -> tuple) -> what they tell: a T that is frozen into them, options.
    """

    slot: str = ""
    stages: tuple[int, ...] | None = None
    make: Callable[..., nn.Module] | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    skips_when_deep: bool = False
    stem: Callable[[nn.Conv2d, nn.Module, int], nn.Module] | None = None
    frames_per_segment: int = 1
    modalities: tuple[str, ...] = ("RGB", "Flow", "RGBDiff")
    lr_policy: str = "groups"
    partial_bn: bool = True
    average: str = "logits"
    dense_stride: int | None = None
    long_sampling: str = "center"
    flips: Mapping[str, str] = field(default_factory=dict)
    head_rate: bool = False
    mark: str = ""
    read: Callable[[Mapping[str, tuple[int, ...]]], dict[str, int]] | None = None


def _read_tin(shapes):
    """T and shift_div: some files of MMAction2 move an eighth of the channels, not the quarter their configuration names."""
    block = next(
        key.partition(".before_conv1.")[0] for key in shapes if ".before_conv1.offset_conv." in key
    )
    conv = (
        shapes.get(f"{block}.conv1.weight") or shapes[f"{block}.conv.0.0.weight"]
    )  # of a ResNet or a MobileNetV2
    return {
        "num_segments": shapes[f"{block}.before_conv1.offset_fc1.weight"][1],
        "shift_div": conv[1] // shapes[f"{block}.before_conv1.offset_conv.weight"][1],
    }


# TSM main.py, and TIN's copy of it, mirror no clip of these; TAM main.py compares the whole name,
# so that V2 is mirrored.
_NEVER_MIRRORED = dict.fromkeys(("something", "somethingv2", "jester"), "none")

MODULES = {
    "tsn": TemporalModule(),
    "tsm": TemporalModule(
        slot="before_conv1",
        make=TemporalShift,
        skips_when_deep=True,
        flips=_NEVER_MIRRORED,
        options={"shift_div": 8, "shift_place": "blockres", "shift_direction": "both"},
    ),
    "tdn": TemporalModule(
        slot="before_conv2",
        stages=(2, 3, 4),
        make=LongTermDifference,
        stem=ShortTermDifference,
        frames_per_segment=FRAMES,
        modalities=("RGB",),
        lr_policy="flat",
        partial_bn=False,
        average="softmax",
        long_sampling="random",
        mark="before_conv2.squeeze.",
    ),
    "tam": TemporalModule(
        slot="before_conv2",
        make=TemporalAdaptive,
        long_sampling="dense",
        flips={"something": "none", "jester": "none"},
        partial_bn=False,
        head_rate=True,
        mark="before_conv2.kernel_fc1.",
        read=lambda shapes: {"num_segments": shapes["layer1.0.before_conv2.kernel_fc1.weight"][1]},
    ),
    "tin": TemporalModule(
        slot="before_conv1",
        make=TemporalInterlace,
        flips=_NEVER_MIRRORED,
        options={"shift_div": 4},
        average="softmax",
        dense_stride=2,  # TIN ops/dataset.py trains so, though its test.py has windows of 64
        mark="before_conv1.offset_conv.",
        read=_read_tin,
    ),
}


def resolve_options(module, given):
    """The options of ``MODULES[module]``: those given (None: not given), else its defaults.

    Raises UserError for an option that the module does not take or a value that it cannot take, TypeError for one of no module.
    """
    defaults = MODULES[module].options
    known_names = {name for row in MODULES.values() for name in row.options}
    if unknown := given.keys() - known_names:
        raise TypeError(f"no temporal module has an option {min(unknown)}")
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in defaults:
            raise UserError(f"--{name} {value}: {module} has no such option")
        known = {"shift_place": PLACES, "shift_direction": DIRECTIONS}.get(name)
        if known and value not in known:
            raise UserError(f"--{name} {value}: unknown; known are {', '.join(known)}")
        least = (
            2 if defaults.get("shift_direction") and given.get("shift_direction") != "past" else 1
        )
        if name == "shift_div" and (type(value) is not int or value < least):
            raise UserError(
                f"--shift_div {value}: must be a whole number from {least} for {module}"
            )
    return {**defaults, **given}


def insert(
    module,
    backbone,
    num_segments,
    *,
    non_local=False,
    temporal_pool=False,
    stochastic_depth=0.0,
    pretrained=False,
    arch="this backbone",
    **options,
):
    """Put the guests of ``MODULES[module]`` into the slots of a backbone, in place.

    Weights that a guest takes over from the backbone are those the backbone has now: load pretrained ones first.
    non_local: also every second block of the second and third stage gets a non-local block (TSM ops/non_local.py, which
    lists R50's blocks 0, 2 and 0, 2, 4); temporal_pool: half the frames from the second stage on; stochastic_depth: probability
    that a clip skips the last block, falling linearly to the first (section 3 of its paper); pretrained: whether the
    backbone's weights are trained ones, which a stem then starts from, too; else it draws its own. Raises UserError, with
    the reason, for a backbone that cannot take a guest.
    """
    row = MODULES[module]
    slot = PLACES[options.pop("shift_place")] if "shift_place" in options else row.slot
    if "shift_direction" in options:
        options["direction"] = options.pop("shift_direction")
    stages = backbone.stages()
    later = num_segments
    if temporal_pool:
        if not hasattr(backbone, "before_stage2"):
            raise UserError(
                f"--temporal_pool needs a ResNet: {arch} has no place for it after its first stage"
            )
        if num_segments % 2:
            raise UserError(f"--temporal_pool halves the segments: {num_segments} is odd")
        backbone.before_stage2 = TemporalPool(num_segments)
        later = num_segments // 2
    if row.stem:
        if not hasattr(backbone, "stem"):
            raise UserError(_wrong_backbone(module, backbone, arch))
        first_conv = copy.deepcopy(backbone.conv1)
        stage = copy.deepcopy(backbone.layer1)
        if not pretrained:
            initialize_convs(first_conv)
            initialize_convs(stage)
        backbone.stem = row.stem(first_conv, stage, num_segments)
    if row.make:
        step = 2 if row.skips_when_deep and slot != "before_block" and len(stages[2]) >= DEEP else 1
        for number in row.stages or range(1, len(stages) + 1):
            segments = num_segments if number == 1 else later
            _fill(
                stages[number - 1][::step],
                slot,
                lambda channels, T=segments: row.make(channels, T, **options),
                _wrong_backbone(module, backbone, arch, slot),
            )
    if non_local:
        for number in (2, 3):
            _fill(
                stages[number - 1][::2],
                "after_block",
                lambda channels: NonLocal(channels, later),
                f"--non_local does not run on {arch}",
            )
    if stochastic_depth:
        blocks = [
            (block, num_segments if stage is stages[0] else later)
            for stage in stages
            for block in stage
        ]
        for index, (block, segments) in enumerate(blocks, 1):
            guest = StochasticDepth(stochastic_depth * index / len(blocks), segments)
            _fill(
                [block],
                "before_sum",
                lambda _, guest=guest: guest,
                f"--stochastic_depth does not run on {arch}",
            )


def _fill(blocks, slot, make, error):
    """Insert what ``make(channels)`` returns into a slot of each block; UserError with ``error`` if there is no such slot."""
    for block in blocks:
        if slot not in block.slots:
            raise UserError(error)
        setattr(block, slot, make(block.slots[slot]))


def _wrong_backbone(module, backbone, arch, slot=None):
    """The message for a backbone that has no place for a module: what to use in its place."""
    slots = set.intersection(*(set(block.slots) for stage in backbone.stages() for block in stage))
    for place, name in PLACES.items():
        if "shift_place" in MODULES[module].options and slot != name and name in slots:
            return f"--module {module} on {arch} needs --shift_place {place}"
    working = []
    for name, entry in MODULES.items():
        places = set(PLACES.values()) if "shift_place" in entry.options else {entry.slot}
        has_slot = entry.make is None or places & slots
        has_stem = entry.stem is None or hasattr(backbone, "stem")
        if has_slot and has_stem:
            working.append(name)
    return f"--module {module} does not run on {arch}; {arch} works with {', '.join(working)}"
