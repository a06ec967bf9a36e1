"""The recipes of the published tables, ``scripts/SYSTEM/NAME.toml``, and what their comments say.

``main.py --config`` and the test scripts read the flags. The comment above them, and that of a
script without a recipe (an ensemble), names the network and the published result.
"""

import re
from pathlib import Path
from typing import NamedTuple

from ops.data.lists import read_text

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
# "# TDN-ResNet50, 8 frames, Kinetics-400." with its indented continuation lines.
_TITLE = re.compile(r"^# (.*(?:\n#   .*)*)", re.MULTILINE)
# "# Expected: Prec@1 ..." or "# No number is published ...".
_EXPECTED = re.compile(r"^# (?:Expected: )?((?:Prec@1|No number).*(?:\n#   .*)*)", re.MULTILINE)


class RecipeComment(NamedTuple):
    """The comment at the head of a recipe or script.

    Attributes:
        title: the network and its training; empty without a comment.
        expected: the published result, or that there is none; None where the comment has neither.
    """

    title: str
    expected: str | None


def recipe_files(folder: Path = SCRIPTS) -> list[Path]:
    """The recipes in the subfolders of ``folder``."""
    return sorted(folder.glob("*/*.toml"))


def read_comment(path: str | Path) -> RecipeComment:
    """Read the comment of a recipe or script.

    Raises:
        UserError: the file cannot be read.
    """
    text = read_text(str(path))
    title = _TITLE.search(text)
    expected = _EXPECTED.search(text)
    return RecipeComment(
        title=_unwrap(title[1]) if title else "",
        expected=_unwrap(expected[1]) if expected else None,
    )


def _unwrap(comment):
    return re.sub(r"\n#\s*", " ", comment)
