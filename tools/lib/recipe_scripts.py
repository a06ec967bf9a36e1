"""Reads the scripts of the published tables as data: nothing of them is executed.

``scripts/recipe.sh`` describes their form: the arrays ``train``, ``test`` and ``test1`` hold the
arguments of main.py and of the test scripts.
"""

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from ops.utils.errors import UserError
from ops.utils.files import read_regular

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
EXAMPLE = "give one such as scripts/tdn/sthv1_r50_8f.sh"
ARRAY = re.compile(r"^(\w+)=\((.*?)\)[ \t]*$", re.MULTILINE | re.DOTALL)
PROCESSES = re.compile(r"^processes=(\d+)\s*$", re.MULTILINE)
DEFAULT_PROCESSES = 8  # that of scripts/recipe.sh
DEFAULT_PRETRAIN = "pretrained/bn_inception.pth"  # likewise
# "# Expected: Prec@1 ..." or "# No number is published ...", with its indented continuation lines.
EXPECTED = re.compile(r"^# (?:Expected: )?((?:Prec@1|No number).*(?:\n#   .*)*)", re.MULTILINE)


class TestCommand(NamedTuple):
    """A test that a script runs: the name of the test script without ``.py``, and arguments."""

    __test__ = False  # not a class of tests

    entry_point: str
    arguments: list[str]


class RecipeScript(NamedTuple):
    """What a script of ``scripts/`` holds.

    Attributes:
        train: arguments of main.py.
        tests: "test" or "test1" -> the test that it runs.
        processes: number of training processes.
        expected: the comment about the published result, None without one.
    """

    train: list[str]
    tests: dict[str, TestCommand]
    processes: int
    expected: str | None


def recipe_scripts(folder: Path = SCRIPTS) -> list[Path]:
    """The scripts in the subfolders of ``folder`` that hold a training recipe."""
    return [path for path in sorted(folder.glob("*/*.sh")) if "train" in _arrays(path)]


def read_script(path: str | Path) -> RecipeScript:
    """Read a script.

    Args:
        path: a script in the form that ``scripts/recipe.sh`` describes.

    Returns:
        Its data. ``SPLIT`` and ``PRETRAIN`` of the environment count, as they do for the shell.

    Raises:
        UserError: the file cannot be read, or it has no array ``train``.
    """
    arrays = _arrays(path)
    if "train" not in arrays:
        raise UserError(f"{path}: has no train=(...) with the arguments of main.py; {EXAMPLE}")
    tests = {}
    for mode in ("test", "test1"):
        words = arrays.get(mode)
        if words:
            tests[mode] = TestCommand(f"test_models_{words[0]}", words[1:])
    text = _text(path)
    processes = PROCESSES.search(text)
    expected = EXPECTED.search(text)
    return RecipeScript(
        train=arrays["train"],
        tests=tests,
        processes=int(processes[1]) if processes else DEFAULT_PROCESSES,
        expected=re.sub(r"\n#\s*", " ", expected[1]) if expected else None,
    )


def _arrays(path):
    """Name of a bash array -> its words, with the variables of recipe.sh replaced."""
    text = _text(path)
    variables = _variables(path, splits="\nuse_split\n" in text)
    arrays = {}
    for name, content in ARRAY.findall(text):
        try:
            words = shlex.split(content, comments=True)
        except ValueError as error:
            raise UserError(f"{path}: {name}=(...) is malformed ({error}); correct it") from None
        arrays[name] = [_replace_variables(word, variables) for word in words]
    return arrays


def _variables(path, splits):
    """The variables that recipe.sh sets for a script."""
    path = Path(os.path.abspath(path))
    split = os.environ.get("SPLIT") or "1"
    run = f"runs/{path.parent.name}_{path.stem}"
    if splits:
        run += f"_split{split}"
    return {
        "run": run,
        "split": split,
        "pretrain": os.environ.get("PRETRAIN") or DEFAULT_PRETRAIN,
    }


def _replace_variables(word, variables):
    for name, value in variables.items():
        word = re.sub(rf"\${name}\b", lambda _, value=value: value, word)
    return word


def _text(path):
    try:
        return read_regular(path).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"{path}: cannot be read as a script ({reason}); {EXAMPLE}") from None
