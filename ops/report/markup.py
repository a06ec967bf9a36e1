"""HTML and SVG written so that no text can become markup: what is not :class:`Html` is escaped."""

import re
import unicodedata
from bisect import bisect_right
from html import escape
from itertools import accumulate

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_EMPTY = ("img", "meta", "br", "rect", "image", "path")


class Html(str):
    """Markup that is finished."""


def text(value: object) -> Html:
    """``value`` with every character that means something in HTML escaped; what no text may hold becomes U+FFFD."""
    return value if isinstance(value, Html) else Html(escape(_NO_TEXT.sub("\ufffd", str(value))))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element. Of attribute names a ``_`` at the end goes and others become ``-``; one that is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not content:
        return Html(f"<{name}{given}/>")
    return Html(f"<{name}{given}>{''.join(map(text, content))}</{name}>")


def join(parts) -> Html:
    return Html("".join(map(text, parts)))


def named(value: str) -> Html:
    """A name from outside: its direction of writing ends with it."""
    return tag("bdi", value)


def table(head, rows, **attributes) -> Html:
    """A table; a row is a list of contents, or of ``td`` and ``th`` elements that are ready. Numbers stand to the right."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", *(tag("th", title, scope="col") for title in head))),
            tag("tbody", *(tag("tr", *map(_cell, row)) for row in rows)),
            **attributes,
        ),
        class_="wide",
    )


def _cell(value) -> Html:
    if isinstance(value, Html) and value.startswith(("<td", "<th")):
        return value
    return tag("td", value, class_="number" if isinstance(value, int | float) else None)


def columns(name: str) -> list[int]:
    """Where each character of ``name`` ends, in columns, of which a Chinese, Japanese or Korean character takes two."""
    return list(
        accumulate(
            2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in name
        )
    )


def shorten(name: str, width: int) -> str:
    """``name``, or where it is wider than ``width`` columns its beginning and ``…``."""
    ends = columns(name)
    return (
        name
        if not ends or ends[-1] <= width
        else name[: bisect_right(ends, width - 1)].rstrip() + "…"
    )
