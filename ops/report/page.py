"""report.html: one file that holds its styles, figures and pictures and asks nothing of a network."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from ops.report import heat, sections, videos
from ops.report.markup import Html, join, named, tag
from ops.report.tested import Findings, Tested
from ops.utils.files import atomic_write


def write_page(
    path: Path, tests: Sequence[tuple[Tested, Findings]], fused: tuple[Tested, Findings] | None
) -> None:
    """Write ``report.html``, atomically. What is told of classes and videos is told of the fusion where there is one, else of
    the first test."""
    titles = (
        ["test"] if len(tests) == 1 else [f"test {place}" for place in range(1, len(tests) + 1)]
    )
    shown = [(title, *test) for title, test in zip(titles, tests, strict=True)]
    everything = [*shown, *([("fusion", *fused)] if fused else [])]
    title, tested, found = everything[-1] if fused else shown[0]
    parts = {
        "Result": sections.headline(everything),
        "Clips and crops": sections.views(shown),
        "Classes": sections.classes(tested, found),
    }
    if not tested.multi_label:
        parts["Confusions"] = sections.confusions(tested, found)
    parts["Most confident mistakes"] = videos.mistakes(tested, found)
    parts["Calibration"] = sections.calibration(everything if fused else [*shown[1:], shown[0]])
    if len(shown) == 2:
        parts["What changed"] = videos.comparison(*shown)
    note = f"Classes, confusions and mistakes are of the {title}." if len(tests) > 1 else ""
    headings = [
        (f"part{place}", heading, part) for place, (heading, part) in enumerate(parts.items())
    ]
    body = [
        tag(
            "h1",
            join(["Test ", named(tested.name)]) if len(tests) == 1 else _title(len(tests), fused),
        ),
        tag(
            "nav",
            *(tag("a", heading, href=f"#{place}") for place, heading, _ in headings),
            aria_label="Sections",
        ),
        tag("p", note) if note else "",
        tag(
            "main",
            *(
                tag("section", tag("h2", heading, id=place), part)
                for place, heading, part in headings
            ),
        ),
    ]
    with atomic_write(path, "w") as file:
        file.write(
            _document(
                f"Test {tested.name}" if len(tests) == 1 else _title(len(tests), fused), join(body)
            )
        )


def _title(count: int, fused: tuple | None) -> str:
    return f"Fusion of {count} tests" if fused else f"{count} tests"


def _document(title: str, body: Html) -> Html:
    here = Path(__file__)
    style = heat.style() + here.with_name("page.css").read_text("utf-8")
    script = here.with_name("page.js").read_text("utf-8")
    # Whatever a name from outside might hold: nothing is fetched, and no script runs but ours.
    known = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{known}'"
    )
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    ]
    document = tag(
        "html", tag("head", *head), tag("body", body, tag("script", Html(script))), lang="en"
    )
    return Html("<!DOCTYPE html>\n" + document)
