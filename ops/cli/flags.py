"""Flags that state what they affect, and the parser of all commands."""

import argparse
import difflib
from enum import Enum
from typing import Any, NamedTuple


class Effect(Enum):
    """What a flag affects. Three readers decide by it, so that none keeps a list of its own.

    ======  =================  ================  ===========================
    effect  resumed training   tools/doctor.py   more scores in a directory
    ======  =================  ================  ===========================
    RESULT  must be the same   compared          must be the same
    NOISE   must be the same   not compared      must be the same
    EXTENT  may differ         compared          may differ
    NONE    may differ         not compared      may differ
    ======  =================  ================  ===========================
    """

    RESULT = "what is learned or measured"
    NOISE = "numbers within their noise: random draws, rounding"
    EXTENT = "how long a run is and which lists it reads"
    NONE = "where and how a run works: files, machine, logs, use of its results"


class Flag(NamedTuple):
    """A flag or positional argument as it was declared.

    Attributes:
        names: as ``add_argument`` takes them.
        settings: further arguments of ``add_argument``.
        action: what ``add_argument`` returned.
    """

    names: tuple[str, ...]
    settings: dict[str, Any]
    action: argparse.Action

    @property
    def is_positional(self):
        """Whether it is an argument without a name on the command line."""
        return not self.action.option_strings


_UNKNOWN = "unrecognized arguments: "  # how argparse begins the message


class SuggestingParser(argparse.ArgumentParser):
    """An argparse parser that suggests a flag in place of one that does not exist."""

    def error(self, message):
        """Exit with the message and, for an unknown flag, the one that is most like it."""
        super().error(self.with_suggestion(message))

    def with_suggestion(self, message):
        """The message of an error, with the flag that was probably meant if one is unknown."""
        if not message.startswith(_UNKNOWN):
            return message
        known = {
            name.replace("_", "-"): name
            for name, action in self._option_string_actions.items()
            if action.help is not argparse.SUPPRESS
        }
        for word in message.removeprefix(_UNKNOWN).split():
            flag = word.partition("=")[0].replace("_", "-")
            near = difflib.get_close_matches(flag, known, n=1) if flag.startswith("--") else []
            if near:
                return f"{message}; did you mean {known[near[0]]}?"
        return message


class FlagParser(SuggestingParser):
    """An argparse parser whose arguments have an effect.

    Attributes:
        effects: name of an argument -> :class:`Effect`.
        flags: every :class:`Flag`, in the order of declaration.
        replaced: name of an argument -> names of the arguments that it takes the place of.
    """

    def __init__(self, description, epilog=None):
        super().__init__(
            description=description,
            formatter_class=_HelpFormatter,
            # An unknown flag is an error, today and after new flags were added.
            allow_abbrev=False,
            epilog=epilog,
        )
        self.effects = {}
        self.flags = []
        self.replaced = {}

    def group(self, title):
        """A titled :class:`FlagGroup` of ``--help``."""
        return FlagGroup(self, title)

    def add_flag(self, *names, effect, group=None, replaces=(), **settings):
        """Add a flag or a positional argument.

        A switch (``store_true``) also gets a hidden ``--no-NAME``, which switches off what a file
        of ``--config`` switches on.

        Args:
            *names: as ``add_argument`` takes them.
            effect: an :class:`Effect`.
            group: an argparse group that lists it; None: the parser itself.
            replaces: names of other arguments that give the same in another form. Given on the
                command line, this one takes the place of those in a file.
            **settings: of ``add_argument``.

        Raises:
            ValueError: another flag sets the same argument and has another effect.
        """
        action = (group or self).add_argument(*names, **settings)
        if self.effects.setdefault(action.dest, effect) is not effect:
            raise ValueError(
                f"{names[0]}: {action.dest} has the effect {self.effects[action.dest]}"
            )
        self.flags.append(Flag(names, settings, action))
        self.replaced[action.dest] = (*self.replaced.get(action.dest, ()), *replaces)
        if settings.get("action") == "store_true":
            self._add_off_switch(action)

    def _add_off_switch(self, action):
        long_names = [name for name in action.option_strings if name.startswith("--")]
        self.add_argument(
            *[f"--no-{name.removeprefix('--')}" for name in long_names],
            dest=action.dest,
            action="store_false",
            default=action.default,
            help=argparse.SUPPRESS,
        )

    def parse_with_values(self, argv, values):
        """Parse a command line whose arguments win over values from elsewhere.

        Args:
            argv: the words after the program's name.
            values: name of an argument -> its value, converted already. A required positional
                argument among them may be absent from the command line.

        Returns:
            the arguments as ``parse_args`` returns them.
        """
        unset = object()  # tells a default from the same value on the command line
        defaults = {}
        absent = {}  # what argparse sets for a positional argument that is not given
        for flag in self.flags:
            action = flag.action
            if action.default is argparse.SUPPRESS:
                continue
            defaults.setdefault(action.dest, _converted_default(action))
            if flag.is_positional:
                absent[action.dest] = defaults[action.dest]
                if action.dest in values and action.required:
                    action.nargs, action.required = "?", False
        blank = argparse.Namespace(**dict.fromkeys(defaults, unset))
        given = {}
        for name, value in vars(self.parse_args(argv, blank)).items():
            if value is not unset and not (name in absent and value == absent[name]):
                given[name] = value
        return argparse.Namespace(**{**defaults, **self.merged(values, given)})

    def merged(self, lower, upper):
        """Merge two sets of arguments, of which ``upper`` wins.

        Args:
            lower: name of an argument -> value.
            upper: the same. What an argument of it replaces is not taken from ``lower``.
        """
        gone = {
            name for key, value in upper.items() if value for name in self.replaced.get(key, ())
        }
        kept = {name: value for name, value in lower.items() if name not in gone}
        return {**kept, **upper}

    def names_of(self, *effects):
        """The set of the arguments with one of these effects."""
        return {name for name, effect in self.effects.items() if effect in effects}

    def error(self, message):
        """Exit with one line: the usage, of dozens of flags, would hide it."""
        message = self.with_suggestion(message)
        self.exit(2, f"error: {message}; python {self.prog} --help explains the flags\n")


def _converted_default(action):
    """The default of an argument; argparse converts one that is text."""
    if isinstance(action.default, str) and action.type is not None:
        return action.type(action.default)
    if action.nargs == "*" and action.default is None:
        return []
    return action.default


class FlagGroup:
    """A titled group of the flags of a :class:`FlagParser`."""

    def __init__(self, parser, title):
        self.parser = parser
        self._group = parser.add_argument_group(title)

    def add_flag(self, *names, effect, **settings):
        """Add a flag to the group; see :meth:`FlagParser.add_flag`."""
        self.parser.add_flag(*names, effect=effect, group=self._group, **settings)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action):
        """The help with its default, unless there is none or the text names it."""
        if action.default is None or "(default: " in action.help:
            return action.help
        return super()._get_help_string(action)
