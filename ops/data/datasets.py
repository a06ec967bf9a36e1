"""The data sets known by name: where they lie, how many classes they have, how they are tested and flipped.

Every field can be overridden by a flag of the same name, and any other name is a data set once its lists and its
classes are given. Default places under ``data/<name>/`` (names as in TSM ops/dataset_config.py; ``*`` is train or
val):

===========  ===================================  =====================================  ===================
name         videos or frames (``root_path``)     lists                                  class names
===========  ===================================  =====================================  ===================
ucf101       jpg                                  file_list/ucf101_rgb_*_split_1.txt     labels/classInd.txt
(its flow)   jpg                                  file_list/ucf101_flow_*_split_1.txt
hmdb51       images                               splits/hmdb51_rgb_*_split_1.txt        category.txt
(its flow)   images                               splits/hmdb51_flow_*_split_1.txt
something    20bn-something-something-v1          *_videofolder.txt                      category.txt
(its flow)   20bn-something-something-v1-flow     *_videofolder_flow.txt
somethingv2  20bn-something-something-v2-frames   *_videofolder.txt                      category.txt
(its flow)   20bn-something-something-v2-flow     *_videofolder_flow.txt
jester       20bn-jester-v1                       *_videofolder.txt                      category.txt
kinetics     images                               labels/*_videofolder.txt               labels/category.txt
===========  ===================================  =====================================  ===================
"""

import difflib
import json
import os
import re
from dataclasses import dataclass, replace

import numpy as np

from ops.data.lists import read_text
from ops.data.sampling import TEST_SAMPLINGS
from ops.data.templates import EXAMPLES, count_places
from ops.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """One data set. A list that is not given is None, and so is ``class_names`` (a file) if there is none.

    ``test_sampling`` is one of sampling.TEST_SAMPLINGS. ``flip_pairs`` are the labels that a horizontal
    flip swaps, for use without class names; None: without names nothing may be flipped.
    """

    name: str
    num_class: int
    image_tmpl: str
    root_path: str
    train_list: str | None
    val_list: str | None
    class_names: str | None
    test_sampling: str = "center"
    flip_pairs: tuple[tuple[int, int], ...] | None = ()


# TDN ops/models.py: "... from left to right" / "... from right to left" twice, "Turning the camera left" / "right".
_SOMETHING_PAIRS = ((86, 87), (93, 94), (166, 167))


def _place(name: str, num_class: int, image_tmpl: str, videos: str, lists: str, names: str, **rest) -> Dataset:
    return Dataset(name, num_class, class_names=f"data/{name}/{names}", **_files(name, image_tmpl, videos, lists), **rest)


def _files(name: str, image_tmpl: str, videos: str, lists: str) -> dict[str, str]:
    base = f"data/{name}/"
    return {"image_tmpl": image_tmpl, "root_path": base + videos, "train_list": base + lists.replace("*", "train"),
            "val_list": base + lists.replace("*", "val")}


KNOWN = {
    dataset.name: dataset
    for dataset in (
        _place("ucf101", 101, "img_{:05d}.jpg", "jpg", "file_list/ucf101_rgb_*_split_1.txt", "labels/classInd.txt"),
        _place("hmdb51", 51, "img_{:05d}.jpg", "images", "splits/hmdb51_rgb_*_split_1.txt", "category.txt"),
        _place("something", 174, "{:05d}.jpg", "20bn-something-something-v1", "*_videofolder.txt", "category.txt",
               flip_pairs=_SOMETHING_PAIRS),
        _place("somethingv2", 174, "{:06d}.jpg", "20bn-something-something-v2-frames", "*_videofolder.txt",
               "category.txt", flip_pairs=_SOMETHING_PAIRS),
        _place("jester", 27, "{:05d}.jpg", "20bn-jester-v1", "*_videofolder.txt", "category.txt", flip_pairs=None),
        _place("kinetics", 400, "img_{:05d}.jpg", "images", "labels/*_videofolder.txt", "labels/category.txt",
               test_sampling="random"),
    )
}


