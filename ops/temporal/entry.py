"""The form of an entry in the table of temporal modules (``ops.temporal.MODULES``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ops.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Option:
    """An option of a temporal module. Its flag, its help and its checks are derived from it.

    Attributes:
        type: ``int``, ``float``, ``str`` or ``bool``.
        default: value where none is given.
        help: text of ``--help``, without the default.
        choices: the values that are allowed; empty for any.
        slots: for an option that chooses where the module is inserted: value -> name of the slot.
            Its choices are the keys, and its value is not given to the module itself.
        minimum: least value of a number, or None.
    """

    type: type
    default: object
    help: str
    choices: tuple = ()
    slots: Mapping[str, str] = field(default_factory=dict)
    minimum: float | None = None

    def __post_init__(self):
        if self.slots and not self.choices:
            object.__setattr__(self, "choices", tuple(self.slots))

    def check(self, name, value):
        """Raise UserError unless ``value`` is one that the option called ``name`` can have."""
        if self.choices:
            if value not in self.choices:
                known = ", ".join(map(str, self.choices))
                raise UserError(f"--{name} {value}: unknown; known are {known}")
            return
        is_number = self.type is float and type(value) is int
        if type(value) is not self.type and not is_number:
            raise UserError(f"--{name} {value}: must be {TYPE_NAMES[self.type]}")
        if self.minimum is not None and not value >= self.minimum:
            raise UserError(
                f"--{name} {value}: must be {TYPE_NAMES[self.type]} from {self.minimum}"
            )


TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


@dataclass(frozen=True)
class TemporalModule:
    """Where a temporal module is inserted, and how its authors trained and tested it.

    Attributes:
        slot: slot of a block (``ops.backbones``) that receives the module; an option with
            ``slots`` overrides it.
        stages: numbers of the stages whose blocks receive a module, from 1; None for all.
        module_class: ``(channels, num_segments, **options) -> nn.Module`` for ``[N, C, H, W]``.
        options: name -> :class:`Option`, what a user may set.
        check_options: raises UserError for values that exclude each other, given all options.
        describe_options: all options -> words for one line about a model. Without it the options
            that differ from their defaults are listed.
        every_other_block_if_deep: whether every second block stays without a module in backbones
            with 23 blocks or more in the third stage. Applies to ``slot`` only.
        stepping_obstacle: all options -> why a network with this module cannot process one frame
            after another, or None: then ``module_class`` has a method ``step(x, state) -> (y,
            state)`` for a frame ``[B, C, H, W]``, in which the first state is None. Without it the
            module needs whole clips.
        stem: ``(first_conv, stage, num_segments) -> nn.Module``, the module around the first stage.
        frames_per_segment: L of RGB.
        modalities: the inputs that the module can process.
        lr_policy: "groups" (the lr and decay multipliers of TSN) or "flat".
        partial_bn: whether its authors froze every BatchNorm but the first.
        partial_bn_freezes: whether this also froze the BatchNorms inside of the module.
        average: what its authors average over the views of a video, "logits" or "softmax".
        dense_stride: distance of the frames of a dense clip in their training; None: a window of
            64 frames for any T.
        kinetics_sampling: how they test Kinetics, unless a flag says otherwise.
        flips: dataset -> value of ``--flip`` in their recipe, where it differs from the dataset's.
        param_group: ``(layer, name, parameter) -> str | None``, the group of a parameter under
            the policy "groups"; None leaves it to the rules of ``ops.training.optim``. It is asked
            about every parameter but those of the first conv, the BatchNorms and the head.
        key_signature: part of a key that only the weights of this module have.
        infer_options: shapes (``layer1.0...`` -> tuple) -> arguments that follow from them, such
            as a T that the shapes contain.
    """

    slot: str = ""
    stages: tuple[int, ...] | None = None
    module_class: Callable[..., nn.Module] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    check_options: Callable[[Mapping[str, object]], None] | None = None
    describe_options: Callable[[Mapping[str, object]], str] | None = None
    every_other_block_if_deep: bool = False
    stepping_obstacle: Callable[[Mapping[str, object]], str | None] | None = None
    stem: Callable[[nn.Conv2d, nn.Module, int], nn.Module] | None = None
    frames_per_segment: int = 1
    modalities: tuple[str, ...] = ("RGB", "Flow", "RGBDiff")
    lr_policy: str = "groups"
    partial_bn: bool = True
    partial_bn_freezes: bool = False
    average: str = "logits"
    dense_stride: int | None = None
    kinetics_sampling: str = "center"
    flips: Mapping[str, str] = field(default_factory=dict)
    param_group: Callable[[nn.Module, str, nn.Parameter], str | None] | None = None
    key_signature: str = ""
    infer_options: Callable[[Mapping[str, tuple[int, ...]]], dict[str, int]] | None = None

    def defaults(self):
        """The default of every option, name -> value."""
        return {name: option.default for name, option in self.options.items()}

    def slot_for(self, options):
        """The slot that these options choose.

        Args:
            options: name -> value; one that is missing has its default.

        Returns:
            the name of a slot.
        """
        for name, option in self.options.items():
            if option.slots:
                return option.slots[options.get(name, option.default)]
        return self.slot

    def module_options(self, options):
        """The options without those that choose a slot: arguments of ``module_class``."""
        return {
            name: value
            for name, value in options.items()
            if name in self.options and not self.options[name].slots
        }

    def possible_slots(self):
        """Every slot that the module can be inserted into."""
        for option in self.options.values():
            if option.slots:
                return set(option.slots.values())
        return {self.slot}

    def describe(self, options):
        """A few words about the options of a model, empty where there is nothing to mention.

        Args:
            options: name -> value, all options of the module.

        Returns:
            text for one line.
        """
        if self.describe_options:
            return self.describe_options(options)
        words = [
            f"{name} {options[name]}"
            for name, option in self.options.items()
            if options.get(name, option.default) != option.default
        ]
        return ", ".join(words)
