"""The sections of the page that count: headline, views, classes, confusions, calibration. Each is finished markup."""

from collections.abc import Sequence

import numpy as np

from ops.report.confusion import confusion_of, order_and_groups, pairs
from ops.report.heat import heat_map, legend, order_list
from ops.report.markup import Html, join, named, table, tag, text
from ops.report.plots import reliability_plot, views_plot
from ops.report.tested import BINS, Findings, Tested, class_accuracy
from ops.scores.metrics import TITLES

_ALL_CLASSES = 30  # up to so many classes one table shows them all
_SOME_CLASSES = 15
_PAIRS, _GROUPS = 20, 8
_CURVES = 4  # tests drawn one by one


def headline(tests: Sequence[tuple[str, Tested, Findings]]) -> Html:
    """The numbers of each test, ``(title, tested, findings)`` each, with its protocol."""
    columns = {key: TITLES[key] for key in tests[0][2].metrics}
    rows = []
    for title, tested, found in tests:
        failed = int((~tested.read).sum())
        protocol = join([tag("br"), tag("span", tested.line, class_="soft")])
        rows.append(
            [
                join(
                    [title, *([": ", named(tested.name)] if tested.name != title else []), protocol]
                ),
                *(number(found.metrics[key]) for key in columns),
                number(found.calibration.error),
                tag("td", f"{len(tested.scores):,}", class_="number"),
                failed,
            ]
        )
    parts = [
        table(
            ["test", *(f"{title} %" for title in columns.values()), "ECE %", "videos", "not read"],
            rows,
        )
    ]
    if any(row[-1] for row in rows):
        parts.append(
            tag(
                "p",
                "Videos that could not be read count as wrong; the confusions, the mistakes and the calibration "
                "are of the others.",
            )
        )
    if tests[0][1].multi_label:
        parts.append(
            tag(
                "p",
                "A video can have several labels. mAP is the mean over classes of the average precision, mAP of "
                "samples the mean over videos; Prec@k is the share of videos with one of their labels among "
                "the k best classes.",
                class_="soft",
            )
        )
    else:
        parts.append(
            tag(
                "p",
                "Prec@k: share of videos whose label is among the k best classes. Mean class: Prec@1 of each "
                "class, averaged over the classes that have videos. ECE: expected calibration error.",
                class_="soft",
            )
        )
    return join(parts)


def views(tests: Sequence[tuple[str, Tested, Findings]]) -> Html:
    """Prec@1 of the first clips and crops, one figure a test."""
    figures, told = [], []
    for title, tested, _ in tests:
        grid = None if tested.grid is None else np.asarray(tested.grid)
        if grid is None:
            told.append(f"{title}: not known by clips and crops.")
        elif grid.size == 1:
            told.append(f"{title}: one view of each video, so there is nothing to compare.")
        else:
            alt = _views_in_words(grid)
            rows = [[clip + 1, *map(number, row)] for clip, row in enumerate(grid)]
            numbers = table(
                ["clips", *(f"{crop + 1} crop{'s' * bool(crop)}" for crop in range(grid.shape[1]))],
                rows,
            )
            figures.append(
                tag(
                    "figure",
                    views_plot(grid, alt),
                    tag("figcaption", title, ": ", alt),
                    tag("details", tag("summary", "The numbers"), numbers),
                )
            )
    return join([tag("div", *figures, class_="row"), *(tag("p", sentence) for sentence in told)])


def _views_in_words(grid: np.ndarray) -> str:
    clips, crops = grid.shape
    words = f"Prec@1 is {grid[0, 0]:.1f} percent with one clip of one crop, "
    if clips > 1 and crops > 1:
        words += f"{grid[-1, 0]:.1f} with {clips} clips of one crop, {grid[0, -1]:.1f} with one clip of {crops} crops, "
    return words + f"and {grid[-1, -1]:.1f} with all {clips * crops} views."


def classes(tested: Tested, found: Findings) -> Html:
    """Bars of the best and of the worst classes, or of all where there are few."""
    scores = found.precision if tested.multi_label else class_accuracy(tested, found.right)
    videos = tested.videos_of_class
    order = [label for label in np.lexsort((-videos, -scores)) if videos[label]]

    def bars(part: list[int], bad: bool = False) -> Html:
        return table(
            ["class", "average precision %" if tested.multi_label else "Prec@1 %", "videos"],
            [
                [named(tested.class_name(label)), share(scores[label], bad), int(videos[label])]
                for label in part
            ],
        )

    if len(order) <= _ALL_CLASSES:
        parts = [bars(order)]
    else:
        worst = [label for label in np.lexsort((-videos, scores)) if videos[label]][:_SOME_CLASSES]
        parts = [
            tag(
                "div",
                tag("div", tag("h3", "Worst"), bars(worst, True)),
                tag("div", tag("h3", "Best"), bars(order[:_SOME_CLASSES])),
                class_="row",
            ),
            tag("p", "All classes are in per_class.csv.", class_="soft"),
        ]
    if empty := tested.classes - len(order):
        some = [tested.class_name(label) for label in np.flatnonzero(videos == 0)[:10]]
        parts.append(
            tag(
                "p",
                f"{empty} of {tested.classes} classes have no video here: ",
                join_names(some),
                ", …" if empty > 10 else "",
                ".",
            )
        )
    return join(parts)


