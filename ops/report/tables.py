"""The report as data: results.json, per_class.csv, confusion.csv and predictions.csv."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ops.data.labels import of_row
from ops.report.analysis import Analysis, TestResult, class_accuracy
from ops.report.confusion import confusion_of
from ops.scores.metrics import precision_recall_f1
from ops.utils.files import atomic_write

# Version of results.json and the tables: increased if a key or column goes or changes its meaning.
FORMAT = 1


def write_results(
    path: Path,
    tests: Sequence[tuple[TestResult, Analysis]],
    fused: tuple[TestResult, Analysis] | None,
) -> None:
    """Write ``results.json``, atomically: the metrics of each test and of the fusion, in percent.

    A calibration error without any video is null.
    """
    first = (tests[0] if fused is None else fused)[0]
    content = {
        "format": FORMAT,
        "unit": "percent",
        "classes": first.classes,
        "multi_label": first.multi_label,
        "tests": [_result(*test) for test in tests],
        "fusion": fused and _result(*fused),
    }
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def _result(tested: TestResult, analysis: Analysis) -> dict:
    return {
        "name": tested.name,
        "protocol": tested.protocol_line,
        "metrics": analysis.metrics,
        "expected_calibration_error": analysis.calibration.error,
        "videos": len(tested.scores),
        "failed": int((~tested.read).sum()),
    }


def write_per_class(path: Path, tested: TestResult, analysis: Analysis) -> None:
    """Write ``per_class.csv``, atomically: one line per class, in label order.

    An undefined percentage is empty: recall, F1, top1 and top5 of a class without videos, precision
    of a class that is never predicted. Names are empty without class names.
    """
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        if tested.multi_label:
            _write_positives(writer, tested, analysis)
        else:
            _write_classes(writer, tested, analysis)


def _write_positives(writer, tested: TestResult, analysis: Analysis) -> None:
    writer.writerow(["label", "class name", "positives", "AP %"])
    for label, positives in enumerate(tested.videos_of_class.tolist()):
        writer.writerow(
            [label, _name(tested, label), positives, _percent(analysis.precision[label])]
        )


def _write_classes(writer, tested: TestResult, analysis: Analysis) -> None:
    writer.writerow(
        [
            "label",
            "class name",
            "videos",
            "correct",
            "predicted",
            "precision %",
            "recall %",
            "F1 %",
            "top1 %",
            "top5 %",
            "most frequent wrong label",
            "its name",
            "its videos",
        ]
    )
    confusion = confusion_of(tested, analysis)
    videos = tested.videos_of_class
    correct = np.diagonal(confusion).tolist()
    predicted = confusion.sum(axis=0).tolist()
    precision, recall, f1 = precision_recall_f1(confusion, videos)
    top1, top5 = (class_accuracy(tested, analysis.rank <= min(k, tested.classes)) for k in (1, 5))
    np.fill_diagonal(confusion, 0)
    for label, wrong in enumerate(confusion.argmax(axis=1).tolist()):
        count = int(confusion[label, wrong])
        mistake = ["", "", 0]
        if count:
            mistake = [wrong, _name(tested, wrong), count]
        writer.writerow(
            [
                label,
                _name(tested, label),
                int(videos[label]),
                correct[label],
                predicted[label],
                _percent(100 * precision[label]),
                _percent(100 * recall[label]),
                _percent(100 * f1[label]),
                _percent(top1[label]),
                _percent(top5[label]),
                *mistake,
            ]
        )


def write_confusion(path: Path, tested: TestResult, analysis: Analysis) -> None:
    """Write ``confusion.csv``, atomically: one line per true class, one column per predicted class.

    Both are in label order. The last column counts the videos that could not be read, so that a
    line sums to the videos of its class. The header has the names of the classes, or their labels
    without class names.
    """
    confusion = confusion_of(tested, analysis)
    not_read = np.bincount(tested.labels[~tested.read], minlength=tested.classes).tolist()
    columns = tested.class_names or list(range(tested.classes))
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        writer.writerow(["label", "class name", *columns, "not read"])
        for label, counts in enumerate(confusion.tolist()):
            writer.writerow([label, _name(tested, label), *counts, not_read[label]])


def write_predictions(path: Path, tested: TestResult, analysis: Analysis) -> None:
    """Write ``predictions.csv``, atomically: one line per video, in the order of the test.

    Several labels are joined by ``;``. ``rank of the truth`` is 1 for a right answer, and the best
    of several labels counts. A video that could not be read has neither rank nor predictions.
    Without ids, ``video`` is the number of the video in the test, from 1.
    """
    columns = [
        f"top{place} {what}"
        for place in range(1, analysis.best.shape[1] + 1)
        for what in ("label", "name", "probability")
    ]
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        writer.writerow(["video", "label", "label name", *columns, "rank of the truth"])
        for row in range(len(tested.scores)):
            writer.writerow(_predictions_of(tested, analysis, row, len(columns)))


def _predictions_of(tested: TestResult, analysis: Analysis, row: int, columns: int) -> list:
    """A line of ``predictions.csv``, with ``columns`` values for the best classes."""
    labels = of_row(tested.labels, row)
    if not tested.multi_label:
        labels = (labels,)
    names = ""
    if tested.class_names:
        names = _joined(_name(tested, label) for label in labels)
    video = tested.ids[row] if tested.ids else row + 1
    rank = int(analysis.rank[row])
    if rank > tested.classes:  # not read
        return [video, _joined(labels), names, *[""] * columns, ""]
    best = []
    for label, probability in zip(
        analysis.best[row].tolist(), analysis.probability[row].tolist(), strict=True
    ):
        best += [label, _name(tested, label), round(probability, 6)]
    return [video, _joined(labels), names, *best, rank]


def _writer(file):
    # Quoted text: a carriage return or a leading blank survives every reader.
    return csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def _joined(values: Iterable[int | str]) -> int | str:
    values = list(values)
    if len(values) == 1:
        return values[0]
    return ";".join(map(str, values))


def _name(tested: TestResult, label: int) -> str:
    return tested.class_names[label] if tested.class_names else ""


def _percent(value: float) -> float | str:
    if not np.isfinite(value):
        return ""
    return round(float(value), 4)
