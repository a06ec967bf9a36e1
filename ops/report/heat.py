"""The confusion matrix as a picture: one SVG whose cells are the pixels of a PNG, in colours for light and for dark."""

import base64
import json
from io import BytesIO
from itertools import pairwise

import numpy as np
from PIL import Image

from ops.report.markup import Html, columns, join, named, shorten, tag

EDGES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # shares of a row at which the next colour begins
# No video at all, then seven steps of ColorBrewer's YlGnBu, whose lightness falls (on light) or rises (on dark) all the way.
LIGHT = ("#f1f3f5", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58")
DARK = ("#20252c", "#253494", "#225ea8", "#1d91c0", "#41b6c4", "#7fcdbb", "#c7e9b4", "#ffffd9")
_NUMBERS = 30  # up to so many classes the cells hold numbers
_NAMES = 80  # up to so many, rows and columns have names
_ROW_TEXT, _COLUMN_TEXT = 40, 26  # columns of text in the name of a row and of a column
_CELLS = 40_000  # cells that the pointer can ask about: those with the most videos


def levels(confusion: np.ndarray) -> np.ndarray:
    """The place of each cell in ``LIGHT`` and ``DARK``, uint8 ``[classes, classes]``, from its share of its row."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return ((shares > 0) + np.searchsorted(EDGES, shares, side="right")).astype(np.uint8)


def level_names() -> list[str]:
    """What each of ``LIGHT`` and ``DARK`` stands for: ``none``, ``0–2 %``, ..."""
    limits = [0, *(round(100 * edge) for edge in EDGES), 100]
    return ["none", *(f"{low}–{high} %" for low, high in pairwise(limits))]


def cell_size(classes: int) -> int:
    """Pixels of a cell on the page."""
    return (
        44
        if classes <= 12
        else 27
        if classes <= _NUMBERS
        else 13
        if classes <= _NAMES
        else max(1, 880 // classes)
    )


def heat_map(confusion: np.ndarray, names: list[str], alt: str) -> Html:
    """The picture of counts int64 ``[classes, classes]``, row = truth, with the names of the classes in the same order;
    ``alt`` says in words what it shows."""
    classes, cell = len(confusion), cell_size(len(confusion))
    side, level = classes * cell, levels(confusion)
    size = 12 if cell > 20 else 11
    if classes <= _NAMES:
        left = 28 + _room(names, _ROW_TEXT, size)
        above = _room(names, _COLUMN_TEXT, size)
        top, right = 32 + 0.82 * above, 0.58 * above  # the names of columns lean by 55 degrees
        labels = _names(names, cell, left, top, size)
    else:
        left, top, right = 58, 40, 10
        labels = _ticks(classes, cell, left, top)
    pixels = [
        tag(
            "image",
            x=f"{left:.0f}",
            y=f"{top:.0f}",
            width=side,
            height=side,
            href=_png(level, colours),
            class_=theme,
            preserveAspectRatio="none",
        )
        for theme, colours in (("light", LIGHT), ("dark", DARK))
    ]
    frame = tag("rect", x=f"{left:.0f}", y=f"{top:.0f}", width=side, height=side, class_="frame")
    axes = [
        tag("text", "predicted", x=f"{left:.0f}", y=13, class_="axis"),
        tag(
            "text",
            "true class",
            transform=f"translate(12 {top + side:.0f}) rotate(-90)",
            class_="axis",
        ),
    ]
    counts = _counts(confusion, level, cell, left, top) if classes <= _NUMBERS else []
    width, height = left + side + right + 4, top + side + 6
    return tag(
        "svg",
        *pixels,
        frame,
        *axes,
        *labels,
        *counts,
        role="img",
        aria_label=alt,
        class_="heat",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        xmlns="http://www.w3.org/2000/svg",
        font_size=size,
        data_names=_json(names),
        data_cells=_json(_largest(confusion)),
        data_videos=_json(confusion.sum(axis=1).tolist()),
    )


def legend() -> Html:
    """The colours in words, for below the picture."""
    return tag(
        "p",
        tag("span", "Share of the videos of a row:"),
        *(
            tag("span", tag("i", style=f"background:var(--heat{place})"), " ", word, class_="key")
            for place, word in enumerate(level_names())
        ),
        class_="legend",
    )


def style() -> Html:
    """The variables ``--heat0`` to ``--heat7``, and ``--on0`` to ``--on7`` for what is written on them."""

    def rule(colours: tuple[str, ...]) -> str:
        return (
            ":root{"
            + "".join(
                f"--heat{place}:{colour};--on{place}:{text_color(colour)};"
                for place, colour in enumerate(colours)
            )
            + "}"
        )

    return Html(f"{rule(LIGHT)}@media screen and (prefers-color-scheme:dark){{{rule(DARK)}}}")


def text_color(colour: str) -> str:
    """Black or white, whichever stands out more from ``colour`` (relative luminance of WCAG 2)."""
    red, green, blue = (
        channel**2.2 for channel in np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
    )
    return "#000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#fff"


def _room(names: list[str], most: int, size: int) -> float:
    """Pixels that the longest of the names takes."""
    return 0.6 * size * max(max(columns(shorten(name, most)), default=0) for name in names)


def _names(names: list[str], cell: int, left: float, top: float, size: int) -> list[Html]:
    labels = []
    for place, name in enumerate(names):
        middle, title = (place + 0.5) * cell, tag("title", name)
        labels.append(
            tag(
                "text",
                shorten(name, _ROW_TEXT),
                title,
                x=f"{left - 6:.0f}",
                y=f"{top + middle + size * 0.36:.1f}",
                text_anchor="end",
            )
        )
        turned = f"translate({left + middle + size * 0.3:.1f} {top - 6:.0f}) rotate(-55)"
        labels.append(tag("text", shorten(name, _COLUMN_TEXT), title, transform=turned))
    return labels


def _ticks(classes: int, cell: int, left: float, top: float) -> list[Html]:
    step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 10**6) if step * cell >= 40)
    marks = []
    for place in range(step, classes + 1, step):
        at = (place - 0.5) * cell
        marks.append(
            tag("text", place, x=f"{left - 8:.0f}", y=f"{top + at + 4:.1f}", text_anchor="end")
        )
        marks.append(
            tag("text", place, x=f"{left + at:.1f}", y=f"{top - 8:.0f}", text_anchor="middle")
        )
        marks.append(
            tag(
                "path",
                d=f"M{left - 5:.0f} {top + at:.1f}h5M{left + at:.1f} {top - 5:.0f}v5",
                class_="frame",
            )
        )
    return marks


def _counts(
    confusion: np.ndarray, level: np.ndarray, cell: int, left: float, top: float
) -> list[Html]:
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return [
        tag(
            "text",
            f"{shares[row, column]:.0f}",
            x=f"{left + (column + 0.5) * cell:.1f}",
            y=f"{top + (row + 0.5) * cell + 4:.1f}",
            text_anchor="middle",
            style=f"fill:var(--on{level[row, column]})",
            font_size=13 if cell > 40 else 10,
        )
        for row, column in np.argwhere(shares >= 0.5).tolist()
    ]


def _largest(confusion: np.ndarray) -> list[list[int]]:
    flat = confusion.ravel()
    places = np.flatnonzero(flat)
    if len(places) > _CELLS:
        places = places[np.argsort(-flat[places], kind="stable")[:_CELLS]]
    return np.stack([*np.unravel_index(places, confusion.shape), flat[places]], axis=1).tolist()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _png(level: np.ndarray, colours: tuple[str, ...]) -> str:
    image = Image.fromarray(level)
    image.putpalette(bytes.fromhex("".join(colours).replace("#", "")))
    data = BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def order_list(names: list[str]) -> Html:
    """Which class stands at which place, where the picture has numbers only."""
    if len(names) <= _NAMES:
        return Html("")
    return tag(
        "details",
        tag("summary", "The classes in the order of the picture"),
        tag("ol", join(tag("li", named(name)) for name in names), class_="order"),
    )
