"""Side-by-side measurement for the benchmarks: interleaved rounds, medians, one aligned table."""

import contextlib
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch


def interleave(
    cases: dict[Hashable, Callable[[int], object]], rounds: int, device: str = "cpu"
) -> dict[Hashable, float]:
    """Time cases in turns: in each round every case runs once, in random order.

    On the CPU a time is that of this process with all its threads, so that other work on the
    machine disturbs it little. On a GPU it is the wall-clock time until the GPU has finished.

    Args:
        cases: name -> function, called with the number of the round, and before with -1 to warm up.
        rounds: rounds that count.
        device: device of the cases.

    Returns:
        name -> median milliseconds.
    """
    on_gpu = torch.device(device).type == "cuda"
    order = list(cases)
    times = {name: [] for name in cases}
    shuffle = random.Random(0).shuffle
    for number in range(-1, rounds):
        shuffle(order)
        for name in order:
            seconds = _time(cases[name], number, on_gpu)
            if number >= 0:
                times[name].append(1000 * seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def _time(case: Callable[[int], object], number: int, on_gpu: bool) -> float:
    if not on_gpu:
        started = time.process_time()
        case(number)
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    case(number)
    torch.cuda.synchronize()
    return time.perf_counter() - started


VERDICTS = ("ok", "below", "above", "missed")


def compare(original: float, ours: float, target: float | None) -> tuple[str, str, str]:
    """A ratio of times, the target that it must reach, and whether it does, as cells of a table."""
    ratio = original / ours
    if not target:
        return f"{ratio:.2f}", "", ""
    verdict = "ok" if ratio >= target else "below"
    return f"{ratio:.2f}", f">= {target:.2f}", verdict


class Table(NamedTuple):
    """A table as it was printed, without its empty columns.

    Attributes:
        header: title of each column; that of a verdict is empty.
        rows: the cells of each row.
    """

    header: list[str]
    rows: list[list[str]]


_recordings: list[list[Table]] = []


@contextlib.contextmanager
def recording() -> Iterator[list[Table]]:
    """Context that collects the tables that are printed in it, in a list."""
    tables: list[Table] = []
    _recordings.append(tables)
    try:
        yield tables
    finally:
        _recordings.remove(tables)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a header, the first column left-aligned, without columns that are empty."""
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:])]
    for tables in _recordings:
        titles, *cells = (list(row) for row in zip(*columns, strict=True))
        tables.append(Table(titles, cells))
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        print("  ".join(aligned).rstrip())


def machine(*packages: str) -> str:
    """One line: processor, cores, GPU if there is one, Python, and the versions of packages.

    A package that is not installed is left out.
    """
    parts = [f"{_processor()} ({os.cpu_count()} logical cores, {torch.get_num_threads()} used)"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts.append(f"Python {platform.python_version()}")
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            parts.append(f"{package} {version(package)}")
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
