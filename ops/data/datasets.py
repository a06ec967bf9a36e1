"""The data sets: where they lie, how many classes they have, how they are tested and flipped.

A data set is a file (ops/data/dataset_files.py says what is in it), and every field can be overridden by a flag of the same
name. Those in the folder ``known`` beside this module go by their names, and lie under ``data/NAME/`` in the working
directory unless told otherwise; copied to where one's data lie, they are a start for a file of one's own.
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
    """One data set. A list that is not given is None, and so is ``class_names`` (a file) if there is none.

    ``test_sampling`` is one of sampling.samplings_for_tests. ``flip`` says what a horizontal flip does to labels: "names"
    (what the class names say, or without them ``flip_pairs``), "pairs" (``flip_pairs``) or "none" (nothing is flipped).
    ``flip_pairs`` are the labels that swap; None: nobody knows them, so nothing may be flipped. ``multi_label``: a video
    may have several labels. ``by_name``: whether it is a shipped one that was given by its name,
    not by a file.
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


class _Known(Mapping[str, Dataset]):
    """The data sets that are shipped, of pictures. Their files are read when one is asked for."""

    folder = Path(__file__).parent / "known"

    def __getitem__(self, name: str) -> Dataset:
        if name not in tuple(self):
            raise KeyError(name)
        return _described(str(self.folder / f"{name}.toml"), "RGB", {}, os.path.join("data", name))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(path.stem for path in self.folder.glob("*.toml")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


KNOWN = _Known()


def resolve(name: str, modality: str = "RGB", **overrides: str | int | None) -> Dataset:
    """The data set of this name as ``modality`` ("RGB", "Flow", "RGBDiff") sees it, with flags applied; an override that
    is None is a flag that was not given.

    A name that ends with ".toml" is a file, and the dataset is called as the file is; a folder that
    holds one such file stands for it. Another unknown name needs ``train_list`` or ``val_list``,
    and ``num_class`` or a ``class_names`` file (whose length is then the number of classes); its
    ``image_tmpl`` is "img_{:05d}.jpg" ("flow_{}_{:05d}.jpg" for flow) and its root the working
    directory unless given. Raises UserError that says what is missing or wrong, for a file with its
    line.
    """
    given = {field: value for field, value in overrides.items() if value is not None}
    file = dataset_file(name)
    if file is not None:
        dataset = _described(file, modality, given)
    elif name in KNOWN:
        dataset = _described(
            str(KNOWN.folder / f"{name}.toml"), modality, given, os.path.join("data", name)
        )
    else:
        dataset = _unknown(name, modality, given)
    if not 1 <= dataset.num_class <= MOST_CLASSES:
        raise UserError(
            f"--num_class {dataset.num_class}: a data set has at least 1 class, and at most {MOST_CLASSES}"
        )
    if dataset.test_sampling not in samplings_for_tests():
        raise UserError(
            f"--test_sampling {dataset.test_sampling!r} is not known; choose {', '.join(samplings_for_tests())}"
        )
    count_places(dataset.image_tmpl, modality)
    # Those who know a data set by name may have it without the class names; a file of one's own names what is there.
    if dataset.class_names is not None and ("class_names" in given or file is not None):
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
    return files[0] if len(files) == 1 else None


def _files_in(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).glob("*.toml") if path.is_file())


def dataset_name(name: str) -> str:
    """What a dataset is called in the names of runs: its name, or that of its file without the
    ending."""
    file = dataset_file(name)
    return name if file is None else Path(file).stem


