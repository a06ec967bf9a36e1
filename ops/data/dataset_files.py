"""Data sets as small TOML files. Every key is optional, and means what the flag of its name means::

    num_class = 4                       # without it the class names are counted
    class_names = "classes.txt"
    root_path = "$VIDEOS/mine"          # default: the folder of this file
    train_list = "train.txt"
    val_list = "val.txt"
    image_tmpl = "img_{:05d}.jpg"       # default; names in a folder of frames, see ops/data/readers/templates.py
    test_sampling = "center"            # default
    flip = "names"                      # see ops/data/datasets.py flip_map; default: "pairs" if there are flip_pairs
    flip_pairs = [[0, 1]]               # labels that swap; "unknown": they do, but nobody knows which
    multi_label = false                 # default

    [flow]                              # what is different for optical flow; without this section there is none
    root_path = "flow"
    train_list = "train_flow.txt"
    val_list = "val_flow.txt"
    image_tmpl = "flow_{}_{:05d}.jpg"   # default

A path is relative to the folder of the file, so that a data set can be moved as a whole; ``~``, ``$NAME`` and ``${NAME}`` are
filled in, and ``$$`` is a dollar sign. Whether a video is a file or a folder of frames is seen on the disk.
"""

import difflib
import os
import re
import tomllib
from string import Template
from typing import Any, NoReturn

from ops.data.lists import read_text
from ops.data.readers.templates import EXAMPLES, count_places
from ops.data.sampling import samplings_for_tests
from ops.utils.errors import UserError
from ops.utils.text import printable

FLIPS = ("names", "pairs", "none")
_PATHS = ("root_path", "train_list", "val_list", "class_names")
_FLOW_KEYS = {"root_path": str, "train_list": str, "val_list": str, "image_tmpl": str}
_KEYS = {
    **_FLOW_KEYS,
    "num_class": int,
    "class_names": str,
    "test_sampling": str,
    "flip": str,
    "flip_pairs": (list, str),
    "multi_label": bool,
    "flow": dict,
}
MOST_CLASSES = 10**6
_DOTS = 200  # tomllib takes a minute for a key of 50,000 parts
_KINDS = {
    str: "text in quotes",
    int: "a whole number",
    (list, str): 'a list of pairs of labels, or "unknown"',
    bool: "true or false",
    dict: "a section, [flow]",
}


def read_dataset_file(
    path: str, folder: str | None = None
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """What a file says: its keys, and those of pictures and ``[flow]`` as a flow has them (None without that section), all
    as the fields of datasets.Dataset hold them.

    ``folder``: what paths are relative to, in place of the file's own. Raises UserError with file and line if the file is
    missing, is not TOML, or has an unknown key or a value that cannot be.
    """
    text = read_text(path)
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _DOTS:
            raise UserError(
                f'{path}:{number}: more than {_DOTS} dots; write KEY = VALUE, text in "quotes"'
            )
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a mere ValueError
        reason = " ".join(str(error).split())
        place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)", reason)
        line = (place[1] or text.rstrip().count("\n") + 1) if place else None
        raise UserError(
            f"{path}{f':{line}' if line else ''}: not TOML: {reason.replace(place[0], '') if place else reason}; "
            'write KEY = VALUE, text in "quotes"'
        ) from None
    file = _File(path, text, os.path.dirname(path) if folder is None else folder)
    pictures = {"root_path": file.folder, **file.section("", content, _KEYS, "RGB")}
    described = pictures.pop("flow", None)
    if described is None:
        return pictures, None
    kept = {
        key: pictures[key] for key in ("root_path", "train_list", "val_list") if key in pictures
    }
    return pictures, {
        "image_tmpl": EXAMPLES["Flow"],
        **kept,
        **file.section("flow", described, _FLOW_KEYS, "Flow"),
    }


