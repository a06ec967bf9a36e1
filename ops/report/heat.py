"""The confusion matrix of the page: an SVG whose cells are the pixels of a PNG, light and dark."""

import base64
import json
from io import BytesIO
from itertools import pairwise

import numpy as np
from markupsafe import Markup
from PIL import Image

from ops.report.markup import columns, render, shorten

EDGES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # shares of a row at which the next color begins
# No video at all, then seven steps of ColorBrewer's YlGnBu, whose lightness falls (light theme) or
# rises (dark theme) monotonically.
LIGHT = ("#f1f3f5", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#253494", "#081d58")
DARK = ("#20252c", "#253494", "#225ea8", "#1d91c0", "#41b6c4", "#7fcdbb", "#c7e9b4", "#ffffd9")
# Largest number of classes, and pixels of a cell.
_CELL_SIZES = ((12, 44), (30, 27), (80, 13))
_SIDE = 880  # pixels of a larger matrix
_NUMBERS = 30  # up to this number of classes, the cells contain numbers
_NAMES = 80  # up to this number of classes, rows and columns have names
_ROW_COLUMNS = 40  # columns of text of the name of a row
_COLUMN_COLUMNS = 26  # columns of text of the name of a column
_CELLS = 40_000  # cells with data for the pointer: those with the most videos
_TICK_STEPS = (10, 20, 50, 100, 200, 500, 1000, 10**6)
_EQUAL_CONTRAST = 0.179  # luminance at which black and white text have the same contrast
_TICK_PIXELS = 40  # between two ticks, at least


def levels(confusion: np.ndarray) -> np.ndarray:
    """The index of each cell in ``LIGHT`` and ``DARK``, uint8 ``[classes, classes]``.

    It depends on the share of the cell in its row.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return ((shares > 0) + np.searchsorted(EDGES, shares, side="right")).astype(np.uint8)


def level_names() -> list[str]:
    """What each of ``LIGHT`` and ``DARK`` stands for: ``none``, ``0–2 %``, ..."""
    limits = [0, *(round(100 * edge) for edge in EDGES), 100]
    return ["none", *(f"{low}–{high} %" for low, high in pairwise(limits))]


def has_names(classes: int) -> bool:
    """Whether rows and columns of the matrix have names, else numbers."""
    return classes <= _NAMES


def cell_size(classes: int) -> int:
    """Pixels of a cell on the page."""
    for most, pixels in _CELL_SIZES:
        if classes <= most:
            return pixels
    return max(1, _SIDE // classes)


def heat_map(confusion: np.ndarray, names: list[str], alt: str) -> Markup:
    """Draw a confusion matrix as SVG.

    Args:
        confusion: counts int64 ``[classes, classes]``, one row per true class.
        names: one per class, in the same order.
        alt: what the figure shows, in words.

    Returns:
        The SVG element. It carries names and counts for the script of the page.
    """
    classes = len(confusion)
    cell = cell_size(classes)
    side = classes * cell
    level = levels(confusion)
    size = 12 if cell > 20 else 11
    left, top, right = 58, 40, 10
    labels, ticks, counts = [], [], []
    if has_names(classes):
        above = _text_pixels(names, _COLUMN_COLUMNS, size)
        left = 28 + _text_pixels(names, _ROW_COLUMNS, size)
        top, right = 32 + 0.82 * above, 0.58 * above  # column names are rotated by 55 degrees
        labels = _labels(names, cell, left, top, size)
    else:
        ticks = _ticks(classes, cell)
    if classes <= _NUMBERS:
        counts = _counts(confusion, level, cell, left, top)
    images = [
        {"theme": theme, "png": _png(level, colors)}
        for theme, colors in (("light", LIGHT), ("dark", DARK))
    ]
    return render(
        "heat.svg",
        alt=alt,
        width=left + side + right + 4,
        height=top + side + 6,
        left=left,
        top=top,
        side=side,
        images=images,
        labels=labels,
        ticks=ticks,
        counts=counts,
        font_size=size,
        count_size=13 if cell > 40 else 10,
        names=_json(names),
        cells=_json(_largest(confusion)),
        videos=_json(confusion.sum(axis=1).tolist()),
    )


def style() -> str:
    """CSS variables: ``--heat0`` to ``--heat7``, and ``--on0`` to ``--on7`` for text on them."""
    light, dark = _rule(LIGHT), _rule(DARK)
    return f"{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _rule(colors: tuple[str, ...]) -> str:
    variables = (
        f"--heat{place}:{color};--on{place}:{text_color(color)};"
        for place, color in enumerate(colors)
    )
    return ":root{" + "".join(variables) + "}"


def text_color(color: str) -> str:
    """Black or white, whichever has more contrast with ``color`` (relative luminance of WCAG 2)."""
    channels = np.frombuffer(bytes.fromhex(color[1:]), np.uint8) / 255
    red, green, blue = channels**2.2
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000" if luminance > _EQUAL_CONTRAST else "#fff"


def _text_pixels(names: list[str], most: int, size: int) -> float:
    """Width of the longest of the names, shortened to ``most`` columns."""
    widest = max(max(columns(shorten(name, most)), default=0) for name in names)
    return 0.6 * size * widest


def _labels(names: list[str], cell: int, left: float, top: float, size: int) -> list[dict]:
    labels = []
    for place, name in enumerate(names):
        middle = (place + 0.5) * cell
        labels.append(
            {
                "name": name,
                "row": shorten(name, _ROW_COLUMNS),
                "row_y": top + middle + size * 0.36,
                "column": shorten(name, _COLUMN_COLUMNS),
                "column_x": left + middle + size * 0.3,
            }
        )
    return labels


def _ticks(classes: int, cell: int) -> list[dict]:
    step = next(step for step in _TICK_STEPS if step * cell >= _TICK_PIXELS)
    return [
        {"number": number, "at": (number - 0.5) * cell} for number in range(step, classes + 1, step)
    ]


def _counts(
    confusion: np.ndarray, level: np.ndarray, cell: int, left: float, top: float
) -> list[dict]:
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return [
        {
            "x": left + (column + 0.5) * cell,
            "y": top + (row + 0.5) * cell + 4,
            "level": level[row, column],
            "percent": f"{shares[row, column]:.0f}",
        }
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


def _png(level: np.ndarray, colors: tuple[str, ...]) -> str:
    image = Image.fromarray(level)
    image.putpalette(bytes.fromhex("".join(colors).replace("#", "")))
    data = BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
