"""Reads the videos, classes and splits of a folder of class folders."""

import hashlib
import json
import os
from collections.abc import Iterable
from typing import NamedTuple

from lib.lists.video_search import Place, entries, is_video_name
from ops.data.readers.templates import EXAMPLES
from ops.utils.errors import UserError

# Names of folders that hold a split, in lower case -> split.
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SPLITS = ("train", "val", "test")
NOT_SPLIT = "all"  # the split of class folders that are directly below the root
DEFAULT_VAL_SHARE = 0.2


class ClassFolders(NamedTuple):
    """A folder of class folders.

    Attributes:
        classes: class names in label order.
        splits: split -> videos with their labels, by path.
        ignored: files that are not videos.
        empty: folders without videos, which are not classes.
    """

    classes: list[str]
    splits: dict[str, list[tuple[Place, int]]]
    ignored: list[str]
    empty: list[str]


class Folder(NamedTuple):
    """A folder with the videos of one class in one split (or in NOT_SPLIT)."""

    split: str
    class_name: str
    path: str
    videos: list[Place]

    @property
    def is_training(self) -> bool:
        return self.split in ("train", NOT_SPLIT)


def read_classes(
    root: str, kind: str, names: list[str] | None, share: float | None, seed: int
) -> ClassFolders:
    """Read the videos ``root/class/video.mp4`` and folders of frames ``root/class/video/``.

    Without ``names`` the classes are the folders that contain videos, in alphabetical order, or in
    numerical order if all names are numbers. If ``root`` contains only folders of splits (train,
    val, test; also valid, Training, ...), they are the splits. Otherwise, and if there is no val,
    part of the videos of each class is split off for validation; which, depends only on the names
    of the videos of the class, ``share`` and ``seed``.

    Args:
        root: the folder.
        kind: "videos" for files only, "frames" for folders only, "auto" for both.
        names: class names in label order.
        share: part of each class for validation; None: 0.2.
        seed: another seed selects other videos for validation.

    Raises:
        UserError: there are no videos, a folder that is not a class, or two videos with the same
            name in a class; or ``share`` is given for a folder that is split already.
    """
    by_split = _split_folders(root)
    if "val" in by_split and share is not None:
        raise UserError(
            f"{root}: it is split already, by its folders {' and '.join(by_split.values())}; leave "
            "--val_share out"
        )
    ignored = [
        entry.name
        for entry in entries(root)
        if not entry.is_folder and is_video_name(entry.name)  # beside the class folders
    ]
    folders = _class_folders(root, by_split, kind, ignored)
    if not any(folder.videos for folder in folders if folder.is_training):
        raise UserError(
            f"{root}: no videos in class folders; expected CLASS/video.mp4 or CLASS/video/frames "
            "below it"
        )
    classes = names or _class_names(folders)
    filled = {folder.class_name for folder in folders if folder.videos}
    if "val" in by_split:
        share = None
    elif share is None:
        share = DEFAULT_VAL_SHARE
    splits = _labeled_splits(root, folders, classes, share, seed)
    return ClassFolders(
        classes,
        splits,
        ignored,
        [folder.path for folder in folders if folder.class_name not in filled],
    )


def _split_folders(root: str) -> dict[str, str]:
    """Split -> its folder, if ``root`` contains only folders of splits; else NOT_SPLIT -> "".

    Raises UserError for two folders of one split.
    """
    by_split: dict[str, str] = {}
    for entry in entries(root):
        if not entry.is_folder:
            continue
        split = SPLIT_FOLDERS.get(entry.name.lower())
        if split is None:
            return {NOT_SPLIT: ""}
        if split in by_split:
            raise UserError(
                f"{root}: both {by_split[split]} and {entry.name} look like the folder of {split}; "
                "keep one of them"
            )
        by_split[split] = entry.name
    return by_split if "train" in by_split else {NOT_SPLIT: ""}


def _class_folders(
    root: str, by_split: dict[str, str], kind: str, ignored: list[str]
) -> list[Folder]:
    """The class folders of all splits; files that are not videos are added to ``ignored``."""
    folders = []
    for split, top in by_split.items():
        parent = f"{root}/{top}" if top else root
        for entry in entries(parent):
            if entry.is_folder:
                path = f"{top}/{entry.name}" if top else entry.name
                videos = _videos(root, path, kind, ignored)
                folders.append(Folder(split, entry.name, path, videos))
    return folders


