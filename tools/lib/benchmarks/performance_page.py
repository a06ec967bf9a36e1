"""The measured tables of docs/performance.md, which are written from docs/performance.json."""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from lib.measure import VERDICTS, Table, machine
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = DOCS / "performance.md"
DATA = DOCS / "performance.json"
GOAL_TITLES = ("", "measured", "goal", "")
GOALS = "goals"  # the section with all rows that have a goal
# The lines around a section. What is between them is written by this module.
_SECTION = re.compile(r"<!-- measured: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)
_CPU_TIMES = Path("/proc/stat")
_BUSY = 0.5  # cores in use from which on wall-clock times are not to be trusted


class Measured(NamedTuple):
    """What a run of benchmark.py has printed.

    Attributes:
        command: the arguments of benchmark.py.
        machine: processor, cores and versions.
        date: of the run, YYYY-MM-DD.
        load: cores that other programs used when it began.
        tables: in the order of the output.
    """

    command: str
    machine: str
    date: str
    load: float
    tables: list[Table]


def save_part(path: str | Path, arguments: Iterable[str], load: float, tables: list[Table]) -> None:
    """Write the tables of this process to a JSON file.

    Args:
        path: the file.
        arguments: of benchmark.py.
        load: cores that other programs used before the run.
        tables: those that were printed.
    """
    part = Measured(
        " ".join(arguments),
        machine("torch", "torchvision", "av"),
        time.strftime("%Y-%m-%d"),
        round(load, 1),
        tables,
    )
    _write(Path(path), _encoded(part))


def cores_in_use() -> float:
    """Cores that programs use in a second in which this process sleeps; 0 except on Linux."""
    if not _CPU_TIMES.exists():
        return 0.0
    busy, total = _cpu_ticks()
    time.sleep(1)
    busy_after, total_after = _cpu_ticks()
    return (busy_after - busy) / max(1, total_after - total) * (os.cpu_count() or 1)


def _cpu_ticks() -> tuple[int, int]:
    """Busy and total time of all cores since the machine started, in ticks."""
    first_line = _CPU_TIMES.read_text(encoding="utf-8").partition("\n")[0]
    user, nice, system, idle, waiting, *others = map(int, first_line.split()[1:])
    busy = user + nice + system + sum(others)
    return busy, busy + idle + waiting


def is_busy(load: float) -> bool:
    """Whether other programs disturb the times."""
    return load > _BUSY


def load_part(path: str | Path) -> Measured:
    """Read a file of :func:`save_part`.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _decoded(_read(Path(path)), path)


def goals(name: str, part: Measured) -> list[tuple[str, str, str, str]]:
    """The rows of a part that have a goal: ``(row, measured, goal, verdict)``."""
    rows = []
    for header, cells in part.tables:
        for row in cells:
            for column, verdict in enumerate(row):
                if verdict in VERDICTS:
                    title = f"{name}: {row[0]}"
                    if header[0]:
                        title = f"{name}, {header[0]}: {row[0]}"
                    rows.append((title, row[column - 2], row[column - 1], verdict))
    return rows


def write_page(
    measured: Mapping[str, Measured], *, check: bool = False, page: Path = PAGE, data: Path = DATA
) -> list[Path]:
    """Bring the sections of the page up to date.

    Args:
        measured: parts that replace those of the data file.
        check: write nothing.
        page: the Markdown file, whose sections are between ``<!-- measured: NAME -->`` and
            ``<!-- end -->``.
        data: the JSON file with all parts.

    Returns:
        The files that were changed.

    Raises:
        UserError: a file is missing or damaged, or with ``check`` out of date.
    """
    parts = {name: _decoded(value, data) for name, value in _read(data).items()}
    parts.update(measured)
    text = page.read_text(encoding="utf-8")
    new_text = _SECTION.sub(lambda match: _section(match[1], parts), text)
    changed = []
    if measured:
        changed.append(data)
    if new_text != text:
        changed.append(page)
    if check:
        if changed:
            raise UserError(f"{page}: out of date; run python tools/benchmark.py page")
        return []
    if measured:
        _write(data, {name: _encoded(part) for name, part in parts.items()})
    if new_text != text:
        with atomic_write(page, "w") as file:
            file.write(new_text)
    return changed


def _section(name: str, parts: Mapping[str, Measured]) -> str:
    if name == GOALS:
        rows = [row for key, part in parts.items() for row in goals(key, part)]
        body = markdown_table(Table(list(GOAL_TITLES), [list(row) for row in rows]))
    elif name in parts:
        body = _describe(parts[name])
    else:
        body = "Not measured yet.\n"
    return f"<!-- measured: {name} -->\n{body}<!-- end -->"


def _describe(part: Measured) -> str:
    source = f"`python tools/benchmark.py {part.command}`, {part.date}, {part.machine}"
    if is_busy(part.load):
        source += f"; other programs used {part.load} cores"
    return "\n".join([f"{source}:\n", *(markdown_table(table) for table in part.tables)])


def markdown_table(table: Table) -> str:
    """A table as Markdown."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _encoded(part: Measured) -> dict:
    return {**part._asdict(), "tables": [table._asdict() for table in part.tables]}


def _decoded(value: dict, path: str | Path) -> Measured:
    try:
        tables = [Table(**table) for table in value["tables"]]
        return Measured(**{**value, "tables": tables})
    except (KeyError, TypeError):
        raise UserError(f"{path}: not written by tools/benchmark.py; measure again") from None


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run python tools/benchmark.py all") from None
    except ValueError:
        raise UserError(f"{path}: not a JSON file; measure again") from None


def _write(path: Path, value: dict) -> None:
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
