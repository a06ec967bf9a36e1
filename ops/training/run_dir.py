"""The files of a training run in its folder.

The checkpoints are ``last.pth`` and the ones before it, ``last.1.pth``, ``last.2.pth``; any of
them can be damaged.
"""

import contextlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ops.utils.errors import UserError
from ops.utils.files import open_regular
from ops.utils.text import printable

LAST = "last.pth"
SECONDS_PER_MINUTE = 60
# What a training writes. Other files in its folder, such as the scores of a test, are not the
# training's.
_WRITTEN = (
    "args.json",
    "args.toml",
    "log.txt",
    "log.jsonl",
    "tensorboard",
    "best.pth",
    "last*.pth",
    "last*.tmp",
)


@dataclass(frozen=True)
class SaveInterval:
    """How often a run is saved within an epoch: every N steps or every N seconds.

    Attributes:
        steps: number of steps, or None.
        seconds: number of seconds, or None.
    """

    steps: int | None = None
    seconds: int | None = None

    @classmethod
    def parse(cls, text: str) -> "SaveInterval":
        """Read ``500`` (steps), ``15m`` (minutes) or ``0`` (never).

        Raises:
            ValueError: another text.
        """
        in_minutes = text.endswith("m")
        number = text.removesuffix("m")
        if not number.isdecimal():
            raise ValueError(text)
        if int(number) == 0:
            return cls()
        if in_minutes:
            return cls(seconds=SECONDS_PER_MINUTE * int(number))
        return cls(steps=int(number))

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether to save after a step of the epoch, ``seconds`` after the last save."""
        if self.steps:
            return step % self.steps == 0
        return self.seconds is not None and seconds > self.seconds


def training_files(folder: str | Path) -> list[Path]:
    """List what a training has left in a folder.

    Args:
        folder: output directory of a run; it need not exist.

    Returns:
        The paths of its checkpoints, logs and settings, sorted; empty if no training has used the
        folder.
    """
    found = []
    for pattern in _WRITTEN:
        found.extend(Path(folder).glob(pattern))
    return sorted(found)


def check_unused(folder: str | Path) -> None:
    """Refuse a folder that contains a training, whose checkpoints and log a new one would replace.

    A run that failed before its first checkpoint has left settings and a log of its start. They do
    not prevent the same command once its cause is fixed.

    Args:
        folder: output directory of the run that is about to start.

    Raises:
        UserError: if the folder contains a checkpoint or the record of an epoch.
    """
    for path in training_files(folder):
        is_record = path.suffix == ".pth" or (path.name == "log.jsonl" and path.stat().st_size > 0)
        if is_record:
            raise UserError(
                f"{folder}: already contains a training ({path.name}); continue it with --resume "
                "auto, choose another --output_dir, or replace it with --overwrite"
            )


def remove_training(folder: str | Path) -> None:
    """Remove the files of a training, so that those of the next one do not mix with them.

    Args:
        folder: output directory; files that no training writes stay.
    """
    for path in training_files(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def checkpoint_path(folder: str | Path, age: int) -> Path:
    """The checkpoint that was the last one ``age`` saves ago."""
    return Path(folder) / (f"last.{age}.pth" if age else LAST)


def rotate_checkpoints(folder: str | Path, keep: int) -> None:
    """Make room for a new ``last.pth``: each checkpoint becomes one save older.

    Whenever this is interrupted, there is a whole ``last.pth``.

    Args:
        folder: output directory.
        keep: number of checkpoints to keep, the new one included.
    """
    for age in range(keep - 1, 0, -1):
        younger = checkpoint_path(folder, age - 1)
        older = checkpoint_path(folder, age)
        if younger.exists():
            link = older.with_suffix(".tmp")
            link.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a disk without hard links keeps one checkpoint
                os.link(younger, link)
                os.replace(link, older)


def latest_checkpoint(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The latest checkpoint of a run that is not damaged.

    Args:
        folder: output directory.

    Returns:
        (path, or None if there is no checkpoint; a line for each damaged one that is passed over).

    Raises:
        UserError: there are checkpoints, and all are damaged.
    """
    damaged = []
    age = 0
    path = checkpoint_path(folder, age)
    while age == 0 or path.exists():
        if path.exists():
            problem = damage(path)
            if problem is None:
                return path, damaged
            damaged.append(f"{path}: damaged ({problem}); the checkpoint before it is used")
        age += 1
        path = checkpoint_path(folder, age)
    if damaged:
        raise UserError(
            f"{folder}: all {len(damaged)} checkpoints are damaged ({damaged[0]}); remove them to "
            "start anew"
        )
    return None, damaged


def damage(path: str | Path) -> str | None:
    """What is wrong with a checkpoint file, None if its checksums are right.

    ``torch.load`` does not compare them.
    """
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except Exception as error:  # a damaged file can raise nearly anything
        return printable(str(error)) or type(error).__name__
    return f"checksum of {printable(wrong)}" if wrong else None