def _videos(root: str, folder: str, kind: str, ignored: list[str]) -> list[Place]:
    """The videos of a class folder; files that are not videos are added to ``ignored``."""
    places: dict[str, Place] = {}
    for entry in entries(f"{root}/{folder}"):
        path = f"{folder}/{entry.name}"
        if not entry.is_folder and not is_video_name(entry.name):
            ignored.append(path)
            continue
        if kind != "auto" and entry.is_folder != (kind == "frames"):
            continue
        place = Place(path, entry.is_folder)
        first = places.setdefault(os.path.basename(_stem(place)), place)
        if first is not place:
            raise UserError(
                f"{root}/{path}: the same name as {os.path.basename(first.path)}, maybe the same "
                "video; keep one, or give --kind"
            )
    return list(places.values())


def _stem(place: Place) -> str:
    """The path of a video without its suffix."""
    return place.path if place.is_folder else os.path.splitext(place.path)[0]


def _class_names(folders: list[Folder]) -> list[str]:
    """The names of all classes with videos, in label order."""
    filled = {folder.class_name for folder in folders if folder.videos}
    names = [
        folder.class_name
        for folder in folders
        if folder.is_training and folder.class_name in filled
    ]
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def _labeled_splits(
    root: str, folders: list[Folder], classes: list[str], share: float | None, seed: int
) -> dict[str, list[tuple[Place, int]]]:
    """Split -> videos with their labels, of the splits that have videos.

    share: part of each class to split off for validation; None: there is a val split already.
    """
    labels = {name: label for label, name in enumerate(classes)}
    splits: dict[str, list[tuple[Place, int]]] = {split: [] for split in SPLITS}
    for folder in folders:
        if not folder.videos:
            continue
        if folder.class_name not in labels:
            raise UserError(
                f"{root}/{folder.path}: {folder.class_name!r} is not one of the {len(labels)} "
                "classes; rename or move the folder"
            )
        label = labels[folder.class_name]
        parts = {folder.split: folder.videos}
        if folder.is_training and share is not None:
            parts["train"], parts["val"] = _divided(folder.videos, share, seed)
        for split in SPLITS:
            splits[split] += [(place, label) for place in parts.get(split, ())]
    return {split: videos for split, videos in splits.items() if videos}


def _divided(videos: list[Place], share: float, seed: int) -> tuple[list[Place], list[Place]]:
    """The videos of a class for training and for validation."""
    chosen = split_off([_stem(place) for place in videos], share, seed)
    train, val = [], []
    for place in videos:
        (val if _stem(place) in chosen else train).append(place)
    return train, val


def split_off(names: list[str], share: float, seed: int) -> set[str]:
    """Choose about a share of names by their hashes, so that their order does not matter.

    Args:
        names: without repetitions.
        share: in [0, 1); unless it is 0, at least one of two names is chosen, and never all.
        seed: another seed chooses other names.
    """
    count = 0
    if share:
        count = min(max(round(len(names) * share), 1), len(names) - 1)

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()

    return set(sorted(names, key=rank)[:count])


def dataset_text(
    root: str, out: str, splits: Iterable[str], modality: str, image_tmpl: str | None
) -> str:
    """The text of a dataset file (docs/data.md).

    Args:
        root: folder of the videos.
        out: folder of the lists and of the dataset file, whose paths are relative to it.
        splits: names of the splits that have a list.
        modality: "RGB" or "Flow".
        image_tmpl: file names in folders of frames; None: the default.
    """
    fields = {
        "root_path": os.path.relpath(root, out).replace("$", "$$"),
        "class_names": "classes.txt",
    }
    for split in splits:
        if split != "test":
            fields[f"{split}_list"] = f"{split}.txt"
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    if modality == "Flow":
        lines += ["", "[flow]"]
        image_tmpl = image_tmpl or EXAMPLES["Flow"]
    if image_tmpl:
        lines.append(f"image_tmpl = {json.dumps(image_tmpl)}")
    return "\n".join(lines) + "\n"