# Where the flow of a data set lies. Jester and Kinetics have no usual place.
FLOW = {
    name: _files(name, image_tmpl, videos, lists)
    for name, image_tmpl, videos, lists in (
        ("ucf101", "flow_{}_{:05d}.jpg", "jpg", "file_list/ucf101_flow_*_split_1.txt"),
        ("hmdb51", "flow_{}_{:05d}.jpg", "images", "splits/hmdb51_flow_*_split_1.txt"),
        ("something", "{:06d}-{}_{:05d}.jpg", "20bn-something-something-v1-flow", "*_videofolder_flow.txt"),
        ("somethingv2", "{:06d}.jpg", "20bn-something-something-v2-flow", "*_videofolder_flow.txt"),
    )
}


def resolve(name: str, modality: str = "RGB", **overrides: str | int | None) -> Dataset:
    """The data set of this name as ``modality`` ("RGB", "Flow", "RGBDiff") sees it, with flags applied; an override that
    is None is a flag that was not given.

    An unknown name needs ``train_list`` or ``val_list``, and ``num_class`` or a ``class_names`` file (whose length is
    then the number of classes); its ``image_tmpl`` is "img_{:05d}.jpg" ("flow_{}_{:05d}.jpg" for flow) and its root the
    working directory unless given. Raises UserError that says what is missing or wrong.
    """
    given = {field: value for field, value in overrides.items() if value is not None}
    if name in KNOWN:
        files = _flow_files(name, given) if modality == "Flow" else {}
        dataset = replace(KNOWN[name], **files | given)
        if dataset.flip_pairs and dataset.num_class != KNOWN[name].num_class:
            dataset = replace(dataset, flip_pairs=None)  # the labels are not those of the pairs
    else:
        dataset = _unknown(name, modality, given)
    if dataset.num_class < 1:
        raise UserError(f"--num_class {dataset.num_class}: a data set has at least 1 class")
    if dataset.test_sampling not in TEST_SAMPLINGS:
        raise UserError(f"--test_sampling {dataset.test_sampling!r} is not known; choose {', '.join(TEST_SAMPLINGS)}")
    count_places(dataset.image_tmpl, modality)
    if "class_names" in given:
        read_class_names(dataset.class_names, dataset.num_class)
    return dataset


def _flow_files(name: str, given: dict) -> dict:
    if name in FLOW:
        return FLOW[name]
    if "image_tmpl" not in given or not ("train_list" in given or "val_list" in given):
        raise UserError(f"the flow of {name} has no usual place; give --image_tmpl, --train_list or --val_list, and "
                        "--root_path")
    return {"train_list": None, "val_list": None}  # those known are of pictures


def _unknown(name: str, modality: str, given: dict) -> Dataset:
    missing = []
    if not ("train_list" in given or "val_list" in given):
        missing.append("--train_list or --val_list")
    if not ("num_class" in given or "class_names" in given):
        missing.append("--num_class or --class_names")
    if missing:
        near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"data set {name!r} is not known; {hint}a data set of your own also needs "
                        f"{' and '.join(missing)} (known: {', '.join(KNOWN)})")
    if "num_class" not in given:
        given = {**given, "num_class": len(read_class_names(given["class_names"]))}
    return replace(Dataset(name, 0, EXAMPLES[modality], "", None, None, None), **given)


def read_class_names(path: str, num_class: int | None = None) -> list[str]:
    """Class names, in label order.

    Read are: one name a line; lines that all begin with a number of 0..n-1 or 1..n (UCF101's classInd.txt), in any
    order; a JSON list of names; a JSON mapping of names to labels (labels.json of Something-Something V2). Raises
    UserError if the file cannot be read as one of these, or does not hold ``num_class`` names if that is given.
    """
    path = os.fspath(path)
    text = read_text(path).strip()
    names = _json_names(path, text) if path.endswith(".json") or text.startswith(("[", "{")) else None
    if names is None:
        names = [line.strip() for line in text.split("\n") if line.strip()]
        numbered = [re.fullmatch(r"([0-9]{1,9})[ \t]+(\S.*)", name) for name in names]
        if all(numbered):
            by_label = {int(match[1]): match[2] for match in numbered}
            for first in (0, 1):
                if sorted(by_label) == list(range(first, first + len(names))):
                    names = [by_label[first + label] for label in range(len(names))]
                    break
    if not names:
        raise UserError(f"{path}: no class names in it; write one a line, in label order")
    if num_class is not None and len(names) != num_class:
        raise UserError(f"{path}: {len(names)} class names for {num_class} classes; correct the file or --num_class")
    return names


