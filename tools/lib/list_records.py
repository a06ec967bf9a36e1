"""What the readers of annotations (tools/lib/list_sources.py) are made of."""

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ops.data.lists import read_text
from ops.utils.errors import UserError


class Video(NamedTuple):
    """A video of a split: what its folder of frames, or its file without the ending, may be called (the likeliest first),
    its label, and where that is written."""

    names: tuple[str, ...]
    label: int
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class Source(NamedTuple):
    """The class names in label order; split ("train", "val", "test", or with "_split_1" to "_split_3" behind it) ->
    videos; folder name of a class -> label, empty where videos do not lie in folders of their class."""

    classes: list[str]
    splits: dict[str, list[Video]]
    folders: dict[str, int]


def folder_name(name: str) -> str:
    """The folder of a class: blanks become underscores, quotes and brackets vanish (TSM tools/gen_label_kinetics.py)."""
    return re.sub("[\"'()]", "", name.replace(" ", "_"))


def label_table(names: list[str], file: str, key: Callable[[str], str] = str) -> dict[str, int]:
    """key(name) -> label. Raises UserError if two names have the same key."""
    labels: dict[str, int] = {}
    for label, name in enumerate(names):
        if (other := labels.setdefault(key(name), label)) != label:
            raise UserError(
                f"{file}: the classes {names[other]!r} and {name!r} are the same; correct the file"
            )
    return labels


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers from 1. Raises UserError if there is none."""
    lines = [
        (number, line.strip())
        for number, line in enumerate(read_text(str(path)).split("\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise UserError(f"{path}: the file is empty; give the one that was published")
    yield from lines


def find_label(labels: dict[str, int], key: str, name: str, place: str) -> int:
    """The label of a class name, looked up by its key. Raises UserError, which names the class nearest to an unknown one."""
    if key not in labels:
        near = difflib.get_close_matches(key, labels, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(
            f"{place}: class {name!r} is not one of the {len(labels)} known{hint}; correct it or the file of "
            "class names"
        )
    return labels[key]


def class_lines(path: str) -> list[str]:
    """Class names, one a line. Raises UserError for one that comes twice."""
    seen: dict[str, int] = {}
    for number, name in text_lines(path):
        if seen.setdefault(name, number) != number:
            raise UserError(
                f"{path}:{number}: class {name!r} is also on line {seen[name]}; remove one of them"
            )
    return list(seen)
