"""The text of lists and of files with class names."""

import re
from collections.abc import Iterable

from ops.utils.errors import UserError

# A list is UTF-8, one video per line, and its fields lose blanks at both ends.
UNFIT = re.compile("[\t\n\r\0\ud800-\udfff]|^[ \ufeff]| $")
NUMBERED = re.compile(r"[0-9]+[ \t]+\S")


def format_lines(entries: list[tuple[str, int | None, int]], root: str) -> str:
    """The text of a list, as ``ops.data.lists`` reads it.

    Fields are separated by tabs if a path contains a blank, otherwise by blanks, which the
    original repositories read too.

    Args:
        entries: path, number of frames (None for a video file) and label of each video.
        root: folder of the videos, for messages.

    Raises:
        UserError: a line of a list cannot contain one of the paths.
    """
    paths = [path for path, _, _ in entries]
    check_names(paths, root)
    separator = "\t" if any(" " in path for path in paths) else " "
    lines = []
    for entry in entries:
        fields = [str(field) for field in entry if field is not None]
        lines.append(separator.join(fields) + "\n")
    return "".join(lines)


def check_names(names: Iterable[str], root: str) -> None:
    """Raises UserError for a name that a line of a list cannot contain."""
    for name in names:
        if UNFIT.search(name):
            raise UserError(
                f"{root}: the name {name!r} contains a tab or a line break, begins or ends with a "
                "blank, or is not valid text; rename it"
            )


def class_text(names: list[str], numbered: bool) -> str:
    """The text of a file of class names, in label order, as ``read_class_names`` reads it.

    Args:
        names: the class names.
        numbered: whether each has its number from 1 in front, as in UCF101's classInd.txt. Names
            that all look numbered themselves get numbers too, or they would lose theirs.
    """
    if numbered or all(NUMBERED.match(name) for name in names):
        return "".join(f"{number} {name}\n" for number, name in enumerate(names, 1))
    return "".join(f"{name}\n" for name in names)
