"""The temporal modules and where each one is inserted into a backbone.

A new module is a file beside this one and an entry of ``MODULES``; see docs/adding_a_module.md.
"""

import copy

from torch import nn

from ops.temporal.adaptive import TemporalAdaptive
from ops.temporal.difference import (
    FRAMES,
    LongTermDifference,
    ShortTermDifference,
    initialize_convs,
)
from ops.temporal.entry import Option, TemporalModule
from ops.temporal.interlace import TemporalInterlace
from ops.temporal.non_local import NonLocal
from ops.temporal.pooling import TemporalPool
from ops.temporal.shift import TemporalShift
from ops.temporal.stochastic_depth import StochasticDepth
from ops.utils.errors import UserError

__all__ = [
    "DEEP",
    "MODULES",
    "NonLocal",
    "Option",
    "TemporalModule",
    "TemporalPool",
    "TemporalShift",
    "insert",
    "option_names",
    "resolve_options",
    "supported_modules",
]

DEEP = 23  # blocks of the third stage from which on TSM shifts every second block only


def _check_shift(options):
    """Two directions need two parts of the channels."""
    if options["shift_direction"] == "both" and options["shift_div"] < 2:
        raise UserError(
            f"--shift_div {options['shift_div']}: must be a whole number from 2 for tsm"
        )


def _describe_shift(options):
    words = f"shift 1/{options['shift_div']} {options['shift_place']}"
    if options["shift_direction"] == "past":
        words += ", past only"
    return words


def _tam_param_group(layer, name, parameter):
    """TAM's authors train its linear layers at the rate of the classifier."""
    if isinstance(layer, nn.Linear):
        return f"fc_{name}"
    return None


def _infer_tam(shapes):
    """T, which the global branch contains."""
    key = next(key for key in shapes if key.endswith(".before_conv2.kernel_fc1.weight"))
    return {"num_segments": shapes[key][1]}


def _infer_tin(shapes):
    """T and shift_div.

    Some files of MMAction2 move an eighth of the channels, not the quarter that their
    configuration names.
    """
    block = next(
        key.partition(".before_conv1.")[0] for key in shapes if ".before_conv1.offset_conv." in key
    )
    conv = shapes.get(f"{block}.conv1.weight")  # of a ResNet
    if conv is None:
        conv = shapes.get(f"{block}.conv.0.0.weight")  # of a MobileNetV2
    found = {"num_segments": shapes[f"{block}.before_conv1.offset_fc1.weight"][1]}
    if conv is not None:  # other backbones do not show how many channels the slot has
        found["shift_div"] = conv[1] // shapes[f"{block}.before_conv1.offset_conv.weight"][1]
    return found


# TSM main.py, and TIN's copy of it, mirror no clip of these; TAM main.py compares the whole name,
# so that V2 is mirrored.
_NEVER_MIRRORED = dict.fromkeys(("something", "somethingv2", "jester"), "none")
_SHIFT_DIV_HELP = "1/N of the channels is shifted in each direction"

MODULES = {
    "tsn": TemporalModule(),
    "tsm": TemporalModule(
        slot="before_conv1",
        module_class=TemporalShift,
        every_other_block_if_deep=True,
        flips=_NEVER_MIRRORED,
        options={
            "shift_div": Option(int, 8, _SHIFT_DIV_HELP, minimum=1),
            "shift_place": Option(
                str,
                "blockres",
                "shift inside the residual branch, or before the whole block",
                slots={"blockres": "before_conv1", "block": "before_block"},
            ),
            "shift_direction": Option(
                str,
                "both",
                "both, or past for a network that can run online",
                choices=("both", "past"),
            ),
        },
        check_options=_check_shift,
        describe_options=_describe_shift,
    ),
    "tdn": TemporalModule(
        slot="before_conv2",
        stages=(2, 3, 4),
        module_class=LongTermDifference,
        stem=ShortTermDifference,
        frames_per_segment=FRAMES,
        modalities=("RGB",),
        lr_policy="flat",
        partial_bn=False,
        partial_bn_freezes=True,
        average="softmax",
        kinetics_sampling="random",
        key_signature="before_conv2.squeeze.",
    ),
    "tam": TemporalModule(
        slot="before_conv2",
        module_class=TemporalAdaptive,
        kinetics_sampling="dense",
        flips={"something": "none", "jester": "none"},
        partial_bn=False,
        param_group=_tam_param_group,
        key_signature="before_conv2.kernel_fc1.",
        infer_options=_infer_tam,
    ),
    "tin": TemporalModule(
        slot="before_conv1",
        module_class=TemporalInterlace,
        flips=_NEVER_MIRRORED,
        options={"shift_div": Option(int, 4, _SHIFT_DIV_HELP, minimum=1)},
        average="softmax",
        dense_stride=2,  # TIN ops/dataset.py trains so, though its test.py has windows of 64
        key_signature="before_conv1.offset_conv.",
        infer_options=_infer_tin,
    ),
}


