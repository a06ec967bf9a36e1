"""TOML files that people write: parsed, with the line of each key for messages."""

import os
import re
import tomllib
from collections.abc import Mapping
from string import Template
from typing import Any

from ops.data.lists import read_text
from ops.utils.errors import UserError
from ops.utils.text import printable

_MAX_DOTS = 200  # of a line: tomllib takes a minute for a key of 50,000 parts
_MAX_SHOWN = 60  # characters of a value in a message
_FORM = 'write KEY = VALUE, text in "quotes"'
_SECTION_HEADER = re.compile(r"\s*\[+\s*[\"']?([\w-]+)[\"']?\s*\]+\s*(?:#.*)?")
_TOML_PLACE = re.compile(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)")
_DEFAULT_MARK = ":-"  # between the name of a variable and its default, as in the shell


class TomlFile:
    """A parsed TOML file.

    Args:
        path: the file.

    Attributes:
        path: the file.
        content: section or key -> value, as ``tomllib`` returns it.

    Raises:
        UserError: the file is missing or not TOML; the message names file and line.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        text = read_text(path)
        self.content = _parse(path, text)
        self._lines = text.split("\n")

    def place(self, section: str, key: str) -> str:
        """Where a key is: ``file:line``, or the file if the line is not found.

        Args:
            section: name of its section; "": the top level.
            key: name of the key.
        """
        line = self._find_line(section, key)
        return self.path if line is None else f"{self.path}:{line}"

    def _find_line(self, section: str, key: str) -> int | None:
        """The first line that looks like the key: tomllib does not report lines of values."""
        key_start = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
        current_section = ""
        for number, line in enumerate(self._lines, 1):
            header = _SECTION_HEADER.fullmatch(line)
            if header:
                current_section = header[1]
                if not section and current_section == key:
                    return number
            if current_section == section and key_start.match(line):
                return number
        return None


def _parse(path: str, text: str) -> dict[str, Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MAX_DOTS:
            raise UserError(f"{path}:{number}: more than {_MAX_DOTS} dots; {_FORM}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5000 digits
        raise _not_toml(path, text, error) from None


def _not_toml(path: str, text: str, error: Exception) -> UserError:
    """The error for a file that tomllib refuses, with the line if tomllib reports it."""
    reason = " ".join(str(error).split())
    place = _TOML_PLACE.search(reason)
    if place:
        reason = reason.replace(place[0], "")
        line = place[1] or text.rstrip().count("\n") + 1
        path = f"{path}:{line}"
    return UserError(f"{path}: not TOML: {reason}; {_FORM}")


class _VariableTemplate(Template):
    """A template whose names can have a default: ``${NAME:-default}``."""

    braceidpattern = r"[_A-Za-z][_A-Za-z0-9]*(?::-[^}]*)?"


class _Environment(Mapping[str, str]):
    """The environment, where the key ``NAME:-default`` gives the default of an unset variable."""

    def __getitem__(self, key: str) -> str:
        name, mark, default = key.partition(_DEFAULT_MARK)
        # As in the shell, a variable that is set to nothing has the default.
        if mark and not os.environ.get(name):
            return default
        return os.environ[name]

    def __iter__(self):
        return iter(os.environ)

    def __len__(self):
        return len(os.environ)


def fill_in_variables(value: str) -> str:
    """Replace ``$NAME``, ``${NAME}`` and ``${NAME:-default}`` by environment variables.

    Args:
        value: a text, in which ``$$`` is a dollar sign.

    Raises:
        ValueError: a variable is not set and has no default, or a ``$`` has no name. The message
            says what to do.
    """
    try:
        return _VariableTemplate(value).substitute(_Environment())
    except KeyError as error:
        name = error.args[0]
        raise ValueError(
            f"the environment variable {name} is not set; export {name}=..., or write the full text"
        ) from None
    except ValueError:
        raise ValueError(
            f"{shortened(value)} has a $ without a name; write $NAME, ${{NAME}}, or $$ for a $"
        ) from None


def shortened(value: Any) -> str:
    """A value of a file for a message."""
    # reprlib for anything but text: dotted keys can be nested very deeply.
    text = repr(value) if isinstance(value, str) else printable(value)
    if len(text) > _MAX_SHOWN:
        return text[: _MAX_SHOWN - 3] + "..."
    return text
