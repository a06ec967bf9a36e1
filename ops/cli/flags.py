"""Flags that state what they affect, and the parser of all commands."""

import argparse
from enum import Enum


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


class FlagParser(argparse.ArgumentParser):
    """An argparse parser whose arguments have an effect.

    Attributes:
        effects: name of an argument -> :class:`Effect`.
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

    def group(self, title):
        """A titled :class:`FlagGroup` of ``--help``."""
        return FlagGroup(self, title)

    def add_flag(self, *names, effect, group=None, **settings):
        """Add a flag or a positional argument.

        Args:
            *names: as ``add_argument`` takes them.
            effect: an :class:`Effect`.
            group: an argparse group that lists it; None: the parser itself.
            **settings: of ``add_argument``.

        Raises:
            ValueError: another flag sets the same argument and has another effect.
        """
        action = (group or self).add_argument(*names, **settings)
        if self.effects.setdefault(action.dest, effect) is not effect:
            raise ValueError(
                f"{names[0]}: {action.dest} has the effect {self.effects[action.dest]}"
            )

    def names_of(self, *effects):
        """The set of the arguments with one of these effects."""
        return {name for name, effect in self.effects.items() if effect in effects}

    def error(self, message):
        """Exit with one line: the usage, of dozens of flags, would hide it."""
        self.exit(2, f"error: {message}; python {self.prog} --help explains the flags\n")


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
