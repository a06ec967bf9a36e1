"""``tools/gpu_check.py``: the tests of tests/gpu and benchmarks, and a report of both."""

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

from lib.benchmarks.performance_page import load_part
from lib.measure import Table, machine
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

ROOT = Path(__file__).resolve().parents[3]
TESTS = "tests"
TESTS_SHARE = 0.6  # of the time; the rest is for the benchmarks
PASSED, FAILED, STOPPED, LEFT_OUT = "passed", "failed", "out of time", "left out"

# Arguments of benchmark.py. A GPU is busy with batches of this size; on a CPU the inputs are small,
# since only the commands are tried.
_DRY_RUN = "--modules tsm --segments 2 --batch 1 --size 32 --rounds 1"
BENCHMARKS = {
    "cuda": {
        "inference": "model --batch 16 --rounds 5",
        "training": "model --train --batch 8 --rounds 5",
    },
    "cpu": {"inference": f"model {_DRY_RUN}", "training": f"model --train {_DRY_RUN}"},
}
# Whole epochs and whole tests beside the loops of the originals, which decode videos.
SET = "all --parts epoch score"
DECODING = ("av", "decord", "simplejpeg", "tensorboardX")
# Flags of pytest. On a CPU all tests take some minutes, and mixed precision and compiling most of
# them.
TEST_CHOICE = {"cuda": (), "cpu": ("-k", "forward_and_backward or collectives")}


@dataclass
class Part:
    """A command of the check, and how it ended.

    Attributes:
        name: its name in the report.
        command: the arguments of the Python interpreter.
        result: PASSED, FAILED, STOPPED or LEFT_OUT.
        seconds: that it took.
        output: what it printed.
        counts: of tests: their number by outcome ("passed", "failed", "skipped").
        tables: of a benchmark.
    """

    name: str
    command: list[str]
    result: str = LEFT_OUT
    seconds: float = 0.0
    output: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)


def check(args):
    """Run all parts and write ``report.md`` and ``report.json``.

    Args:
        args: out (folder), device ("cuda" or "cpu"), minutes.

    Raises:
        UserError: there is no GPU, or a part did not pass. The report is written all the same.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "PyTorch finds no NVIDIA GPU; run this where there is one, or try the commands with "
            "--device cpu"
        )
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    seconds = 60 * args.minutes
    deadline = time.monotonic() + seconds
    parts = all_parts(args.device, folder)
    for part in parts:
        limit = deadline - time.monotonic()
        if part.name == TESTS:
            limit = min(limit, TESTS_SHARE * seconds)
        if limit <= 0:
            print(f"== {part.name}: left out, the time is over", flush=True)
            continue
        print(f"== {part.name}: python {' '.join(part.command)}", flush=True)
        run(part, limit, folder)
        print(f"{part.output}== {part.name}: {part.result}, {part.seconds:.0f} s\n", flush=True)
    write_report(folder, machine("torch", "torchvision"), parts)
    print(f"written: {folder / 'report.md'}, {folder / 'report.json'}")
    bad = [part.name for part in parts if part.result != PASSED]
    if bad:
        raise UserError(f"not passed: {', '.join(bad)}; see {folder / 'report.md'}")


def all_parts(device: str, folder: Path) -> list[Part]:
    """The parts of a check, in order."""
    tests = ["-m", "pytest", "-q", "tests/gpu", "--device", device, "-p", "no:cacheprovider"]
    tests += [*TEST_CHOICE[device], f"--junitxml={_tests_file(folder)}"]
    parts = [Part(TESTS, tests)]
    for name, arguments in BENCHMARKS[device].items():
        command = ["tools/benchmark.py", *arguments.split(), "--device", device]
        parts.append(Part(name, [*command, "--json", str(folder.resolve() / f"{name}.json")]))
    if device == "cuda" and all(find_spec(package) for package in DECODING):
        command = ["tools/benchmark.py", *SET.split(), "--device", device]
        parts.append(Part("set", [*command, "--out", str(folder.resolve() / "set")]))
    return parts


def _tests_file(folder: Path) -> Path:
    return (folder / "tests.xml").resolve()


def run(part: Part, limit: float, folder: Path) -> None:
    """Run a part for at most ``limit`` seconds, and note how it ended."""
    log = folder / f"{part.name}.log"
    for old in _json_files(part, folder):
        old.unlink()
    if part.name == TESTS:
        _tests_file(folder).unlink(missing_ok=True)
    started = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                [sys.executable, *part.command],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=limit,
            )
            part.result = FAILED if done.returncode else PASSED
        except subprocess.TimeoutExpired:
            part.result = STOPPED
    part.seconds = time.monotonic() - started
    part.output = log.read_text(encoding="utf-8", errors="replace")
    if part.name == TESTS and part.result != STOPPED:
        part.counts = count_tests(_tests_file(folder))
    for path in _json_files(part, folder):
        part.tables += load_part(path).tables


def _json_files(part: Part, folder: Path) -> list[Path]:
    """What a benchmark, or a set of them, has written."""
    files = [folder / f"{part.name}.json", *sorted((folder / part.name).glob("*.json"))]
    return [path for path in files if path.exists()]


def count_tests(path: Path) -> dict[str, int]:
    """The number of tests by outcome, from a file of pytest's ``--junitxml``; empty without it."""
    if not path.exists():
        return {}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(path).iter("testcase"):
        outcome = "passed"
        if case.find("skipped") is not None:
            outcome = "skipped"
        elif case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        counts[outcome] += 1
    return counts


def write_report(folder: Path, description: str, parts: Sequence[Part]) -> None:
    """Write ``report.json``, and ``report.md`` with a table of the parts and what they printed."""
    content = {"machine": description, "parts": [asdict(part) for part in parts]}
    with atomic_write(folder / "report.json", "w") as file:
        json.dump(content, file, indent=1)
    lines = [f"# GPU check\n\n{description}\n", "| part | result | seconds |", "|---|---|---|"]
    for part in parts:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in part.counts.items())
        lines.append(f"| {part.name} | {counts or part.result} | {part.seconds:.0f} |")
    for part in parts:
        lines.append(f"\n## {part.name}\n\n`python {' '.join(part.command)}`")
        for header, rows in part.tables:
            lines += ["", _row(header), _row(["---"] * len(header)), *map(_row, rows)]
        if not part.tables:
            lines.append(f"\n```text\n{part.output.rstrip()}\n```")
    with atomic_write(folder / "report.md", "w") as file:
        file.write("\n".join(lines) + "\n")


def _row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
