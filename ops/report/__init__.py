"""A report of tests as a folder of files: tables for programs and one page for people."""

from collections.abc import Sequence
from pathlib import Path

from ops.report.analysis import TestResult, analyze
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

__all__ = ["TestResult", "write_report"]


def write_report(
    out: str | Path, tests: Sequence[TestResult], fused: TestResult | None = None
) -> None:
    """Write a report.

    Its files are ``results.json``, ``per_class.csv``, ``predictions.csv``, ``confusion.csv``,
    ``confusion.png`` and ``report.html``.

    Each file is written atomically, the page last. With several labels per video there is no
    confusion matrix; the files of an earlier one in the folder are removed.

    Args:
        out: the folder, which is created if it does not exist.
        tests: the same videos and classes in the same order.
        fused: the weighted mean of several tests. The tables and most of the page are about it, or
            about the first test if it is None.

    Raises:
        UserError: a file cannot be written.
        ValueError: no tests, no videos, or shapes that do not match.
    """
    _check(tests)
    if fused:
        _check([tests[0], fused])
    # Imported here: matplotlib takes long to load, and a test without a report does not need it.
    from ops.report import confusion, confusion_image, page, tables

    studied = [(tested, analyze(tested)) for tested in tests]
    fusion = (fused, analyze(fused)) if fused else None
    main_test = fusion or studied[0]
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        tables.write_results(out / "results.json", studied, fusion)
        tables.write_per_class(out / "per_class.csv", *main_test)
        tables.write_predictions(out / "predictions.csv", *main_test)
        tested, analysis = main_test
        if tested.multi_label:
            (out / "confusion.csv").unlink(missing_ok=True)
            (out / "confusion.png").unlink(missing_ok=True)
        else:
            tables.write_confusion(out / "confusion.csv", tested, analysis)
            names = [tested.class_name(label) for label in range(tested.classes)]
            counts = confusion.confusion_of(tested, analysis)
            image = confusion_image.confusion_png(counts, names)
            with atomic_write(out / "confusion.png") as file:
                file.write(image)
        page.write_page(out / "report.html", studied, fusion)
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written ({error.strerror})") from None


def _check(tests: Sequence[TestResult]) -> None:
    if not tests:
        raise ValueError("a report of no test")
    for tested in tests:
        shape = tested.scores.shape
        labels_shape = shape if tested.labels.dtype == bool else shape[:1]
        is_valid = len(shape) == 2 and all(shape) and tested.labels.shape == labels_shape
        if not is_valid or shape != tests[0].scores.shape:
            raise ValueError(f"{tested.name}: scores {shape} and labels {tested.labels.shape}")
        for name, values, count in (
            ("ids", tested.ids, shape[0]),
            ("class_names", tested.class_names, shape[1]),
            ("failed", tested.failed, shape[0]),
        ):
            if values is not None and len(values) != count:
                raise ValueError(f"{tested.name}: {len(values)} {name} for scores {shape}")
