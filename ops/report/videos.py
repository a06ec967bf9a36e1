"""The contents of the sections with videos: confident mistakes, changes between two tests."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ops.data.labels import of_row
from ops.report.analysis import Analysis, TestResult
from ops.report.changes import changes
from ops.report.pictures import middle_frame
from ops.report.sections import NamedTest, Section

_MISTAKES = 12
_CHANGED = 6
_CLASSES = 8
_LABELS = 6


class _Fact(NamedTuple):
    """A line of a card: what it is about, class names, and the probability of the class."""

    title: str
    names: list[str]
    rest: str = ""
    probability: float | None = None


class _Picture(NamedTuple):
    """A picture of a card: a ``data:`` URL, and what it shows, in words."""

    url: str
    alt: str


def mistakes(tested: TestResult, analysis: Analysis) -> Section:
    """The videos with the most confident wrong answers, each with a frame or its evidence."""
    wrong = np.flatnonzero(~analysis.right & tested.read)
    order = np.argsort(-analysis.probability[wrong, 0], kind="stable")
    rows = wrong[order][:_MISTAKES].tolist()
    facts = [
        [
            _prediction("predicted", tested, analysis, row),
            _truth(tested, row)._replace(probability=analysis.truth[row]),
        ]
        for row in rows
    ]
    pictures = None
    if tested.explain:
        pictures = [_evidence(tested, analysis, row) for row in rows]
    content = {**_cards(tested, rows, facts, pictures), "any_read": bool(tested.read.any())}
    return Section("Most confident mistakes", "mistakes.html", content)


def comparison(first: NamedTest, second: NamedTest) -> Section:
    """What only one of two tests gets right."""
    one, tested, before = first
    two, _, after = second
    compared = changes(tested, before, after)
    chance = f"{100 * compared.p:.1f} %"
    if compared.p < 0.001:
        chance = "less than 0.1 %"
    changed = []
    for title, rows in ((two, compared.won), (one, compared.lost)):
        if len(rows):
            shown = rows[:_CHANGED].tolist()
            facts = [
                [_truth(tested, row), _prediction(*first, row), _prediction(*second, row)]
                for row in shown
            ]
            cards = _cards(tested, shown, facts)
            changed.append({"title": title, "total": len(rows), "shown": cards})
    content = {
        "one": one,
        "two": two,
        "both": compared.both,
        "first": compared.first,
        "second": compared.second,
        "neither": compared.neither,
        "chance": chance,
        "multi_label": tested.multi_label,
        "metric": "average precision" if tested.multi_label else "Prec@1",
        "gains": _gains(tested, compared.gain, two),
        "changed": changed,
    }
    return Section("What changed", "comparison.html", content)


def _gains(tested: TestResult, gain: np.ndarray, two: str) -> list[dict]:
    """The classes that gain and that lose most."""
    videos = tested.videos_of_class
    order = np.argsort(-gain, kind="stable")[: int(np.isfinite(gain).sum())]
    better = [label for label in order[:_CLASSES] if gain[label] > 0]
    worse = [label for label in order[::-1][:_CLASSES] if gain[label] < 0]
    titles = (f"Classes that gain most with {two}", "Classes that lose most")
    return [
        {
            "title": title,
            "classes": [
                {
                    "name": tested.class_name(label),
                    "gain": f"{gain[label]:+.1f}",
                    "videos": int(videos[label]),
                }
                for label in labels
            ],
        }
        for title, labels in zip(titles, (better, worse), strict=True)
    ]


def _prediction(title: str, tested: TestResult, analysis: Analysis, row: int) -> _Fact:
    if not tested.read[row]:
        return _Fact(title, [], "not read")
    name = tested.class_name(analysis.best[row, 0])
    return _Fact(title, [name], probability=analysis.probability[row, 0])


def _truth(tested: TestResult, row: int) -> _Fact:
    labels = [tested.labels[row]]
    if tested.multi_label:
        labels = of_row(tested.labels, row)
    rest = ", …" if len(labels) > _LABELS else ""
    return _Fact("truth", [tested.class_name(label) for label in labels[:_LABELS]], rest)


def _cards(
    tested: TestResult,
    rows: list[int],
    facts: Sequence[list[_Fact]],
    pictures: Sequence[_Picture | None] | None = None,
) -> dict:
    """One card per video: its picture if it can be read, its id, and its facts.

    ``pictures`` are evidence; None: the middle frames are shown.
    """
    is_explained = pictures is not None
    if not is_explained:
        pictures = [_frame(tested, row) for row in rows]
    cards = [
        {"picture": picture, "video": tested.video(row), "facts": lines}
        for row, lines, picture in zip(rows, facts, pictures, strict=True)
    ]
    no_frames = ""
    if not any(pictures):
        no_frames = _why_no_frames(tested)
    return {"cards": cards, "no_frames": no_frames, "explained": is_explained}


def _frame(tested: TestResult, row: int) -> _Picture | None:
    if not (tested.files and tested.ids):
        return None
    url = middle_frame(tested.ids[row], tested.files)
    if url is None:
        return None
    return _Picture(url, f"middle frame of {tested.video(row)}")


def _evidence(tested: TestResult, analysis: Analysis, row: int) -> _Picture | None:
    """The evidence for the predicted class."""
    label = int(analysis.best[row, 0])
    url = tested.explain(row, label)
    if url is None:
        return None
    name = tested.class_name(label)
    return _Picture(url, f"frames of {tested.video(row)} with the evidence for {name}")


def _why_no_frames(tested: TestResult) -> str:
    if tested.ids is None:
        return "No frames: the scores do not contain the names of the videos."
    if tested.files is None:
        return "No frames: the scores do not contain the location of the videos."
    return f"No frame of these videos could be read under {tested.files['root_path'] or '.'}."
