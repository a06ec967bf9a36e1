"""report.html: one file with its styles, figures and images; it loads nothing from a network."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from ops.report import heat, sections, videos
from ops.report.analysis import Analysis, TestResult
from ops.report.markup import TEMPLATES, render
from ops.report.sections import Section
from ops.utils.files import atomic_write


def write_page(
    path: Path,
    tests: Sequence[tuple[TestResult, Analysis]],
    fused: tuple[TestResult, Analysis] | None,
) -> None:
    """Write ``report.html``, atomically.

    Args:
        path: the file.
        tests: each test with its analysis.
        fused: the fusion of several tests. The sections about classes and videos are about it, or
            about the first test without one.
    """
    titles = ["test"]
    if len(tests) > 1:
        titles = [f"test {number}" for number in range(1, len(tests) + 1)]
    named_tests = [(title, *test) for title, test in zip(titles, tests, strict=True)]
    everything = list(named_tests)
    main_test = named_tests[0]
    title = f"{len(tests)} tests"
    if fused:
        main_test = ("fusion", *fused)
        everything.append(main_test)
        title = f"Fusion of {len(tests)} tests"
    name = None
    note = ""
    if len(tests) == 1:
        name = tests[0][0].name
        title = f"Test {name}"
    else:
        note = f"Classes, confusions and mistakes are of the {main_test[0]}."
    page = render(
        "report.html",
        title=title,
        name=name,
        note=note,
        sections=_sections(named_tests, everything, main_test),
        **_head(),
    )
    with atomic_write(path, "w") as file:
        file.write(page)


def _sections(named_tests, everything, main_test) -> list[Section]:
    _, tested, analysis = main_test
    others = [test for test in everything if test is not main_test]
    parts = [
        sections.headline(everything),
        sections.views(named_tests),
        sections.classes(tested, analysis),
    ]
    if not tested.multi_label:
        parts.append(sections.confusions(tested, analysis))
    parts.append(videos.mistakes(tested, analysis))
    parts.append(sections.calibration([*others, main_test]))
    if len(named_tests) == 2:
        parts.append(videos.comparison(*named_tests))
    return parts


def _head() -> dict:
    """Style, script and the policy of the page: nothing is loaded, and only this script runs."""
    style = heat.style() + (TEMPLATES / "page.css").read_text("utf-8")
    script = (TEMPLATES / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
        )
    )
    return {"style": Markup(style), "script": Markup(script), "policy": policy}
