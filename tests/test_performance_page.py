"""tools/lib/benchmarks/performance_page.py: the measured tables of docs/performance.md."""

import os
import subprocess
import sys

import pytest

from lib.benchmarks.performance_page import (
    Measured,
    cores_in_use,
    goals,
    is_busy,
    load_part,
    save_part,
    write_page,
)
from lib.measure import Table
from ops.utils.errors import UserError

TABLE = Table(
    ["tsm", "ms", "ratio", "target", "", "share", "target", ""],
    [
        ["original", "2.0", "1.00", "", "", "", "", ""],
        ["ours", "1.0", "2.00", ">= 1.50", "ok", "x 1.2", "<= 1.08", "above"],
    ],
)
PART = Measured("model --train", "a machine", "2026-01-31", 0.2, [TABLE])


def test_the_page_is_up_to_date():
    """If this fails: python tools/benchmark.py page."""
    assert write_page({}, check=True) == []


def test_rows_with_a_verdict_are_goals():
    assert goals("training", PART) == [
        ("training, tsm: ours", "2.00", ">= 1.50", "ok"),
        ("training, tsm: ours", "x 1.2", "<= 1.08", "above"),
    ]


def test_sections_are_replaced_and_the_rest_of_the_page_stays(tmp_path):
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    page.write_text(
        "Before.\n<!-- measured: training -->\nold\n<!-- end -->\nBetween.\n"
        "<!-- measured: other -->\n<!-- end -->\n<!-- measured: goals -->\n<!-- end -->\n"
    )
    data.write_text("{}")
    assert write_page({"training": PART}, page=page, data=data) == [data, page]
    text = page.read_text()
    assert "old" not in text and text.startswith("Before.\n") and "\nBetween.\n" in text
    assert "| ours | 1.0 | 2.00 | >= 1.50 | ok | x 1.2 | <= 1.08 | above |" in text
    assert "benchmark.py model --train`, 2026-01-31, a machine:" in text
    assert text.count("Not measured yet.") == 1
    assert text.count("| training, tsm: ours |") == 2
    assert write_page({}, page=page, data=data) == []  # up to date
    page.write_text(text.replace("2.00", "3.00"))
    with pytest.raises(UserError, match=r"page\.md: out of date"):
        write_page({}, check=True, page=page, data=data)


def test_a_busy_machine_is_named(tmp_path):
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    page.write_text("<!-- measured: training -->\n<!-- end -->\n")
    data.write_text("{}")
    write_page({"training": PART._replace(load=1.5)}, page=page, data=data)
    assert "other programs used 1.5 cores" in page.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count")
def test_programs_that_use_a_core_are_noticed():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as program:
        used = cores_in_use()
        program.kill()
    assert is_busy(used) and used <= os.cpu_count()


def test_parts_are_saved_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "part.json"
    save_part(path, ["model", "--train"], 0.24, [TABLE])
    part = load_part(path)
    assert (part.command, part.load, part.tables) == ("model --train", 0.2, [TABLE])
    path.write_text("{}")
    with pytest.raises(UserError, match=r"part\.json: "):
        load_part(path)
    path.write_text("not JSON")
    with pytest.raises(UserError, match=r"part\.json: "):
        load_part(path)
    with pytest.raises(UserError, match=r"missing\.json: no such file"):
        load_part(tmp_path / "missing.json")
