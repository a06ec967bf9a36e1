"""What ``args.json`` records beside the options of a run: versions, commit, class names."""

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
    """Write the settings of a run, its versions and its commit to ``args.json``.

    Args:
        folder: output directory, which is created.
        **settings: plain values.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with atomic_write(Path(folder) / "args.json", "w") as file:
        json.dump({**settings, "versions": versions(), "git": commit()}, file, indent=1)


def current_options(options, expected_flip):
    """The options of a run, with those that earlier versions did not write.

    Args:
        options: as a checkpoint or ``args.json`` contains them.
        expected_flip: the ``flip`` that the options are compared with. Runs before ``--flip`` had
            ``no_flip``. If they mirrored clips, the rule is not known, so any rule counts as equal.

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
    """Versions of Python and of the packages that affect the numbers, name -> version.

    "cuda" is that of PyTorch, None without CUDA.
    """
    found = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # such as PyAV, where decord is used
            found[package] = None
    return found


def commit():
    """Hash of the commit of this code, with ``+`` if files were changed since.

    None if the code is not in a git repository.
    """

    def git(*args):
        return subprocess.run(
            ["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    mark = "+" if changed.stdout.strip() else ""
    return head.stdout.strip() + mark


def digest(names):
    """SHA-256 of class names, one per line, in hexadecimal; None without names."""
    if not names:
        return None
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
