"""What a run was made of, beside its options: versions, commit, classes. It is kept in ``args.json``."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ops.data.sampling import dense_stride
from ops.utils.files import atomic_write

PACKAGES = ("torch", "torchvision", "av", "numpy")


def write_settings(folder, **settings):
    """Write ``args.json`` to a folder, which is made: the settings of a run, its versions and commit."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(folder) / "args.json", "w") as file:
        json.dump({**settings, "versions": versions(), "git": commit()}, file, indent=1)


def current_options(options, expected_flip):
    """Options of a run in today's form: those that earlier versions did not write are added.

    Args:
        options: as a checkpoint or ``args.json`` holds them.
        expected_flip: the ``flip`` that the options are compared with. Runs before ``--flip`` had
            ``no_flip``; where they mirrored clips they do not say by which rule, so any rule counts
            as equal.

    Returns:
        The options, a copy where something was added.
    """
    options = dict(options)
    if "flip" not in options and "no_flip" in options:
        mirrors = "names" if expected_flip == "none" else expected_flip
        options["flip"] = "none" if options["no_flip"] else mirrors
    segments = options.get("num_segments")
    if options.get("sampling") == "dense" and isinstance(segments, int) and segments > 0:
        options.setdefault("dense_stride", dense_stride(segments))  # as all modules had it then
    return options


def versions():
    """Name -> version of Python and of what decides the numbers; "cuda": PyTorch's, None without."""
    found = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # as decord may be instead of PyAV
            found[package] = None
    return found


def commit():
    """Hash of the commit that this code is, with ``+`` for changes since; None outside of a checkout of git."""

    def git(*args):
        return subprocess.run(
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (
        head.stdout.strip() + "+" * bool(changed.stdout.strip()) if head.returncode == 0 else None
    )


def digest(names):
    """SHA-256 of class names, one a line, in hexadecimal; None for none."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else None
