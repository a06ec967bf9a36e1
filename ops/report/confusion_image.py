"""The confusion matrix as ``confusion.png``, drawn by matplotlib, for slides and papers.

The figure of the page (``heat.py``) puts confused classes next to each other; here the classes are
in label order, as in ``confusion.csv``. The colors are the same.
"""

import unicodedata
from functools import cache
from io import BytesIO

import numpy as np
from matplotlib import font_manager, style
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font

from ops.report import heat
from ops.report.markup import shorten
from ops.utils.text import counted

_FONT = "DejaVu Sans"  # part of matplotlib, so that the image is the same everywhere
_LARGE = 12  # up to this number of classes, cells and their text are large
_COUNTS = 30  # up to this number of classes, cells contain the number of videos
_NAMES = 60  # up to this number of classes, the axes have names, else labels
_NAME_COLUMNS = 40  # longer names are shortened
_DPI = 150
_SMALLEST_SIDE = 2.5  # inches
_LARGE_SIDE = 10.0  # inches of a matrix whose cells are too small for text
_EXACT = (
    1200  # up to this number of classes a cell is a pixel or more; above, neighbors are blended
)


@style.context(["default", {"font.family": _FONT}])
def confusion_png(confusion: np.ndarray, names: list[str]) -> bytes:
    """Draw a confusion matrix.

    Args:
        confusion: counts int64 ``[classes, classes]``, one row per true class.
        names: one per class, in the same order.

    Returns:
        A PNG file; the same counts and names give the same bytes.
    """
    classes = len(confusion)
    side = max(_SMALLEST_SIDE, classes * _cell_inches(classes))
    figure = Figure(figsize=(side, side))
    # Names are outside of the axes: bbox_inches="tight" includes them.
    axes = figure.add_axes((0, 0, 1, 1))
    levels = heat.levels(confusion)
    colors = np.array([to_rgb(color) for color in heat.LIGHT])
    axes.imshow(
        colors[levels],
        interpolation="nearest" if classes <= _EXACT else "antialiased",
        aspect="auto",
    )
    if classes <= _COUNTS:
        _write_counts(axes, confusion, levels)
    if classes <= _NAMES:
        _write_names(axes, names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    videos = counted(int(confusion.sum()), "video")
    axes.set_title(f"{videos}, {counted(classes, 'class', 'classes')}")
    _add_color_bar(figure, axes)
    file = BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def _cell_inches(classes: int) -> float:
    if classes <= _LARGE:
        return 0.5
    if classes <= _COUNTS:
        return 0.33
    if classes <= _NAMES:
        return 0.16
    return _LARGE_SIDE / classes


def _write_counts(axes, confusion: np.ndarray, levels: np.ndarray) -> None:
    size = 9 if len(confusion) <= _LARGE else 6
    for row, column in np.argwhere(confusion).tolist():
        axes.text(
            column,
            row,
            f"{confusion[row, column]}",
            ha="center",
            va="center",
            size=size,
            color=heat.text_color(heat.LIGHT[levels[row, column]]),
        )


def _write_names(axes, names: list[str]) -> None:
    texts = [_drawable(label, name) for label, name in enumerate(names)]
    size = 9 if len(names) <= _COUNTS else 7
    places = range(len(names))
    # A dollar sign in a name does not start a formula.
    axes.set_xticks(places, texts, rotation=90, size=size, parse_math=False)
    axes.set_yticks(places, texts, size=size, parse_math=False)


def _drawable(label: int, name: str) -> str:
    """The name on one line, or the label where the font cannot draw the name.

    matplotlib writes from left to right only, and draws a box for a character without a glyph.
    """
    known = _characters()
    for character in name:
        if ord(character) not in known or unicodedata.bidirectional(character) in ("R", "AL"):
            return f"class {label}"
    return shorten(name, _NAME_COLUMNS)


@cache
def _characters() -> frozenset[int]:
    """The code points that the font can draw."""
    return frozenset(FT2Font(font_manager.findfont(_FONT)).get_charmap())


def _add_color_bar(figure: Figure, axes) -> None:
    steps = len(heat.LIGHT)
    scale = ScalarMappable(BoundaryNorm(range(steps + 1), steps), ListedColormap(heat.LIGHT))
    bar = figure.colorbar(scale, ax=axes, fraction=0.05, pad=0.02, ticks=np.arange(steps) + 0.5)
    bar.ax.set_yticklabels(heat.level_names())
    bar.ax.tick_params(length=0)
    bar.set_label("share of the true class")
