"""Insertion of temporal modules into the slots of a backbone."""

import copy

from ops.temporal import DEEP, MODULES, common_slots, supported_modules
from ops.temporal.difference import initialize_convs
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.stochastic_depth import StochasticDepth
from ops.utils.errors import UserError


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
    """Insert the temporal modules of ``MODULES[module]`` into the slots of a backbone, in place.

    A module that starts from weights of the backbone takes those that it has now: load pretrained
    ones first.

    Args:
        module: name in ``MODULES``.
        backbone: see ``ops.backbones``.
        num_segments: T.
        non_local: also insert a non-local block after every second block of the second and third
            stage (TSM ops/non_local.py, which lists R50's blocks 0, 2 and 0, 2, 4).
        temporal_pool: halve the segments after the first stage.
        stochastic_depth: probability that a clip skips the last block in training, falling
            linearly to the first (section 3 of its paper).
        pretrained: whether the backbone has trained weights, from which a module of the stem then
            starts, too; else it draws its own.
        arch: name of the backbone, for messages.
        **options: of the module; those not given have their defaults.

    Raises:
        UserError: the backbone does not have the slots, with those modules that it works with.
    """
    stages = backbone.stages()
    segments = [num_segments] * len(stages)
    if temporal_pool:
        _insert_pool(backbone, num_segments, arch)
        segments[1:] = [num_segments // 2] * (len(stages) - 1)
    _insert_stem(module, backbone, num_segments, pretrained, arch)
    _insert_in_blocks(module, backbone, segments, arch, options)
    if non_local:
        _insert_non_local(stages, segments, arch)
    if stochastic_depth:
        _insert_stochastic_depth(stages, segments, stochastic_depth, arch)


def _insert_pool(backbone, num_segments, arch):
    if "before_stage2" not in backbone.network_slots:
        raise UserError(f"--temporal_pool needs a ResNet: {arch} has no slot after its first stage")
    if num_segments % 2:
        raise UserError(f"--temporal_pool halves the segments: {num_segments} is odd")
    backbone.before_stage2 = TemporalPool(num_segments)


def _insert_stem(module, backbone, num_segments, pretrained, arch):
    """Insert the module around the first stage, if there is one."""
    entry = MODULES[module]
    if entry.stem is None:
        return
    if "stem" not in backbone.network_slots:
        raise UserError(_unsupported(module, backbone, arch))
    first_conv = copy.deepcopy(backbone.get_submodule(backbone.first_conv))
    stage = copy.deepcopy(backbone.get_submodule(backbone.first_stage))
    if not pretrained:
        initialize_convs(first_conv)
        initialize_convs(stage)
    backbone.stem = entry.stem(first_conv, stage, num_segments)


def _insert_in_blocks(module, backbone, segments, arch, options):
    """Insert a module into a slot of each block; segments: their number in each stage."""
    entry = MODULES[module]
    if entry.module_class is None:
        return
    stages = backbone.stages()
    slot = entry.slot_for(options)
    module_options = entry.module_options({**entry.defaults(), **options})
    step = 1
    if entry.every_other_block_if_deep and slot == entry.slot and len(stages[2]) >= DEEP:
        step = 2
    error = _unsupported(module, backbone, arch, slot)
    for number in entry.stages or range(1, len(stages) + 1):
        for block in stages[number - 1][::step]:
            channels = _channels(block, slot, error)
            inserted = entry.module_class(channels, segments[number - 1], **module_options)
            setattr(block, slot, inserted)


def _insert_non_local(stages, segments, arch):
    error = f"--non_local does not run on {arch}"
    for index in (1, 2):
        for block in stages[index][::2]:
            channels = _channels(block, "after_block", error)
            block.after_block = NonLocal(channels, segments[index])


def _insert_stochastic_depth(stages, segments, probability, arch):
    error = f"--stochastic_depth does not run on {arch}"
    total = sum(len(stage) for stage in stages)
    number = 0
    for stage, num_segments in zip(stages, segments, strict=True):
        for block in stage:
            number += 1
            _channels(block, "before_sum", error)
            block.before_sum = StochasticDepth(probability * number / total, num_segments)


def _channels(block, slot, error):
    """The channels at a slot of a block; UserError with the text ``error`` without such a slot."""
    if slot not in block.slots:
        raise UserError(error)
    return block.slots[slot]


def _unsupported(module, backbone, arch, slot=None):
    """The message for a backbone without the slot of a module: what to use in its place."""
    slots = common_slots(backbone)
    for option_name, option in MODULES[module].options.items():
        for value, name in option.slots.items():
            if name != slot and name in slots:
                return f"--module {module} on {arch} needs --{option_name} {value}"
    working = ", ".join(supported_modules(backbone))
    return f"--module {module} does not run on {arch}; {arch} works with {working}"
