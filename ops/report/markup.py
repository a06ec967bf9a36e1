"""Templates of the report, in which no text can become markup, and names that fit a width."""

import re
import unicodedata
from bisect import bisect_right
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
# Neither HTML nor XML can contain these characters.
_INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(value: object) -> object:
    """Replace the characters of a text that HTML cannot contain by U+FFFD; keep other values."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _INVALID.sub("\ufffd", value)
    return value


def render(template: str, **context: object) -> Markup:
    """Fill a template.

    Args:
        template: name of a file in ``templates/``.
        context: its variables. What is not ``Markup`` is escaped.

    Returns:
        The finished markup.
    """
    return Markup(_environment().get_template(template).render(context))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = lambda value, digits: f"{value:.{digits}f}"
    environment.filters["percent"] = _percent
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment


def _percent(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.2f}"


def columns(name: str) -> list[int]:
    """The column in which each character of ``name`` ends; East Asian wide characters take two."""
    widths = (2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in name)
    return list(accumulate(widths))


def shorten(name: str, width: int) -> str:
    """``name``, or its beginning and ``…`` if it is wider than ``width`` columns."""
    ends = columns(name)
    if not ends or ends[-1] <= width:
        return name
    return name[: bisect_right(ends, width - 1)].rstrip() + "…"
