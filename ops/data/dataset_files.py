"""Datasets as small TOML files. Every key is optional, and means what the flag of its name means::

    num_class = 4                       # default: the class names are counted
    class_names = "classes.txt"
    root_path = "$VIDEOS/mine"          # default: the folder of this file
    train_list = "train.txt"
    val_list = "val.txt"
    image_tmpl = "img_{:05d}.jpg"       # default; see ops/data/readers/templates.py
    test_sampling = "center"            # default
    flip = "names"                      # see ops/data/datasets.py flip_map; default: "pairs" if
                                        # there are flip_pairs
    flip_pairs = [[0, 1]]               # labels that swap; "unknown": some do, but not which
    multi_label = false                 # default

    [flow]                              # what differs for optical flow; without this section,
    root_path = "flow"                  # there is no flow
    train_list = "train_flow.txt"
    val_list = "val_flow.txt"
    image_tmpl = "flow_{}_{:05d}.jpg"   # default

A path is relative to the folder of the file, so that a dataset can be moved as a whole. ``~``,
``$NAME``, ``${NAME}`` and ``${NAME:-default}`` are replaced, and ``$$`` is a dollar sign. Whether a
video is a file or a folder of frames is determined on the disk.
"""

import difflib
import os
import re
from typing import Any, NoReturn

from ops.data.readers.templates import EXAMPLES, count_places
from ops.data.sampling import samplings_for_tests
from ops.data.toml_file import TomlFile, fill_in_variables, shortened
from ops.utils.errors import UserError

FLIPS = ("names", "pairs", "none")
MOST_CLASSES = 10**6

_PATHS = ("root_path", "train_list", "val_list", "class_names")
# Key -> the types that its value may have.
_FLOW_KEYS = {"root_path": (str,), "train_list": (str,), "val_list": (str,), "image_tmpl": (str,)}
_KEYS = {
    **_FLOW_KEYS,
    "num_class": (int,),
    "class_names": (str,),
    "test_sampling": (str,),
    "flip": (str,),
    "flip_pairs": (list, str),
    "multi_label": (bool,),
    "flow": (dict,),
}
_DESCRIPTIONS = {
    (str,): "text in quotes",
    (int,): "a whole number",
    (list, str): 'a list of pairs of labels, or "unknown"',
    (bool,): "true or false",
    (dict,): "a section, [flow]",
}
_INHERITED_BY_FLOW = ("root_path", "train_list", "val_list")


