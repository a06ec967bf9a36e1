"""timeline.html: what happens when in a video; one file, which loads nothing from a network."""

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from ops.report.markup import TEMPLATES, render
from ops.utils.files import atomic_write

_MOST_LANES = 30
_THUMBNAIL = (160, 120)  # pixels at most
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Entry:
    """A span, ready to be displayed.

    Attributes:
        start, end: seconds.
        name: of the class.
        probability: in [0, 1].
        picture: ``data:`` URL of an image, or None.
    """

    start: float
    end: float
    name: str
    probability: float
    picture: str | None = None


def thumbnail(image: np.ndarray | None) -> str | None:
    """A ``data:`` URL of a small JPEG of an image, uint8 ``[H, W, 3]``; None for None."""
    if image is None:
        return None
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail(_THUMBNAIL)
    data = BytesIO()
    picture.save(data, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def clock(seconds: float) -> str:
    """``1:02:03.4``, or ``2:03.4`` below an hour."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{tenths / 10:04.1f}"
    if hours:
        text = f"{hours}:{minutes:02d}:{tenths / 10:04.1f}"
    return text


def write_timeline(
    path: str | Path, video: str, protocol: str, duration: float, spans: Sequence[Entry]
) -> None:
    """Write the timeline of a video, atomically.

    Args:
        path: the file.
        video: name of the video.
        protocol: how it was scored, in words.
        duration: seconds of the video.
        spans: in order of time.
    """
    page = render(
        "timeline.html",
        video=video,
        protocol=protocol,
        duration=clock(duration),
        lanes=_lanes(duration, spans),
        spans=[_row(number, span) for number, span in enumerate(spans)],
        policy=_POLICY,
        style=Markup((TEMPLATES / "page.css").read_text("utf-8")),
    )
    with atomic_write(path, "w") as file:
        file.write(page)


def _row(number: int, span: Entry) -> dict:
    return {
        "number": number,
        "start": clock(span.start),
        "end": clock(span.end),
        "name": span.name,
        "percent": f"{100 * span.probability:.1f}",
        "picture": span.picture,
    }


def _lanes(duration: float, spans: Sequence[Entry]) -> list[dict]:
    """One lane per class, the classes that are seen longest first."""
    by_class = defaultdict(list)
    for number, span in enumerate(spans):
        by_class[span.name].append((number, span))
    longest = sorted(
        by_class.items(), key=lambda item: -sum(span.end - span.start for _, span in item[1])
    )
    return [
        {"name": name, "blocks": [_block(number, span, duration) for number, span in own]}
        for name, own in longest[:_MOST_LANES]
    ]


def _block(number: int, span: Entry, duration: float) -> dict:
    return {
        "number": number,
        "left": f"{100 * span.start / duration:.3f}",
        "width": f"{100 * (span.end - span.start) / duration:.3f}",
        "title": f"{clock(span.start)} to {clock(span.end)}, {100 * span.probability:.0f} %",
    }