def _described(path: str, modality: str, given: dict, folder: str | None = None) -> Dataset:
    """The data set of a file, its paths relative to ``folder`` (None: the file's), with flags applied."""
    pictures, flow = read_dataset_file(path, folder)
    name = dataset_name(path)
    fields = {
        "image_tmpl": EXAMPLES["RGB"],
        "train_list": None,
        "val_list": None,
        "class_names": None,
        **pictures,
    }
    if modality == "Flow":
        if flow is None and (
            "image_tmpl" not in given or not ("train_list" in given or "val_list" in given)
        ):
            what = (
                f"{path} has no section [flow]; add it, or"
                if folder is None
                else f"the flow of {name} has no usual place;"
            )
            raise UserError(
                f"{what} give --image_tmpl, --train_list or --val_list, and --root_path"
            )
        fields |= flow or {"train_list": None, "val_list": None}  # those known are of pictures
    fields |= given
    if "num_class" not in fields:
        if fields["class_names"] is None:
            raise UserError(
                f"{path}: neither num_class nor class_names is given; add one of the two"
            )
        fields["num_class"] = len(read_class_names(fields["class_names"]))
    dataset = Dataset(name, by_name=folder is not None, **fields)
    if dataset.flip_pairs:
        if dataset.num_class != pictures.get("num_class", dataset.num_class):
            return replace(dataset, flip_pairs=None)  # the labels are not those of the pairs
        last = max(map(max, dataset.flip_pairs))
        if last >= dataset.num_class:
            raise UserError(
                f"{path}: flip_pairs name label {last}, but there are {dataset.num_class} classes; correct them"
            )
    return dataset


def _unknown(name: str, modality: str, given: dict) -> Dataset:
    missing = []
    if not ("train_list" in given or "val_list" in given):
        missing.append("--train_list or --val_list")
    if not ("num_class" in given or "class_names" in given):
        missing.append("--num_class or --class_names")
    if missing and (os.path.basename(name) != name or os.path.isdir(name)):
        raise not_a_dataset(name)
    if missing:
        near = difflib.get_close_matches(name.lower(), KNOWN, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"data set {name!r} is not known; {hint}a data set of your own is a file NAME.toml, or also needs "
            f"{' and '.join(missing)} (known: {', '.join(KNOWN)})"
        )
    if "num_class" not in given:
        given = {**given, "num_class": len(read_class_names(given["class_names"]))}
    return replace(Dataset(name, 0, EXAMPLES[modality], "", None, None, None), **given)


def not_a_dataset(path: str) -> UserError:
    """Why a path is no dataset, and what to do."""
    if not os.path.exists(path):
        return UserError(f"{path}: no such file; give a dataset file NAME.toml, or its folder")
    if not os.path.isdir(path):
        return UserError(f"{path}: not a dataset file; give one that is called NAME.toml")
    if files := _files_in(path):
        return UserError(f"{path}: holds {len(files)} dataset files; give one, like {files[0]}")
    return UserError(
        f"{path}: no dataset file NAME.toml in this folder; make one from VIDEOS/CLASS/video.mp4: "
        f"python tools/make_lists.py folder VIDEOS --out {path}"
    )


def load_class_names(dataset: Dataset) -> list[str] | None:
    """The class names of a data set, or None if its file is not there. Raises UserError as read_class_names does."""
    if dataset.class_names is None or not os.path.exists(dataset.class_names):
        return None
    return read_class_names(dataset.class_names, dataset.num_class)


def choose_flip(
    dataset: Dataset, given: str | None, module: str, of_module: Mapping[str, str]
) -> tuple[str, str]:
    """What mirroring does to labels: one of ``dataset_files.FLIPS``, and who decided it.

    Args:
        dataset: the dataset; its ``flip`` is used where nothing else decides.
        given: the value of ``--flip``, None without it.
        module: name of the temporal module.
        of_module: dataset name -> the choice of the module's authors, for datasets that go by name.

    Raises:
        UserError: if pairs are asked for that the dataset does not define.
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
    """The label of each class after a horizontal flip, int64 ``[num_class]``, -1 where a class must not be flipped: from
    the class names, from ``flip_pairs`` or -1 throughout, as ``flip`` (None: that of the dataset)
    says."""
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
    """The flip map for the log, e.g. "flip: 3 label pairs swapped, 2 classes never flipped".

    It also says if class names gave other pairs than the ones the dataset is known for.
    """
    if (labels < 0).all():
        return f"flip: none, {counted(dataset.num_class, 'class', 'classes')} never flipped"
    pairs = [(label, int(to)) for label, to in enumerate(labels) if label < to]
    never = counted(int((labels < 0).sum()), "class", "classes")
    text = f"flip: {counted(len(pairs), 'label pair')} swapped, {never} never flipped"
    if dataset.flip_pairs and tuple(pairs) != dataset.flip_pairs:
        shown = [
            " ".join(f"{a}/{b}" for a, b in some) or "none" for some in (pairs, dataset.flip_pairs)
        ]
        text += f" (pairs by class names: {shown[0]}; usual for {dataset.name}: {shown[1]})"
    return text