def _json_names(path: str, text: str) -> list[str] | None:
    """None for what is not JSON and does not claim to be: names such as "[Something] falling"."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not path.endswith(".json"):
            return None
        raise UserError(f"{path}: not JSON ({error}); give a JSON list of names, or a .txt of one name a line") from None
    if isinstance(content, dict):
        try:
            by_label = {int(label): name for name, label in content.items()}
        except (TypeError, ValueError):
            by_label = {}
        if sorted(by_label) != list(range(len(content))):
            raise UserError(f"{path}: the labels of the mapping are not 0 to {len(content) - 1}, each once; correct it")
        return [by_label[label] for label in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{path}: neither a JSON list of names nor a mapping of names to labels; correct it")
    return content


def load_class_names(dataset: Dataset) -> list[str] | None:
    """The class names of a data set, or None if its file is not there. Raises UserError as read_class_names does."""
    if dataset.class_names is None or not os.path.exists(dataset.class_names):
        return None
    return read_class_names(dataset.class_names, dataset.num_class)


_MIRROR = {"left": "right", "leftward": "rightward", "leftwards": "rightwards", "clockwise": "counterclockwise"}
_MIRROR |= {after: before for before, after in _MIRROR.items()}


def _words(name: str) -> tuple[str, ...]:
    """The lower-case words of a name; "TurnLeft", "turn_left" and "Turn left" have the same."""
    text = " ".join(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))).lower()
    return tuple(re.sub(r"\b(counter|anti) ?clockwise\b", "counterclockwise", text).split())


def flip_label_map(class_names: list[str]) -> np.ndarray:
    """The label of each class after a horizontal flip: int64 ``[num_class]``.

    A name that says left or right, clockwise or counterclockwise, becomes the class with these words exchanged ("from
    left to right" and "from right to left"); if no single class is called so, the label is -1 and the class must not
    be flipped. Every other class keeps its label.
    """
    words = [_words(name) for name in class_names]
    labels: dict[tuple[str, ...], int] = {}
    for label, key in enumerate(words):
        labels[key] = -1 if key in labels else label
    mirrored = [tuple(_MIRROR.get(word, word) for word in key) for key in words]
    pairs = enumerate(zip(words, mirrored, strict=True))
    return np.array([label if mirror == key else labels.get(mirror, -1) for label, (key, mirror) in pairs], np.int64)


def flip_map(dataset: Dataset, class_names: list[str] | None) -> np.ndarray:
    """The flip of a data set, int64 ``[num_class]``: from its class names, or without names from its ``flip_pairs``."""
    if class_names is not None:
        return flip_label_map(class_names)
    if dataset.flip_pairs is None:
        return np.full(dataset.num_class, -1, dtype=np.int64)
    labels = np.arange(dataset.num_class, dtype=np.int64)
    for first, second in dataset.flip_pairs:
        labels[[first, second]] = second, first
    return labels


def describe_flip(dataset: Dataset, labels: np.ndarray) -> str:
    """One line for the log about the flip map ``labels`` of a data set, e.g. "flip: 3 label pairs swapped, 2 classes
    never flipped"; it also says if class names gave other pairs than the ones the data set is known for."""
    pairs = [(label, int(to)) for label, to in enumerate(labels) if label < to]
    text = f"flip: {len(pairs)} label pairs swapped, {int((labels < 0).sum())} classes never flipped"
    if dataset.flip_pairs and tuple(pairs) != dataset.flip_pairs:
        shown = [" ".join(f"{a}/{b}" for a, b in some) or "none" for some in (pairs, dataset.flip_pairs)]
        text += f" (pairs by class names: {shown[0]}; usual for {dataset.name}: {shown[1]})"
    return text