def read_dataset_file(
    path: str, folder: str | None = None
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Read and check a dataset file.

    Args:
        path: the file.
        folder: what paths in it are relative to; None: the folder of the file.

    Returns:
        The fields of datasets.Dataset that the file contains, for images; and those that differ for
        optical flow, or None without a section ``[flow]``.

    Raises:
        UserError: the file is missing or not TOML, a key is unknown, or a value is invalid. The
            message names file and line.
    """
    toml = TomlFile(path)
    if folder is None:
        folder = os.path.dirname(path)
    file = _DatasetFile(toml, folder)
    images = {"root_path": folder, **file.check_section("", toml.content, _KEYS, "RGB")}
    described = images.pop("flow", None)
    if described is None:
        return images, None
    flow = {"image_tmpl": EXAMPLES["Flow"]}
    for key in _INHERITED_BY_FLOW:
        if key in images:
            flow[key] = images[key]
    flow |= file.check_section("flow", described, _FLOW_KEYS, "Flow")
    return images, flow


class _DatasetFile:
    """The checks of a parsed file; errors name the line of the key."""

    def __init__(self, toml: TomlFile, folder: str) -> None:
        self.toml = toml
        self.folder = folder

    def check_section(
        self, section: str, content: dict[str, Any], keys: dict[str, tuple], modality: str
    ) -> dict[str, Any]:
        """The checked values of a section ("": the top level), with paths filled in."""
        values = {}
        for key, value in content.items():
            if key not in keys:
                self._fail_unknown(section, key, keys)
            if type(value) not in keys[key]:  # not isinstance, to which true is an int
                expected = _DESCRIPTIONS[keys[key]]
                self._fail(section, key, f"{key} is {expected}, not {shortened(value)}")
            if key in _PATHS:
                value = self._fill_in(section, key, value)
            values[key] = value
        if "image_tmpl" in values:
            try:
                count_places(values["image_tmpl"], modality)
            except UserError as error:
                self._fail(section, "image_tmpl", str(error))
        if section == "":
            self._check_top_level(values)
        return values

    def _check_top_level(self, values: dict[str, Any]) -> None:
        """Check the keys above the sections; pairs become tuples, and ``flip`` gets its default."""
        num_class = values.get("num_class")
        if num_class is not None and not 1 <= num_class <= MOST_CLASSES:
            self._fail(
                "",
                "num_class",
                f"num_class is {shortened(num_class)}; a dataset has at least 1 class, and at "
                f"most {MOST_CLASSES}",
            )
        self._check_choice(values, "test_sampling", samplings_for_tests())
        self._check_choice(values, "flip", FLIPS)
        pairs = values.get("flip_pairs")
        has_pairs = isinstance(pairs, list)
        if pairs == "unknown":
            values["flip_pairs"] = None
        elif pairs is not None:
            values["flip_pairs"] = self._check_pairs(pairs, num_class)
        flip = values.setdefault("flip", "pairs" if has_pairs else "names")
        if flip == "pairs" and not has_pairs:
            self._fail("", "flip", 'flip = "pairs" needs the pairs: flip_pairs = [[0, 1]]')
        if flip == "none" and pairs is not None:
            self._fail(
                "",
                "flip_pairs",
                'flip = "none" flips nothing, so that flip_pairs have no effect; remove one of the '
                "two",
            )

    def _check_choice(self, values: dict[str, Any], key: str, choices: Any) -> None:
        if key in values and values[key] not in choices:
            self._fail(
                "",
                key,
                f"unknown {key} {shortened(values[key])}; choose {', '.join(choices)}",
            )

    def _check_pairs(self, pairs: Any, num_class: int | None) -> tuple[tuple[int, int], ...]:
        labels = _labels_of_pairs(pairs)
        if labels is None or len(set(labels)) < len(labels):
            expected = _DESCRIPTIONS[list, str]
            self._fail(
                "",
                "flip_pairs",
                f"flip_pairs is {shortened(pairs)}, not {expected}, each label once",
            )
        for label in labels:
            if not 0 <= label < (num_class or MOST_CLASSES):
                self._fail(
                    "",
                    "flip_pairs",
                    f"flip_pairs: label {shortened(label)} is out of range; labels are 0 to "
                    f"num_class - 1",
                )
        return tuple((first, second) for first, second in pairs)

    def _fill_in(self, section: str, key: str, value: str) -> str:
        """A path with variables replaced, joined to the folder; a URL stays as it is."""
        try:
            path = fill_in_variables(value)
        except ValueError as error:
            self._fail(section, key, f"{key}: {error}")
        if re.search("[\n\r\0]", path):
            self._fail(
                section, key, f"{key}: {shortened(value)} contains a line break or a zero byte"
            )
        if "://" in path:
            return path
        return os.path.join(self.folder, os.path.expanduser(path))

    def _fail_unknown(self, section: str, key: str, keys: dict[str, Any]) -> NoReturn:
        container = f"section [{section}]" if section else "dataset"
        hint = ""
        near = difflib.get_close_matches(key.lower(), keys, n=1)
        if section and key in _KEYS:
            hint = f"it belongs above [{section}]; "
        elif near:
            hint = f"did you mean {near[0]}? "
        self._fail(
            section,
            key,
            f"unknown key {shortened(key)}; {hint}the keys of a {container} are {', '.join(keys)}",
        )

    def _fail(self, section: str, key: str, message: str) -> NoReturn:
        raise UserError(f"{self.toml.place(section, key)}: {message}")


def _labels_of_pairs(pairs: Any) -> list[int] | None:
    """All labels of a list of pairs; None for another value."""
    if not isinstance(pairs, list):
        return None
    labels = []
    for pair in pairs:
        if not isinstance(pair, list) or [type(label) for label in pair] != [int, int]:
            return None
        labels += pair
    return labels
