"""The checkpoints of a run: ``last.pth`` and the ones before it, ``last.1.pth``, ``last.2.pth``; any of them can be damaged."""

import contextlib
import os
import zipfile
from pathlib import Path

from ops.errors import UserError
from ops.untrusted.safe_pickle import shown

LAST = "last.pth"


def earlier(folder: str | Path, age: int) -> Path:
    """The checkpoint that was the last one ``age`` saves ago."""
    return Path(folder) / (f"last.{age}.pth" if age else LAST)


def rotate(folder: str | Path, keep: int) -> None:
    """Make room for a new ``last.pth``: each of the ``keep`` newest becomes one save older. Whenever this is interrupted,
    ``last.pth`` is there, whole."""
    for age in range(keep - 1, 0, -1):
        younger, older = earlier(folder, age - 1), earlier(folder, age)
        if younger.exists():
            link = older.with_suffix(".tmp")
            link.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a disk without hard links keeps one checkpoint
                os.link(younger, link)
                os.replace(link, older)


def newest(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run (None: there is none at all), and a line for each damaged one passed over.

    Raises UserError if there are some and all are damaged.
    """
    passed, age = [], 0
    while (path := earlier(folder, age)).exists() or age == 0:
        if path.exists():
            problem = damage(path)
            if problem is None:
                return path, passed
            passed.append(f"{path}: damaged ({problem}); the checkpoint before it is used")
        age += 1
    if passed:
        raise UserError(
            f"{folder}: all {len(passed)} checkpoints are damaged ({passed[0]}); remove them to start anew"
        )
    return None, passed


def damage(path: str | Path) -> str | None:
    """What is wrong with a checkpoint file, None if its checksums are right. (``torch.load`` does not look at them.)"""
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # a damaged file can raise nearly anything
        return shown(str(error)) or type(error).__name__
    return f"checksum of {shown(wrong)}" if wrong else None
