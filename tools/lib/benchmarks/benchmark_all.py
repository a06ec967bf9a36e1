"""``benchmark.py all``: the set of benchmarks of docs/performance.md, one process for each."""

import subprocess
import sys
import time
from pathlib import Path

from lib.benchmarks.benchmark_targets import PARTS
from lib.benchmarks.performance_page import GOAL_TITLES, goals, load_part, write_page
from lib.measure import table
from ops.utils.errors import UserError
from ops.utils.text import counted

PROGRAM = Path(__file__).resolve().parents[2] / "benchmark.py"


def run_all(args):
    """Run the parts, print their goals, and update docs/performance.md if asked to.

    Raises:
        UserError: a part fails. The others are run all the same.
    """
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    names = args.parts or [name for name, part in PARTS.items() if part.in_set]
    measured, failed = {}, []
    for name in names:
        part = measure(args, name, folder)
        if part is None:
            failed.append(name)
        else:
            measured[name] = part
    rows = [row for name, part in measured.items() for row in goals(name, part)]
    print(f"\n{counted(len(measured), 'part')} in {folder}, {counted(len(rows), 'goal')}")
    if rows:
        table(GOAL_TITLES, rows)
    if args.write_docs and measured:
        print(f"written: {', '.join(str(path) for path in write_page(measured))}")
    if failed:
        raise UserError(
            f"{', '.join(failed)}: failed, see the output above; run them again with "
            f"--parts {' '.join(failed)}, and the rest with --resume"
        )


def measure(args, name, folder):
    """Run a part, or read what an earlier run has measured.

    Returns:
        a ``Measured``, or None if it fails.
    """
    result = folder / f"{name}.json"
    if args.resume and result.exists():
        print(f"== {name}: measured before, {result}", flush=True)
        return load_part(result)
    part = PARTS[name]
    arguments = list(part.arguments)
    if part.devices and args.device != "auto":
        arguments += ["--device", args.device]
    print(f"== {name}: benchmark.py {' '.join(arguments)}", flush=True)
    result.unlink(missing_ok=True)
    started = time.perf_counter()
    command = [sys.executable, str(PROGRAM), *arguments, "--json", str(result)]
    status = subprocess.run(command).returncode
    print(f"== {name}: {time.perf_counter() - started:.0f} s\n", flush=True)
    if status or not result.exists():
        return None
    return load_part(result)


def page(args):
    """Write the measured tables of docs/performance.json into docs/performance.md.

    Raises:
        UserError: with ``--check``, if the page is out of date.
    """
    written = write_page({}, check=args.check)
    print(", ".join(f"{path}: written" for path in written) or "up to date")
