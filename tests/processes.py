"""Tools in processes of their own, to be killed or interrupted, and what they leave."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

from fronts import ROOT


def start(tool, *args, **kwargs):
    """``tools/TOOL.py args`` as a user starts it; returns the process, whose output is to be read."""
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, args)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
    )


def wait_until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def contents(folder):
    """The hash of every file, hidden ones as well."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
