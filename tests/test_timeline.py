import numpy as np
import pytest

from ops.report.timeline import Entry, clock, thumbnail, write_timeline


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0:00.0"), (59.96, "1:00.0"), (3599.99, "1:00:00.0"), (7384, "2:03:04.0")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_thumbnail():
    assert thumbnail(None) is None
    assert thumbnail(np.zeros((300, 400, 3), np.uint8)).startswith("data:image/jpeg;base64,")


def test_names_cannot_become_markup(tmp_path):
    spans = [Entry(0, 2, "<script>alert(1)</script>", 0.5), Entry(2, 4, '" onload="x', 0.9)]
    write_timeline(tmp_path / "t.html", "<i>.mp4", "8 frames", 4.0, spans)
    page = (tmp_path / "t.html").read_text("utf-8")
    assert "<script" not in page and "<i>" not in page and '" onload' not in page
    assert page.count('<a href="#span') == 2 and "left: 50.000%; width: 50.000%" in page
    assert "default-src" in page and "script-src" not in page


def test_no_spans(tmp_path):
    write_timeline(tmp_path / "t.html", "v.mp4", "8 frames", 4.0, [])
    assert "<table" not in (tmp_path / "t.html").read_text("utf-8")
