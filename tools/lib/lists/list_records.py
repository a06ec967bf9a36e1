"""Videos and classes as published annotations describe them, and checks that all readers need."""

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ops.data.lists import read_text
from ops.utils.errors import UserError


class Video(NamedTuple):
    """A video of a split.

    Attributes:
        names: possible names of its folder of frames, or of its file without suffix; the most
            likely first.
        label: of its class.
        file: file of the annotations that lists it.
        line: its line there.
    """

    names: tuple[str, ...]
    label: int
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


class Annotations(NamedTuple):
    """What the authors of a dataset publish.

    Attributes:
        classes: class names in label order.
        splits: "train", "val", "test", or these with "_split_1" to "_split_3" appended -> videos.
        folders: name of the folder of a class -> label; empty where videos are not in folders of
            their class.
    """

    classes: list[str]
    splits: dict[str, list[Video]]
    folders: dict[str, int]


def folder_name(name: str) -> str:
    """The folder of a class: underscores for blanks, no quotes and brackets.

    Source: TSM, tools/gen_label_kinetics.py.
    """
    return re.sub("[\"'()]", "", name.replace(" ", "_"))


def label_table(names: list[str], file: str, key: Callable[[str], str] = str) -> dict[str, int]:
    """Labels by class name.

    Args:
        names: class names in label order.
        file: their file, for messages.
        key: class name -> key of the table.

    Raises:
        UserError: two names have the same key.
    """
    labels: dict[str, int] = {}
    for label, name in enumerate(names):
        other = labels.setdefault(key(name), label)
        if other != label:
            raise UserError(
                f"{file}: the classes {names[other]!r} and {name!r} are the same; correct the file"
            )
    return labels


def text_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers from 1.

    Raises:
        UserError: there are none.
    """
    is_empty = True
    for number, line in enumerate(read_text(str(path)).split("\n"), 1):
        if line.strip():
            is_empty = False
            yield number, line.strip()
    if is_empty:
        raise UserError(f"{path}: the file is empty; give the published file")


def find_label(labels: dict[str, int], key: str, name: str, place: str) -> int:
    """The label of a class.

    Args:
        labels: key -> label.
        key: of the class.
        name: of the class, for messages.
        place: where the annotations name it, for messages.

    Raises:
        UserError: an unknown class; the most similar one is named.
    """
    if key in labels:
        return labels[key]
    similar = difflib.get_close_matches(key, labels, n=1)
    hint = f" (did you mean {similar[0]!r}?)" if similar else ""
    raise UserError(
        f"{place}: class {name!r} is not one of the {len(labels)} known{hint}; correct it or the "
        "file of class names"
    )


def class_lines(path: str) -> list[str]:
    """Class names, one per line.

    Raises:
        UserError: a name is repeated.
    """
    lines: dict[str, int] = {}
    for number, name in text_lines(path):
        if name in lines:
            raise UserError(
                f"{path}:{number}: class {name!r} is also on line {lines[name]}; remove one of them"
            )
        lines[name] = number
    return list(lines)
