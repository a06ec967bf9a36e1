"""Class names: their files, and what a horizontal flip does to them."""

import json
import os
import re
from collections.abc import Sequence

import numpy as np

from ops.data.lists import read_text
from ops.utils.errors import UserError
from ops.utils.text import printable

_NUMBERED = re.compile(r"([0-9]{1,9})[ \t]+(\S.*)")
_NOT_IN_TEXT = re.compile("[\n\r\0\ud800-\udfff]")


def class_name(class_names: Sequence[str] | None, label: int) -> str:
    """The name of a class, ``label 17`` without names."""
    return class_names[label] if class_names else f"label {label}"


def read_class_names(path: str, num_class: int | None = None) -> list[str]:
    """Read class names, in label order.

    Four forms are supported: one name per line; lines that all begin with a number of 0..n-1 or
    1..n (UCF101's classInd.txt), in any order; a JSON list of names; a JSON mapping of names to
    labels (labels.json of Something-Something V2).

    Args:
        path: the file.
        num_class: the expected number of names; None: any.

    Raises:
        UserError: the file is none of these, or has another number of names.
    """
    path = os.fspath(path)
    text = read_text(path).strip()
    names = None
    if path.endswith(".json") or text.startswith(("[", "{")):
        names = _parse_json(path, text)
    if names is None:
        names = _parse_lines(text)
    check_names(path, names)
    if not names:
        raise UserError(f"{path}: no class names in it; write one per line, in label order")
    if num_class is not None and len(names) != num_class:
        raise UserError(
            f"{path}: {len(names)} class names for {num_class} classes; correct the file or "
            f"--num_class"
        )
    return names


def check_names(path: str | os.PathLike, names: list[str]) -> None:
    """Check that class names fit into a text file: JSON may contain any characters.

    Raises:
        UserError: a name contains a line break, a zero byte or half a character.
    """
    for name in names:
        if _NOT_IN_TEXT.search(name):
            raise UserError(
                f"{path}: the class name {printable(name)} contains a line break or an invalid "
                f"character; correct it"
            )


def _parse_lines(text: str) -> list[str]:
    """One name per line, or numbered names in any order."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    if not all(matches):
        return lines
    by_number = {int(match[1]): match[2] for match in matches}
    for first in (0, 1):
        numbers = range(first, first + len(lines))
        if sorted(by_number) == list(numbers):
            return [by_number[number] for number in numbers]
    return lines  # names such as "24 hours": the numbers are no labels


def _parse_json(path: str, text: str) -> list[str] | None:
    """The names of a JSON text; None for other text, such as the name "[Something] falling"."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not path.endswith(".json"):
            return None
        raise UserError(
            f"{path}: not JSON ({error}); give a JSON list of names, or a .txt with one name per "
            f"line"
        ) from None
    if isinstance(content, dict):
        return _parse_mapping(path, content)
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(
            f"{path}: neither a JSON list of names nor a mapping of names to labels; correct it"
        )
    return content


def _parse_mapping(path: str, content: dict) -> list[str]:
    try:
        by_label = {int(label): name for name, label in content.items()}
    except (OverflowError, TypeError, ValueError):
        by_label = {}
    if sorted(by_label) != list(range(len(content))):
        raise UserError(
            f"{path}: the labels of the mapping are not 0 to {len(content) - 1}, each once; "
            f"correct it"
        )
    return [by_label[label] for label in range(len(content))]


_MIRROR = {
    "left": "right",
    "leftward": "rightward",
    "leftwards": "rightwards",
    "clockwise": "counterclockwise",
}
_MIRROR |= {after: before for before, after in _MIRROR.items()}
# Words after which "right" or "left" is an adverb or a verb: "pulling it right out", "left behind".
_AFTER_NO_SIDE = {
    "right": {"out", "off", "away", "into", "onto", "after", "before", "next", "now", "there"},
    "left": {"behind", "over", "alone", "open", "unattended"},
}
# Words before a side, whatever follows: "turning right into a street", "from the right after a
# jump".
_BEFORE_SIDE = {"the", "to", "from", "turn", "turns", "turning"}


def _words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name; "TurnLeft", "turn_left" and "Turn left" have the same."""
    text = " ".join(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))).lower()
    return tuple(re.sub(r"\b(counter|anti) ?clockwise\b", "counterclockwise", text).split())


def _is_side(words: tuple[str, ...], index: int) -> bool:
    """Whether the word at this index is a side, as far as its neighbors show."""
    before = words[index - 1] if index > 0 else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    return before in _BEFORE_SIDE or after not in _AFTER_NO_SIDE.get(words[index], ())


def _mirrored(words: tuple[str, ...], sides_only: bool) -> tuple[str, ...]:
    """The words with left and right exchanged; with sides_only, only where they are sides."""
    mirrored = list(words)
    for index, word in enumerate(words):
        if word in _MIRROR and (not sides_only or _is_side(words, index)):
            mirrored[index] = _MIRROR[word]
    return tuple(mirrored)


def flip_label_map(class_names: list[str]) -> np.ndarray:
    """The label of each class after a horizontal flip, derived from the names.

    A name with the side left or right, clockwise or counterclockwise, becomes the class with these
    words exchanged ("from left to right" and "from right to left"). If there is no single such
    class, the class must not be flipped. Every other class keeps its label, also one in which the
    word is no side ("pulling it right out"); but where a class with the words exchanged exists,
    they are sides.

    Args:
        class_names: in label order.

    Returns:
        int64 ``[num_class]``; -1 for a class that must not be flipped.
    """
    words = [_words(name) for name in class_names]
    labels: dict[tuple[str, ...], int] = {}
    for label, key in enumerate(words):
        labels[key] = -1 if key in labels else label
    return np.array([_flipped(label, key, labels) for label, key in enumerate(words)], np.int64)


def _flipped(label: int, words: tuple[str, ...], labels: dict[tuple[str, ...], int]) -> int:
    """The label of one class after a flip; labels: words -> label, -1 if ambiguous."""
    for sides_only in (False, True):
        mirrored = _mirrored(words, sides_only)
        if mirrored == words:
            return label
        if mirrored in labels:
            return labels[mirrored]
    return -1
