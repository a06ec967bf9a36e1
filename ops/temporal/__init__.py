"""The temporal modules and the table of where each one is inserted into a backbone.

A new module is a file beside this one and an entry of ``MODULES``; see docs/adding_a_module.md.
"""

from ops.temporal.entry import Option, TemporalModule
from ops.utils.deferred import deferred
from ops.utils.errors import UserError

__all__ = [
    "DEEP",
    "MODULES",
    "Option",
    "TemporalModule",
    "option_names",
    "resolve_options",
    "supported_modules",
]

DEEP = 23  # blocks of the third stage from which on TSM shifts every second block only

# TSM main.py, and TIN's copy of it, mirror no clip of these; TAM main.py compares the whole name,
# so that V2 is mirrored.
_NEVER_MIRRORED = dict.fromkeys(("something", "somethingv2", "jester"), "none")
_SHIFT_DIV_HELP = "1/N of the channels is shifted in each direction"

# "deferred" imports a module when it is built: --help reads this table and needs no torch.
MODULES = {
    "tsn": TemporalModule(),
    "tsm": TemporalModule(
        slot="before_conv1",
        module_class=deferred("ops.temporal.shift:TemporalShift"),
        every_other_block_if_deep=True,
        stepping_obstacle=deferred("ops.temporal.shift:stepping_obstacle"),
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
        check_options=deferred("ops.temporal.shift:check_options"),
        describe_options=deferred("ops.temporal.shift:describe_options"),
    ),
    "tdn": TemporalModule(
        slot="before_conv2",
        stages=(2, 3, 4),
        module_class=deferred("ops.temporal.difference:LongTermDifference"),
        stem=deferred("ops.temporal.difference:ShortTermDifference"),
        frames_per_segment=5,
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
        module_class=deferred("ops.temporal.adaptive:TemporalAdaptive"),
        kinetics_sampling="dense",
        flips={"something": "none", "jester": "none"},
        partial_bn=False,
        param_group=deferred("ops.temporal.adaptive:param_group"),
        key_signature="before_conv2.kernel_fc1.",
        infer_options=deferred("ops.temporal.adaptive:infer_options"),
    ),
    "tin": TemporalModule(
        slot="before_conv1",
        module_class=deferred("ops.temporal.interlace:TemporalInterlace"),
        flips=_NEVER_MIRRORED,
        options={"shift_div": Option(int, 4, _SHIFT_DIV_HELP, minimum=1)},
        average="softmax",
        dense_stride=2,  # TIN ops/dataset.py trains so, though its test.py has windows of 64
        key_signature="before_conv1.offset_conv.",
        infer_options=deferred("ops.temporal.interlace:infer_options"),
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


def supported_modules(backbone):
    """Names of the temporal modules that a backbone has the slots for, in the order of the table.

    Args:
        backbone: see ``ops.backbones``.

    Returns:
        a list of keys of ``MODULES``.
    """
    slots = common_slots(backbone)
    names = []
    for name, entry in MODULES.items():
        has_slot = entry.module_class is None or entry.possible_slots() & slots
        has_stem = entry.stem is None or "stem" in backbone.network_slots
        if has_slot and has_stem:
            names.append(name)
    return names


def common_slots(backbone):
    """Names of the slots that every block has."""
    blocks = [block for stage in backbone.stages() for block in stage]
    return set.intersection(*(set(block.slots) for block in blocks))
