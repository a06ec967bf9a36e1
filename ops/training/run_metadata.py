"""What a run was made of, beside its options: versions, commit, classes. It is kept in ``args.json``."""

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ops.utils.files import atomic_write

PACKAGES = ("torch", "torchvision", "av", "numpy")


def write_settings(folder, **settings):
    """Write ``args.json`` to a folder, which is made: the settings of a run, its versions and commit."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(folder) / "args.json", "w") as file:
        json.dump({**settings, "versions": versions(), "git": commit()}, file, indent=1)


def with_flip(options, expected):
    """Options of a run, with those of runs before ``--flip`` translated: they had ``no_flip``.

    expected: the ``flip`` that the options are compared with. Where clips were mirrored, an older
    run does not say by which rule, so any rule counts as equal.
    """
    if "flip" in options or "no_flip" not in options:
        return options
    flip = "none" if options["no_flip"] else expected
    if not options["no_flip"] and expected == "none":
        flip = "names"
    return {**options, "flip": flip}


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
