"""The sections of the page that show videos: the surest mistakes, and what changed between two tests."""

from collections.abc import Sequence

import numpy as np

from ops.data.labels import of_row
from ops.report.changes import changes
from ops.report.markup import Html, join, named, table, tag
from ops.report.pictures import middle_frame
from ops.report.sections import join_names
from ops.report.tested import Findings, Tested

_MISTAKES, _CHANGED, _CLASSES, _LABELS = 12, 6, 8, 6


def mistakes(tested: Tested, found: Findings) -> Html:
    """The videos whose wrong answer is the surest, each with a frame."""
    wrong = np.flatnonzero(~found.right & tested.read)
    rows = wrong[np.argsort(-found.probability[wrong, 0], kind="stable")][:_MISTAKES]
    if not len(rows):
        return tag("p", "There are none." if tested.read.any() else "No video could be read.")
    return _cards(
        tested,
        rows,
        [
            [
                _answer("predicted", tested, found, row),
                ("truth", _truth(tested, row), found.truth[row]),
            ]
            for row in rows
        ],
    )


def comparison(first: tuple[str, Tested, Findings], second: tuple[str, Tested, Findings]) -> Html:
    """What the second of two tests gets right and the first does not, and the other way round."""
    (one, tested, before), (two, _, after) = first, second
    found = changes(tested, before, after)
    uneven = found.first + found.second
    counts = table(
        ["", f"{two} right", f"{two} wrong"],
        [
            [tag("th", f"{one} right", scope="row"), found.both, found.first],
            [tag("th", f"{one} wrong", scope="row"), found.second, found.neither],
        ],
    )
    if uneven:
        chance = "less than 0.1 %" if found.p < 0.001 else f"{100 * found.p:.1f} %"
        sentence = (
            f"Only {two} gets {found.second:,} videos right, only {one} {found.first:,}. If both were equally good, so "
            f"uneven a split or a more uneven one would come up with a chance of {chance} (exact McNemar test)."
        )
    else:
        sentence = "Both tests get the same videos right."
    if tested.multi_label:
        sentence += " Right means that the best class is one of the labels."
    parts = [counts, tag("p", sentence), _gains(tested, found.gain, two)]
    for rows, title in ((found.won, f"Only {two} is right"), (found.lost, f"Only {one} is right")):
        if len(rows):
            cards = _cards(
                tested,
                rows[:_CHANGED],
                [
                    [
                        ("truth", _truth(tested, row), None),
                        _answer(*first, row),
                        _answer(*second, row),
                    ]
                    for row in rows[:_CHANGED]
                ],
            )
            parts += [tag("h3", title, f": {len(rows[:_CHANGED])} of {len(rows):,} videos"), cards]
    return join(parts)


def _gains(tested: Tested, gain: np.ndarray, two: str) -> Html:
    """The classes that gained and lost most."""
    videos = tested.videos_of_class
    order = np.argsort(-gain, kind="stable")[: int(np.isfinite(gain).sum())]
    sides = []
    for title, part in (
        (
            f"Classes that gain most with {two}",
            [label for label in order[:_CLASSES] if gain[label] > 0],
        ),
        ("Classes that lose most", [label for label in order[::-1][:_CLASSES] if gain[label] < 0]),
    ):
        rows = [
            [
                named(tested.class_name(label)),
                tag("td", f"{gain[label]:+.1f}", class_="number"),
                int(videos[label]),
            ]
            for label in part
        ]
        what = "average precision" if tested.multi_label else "Prec@1"
        sides.append(
            tag(
                "div",
                tag("h3", title),
                table(["class", f"points of {what}", "videos"], rows)
                if rows
                else tag("p", "None."),
            )
        )
    return tag("div", *sides, class_="row")


def _answer(title: str, tested: Tested, found: Findings, row: int) -> tuple:
    if not tested.read[row]:
        return title, "not read", None
    return title, named(tested.class_name(found.best[row, 0])), found.probability[row, 0]


def _truth(tested: Tested, row: int) -> Html:
    labels = of_row(tested.labels, row) if tested.multi_label else [tested.labels[row]]
    return join_names(
        [tested.class_name(label) for label in labels[:_LABELS]],
        ", …" if len(labels) > _LABELS else "",
    )


def _cards(tested: Tested, rows: np.ndarray, lines: Sequence[list]) -> Html:
    """One card a video: its frame if it can be read, its id, and lines of (what, which, probability or None)."""
    cards, seen = [], False
    for row, facts in zip(rows.tolist(), lines, strict=True):
        frame = middle_frame(tested.ids[row], tested.files) if tested.files and tested.ids else None
        alt = f"middle frame of {tested.video(row)}"
        picture = tag("img", src=frame, alt=alt, loading="lazy") if frame else ""
        told = [
            tag("div", f"{what}: ", which, "" if chance is None else f", {100 * chance:.1f} %")
            for what, which, chance in facts
        ]
        cards.append(tag("li", picture, tag("strong", named(tested.video(row))), *told))
        seen |= frame is not None
    absent = "" if seen else tag("p", _why_no_frames(tested), class_="soft")
    return join([tag("ul", *cards, class_="cards"), absent])


def _why_no_frames(tested: Tested) -> str:
    if tested.ids is None:
        return "The scores do not tell which videos these are, so there are no frames."
    if tested.files is None:
        return "The scores do not tell where the videos lie, so there are no frames."
    return f"No frame of these videos could be read under {tested.files['root_path'] or '.'}."
