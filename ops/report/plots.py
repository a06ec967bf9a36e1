"""The curves of the report, drawn by matplotlib as SVG in the text color of the page.

Figures contain no names from outside: their font lacks most scripts, unlike the page around them.
"""

import re
from collections.abc import Sequence
from io import StringIO

import numpy as np
from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ops.report.analysis import BINS, Calibration
from ops.report.markup import clean

# Okabe and Ito's colors, which stand out on white and on black; markers and dashes differ too.
_LINES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#56b4e9", "v", "-"),
    ("#e69f00", "P", "--"),
)
_INK = "#010203"  # replaced by the color of the text around the figure
# Text stays text, the same figure gives the same bytes, and no matplotlibrc of a user changes it.
# The context restores rcParams after each figure.
_same_style = style.context(
    ["default", {"svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "DejaVu Sans"}]
)


@_same_style
def views_plot(grid: np.ndarray, alt: str) -> Markup:
    """Prec@1 against the number of clips, one curve per number of crops.

    With one clip it is drawn against the number of crops.

    Args:
        grid: floats ``[clips, crops]`` in percent.
        alt: what the figure shows, in words.

    Returns:
        An SVG element.
    """
    unit, other = "clips", "crop"
    if grid.shape[0] == 1:
        grid, unit, other = grid.T, "crops", "clip"
    figure, axes = _figure(4.6, 3.0)
    count = grid.shape[1]
    columns = np.unique(np.linspace(0, count - 1, min(count, 4)).round().astype(int))
    numbers = np.arange(1, len(grid) + 1)
    for column, (color, marker, dash) in zip(columns, _LINES, strict=False):
        axes.plot(
            numbers,
            grid[:, column],
            dash,
            color=color,
            marker=marker,
            markersize=4,
            linewidth=1.6,
            clip_on=False,
            label=f"{column + 1} {other}" + "s" * bool(column),
        )
    axes.set_xlabel(f"{unit} of each video")
    axes.set_ylabel("Prec@1 in percent")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    low, high = float(grid.min()), float(grid.max())
    slack = max(0.5, 0.08 * (high - low))
    axes.set_ylim(max(0, low - slack), min(100, high + slack))
    if count > 1:
        _legend(axes)
    return _svg(figure, alt)


@_same_style
def reliability_plot(
    curves: Sequence[tuple[str, Calibration]], alt: str, multi_label: bool = False
) -> Markup:
    """Accuracy against confidence, over the share of predictions in each bin.

    Args:
        curves: an ASCII label and a calibration each; the shares are of the last one.
        alt: what the figure shows, in words.
        multi_label: whether a video can have several labels.

    Returns:
        An SVG element.
    """
    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _plain(axes)
    _plain(below)
    axes.plot([0, 100], [0, 100], color=_INK, linewidth=0.8, alpha=0.6, label="perfect calibration")
    for (label, curve), (color, marker, dash) in zip(curves, _LINES, strict=False):
        there = curve.count > 0
        axes.plot(
            100 * curve.confidence[there],
            100 * curve.accuracy[there],
            dash,
            color=color,
            marker=marker,
            markersize=4,
            linewidth=1.6,
            label=label,
            clip_on=False,
        )
    axes.set_ylabel("labels that hold, percent" if multi_label else "right answers, percent")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    _legend(axes)
    count = curves[-1][1].count
    below.bar(
        (np.arange(BINS) + 0.5) * 100 / BINS,
        100 * count / max(count.sum(), 1),
        88 / BINS,
        color=_LINES[len(curves) - 1][0],
    )
    below.set_ylabel("share, %")
    below.set_xlabel("confidence in percent")
    return _svg(figure, alt)


def _figure(width: float, height: float):
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _plain(axes)
    return figure, axes


def _plain(axes) -> None:
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set(color=_INK, fontsize=10)
    axes.yaxis.label.set(color=_INK, fontsize=10)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_visible(side in ("left", "bottom"))
    axes.grid(True, color=_INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(axes) -> None:
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK, handlelength=3)


def _svg(figure: Figure, alt: str) -> Markup:
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(_INK, "currentColor")
    # Its style would apply to the whole page, and ids occur in several figures.
    drawn = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", drawn, flags=re.DOTALL
    )
    drawn = re.sub('<g id="[^"]*"', "<g", drawn)
    drawn = drawn.replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans', sans-serif")
    label = escape(clean(alt))
    opening = f'<svg role="img" class="plot" stroke-linejoin="round" aria-label="{label}"'
    return Markup(drawn.replace("<svg", opening, 1))
