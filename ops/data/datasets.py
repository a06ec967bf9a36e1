"""Datasets: where they are, how many classes they have, how they are tested and flipped.

A dataset is a file (described in ops/data/dataset_files.py), and a flag of the same name overrides
each of its fields. The files in the folder ``known`` beside this module are found by their names;
their data are expected in ``data/NAME/`` in the working directory. Copied to where the data are,
they are a start for a file of one's own.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ops.data.class_names import flip_label_map, read_class_names
from ops.data.dataset_files import MOST_CLASSES, read_dataset_file
from ops.data.readers.templates import EXAMPLES, count_places
from ops.data.sampling import samplings_for_tests
from ops.utils.errors import UserError
from ops.utils.text import counted


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Attributes:
        name: what it is called in the names of runs.
        num_class: number of classes.
        image_tmpl: template of the names in a folder of frames.
        root_path: what paths in the lists are relative to.
        train_list, val_list: the lists; None if not given.
        class_names: the file of class names; None if not given.
        test_sampling: one of sampling.samplings_for_tests.
        flip: what a horizontal flip does to labels. "names": what the class names say, or
            ``flip_pairs`` without them; "pairs": ``flip_pairs``; "none": nothing is flipped.
        flip_pairs: the labels that swap; None: not known, so nothing may be flipped.
        multi_label: a video may have several labels.
        by_name: a shipped dataset, given by its name and not as a file.
    """

    name: str
    num_class: int
    image_tmpl: str
    root_path: str
    train_list: str | None
    val_list: str | None
    class_names: str | None
    test_sampling: str = "center"
    flip: str = "names"
    flip_pairs: tuple[tuple[int, int], ...] | None = ()
    multi_label: bool = False
    by_name: bool = False


