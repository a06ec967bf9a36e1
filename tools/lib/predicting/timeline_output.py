"""The files that a timeline is written to: JSON lines, a table, subtitles."""

import csv
import html
import json
from collections.abc import Sequence
from typing import IO

from ops.scores.spans import Span
from ops.utils.files import atomic_write


class SpanWriter:
    """Writes each span as it ends; an interrupted run leaves whole lines.

    Args:
        json_file: an open file for JSON lines, or None.
        table: an open file for CSV, or None.
        text: whether to print the spans.
    """

    def __init__(
        self, json_file: IO[str] | None = None, table: IO[str] | None = None, text: bool = True
    ) -> None:
        self._json = json_file
        self._table = csv.writer(table) if table else None
        self._text = text
        if self._table:
            self._table.writerow(("path", "start", "end", "label", "name", "probability", "error"))

    def begin(self, path: str) -> None:
        if self._text:
            print(path, flush=True)

    def write(self, path: str, span: Span, has_names: bool) -> None:
        name = span.name if has_names else None
        content = {
            "path": path,
            "start": round(span.start, 3),
            "end": round(span.end, 3),
            "name": name,
            "label": span.label,
            "probability": span.probability,
            "error": None,
        }
        if self._json:
            self._json.write(json.dumps(content, ensure_ascii=False) + "\n")
        if self._table:
            times = (f"{span.start:.3f}", f"{span.end:.3f}")
            probability = f"{span.probability:.6f}"
            self._table.writerow((path, *times, span.label, name or "", probability, ""))
        if self._text:
            percent = f"{100 * span.probability:5.1f} %"
            print(f"    {span.start:8.2f} - {span.end:8.2f} s  {percent}  {span.name}", flush=True)

    def fail(self, path: str, reason: str) -> None:
        if self._json:
            self._json.write(json.dumps({"path": path, "error": reason}) + "\n")
        if self._table:
            self._table.writerow((path, "", "", "", "", "", reason))
        if self._text:
            print(f"    error: {reason}", flush=True)


def write_srt(path: str, spans: Sequence[Span]) -> None:
    """Write spans as SubRip subtitles, atomically."""
    with atomic_write(path, "w") as file:
        for number, span in enumerate(spans, 1):
            times = f"{_stamp(span.start, ',')} --> {_stamp(span.end, ',')}"
            file.write(f"{number}\n{times}\n{_caption(span)}\n\n")


def write_vtt(path: str, spans: Sequence[Span]) -> None:
    """Write spans as WebVTT subtitles, atomically."""
    with atomic_write(path, "w") as file:
        file.write("WEBVTT\n\n")
        for span in spans:
            times = f"{_stamp(span.start, '.')} --> {_stamp(span.end, '.')}"
            # "<" would begin a tag, and "-->" would be taken for times.
            file.write(f"{times}\n{html.escape(_caption(span), quote=False)}\n\n")


def _caption(span: Span) -> str:
    return f"{span.name} ({100 * span.probability:.0f} %)"


def _stamp(seconds: float, separator: str) -> str:
    """``01:02:03.004``."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, rest = divmod(milliseconds, 1000)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}{separator}{rest:03d}"
