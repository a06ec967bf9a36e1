"""The report as data: results.json, per_class.csv, confusion.csv and predictions.csv."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ops.data.labels import of_row
from ops.report.confusion import confusion_of
from ops.report.tested import Findings, Tested, class_accuracy
from ops.scores.metrics import precision_recall_f1
from ops.utils.files import atomic_write

FORMAT = (
    1  # of results.json and the tables: raised when a key or a column changes its meaning or goes
)


def write_results(
    path: Path, tests: Sequence[tuple[Tested, Findings]], fused: tuple[Tested, Findings] | None
) -> None:
    """Write ``results.json``, atomically: the metrics of each test and of the fusion, in percent; null for a calibration error
    of no videos."""
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


def _result(tested: Tested, found: Findings) -> dict:
    return {
        "name": tested.name,
        "protocol": tested.line,
        "metrics": found.metrics,
        "expected_calibration_error": found.calibration.error,
        "videos": len(tested.scores),
        "failed": int((~tested.read).sum()),
    }


def write_per_class(path: Path, tested: Tested, found: Findings) -> None:
    """Write ``per_class.csv``, atomically: one line per class, in label order.

    A percentage that is not defined is empty: recall, F1, top1 and top5 of a class without videos, precision of a class
    that was never predicted. Names are empty without class names.
    """
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        if tested.multi_label:
            _write_positives(writer, tested, found)
        else:
            _write_classes(writer, tested, found)


def _write_positives(writer, tested: Tested, found: Findings) -> None:
    writer.writerow(["label", "class name", "positives", "AP %"])
    for label, positives in enumerate(tested.videos_of_class.tolist()):
        writer.writerow([label, _name(tested, label), positives, _percent(found.precision[label])])


def _write_classes(writer, tested: Tested, found: Findings) -> None:
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
    confusion = confusion_of(tested, found)
    videos = tested.videos_of_class
    correct = np.diagonal(confusion).tolist()
    predicted = confusion.sum(axis=0).tolist()
    precision, recall, f1 = precision_recall_f1(confusion, videos)
    top1, top5 = (class_accuracy(tested, found.rank <= min(k, tested.classes)) for k in (1, 5))
    np.fill_diagonal(confusion, 0)
    for label, wrong in enumerate(confusion.argmax(axis=1).tolist()):
        count = int(confusion[label, wrong])
        mistake = [wrong, _name(tested, wrong), count] if count else ["", "", 0]
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


def write_confusion(path: Path, tested: Tested, found: Findings) -> None:
    """Write ``confusion.csv``, atomically: one line per true class and one column per predicted class, in label order.

    The last column counts the videos that could not be read, so that a line adds up to the videos of its class. Columns
    are headed by the names of the classes, or by their labels without class names.
    """
    confusion = confusion_of(tested, found)
    not_read = np.bincount(tested.labels[~tested.read], minlength=tested.classes).tolist()
    columns = tested.class_names or list(range(tested.classes))
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        writer.writerow(["label", "class name", *columns, "not read"])
        for label, counts in enumerate(confusion.tolist()):
            writer.writerow([label, _name(tested, label), *counts, not_read[label]])


def write_predictions(path: Path, tested: Tested, found: Findings) -> None:
    """Write ``predictions.csv``, atomically and line by line: one line a video, in the order of the test.

    Several labels are joined by ``;``. ``rank of the truth`` is 1 for a right answer; of several labels the best counts. A
    video that could not be read has neither rank nor predictions. Without ids ``video`` is the place of the video in the
    test, from 1.
    """
    width, read = found.best.shape[1], tested.read.tolist()
    columns = [
        f"top{place} {what}"
        for place in range(1, width + 1)
        for what in ("label", "name", "probability")
    ]
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        writer.writerow(["video", "label", "label name", *columns, "rank of the truth"])
        for row, rank in enumerate(found.rank.tolist()):
            labels = of_row(tested.labels, row)
            labels = labels if tested.multi_label else (labels,)
            best = [
                value
                for label, share in zip(
                    found.best[row].tolist(), found.probability[row].tolist(), strict=True
                )
                for value in (label, _name(tested, label), round(share, 6))
            ]
            writer.writerow(
                [
                    tested.ids[row] if tested.ids else row + 1,
                    _joined(labels),
                    _joined(_name(tested, label) for label in labels) if tested.class_names else "",
                    *(best if read[row] else [""] * len(best)),
                    "" if rank > tested.classes else rank,
                ]
            )


def _writer(file):
    # Texts in quotes: so a carriage return or a leading blank survives every reader.
    return csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def _joined(values: Iterable[int | str]) -> int | str:
    values = list(values)
    return values[0] if len(values) == 1 else ";".join(map(str, values))


def _name(tested: Tested, label: int) -> str:
    return tested.class_names[label] if tested.class_names else ""


def _percent(value: float) -> float | str:
    return round(float(value), 4) if np.isfinite(value) else ""