def confusions(tested: Tested, found: Findings) -> Html:
    """The confusion matrix, the pairs and the groups of classes with the most errors."""
    if tested.classes < 2:
        return tag("p", "There is one class only, so nothing can be confused.")
    confusion = confusion_of(tested, found)
    total, errors = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    order, groups = order_and_groups(confusion, _GROUPS)
    names = [tested.class_name(label) for label in order]
    worst = pairs(confusion, _PAIRS)
    alt = f"Confusion matrix of {tested.classes} classes: {errors:,} of {total:,} videos are off the diagonal. "
    alt += (
        f"The most, {worst[0].forth + worst[0].back}, lie between {tested.class_name(worst[0].first)} and "
        f"{tested.class_name(worst[0].second)}."
        if worst
        else "There is no confusion."
    )
    similar = (
        ""
        if (order == np.arange(len(order))).all()
        else (
            " Classes stand in an order that puts those side by side that are taken for one another."
        )
    )
    parts = [
        tag(
            "p",
            "A row is a true class, a column what was predicted.",
            similar,
            " Point at a cell to read it. The counts are in confusion.csv.",
            class_="soft",
        ),
        tag(
            "figure",
            tag("div", heat_map(confusion[np.ix_(order, order)], names, alt), class_="wide"),
            tag("output", id="cell"),
            legend(),
        ),
        order_list(names),
    ]
    if not worst:
        return join([*parts, tag("p", "No class is taken for another.")])
    parts += [
        tag("h3", "Most confused pairs"),
        table(
            ["true class", "predicted", "videos", "the other way round"],
            [
                [
                    named(tested.class_name(pair.first)),
                    named(tested.class_name(pair.second)),
                    of(pair.forth, confusion[pair.first].sum()),
                    of(pair.back, confusion[pair.second].sum()),
                ]
                for pair in worst
            ],
        ),
    ]
    if groups:
        parts += [
            tag("h3", "Groups of classes that are mixed up"),
            table(
                ["classes", "videos", "errors", "inside the group"],
                [
                    [
                        join_names(
                            [tested.class_name(label) for label in group.classes[:12]],
                            f" and {len(group.classes) - 12} more"
                            if len(group.classes) > 12
                            else "",
                        ),
                        group.videos,
                        group.errors,
                        of(group.inside, group.errors),
                    ]
                    for group in groups
                ],
            ),
        ]
    return join(parts)


def calibration(tests: Sequence[tuple[str, Tested, Findings]]) -> Html:
    """The reliability curve of the tests (the first few) and of the last, with the numbers of the last."""
    shown = [*tests[: min(_CURVES, len(tests) - 1)], tests[-1]]
    shown = [test for test in shown if test[2].calibration.error is not None]
    if not shown:
        return tag("p", "No video could be read.")
    title, tested, found = shown[-1]
    curve = found.calibration
    gap = np.nansum((curve.confidence - curve.accuracy) * curve.count) / curve.count.sum()
    side = (
        "as sure as right"
        if abs(gap) < 0.0005
        else "surer than right"
        if gap > 0
        else "less sure than right"
    )
    alt = f"{title}: expected calibration error {curve.error:.1f} percent; on the whole the predictions are {side}."
    what = (
        "Each pair of a video and a class is a prediction: its probability against the share of such pairs that hold."
        if tested.multi_label
        else "Predictions sorted by the probability of the class that won: how many of them are right."
    )
    rows = [
        [
            f"{100 * place / BINS:.0f}–{100 * (place + 1) / BINS:.0f}",
            tag("td", f"{curve.count[place]:,}", class_="number"),
            number(100 * curve.confidence[place]),
            number(100 * curve.accuracy[place]),
        ]
        for place in np.flatnonzero(curve.count)
    ]
    plot = reliability_plot(
        [(name, test_found.calibration) for name, _, test_found in shown], alt, tested.multi_label
    )
    return join(
        [
            tag(
                "p",
                what,
                " On the thin diagonal a model is as sure as it is right; below it, too sure.",
                class_="soft",
            ),
            tag(
                "figure",
                plot,
                tag("figcaption", alt, " The bars below are of ", title, "."),
                tag(
                    "details",
                    tag("summary", "The numbers"),
                    table(["confidence %", "predictions", "mean confidence %", "right %"], rows),
                ),
            ),
        ]
    )


def number(value: float | None) -> Html:
    """A percentage as a cell of a table."""
    shown = "–" if value is None or not np.isfinite(value) else f"{value:.2f}"
    return tag("td", shown, class_="number")


def share(percent: float, bad: bool = False) -> Html:
    """A percentage as a cell with a bar."""
    bar = tag("i", tag("b", style=f"width:{percent:.1f}%"))
    return tag("td", bar, f"{percent:.1f}", class_="share bad" if bad else "share")


def of(part: int, whole: int) -> Html:
    return tag("td", f"{part:,} of {whole:,}", class_="number")


def join_names(names: Sequence[str], rest: str = "") -> Html:
    return Html(", ".join(map(named, names)) + text(rest))
