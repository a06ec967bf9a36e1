"""Flags in TOML files: ``--config FILE.toml``.

A key is the name of a flag without its dashes, and a value means what it means on the command line.
Keys above all sections are for every command; a section is for one command::

    dataset = "something"
    [train]                 # main.py
    modality = "RGB"
    lr = 0.01
    lr_steps = [30, 45, 55]
    [test]                  # the test scripts; --config FILE.toml:test1 takes [test1] instead
    test_segments = 8

A file without sections is for the command that it is given to.
"""

import argparse
import difflib
import json
import math
import re
from typing import Any, NoReturn

from ops.cli.flags import Effect, Flag, FlagParser
from ops.data.toml_file import TomlFile, fill_in_variables, shortened
from ops.utils.errors import UserError

_SWITCHES = ("store_true", "store_false", "store_const", argparse.BooleanOptionalAction)
_SECTION_NAMES = re.compile(r"train|test\w*")
_PATH_AND_SECTION = re.compile(r"(.+\.toml):([\w-]+)")


def add_config(parser: FlagParser) -> None:
    """Add ``--config`` to a parser."""
    parser.add_flag(
        "--config",
        effect=Effect.NONE,
        action="append",
        default=argparse.SUPPRESS,
        metavar="FILE.toml",
        help="flags in a file (docs/training.md, Recipes as files); may be repeated: later files "
        "win, and the command line wins over all; --no-NAME switches off a switch of a file",
    )


