"""The report as data: results.json, per_class.csv and predictions.csv."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ops.files import atomic_write
from ops.labels import of_row
from ops.report.confusion import confusion_of
from ops.report.tested import Findings, Tested, class_accuracy

FORMAT = (
    1  # of results.json and both tables: raised when a key or a column changes its meaning or goes
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
    """Write ``per_class.csv``, atomically: one line a class, in label order; percentages are empty for a class without
    videos, names without class names."""
    with atomic_write(path, "w") as file:
        writer = _writer(file)
        if tested.multi_label:
            writer.writerow(["label", "class name", "positives", "AP %"])
            for label, positives in enumerate(tested.videos_of_class.tolist()):
                writer.writerow(
                    [label, _name(tested, label), positives, _percent(found.precision[label])]
                )
            return
        writer.writerow(
            [
                "label",
                "class name",
                "videos",
                "top1 %",
                "top5 %",
                "most frequent wrong label",
                "its name",
                "its videos",
            ]
        )
        confusion = confusion_of(tested, found)
        np.fill_diagonal(confusion, 0)
        videos = tested.videos_of_class
        top1, top5 = (class_accuracy(tested, found.rank <= min(k, tested.classes)) for k in (1, 5))
        for label, wrong in enumerate(confusion.argmax(axis=1).tolist()):
            count = int(confusion[label, wrong])
            mistake = [wrong, _name(tested, wrong), count] if count else ["", "", 0]
            writer.writerow(
                [
                    label,
                    _name(tested, label),
                    int(videos[label]),
                    _percent(top1[label]),
                    _percent(top5[label]),
                    *mistake,
                ]
            )


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
