"""Class names: their files, and what a horizontal flip makes of them."""

import json
import os
import re

import numpy as np

from ops.data.lists import read_text
from ops.utils.errors import UserError
from ops.utils.text import printable


def read_class_names(path: str, num_class: int | None = None) -> list[str]:
    """Class names, in label order.

    Read are: one name a line; lines that all begin with a number of 0..n-1 or 1..n (UCF101's classInd.txt), in any
    order; a JSON list of names; a JSON mapping of names to labels (labels.json of Something-Something V2). Raises
    UserError if the file cannot be read as one of these, or does not hold ``num_class`` names if that is given.
    """
    path = os.fspath(path)
    text = read_text(path).strip()
    names = (
        _json_names(path, text) if path.endswith(".json") or text.startswith(("[", "{")) else None
    )
    if names is None:
        names = [line.strip() for line in text.split("\n") if line.strip()]
        numbered = [re.fullmatch(r"([0-9]{1,9})[ \t]+(\S.*)", name) for name in names]
        if all(numbered):
            by_label = {int(match[1]): match[2] for match in numbered}
            for first in (0, 1):
                if sorted(by_label) == list(range(first, first + len(names))):
                    names = [by_label[first + label] for label in range(len(names))]
                    break
    check_names(path, names)
    if not names:
        raise UserError(f"{path}: no class names in it; write one a line, in label order")
    if num_class is not None and len(names) != num_class:
        raise UserError(
            f"{path}: {len(names)} class names for {num_class} classes; correct the file or --num_class"
        )
    return names


def check_names(path: str | os.PathLike, names: list[str]) -> None:
    """Raises UserError, naming ``path``, for a class name that a line of text cannot hold: JSON may say anything."""
    wrong = next(filter(re.compile("[\n\r\0\ud800-\udfff]").search, names), None)
    if wrong is not None:
        raise UserError(
            f"{path}: the class name {printable(wrong)} holds a line break or what is no text; correct it"
        )


def _json_names(path: str, text: str) -> list[str] | None:
    """None for what is not JSON and does not claim to be: names such as "[Something] falling"."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not path.endswith(".json"):
            return None
        raise UserError(
            f"{path}: not JSON ({error}); give a JSON list of names, or a .txt of one name a line"
        ) from None
    if isinstance(content, dict):
        try:
            by_label = {int(label): name for name, label in content.items()}
        except (OverflowError, TypeError, ValueError):
            by_label = {}
        if sorted(by_label) != list(range(len(content))):
            raise UserError(
                f"{path}: the labels of the mapping are not 0 to {len(content) - 1}, each once; correct it"
            )
        return [by_label[label] for label in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(
            f"{path}: neither a JSON list of names nor a mapping of names to labels; correct it"
        )
    return content


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
    """Whether the word at this index says a side, as far as its neighbors tell."""
    before = words[index - 1] if index else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    return before in _BEFORE_SIDE or after not in _AFTER_NO_SIDE.get(words[index], ())


def _mirrored(words: tuple[str, ...], sides_only: bool) -> tuple[str, ...]:
    """The words with left and right exchanged; sides_only: only where they are sides."""
    return tuple(
        _MIRROR.get(word, word) if not sides_only or _is_side(words, index) else word
        for index, word in enumerate(words)
    )


def flip_label_map(class_names: list[str]) -> np.ndarray:
    """The label of each class after a horizontal flip: int64 ``[num_class]``.

    A name with the side left or right, clockwise or counterclockwise, becomes the class with these
    words exchanged ("from left to right" and "from right to left"); if no single class is called
    so, the label is -1 and the class must not be flipped. Every other class keeps its label, also
    one in which the word is no side ("pulling it right out"); but where a class with the words
    exchanged exists, they are sides.
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