class _File:
    """The text of a file and where it lies, for errors that name the line."""

    def __init__(self, path: str, text: str, folder: str) -> None:
        self.path, self.text, self.folder = path, text, folder

    def fail(self, section: str, key: str, what: str) -> NoReturn:
        """tomllib does not tell lines: the first that looks like ``key`` in ``section`` is named, or none."""
        inside, place = "", self.path
        for number, line in enumerate(self.text.split("\n"), 1):
            header = re.fullmatch(r"\s*\[+\s*[\"']?([\w-]+)[\"']?\s*\]+\s*(?:#.*)?", line)
            inside = header[1] if header else inside
            if (not section and header and inside == key) or (
                inside == section and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line)
            ):
                place = f"{self.path}:{number}"
                break
        raise UserError(f"{place}: {what}")

    def section(
        self, section: str, content: dict[str, Any], keys: dict[str, Any], modality: str
    ) -> dict[str, Any]:
        """The checked values of a section."""
        for key, value in content.items():
            if key not in keys:
                self._unknown(section, key, keys)
            wanted = keys[key]
            if type(value) not in (
                wanted if isinstance(wanted, tuple) else (wanted,)
            ):  # true is an int to isinstance
                self.fail(section, key, f"{key} is {_KINDS[wanted]}, not {_shown(value)}")
        values = {
            key: self._path(section, key, value) if key in _PATHS else value
            for key, value in content.items()
        }
        if "image_tmpl" in values:
            try:
                count_places(values["image_tmpl"], modality)
            except UserError as error:
                self.fail(section, "image_tmpl", str(error))
        if not section:
            self._check(values)
        return values

    def _unknown(self, section: str, key: str, keys: dict[str, Any]) -> NoReturn:
        near = difflib.get_close_matches(key.lower(), keys, n=1)
        where = f"[{section}]" if section else "data set"
        hint = (
            f"it stands above [{section}]; "
            if section and key in _KEYS
            else f"did you mean {near[0]}? "
            if near
            else ""
        )
        self.fail(
            section,
            key,
            f"unknown key {_shown(key)}; {hint}the keys of a {where} are {', '.join(keys)}",
        )

    def _path(self, section: str, key: str, value: str) -> str:
        try:
            filled = Template(value).substitute(os.environ)
        except KeyError as error:
            name = error.args[0]
            self.fail(
                section,
                key,
                f"{key}: the environment variable {name} is not set; export {name}=..., or write the path "
                "out",
            )
        except ValueError:
            self.fail(
                section,
                key,
                f"{key}: {_shown(value)} has a $ before no name; write $NAME, ${{NAME}}, or $$ for a $",
            )
        if re.search("[\n\r\0]", filled):
            self.fail(
                section,
                key,
                f"{key}: {_shown(value)} holds a line break or a zero byte; no path does",
            )
        return filled if "://" in filled else os.path.join(self.folder, os.path.expanduser(filled))

    def _check(self, values: dict[str, Any]) -> None:
        """Values that stand above the sections; the pairs of labels become tuples, and ``flip`` is settled."""
        if not 1 <= values.get("num_class", 1) <= MOST_CLASSES:
            self.fail(
                "",
                "num_class",
                f"num_class is {_shown(values['num_class'])}; a data set has at least 1 class, and "
                f"at most {MOST_CLASSES}",
            )
        for key, known in (("test_sampling", samplings_for_tests()), ("flip", FLIPS)):
            if key in values and values[key] not in known:
                self.fail(
                    "", key, f"{key} {_shown(values[key])} is not known; choose {', '.join(known)}"
                )
        pairs = values.get("flip_pairs")
        if pairs == "unknown":
            values["flip_pairs"] = None
        elif pairs is not None:
            values["flip_pairs"] = self._pairs(pairs, values.get("num_class"))
        flip = values.setdefault("flip", "pairs" if isinstance(pairs, list) else "names")
        if flip == "pairs" and not isinstance(pairs, list):
            self.fail("", "flip", 'flip = "pairs" needs the pairs: flip_pairs = [[0, 1]]')
        if flip == "none" and pairs is not None:
            self.fail(
                "",
                "flip_pairs",
                'flip = "none" mirrors nothing, so that flip_pairs play no part; remove one of the two',
            )

    def _pairs(self, pairs: Any, num_class: int | None) -> tuple[tuple[int, int], ...]:
        fits = isinstance(pairs, list) and all(
            isinstance(pair, list) and [type(label) for label in pair] == [int, int]
            for pair in pairs
        )
        labels = [label for pair in pairs for label in pair] if fits else []
        if not fits or len(set(labels)) < len(labels):
            self.fail(
                "",
                "flip_pairs",
                f"flip_pairs is {_shown(pairs)}, not {_KINDS[list, str]}, each label once",
            )
        wrong = [label for label in labels if label < 0 or label >= (num_class or MOST_CLASSES)]
        if wrong:
            self.fail(
                "",
                "flip_pairs",
                f"flip_pairs: there is no label {_shown(wrong[0])}; labels count from 0 to num_class "
                "- 1",
            )
        return tuple((first, second) for first, second in pairs)


def _shown(value: Any) -> str:
    text = (
        repr(value) if isinstance(value, str) else printable(value)
    )  # dotted keys can be nested very deeply
    return text if len(text) <= 60 else text[:57] + "..."