def parse_with_config(parser: FlagParser, argv: list[str], section: str) -> argparse.Namespace:
    """Parse a command line and the files that its ``--config`` flags name.

    Args:
        parser: one that :func:`add_config` was called with.
        argv: the words after the program's name.
        section: name of the section of the files that is for this command.

    Returns:
        the arguments as ``parse_args`` returns them; ``config`` is the list of files.

    Raises:
        UserError: a file cannot be read, a key is unknown, or a value is invalid; the message names
            file and line.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config", action="append", default=[])
    finder.error = parser.error
    paths = finder.parse_known_args(argv)[0].config
    values: dict[str, Any] = {}
    for path in paths:
        values = parser.merged(values, read_config(parser, path, section))
    args = parser.parse_with_values(argv, values)
    args.config = paths
    return args


def read_config(parser: FlagParser, path: str, section: str) -> dict[str, Any]:
    """Read a file of flags.

    Args:
        parser: of the command.
        path: the file; ``FILE.toml:SECTION`` takes that section in place of the command's own.
        section: the command's own section.

    Returns:
        name of an argument -> value, for the arguments that the file gives.

    Raises:
        UserError: as :func:`parse_with_config`.
    """
    named = _PATH_AND_SECTION.fullmatch(path)
    if named:
        path, section = named.groups()
    file = TomlFile(path)
    sections = [key for key, value in file.content.items() if isinstance(value, dict)]
    for name in sections:
        if not _SECTION_NAMES.fullmatch(name):
            raise UserError(
                f"{file.place('', name)}: unknown section [{name}]; [train] is for main.py, [test] "
                "and others that start with test are for the test scripts"
            )
    if section not in sections and (sections or named):
        found = ", ".join(f"[{name}]" for name in sections) or "no section"
        raise UserError(f"{path}: has no section [{section}] with flags of this command ({found})")
    common = {key: value for key, value in file.content.items() if key not in sections}
    values = _read_section(parser, file, "", common)
    if section in sections:
        own = _read_section(parser, file, section, file.content[section])
        values = parser.merged(values, own)
    return values


def _read_section(
    parser: FlagParser, file: TomlFile, section: str, content: dict[str, Any]
) -> dict[str, Any]:
    """The arguments that one section gives, converted by the types of their flags.

    Args:
        parser: of the command.
        file: for messages.
        section: name of the section; "": the keys above all sections.
        content: key -> value.
    """
    flags = _flags_by_key(parser)
    values: dict[str, Any] = {}
    key_of: dict[str, str] = {}
    for key, value in content.items():
        place = file.place(section, key)
        flag = flags.get(_as_key(key))
        if flag is None:
            _fail_unknown(parser, place, key)
        name = flag.action.dest
        if name in values:
            raise UserError(f"{place}: {key} and {key_of[name]} are the same flag; give one")
        try:
            values[name] = _convert(flag, value)
        except ValueError as error:
            raise UserError(f"{place}: {key}: {error}") from None
        key_of[name] = key
    return values


def _flags_by_key(parser: FlagParser) -> dict[str, Flag]:
    """The flags that a file can give, by each of their names."""
    flags = {}
    for flag in parser.flags:
        if _is_for_files(flag):
            flags.update(dict.fromkeys(_keys_of(flag), flag))
    return flags


def _is_for_files(flag: Flag) -> bool:
    """Whether a file can give a flag.

    Not those of the original programs, each of which has another name here; nor positional
    arguments that are optional, which are flags as well.
    """
    settings = flag.settings
    if settings.get("help") is argparse.SUPPRESS or flag.action.dest == "config":
        return False
    if settings.get("action") == "append_const":
        return False
    return not flag.is_positional or flag.action.nargs is None


def _keys_of(flag: Flag) -> list[str]:
    if flag.is_positional:
        return [flag.action.dest]
    return [_as_key(name) for name in flag.names if name.startswith("--")]


def _as_key(name: str) -> str:
    """A name without leading dashes and with underscores: ``batch-size`` is ``batch_size``."""
    return name.lstrip("-").replace("-", "_")


def _fail_unknown(parser: FlagParser, place: str, key: str) -> NoReturn:
    others = [flag for flag in parser.flags if _as_key(key) in _keys_of(flag)]
    if others:
        reason = others[0].settings["help"]
        if key == "config":
            reason = "a file does not include others"
        elif reason is argparse.SUPPRESS:
            reason = "a flag of the original programs, docs/original_commands.md"
        raise UserError(f"{place}: {key} is for the command line only: {reason}")
    near = difflib.get_close_matches(_as_key(key).lower(), _flags_by_key(parser), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"{place}: unknown key {shortened(key)}; {hint}--help lists the flags")


class _OneFlagParser(FlagParser):
    """A parser that raises its errors."""

    def error(self, message):
        """Raise a ValueError with the message, without the name of the argument."""
        raise ValueError(re.sub(r"^argument [^:]*: ", "", message))


def _convert(flag: Flag, value: Any) -> Any:
    """The value of a flag as the command line would give it.

    Raises:
        ValueError: the flag cannot have such a value.
    """
    parser = _OneFlagParser("")
    parser.add_flag(*flag.names, effect=Effect.NONE, **flag.settings)
    if flag.is_positional:
        words = ["--", _as_text(value)]
    elif flag.settings.get("action") in _SWITCHES:
        words = [_switch(flag, value)]
    else:
        words = _words_with_value(flag, value)
    return getattr(parser.parse_args(words), flag.action.dest)


def _switch(flag: Flag, value: Any) -> str:
    """The word of the command line for a switch that is on or off."""
    name = _long_name(flag)
    if type(value) is not bool:
        raise ValueError(f"write true or false, not {shortened(value)}")
    if value:
        return name
    if flag.settings["action"] in ("store_false", "store_const"):
        raise ValueError(f"only true is possible; leave it out, or give {flag.action.dest}")
    return f"--no-{name.removeprefix('--')}"


def _long_name(flag: Flag) -> str:
    return next(name for name in flag.names if name.startswith("--"))


def _words_with_value(flag: Flag, value: Any) -> list[str]:
    """The words of the command line for a flag with one value or several."""
    name = _long_name(flag)
    nargs = flag.settings.get("nargs")
    if nargs == "?" and value is True:
        return [name]
    if nargs in ("+", "*") and isinstance(value, list):
        return [name, *map(_as_text, value)]
    return [f"{name}={_as_text(value)}"]


def _as_text(value: Any) -> str:
    """A single value as a word of the command line."""
    if isinstance(value, str):
        return fill_in_variables(value)
    if type(value) not in (int, float):
        raise ValueError(f"write a number, or text in quotes, not {shortened(value)}")
    return str(value)


def toml_lines(parser: FlagParser, values: dict[str, Any], skipped: set[str]) -> list[str]:
    """Arguments as lines of a file that ``--config`` reads.

    Args:
        parser: of the command.
        values: name of an argument -> value. What is no flag, and what is None, is left out.
        skipped: names of arguments that are left out, too.

    Returns:
        ``key = value`` of each argument, in the order of ``--help``.
    """
    keys = _flags_by_key(parser)
    lines = []
    for name in dict.fromkeys(flag.action.dest for flag in parser.flags):
        value = values.get(name)
        if name not in keys or value is None or name in skipped:
            continue
        try:
            lines.append(f"{name} = {_as_toml(value)}")
        except UnicodeEncodeError:
            lines.append(f"# {name} is not UTF-8 text: give it on the command line")
    return lines


def _as_toml(value: Any) -> str:
    """A plain value as TOML.

    Raises:
        UnicodeEncodeError: the value is a path that is not UTF-8.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_as_toml(item) for item in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    text = value.replace("$", "$$")
    text.encode()
    # Strings of JSON are strings of TOML, but for the delete character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
