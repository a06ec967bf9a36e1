"""The contents of the sections with numbers: results, views, classes, confusions, calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ops.report import heat
from ops.report.analysis import BINS, Analysis, TestResult, class_accuracy
from ops.report.confusion import confusion_of, order_and_groups, pairs
from ops.report.plots import reliability_plot, views_plot
from ops.scores.metrics import TITLES
from ops.utils.text import counted

_ALL_CLASSES = 30  # up to this number of classes, one table has them all
_SOME_CLASSES = 15
_EMPTY_NAMES = 10
_PAIRS = 20
_GROUPS = 8
_GROUP_NAMES = 12
_CURVES = 4  # tests with a curve of their own
_CALIBRATED = 0.0005  # gap of confidence and accuracy that is no difference

NamedTest = tuple[str, TestResult, Analysis]


class Section(NamedTuple):
    """A section of the page: its heading, the template that renders it, and what that needs."""

    title: str
    template: str
    content: dict


def headline(tests: Sequence[NamedTest]) -> Section:
    """The metrics of each test with its protocol."""
    keys = list(tests[0][2].metrics)
    rows = []
    for title, tested, analysis in tests:
        rows.append(
            {
                "title": title,
                "name": "" if tested.name == title else tested.name,
                "protocol": tested.protocol_line,
                "numbers": [*(analysis.metrics[key] for key in keys), analysis.calibration.error],
                "videos": len(tested.scores),
                "failed": int((~tested.read).sum()),
            }
        )
    content = {
        "titles": [f"{TITLES[key]} %" for key in keys],
        "tests": rows,
        "any_failed": any(row["failed"] for row in rows),
        "multi_label": tests[0][1].multi_label,
    }
    return Section("Result", "result.html", content)


def views(tests: Sequence[NamedTest]) -> Section:
    """Prec@1 of the first clips and crops, one figure per test."""
    figures = []
    notes = []
    for title, tested, _ in tests:
        if tested.accuracy_by_view is None:
            notes.append(f"{title}: not known by clips and crops.")
            continue
        grid = np.asarray(tested.accuracy_by_view)
        if grid.size == 1:
            notes.append(f"{title}: one view of each video, so there is nothing to compare.")
            continue
        caption = _views_in_words(grid)
        figures.append(
            {
                "title": title,
                "caption": caption,
                "plot": views_plot(grid, caption),
                "crops": [counted(number, "crop") for number in range(1, grid.shape[1] + 1)],
                "rows": grid,
            }
        )
    return Section("Clips and crops", "views.html", {"figures": figures, "notes": notes})


def _views_in_words(grid: np.ndarray) -> str:
    clips, crops = grid.shape
    words = [f"Prec@1 is {grid[0, 0]:.1f} percent with one clip of one crop"]
    if clips > 1 and crops > 1:
        words.append(f"{grid[-1, 0]:.1f} with {clips} clips of one crop")
        words.append(f"{grid[0, -1]:.1f} with one clip of {crops} crops")
    words.append(f"and {grid[-1, -1]:.1f} with all {clips * crops} views.")
    return ", ".join(words)


def classes(tested: TestResult, analysis: Analysis) -> Section:
    """The best and the worst classes, or all where there are few."""
    metric = "average precision"
    scores = analysis.precision
    if not tested.multi_label:
        metric = "Prec@1"
        scores = class_accuracy(tested, analysis.right)
    videos = tested.videos_of_class

    def rows_of(order, count=None):
        labels = [label for label in order if videos[label]]
        return [
            {
                "name": tested.class_name(label),
                "percent": scores[label],
                "videos": int(videos[label]),
            }
            for label in labels[:count]
        ]

    best_first = np.lexsort((-videos, -scores))
    without_videos = np.flatnonzero(videos == 0)
    content = {
        "metric": metric,
        "all": None,
        "classes": tested.classes,
        "empty": len(without_videos),
        "empty_names": [tested.class_name(label) for label in without_videos[:_EMPTY_NAMES]],
    }
    if tested.classes - len(without_videos) <= _ALL_CLASSES:
        content["all"] = rows_of(best_first)
    else:
        content["best"] = rows_of(best_first, _SOME_CLASSES)
        content["worst"] = rows_of(np.lexsort((-videos, scores)), _SOME_CLASSES)
    return Section("Classes", "classes.html", content)


def confusions(tested: TestResult, analysis: Analysis) -> Section:
    """The confusion matrix, the pairs and the groups of classes with the most errors."""
    content = {"classes": tested.classes}
    if tested.classes > 1:
        content |= _confusions(tested, confusion_of(tested, analysis))
    return Section("Confusions", "confusions.html", content)


def _confusions(tested: TestResult, confusion: np.ndarray) -> dict:
    order, groups = order_and_groups(confusion, _GROUPS)
    names = [tested.class_name(label) for label in order]
    worst = pairs(confusion, _PAIRS)
    alt = _confusion_in_words(tested, confusion, worst)
    videos = confusion.sum(axis=1)
    return {
        "reordered": bool((order != np.arange(len(order))).any()),
        "heat_map": heat.heat_map(confusion[np.ix_(order, order)], names, alt),
        "levels": heat.level_names(),
        "order": [] if heat.has_names(len(names)) else names,
        "pairs": [
            {
                "first": tested.class_name(pair.first),
                "second": tested.class_name(pair.second),
                "forth": _part_of(pair.forth, videos[pair.first]),
                "back": _part_of(pair.back, videos[pair.second]),
            }
            for pair in worst
        ],
        "groups": [_group(tested, group) for group in groups],
    }


def _confusion_in_words(tested, confusion, worst) -> str:
    total = int(confusion.sum())
    errors = total - int(np.trace(confusion))
    words = f"Confusion matrix of {tested.classes} classes: "
    words += f"{errors:,} of {total:,} videos are off the diagonal. "
    if not worst:
        return words + "There is no confusion."
    first = tested.class_name(worst[0].first)
    second = tested.class_name(worst[0].second)
    count = worst[0].forth + worst[0].back
    return words + f"The most, {count}, are between {first} and {second}."


def _group(tested, group) -> dict:
    rest = ""
    if len(group.classes) > _GROUP_NAMES:
        rest = f" and {len(group.classes) - _GROUP_NAMES} more"
    return {
        "names": [tested.class_name(label) for label in group.classes[:_GROUP_NAMES]],
        "rest": rest,
        "videos": group.videos,
        "errors": group.errors,
        "inside": _part_of(group.inside, group.errors),
    }


def _part_of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"


def calibration(tests: Sequence[NamedTest]) -> Section:
    """The reliability curves of the first tests and of the last, with the numbers of the last."""
    shown = [*tests[: min(_CURVES, len(tests) - 1)], tests[-1]]
    shown = [test for test in shown if test[2].calibration.error is not None]
    if not shown:
        return Section("Calibration", "calibration.html", {})
    title, tested, analysis = shown[-1]
    curve = analysis.calibration
    caption = (
        f"{title}: expected calibration error {curve.error:.1f} percent; "
        f"on average the predictions are {_confidence_in_words(curve)}."
    )
    curves = [(name, of_test.calibration) for name, _, of_test in shown]
    content = {
        "title": title,
        "multi_label": tested.multi_label,
        "caption": caption,
        "plot": reliability_plot(curves, caption, tested.multi_label),
        "bins": [
            {
                "range": f"{100 * place / BINS:.0f}–{100 * (place + 1) / BINS:.0f}",
                "count": int(curve.count[place]),
                "confidence": 100 * curve.confidence[place],
                "accuracy": 100 * curve.accuracy[place],
            }
            for place in np.flatnonzero(curve.count)
        ],
    }
    return Section("Calibration", "calibration.html", content)


def _confidence_in_words(curve) -> str:
    gaps = (curve.confidence - curve.accuracy) * curve.count
    gap = np.nansum(gaps) / curve.count.sum()
    if abs(gap) < _CALIBRATED:
        return "neither overconfident nor underconfident"
    if gap > 0:
        return "overconfident"
    return "underconfident"
