"""Side-by-side measurement for the benchmarks: interleaved rounds, medians, one aligned table."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch


def interleave(
    cases: dict[Hashable, Callable[[int], object]], rounds: int, device: str = "cpu"
) -> dict[Hashable, float]:
    """Median milliseconds of each case over ``rounds`` rounds, in each of which every case runs once, in random order.

    A case is called with the number of the round, and once before with -1. On the CPU the time is that of this process
    with all its threads, so that other work on the machine disturbs it little; on a GPU it is the time on the clock
    until the GPU is done.
    """
    on_gpu = torch.device(device).type == "cuda"
    order, times = list(cases), {name: [] for name in cases}
    shuffle = random.Random(0).shuffle
    for number in range(-1, rounds):
        shuffle(order)
        for name in order:
            if on_gpu:
                torch.cuda.synchronize()
            clock = time.perf_counter if on_gpu else time.process_time
            started = clock()
            cases[name](number)
            if on_gpu:
                torch.cuda.synchronize()
            if number >= 0:
                times[name].append(1000 * (clock() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def judged(ratio: float, bar: float | None) -> tuple[str, str, str]:
    """A ratio, the bar it must reach or None, and whether it does, as cells of a table."""
    return (
        f"{ratio:.2f}",
        f">= {bar:.2f}" if bar else "",
        "" if not bar else "ok" if ratio >= bar else "below",
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a header: the first column to the left, the others to the right. Columns without a value go."""
    columns = [column for column in zip(header, *rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns, strict=True):
        first, *rest = zip(cells, widths, strict=True)
        print(
            "  ".join(
                [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
            ).rstrip()
        )


def machine(*packages: str) -> str:
    """One line: processor, cores, GPU if there is one, Python, and the versions of packages."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        processor = next(
            (value.strip() for key, _, value in lines if key.strip() == "model name"), processor
        )
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    versions = [f"{package} {version(package)}" for package in packages]
    threads = f"{os.cpu_count()} logical cores, {torch.get_num_threads()} used"
    return ", ".join(
        [f"{processor} ({threads})", *gpu, f"Python {platform.python_version()}", *versions]
    )