def option_names():
    """The options of all modules, each once, in the order of the table."""
    names = {}
    for entry in MODULES.values():
        names.update(dict.fromkeys(entry.options))
    return list(names)


def resolve_options(module, given):
    """The options of a module: those given, else the defaults.

    Args:
        module: name in ``MODULES``.
        given: name -> value; None is not given. May contain options of other modules that are None.

    Returns:
        name -> value, all options of the module.

    Raises:
        UserError: the module does not have such an option, or it cannot have such a value.
        TypeError: no module has such an option.
    """
    unknown = given.keys() - set(option_names())
    if unknown:
        raise TypeError(f"no temporal module has an option {min(unknown)}")
    entry = MODULES[module]
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if name not in entry.options:
            raise UserError(f"--{name} {value}: {module} has no such option")
        entry.options[name].check(name, value)
    options = {**entry.defaults(), **given}
    if entry.check_options:
        entry.check_options(options)
    return options


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
    entry = MODULES[module]
    slot = entry.slot_for(options)
    stages = backbone.stages()
    later_segments = num_segments
    if temporal_pool:
        _insert_pool(backbone, num_segments, arch)
        later_segments = num_segments // 2
    if entry.stem:
        if "stem" not in backbone.network_slots:
            raise UserError(_unsupported(module, backbone, arch))
        first_conv = copy.deepcopy(backbone.get_submodule(backbone.first_conv))
        stage = copy.deepcopy(backbone.get_submodule(backbone.first_stage))
        if not pretrained:
            initialize_convs(first_conv)
            initialize_convs(stage)
        backbone.stem = entry.stem(first_conv, stage, num_segments)
    if entry.module_class:
        module_options = entry.module_options({**entry.defaults(), **options})
        step = 1
        if entry.every_other_block_if_deep and slot == entry.slot and len(stages[2]) >= DEEP:
            step = 2
        error = _unsupported(module, backbone, arch, slot)
        for number in entry.stages or range(1, len(stages) + 1):
            segments = num_segments if number == 1 else later_segments
            for block in stages[number - 1][::step]:
                channels = _channels(block, slot, error)
                setattr(block, slot, entry.module_class(channels, segments, **module_options))
    if non_local:
        error = f"--non_local does not run on {arch}"
        for number in (2, 3):
            for block in stages[number - 1][::2]:
                channels = _channels(block, "after_block", error)
                block.after_block = NonLocal(channels, later_segments)
    if stochastic_depth:
        _insert_stochastic_depth(stages, stochastic_depth, num_segments, later_segments, arch)


def _insert_pool(backbone, num_segments, arch):
    if "before_stage2" not in backbone.network_slots:
        raise UserError(f"--temporal_pool needs a ResNet: {arch} has no slot after its first stage")
    if num_segments % 2:
        raise UserError(f"--temporal_pool halves the segments: {num_segments} is odd")
    backbone.before_stage2 = TemporalPool(num_segments)


def _insert_stochastic_depth(stages, probability, num_segments, later_segments, arch):
    error = f"--stochastic_depth does not run on {arch}"
    total = sum(len(stage) for stage in stages)
    index = 0
    for stage in stages:
        segments = num_segments if stage is stages[0] else later_segments
        for block in stage:
            index += 1
            _channels(block, "before_sum", error)
            block.before_sum = StochasticDepth(probability * index / total, segments)


def _channels(block, slot, error):
    """The channels at a slot of a block; UserError with the text ``error`` without such a slot."""
    if slot not in block.slots:
        raise UserError(error)
    return block.slots[slot]


def supported_modules(backbone):
    """Names of the temporal modules that a backbone has the slots for, in the order of the table.

    Args:
        backbone: see ``ops.backbones``.

    Returns:
        a list of keys of ``MODULES``.
    """
    slots = _common_slots(backbone)
    names = []
    for name, entry in MODULES.items():
        has_slot = entry.module_class is None or entry.possible_slots() & slots
        has_stem = entry.stem is None or "stem" in backbone.network_slots
        if has_slot and has_stem:
            names.append(name)
    return names


def _common_slots(backbone):
    """Names of the slots that every block has."""
    blocks = [block for stage in backbone.stages() for block in stage]
    return set.intersection(*(set(block.slots) for block in blocks))


def _unsupported(module, backbone, arch, slot=None):
    """The message for a backbone without the slot of a module: what to use in its place."""
    slots = _common_slots(backbone)
    for option_name, option in MODULES[module].options.items():
        for value, name in option.slots.items():
            if name != slot and name in slots:
                return f"--module {module} on {arch} needs --{option_name} {value}"
    working = ", ".join(supported_modules(backbone))
    return f"--module {module} does not run on {arch}; {arch} works with {working}"
