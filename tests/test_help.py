"""``--help`` of every command answers at once: heavy libraries are imported after parsing."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "av", "sklearn", "matplotlib", "scipy")
LIMIT = 1.0  # seconds of one core: those on the clock depend on what else the machine does
COMMANDS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.py"), *ROOT.glob("tools/*.py")])


def cpu_seconds():
    """Seconds that the child processes have computed so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_help(command, *options):
    """Run ``--help``. Returns the seconds that it computed, and its standard error."""
    program = [sys.executable, *options, str(command), "--help"]
    before = cpu_seconds()
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    return cpu_seconds() - before, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_is_fast_and_imports_nothing_heavy(command):
    seconds, _ = print_help(command)
    assert seconds < LIMIT
    _, imports = print_help(command, "-X", "importtime")
    imported = {line.rpartition("|")[2].strip() for line in imports.splitlines()}
    assert not imported.intersection(HEAVY)