class _KnownDatasets(Mapping[str, Dataset]):
    """The shipped datasets, as for images. A file is read when its dataset is requested."""

    folder = Path(__file__).parent / "known"

    def __getitem__(self, name: str) -> Dataset:
        if name not in tuple(self):
            raise KeyError(name)
        return self.described(name, "RGB", {})

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("*.toml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def described(self, name: str, modality: str, given: dict) -> Dataset:
        """The dataset of this name for a modality, with flags applied."""
        path = str(self.folder / f"{name}.toml")
        return _from_file(path, modality, given, os.path.join("data", name))


KNOWN = _KnownDatasets()


def resolve(name: str, modality: str = "RGB", **overrides: str | int | None) -> Dataset:
    """The dataset of a name, a file or a folder.

    A name that ends with ".toml" is a file. A folder that contains one such file stands for it.
    Any other unknown name needs ``train_list`` or ``val_list``, and ``num_class`` or a
    ``class_names`` file (whose length is then the number of classes); its ``image_tmpl`` is
    "img_{:05d}.jpg" ("flow_{}_{:05d}.jpg" for flow) and its root the working directory unless
    given.

    Args:
        name: as described above.
        modality: "RGB", "Flow" or "RGBDiff".
        **overrides: fields of Dataset; None is a flag that was not given.

    Raises:
        UserError: something is missing or invalid; for a file, the message names the line.
    """
    given = {field: value for field, value in overrides.items() if value is not None}
    file = dataset_file(name)
    if file is not None:
        dataset = _from_file(file, modality, given)
    elif name in KNOWN:
        dataset = KNOWN.described(name, modality, given)
    else:
        dataset = _from_flags(name, modality, given)
    if not 1 <= dataset.num_class <= MOST_CLASSES:
        raise UserError(
            f"--num_class {dataset.num_class}: a dataset has at least 1 class, and at most "
            f"{MOST_CLASSES}"
        )
    if dataset.test_sampling not in samplings_for_tests():
        raise UserError(
            f"unknown --test_sampling {dataset.test_sampling!r}; choose "
            f"{', '.join(samplings_for_tests())}"
        )
    count_places(dataset.image_tmpl, modality)
    # The class names of a known dataset may be absent; a file of one's own names what exists.
    names_must_exist = "class_names" in given or file is not None
    if dataset.class_names is not None and names_must_exist:
        read_class_names(dataset.class_names, dataset.num_class)
    return dataset


def dataset_file(name: str) -> str | None:
    """The TOML file that a name stands for: itself, or the only one in the folder of this name;
    None for other names."""
    if name.endswith(".toml") and not os.path.isdir(name):
        return name
    if name in KNOWN or not os.path.isdir(name):
        return None
    files = _files_in(name)
    if len(files) == 1:
        return files[0]
    return None


def _files_in(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.toml") if path.is_file())


def dataset_name(name: str) -> str:
    """What a dataset is called in the names of runs: its name, or that of its file without the
    suffix."""
    file = dataset_file(name)
    if file is None:
        return name
    return Path(file).stem


def _from_file(path: str, modality: str, given: dict, folder: str | None = None) -> Dataset:
    """The dataset of a file, with flags applied.

    Args:
        path: the file.
        modality: "RGB", "Flow" or "RGBDiff".
        given: fields that flags override.
        folder: what paths in the file are relative to, for a known dataset; None: its own folder.
    """
    images, flow = read_dataset_file(path, folder)
    name = dataset_name(path)
    fields = {
        "image_tmpl": EXAMPLES["RGB"],
        "train_list": None,
        "val_list": None,
        "class_names": None,
        **images,
    }
    if modality == "Flow":
        if flow is None:
            _check_flow_given(path, name, given, is_known=folder is not None)
            flow = {"train_list": None, "val_list": None}  # those of the file are of images
        fields |= flow
    fields |= given
    if "num_class" not in fields:
        if fields["class_names"] is None:
            raise UserError(
                f"{path}: neither num_class nor class_names is given; add one of the two"
            )
        fields["num_class"] = len(read_class_names(fields["class_names"]))
    dataset = Dataset(name, by_name=folder is not None, **fields)
    return _check_pairs(path, dataset, images.get("num_class"))


def _check_flow_given(path: str, name: str, given: dict, is_known: bool) -> None:
    """Raise UserError unless flags say where the flow is that the file does not describe."""
    if "image_tmpl" in given and ("train_list" in given or "val_list" in given):
        return
    if is_known:
        reason = f"the flow of {name} has no usual place;"
    else:
        reason = f"{path} has no section [flow]; add it, or"
    raise UserError(f"{reason} give --image_tmpl, --train_list or --val_list, and --root_path")


def _check_pairs(path: str, dataset: Dataset, num_class_of_file: int | None) -> Dataset:
    """The dataset, without its pairs if they are those of other classes."""
    if not dataset.flip_pairs:
        return dataset
    if num_class_of_file is not None and dataset.num_class != num_class_of_file:
        return replace(dataset, flip_pairs=None)
    last = max(max(pair) for pair in dataset.flip_pairs)
    if last >= dataset.num_class:
        raise UserError(
            f"{path}: flip_pairs name label {last}, but there are {dataset.num_class} classes; "
            f"correct them"
        )
    return dataset


def _from_flags(name: str, modality: str, given: dict) -> Dataset:
    """A dataset without a file."""
    missing = []
    if not ("train_list" in given or "val_list" in given):
        missing.append("--train_list or --val_list")
    if not ("num_class" in given or "class_names" in given):
        missing.append("--num_class or --class_names")
    if missing:
        if os.path.basename(name) != name or os.path.isdir(name):
            raise not_a_dataset(name)
        near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"unknown dataset {name!r}; {hint}a dataset of your own is a file NAME.toml, or also "
            f"needs {' and '.join(missing)} (known: {', '.join(KNOWN)})"
        )
    if "num_class" not in given:
        given = {**given, "num_class": len(read_class_names(given["class_names"]))}
    defaults = Dataset(
        name,
        num_class=0,
        image_tmpl=EXAMPLES[modality],
        root_path="",
        train_list=None,
        val_list=None,
        class_names=None,
    )
    return replace(defaults, **given)


def not_a_dataset(path: str) -> UserError:
    """The error for a path that is no dataset: why, and what to do."""
    if not os.path.exists(path):
        return UserError(f"{path}: no such file; give a dataset file NAME.toml, or its folder")
    if not os.path.isdir(path):
        return UserError(f"{path}: not a dataset file; give one that is called NAME.toml")
    if files := _files_in(path):
        return UserError(f"{path}: contains {len(files)} dataset files; give one, like {files[0]}")
    return UserError(
        f"{path}: no dataset file NAME.toml in this folder; make one from VIDEOS/CLASS/video.mp4: "
        f"python tools/make_lists.py folder VIDEOS --out {path}"
    )


def load_class_names(dataset: Dataset) -> list[str] | None:
    """The class names of a dataset, or None if their file does not exist.

    Raises:
        UserError: as read_class_names does.
    """
    if dataset.class_names is None or not os.path.exists(dataset.class_names):
        return None
    return read_class_names(dataset.class_names, dataset.num_class)


def choose_flip(
    dataset: Dataset, given: str | None, module: str, of_module: Mapping[str, str]
) -> tuple[str, str]:
    """Choose what a horizontal flip does to labels.

    Args:
        dataset: the dataset; its ``flip`` is used where nothing else decides.
        given: the value of ``--flip``, None without it.
        module: name of the temporal module.
        of_module: dataset name -> the choice of the module's authors, for datasets given by name.

    Returns:
        One of ``dataset_files.FLIPS``, and the reason, for the log.

    Raises:
        UserError: pairs are requested that the dataset does not define.
    """
    if given == "pairs" and not dataset.flip_pairs:
        raise UserError(
            f"--flip pairs: {dataset.name} defines no flip_pairs; add them to its .toml file, or "
            f"use --flip names"
        )
    if given:
        return given, "given by --flip"
    if dataset.by_name and dataset.name in of_module:
        reason = f"as {module}'s authors train {dataset.name}; --flip overrides"
        return of_module[dataset.name], reason
    return dataset.flip, "the dataset's choice; --flip overrides"


def flip_map(
    dataset: Dataset, class_names: list[str] | None, flip: str | None = None
) -> np.ndarray:
    """The label of each class after a horizontal flip.

    Args:
        dataset: the dataset.
        class_names: its class names, if they exist.
        flip: one of ``dataset_files.FLIPS``; None: that of the dataset.

    Returns:
        int64 ``[num_class]``; -1 for a class that must not be flipped.
    """
    flip = flip or dataset.flip
    if flip == "names" and class_names is not None:
        return flip_label_map(class_names)
    if flip == "none" or dataset.flip_pairs is None:
        return np.full(dataset.num_class, -1, dtype=np.int64)
    labels = np.arange(dataset.num_class, dtype=np.int64)
    for first, second in dataset.flip_pairs:
        labels[[first, second]] = second, first
    return labels


def describe_flip(dataset: Dataset, labels: np.ndarray) -> str:
    """Describe a flip map for the log: "flip: 3 label pairs swapped, 2 classes never flipped".

    If class names gave other pairs than ``flip_pairs`` of the dataset, both are listed.
    """
    if (labels < 0).all():
        return f"flip: none, {counted(dataset.num_class, 'class', 'classes')} never flipped"
    pairs = tuple((label, int(other)) for label, other in enumerate(labels) if label < other)
    never = counted(int((labels < 0).sum()), "class", "classes")
    text = f"flip: {counted(len(pairs), 'label pair')} swapped, {never} never flipped"
    if dataset.flip_pairs and pairs != dataset.flip_pairs:
        text += (
            f" (pairs by class names: {_list_pairs(pairs)}; usual for {dataset.name}: "
            f"{_list_pairs(dataset.flip_pairs)})"
        )
    return text


def _list_pairs(pairs: tuple[tuple[int, int], ...]) -> str:
    return " ".join(f"{first}/{second}" for first, second in pairs) or "none"
