"""A folder of class folders -> the videos of each split: the source of lists for data of one's own."""

import json
import os
from collections.abc import Iterable
from typing import NamedTuple

from lib.list_files import ENDINGS, Place, entries, split_off
from ops.data.readers.templates import EXAMPLES
from ops.utils.errors import UserError

# What the folders of the splits may be called, in lower or upper case.
_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class ClassFolders(NamedTuple):
    """The class names in label order; split -> videos with their labels, in order of their paths;
    files that are not videos; folders without videos, which are no classes."""

    classes: list[str]
    splits: dict[str, list[tuple[Place, int]]]
    ignored: list[str]
    empty: list[str]


class _Folder(NamedTuple):
    """A folder of the videos of one class, in one split ("all" where they are not split yet)."""

    split: str
    class_name: str
    path: str
    videos: list[Place]


def read_classes(
    root: str, kind: str, names: list[str] | None, share: float | None, seed: int
) -> ClassFolders:
    """The videos ``root/class/video.mp4`` and folders of frames ``root/class/video/`` (kind: both, "videos" or "frames").

    Without ``names`` the classes are the folders that hold videos, in alphabetical order, or in
    numerical order if all are called by numbers. If ``root`` holds nothing but folders of splits
    (train, val, test; also valid, Training, ...), they are the splits. Videos that are not split,
    and those of train where there is no val, are: ``share`` (0.2 if None) of each class goes to
    validation; which, depends on nothing but their names, ``share`` and ``seed``.

    Raises UserError for folders that are no class, and for two videos of the same name in one of
    them.
    """
    tops = [entry.name for entry in entries(root) if entry.is_folder]
    by_split = _split_folders(root, tops)
    if "val" in by_split and share is not None:
        raise UserError(
            f"{root}: it is split already, by its folders {' and '.join(by_split.values())}; leave "
            "--val_share out"
        )
    ignored = [
        entry.name for entry in entries(root) if not entry.is_folder and _is_video(entry.name)
    ]  # beside the classes
    folders = []
    for split, top in by_split.items():
        above = f"{root}/{top}" if top else root
        for entry in entries(above):
            if entry.is_folder:
                path = f"{top}/{entry.name}" if top else entry.name
                videos = _videos(root, path, kind, ignored)
                folders.append(_Folder(split, entry.name, path, videos))
    if not any(folder.videos for folder in folders if folder.split in ("train", "all")):
        raise UserError(
            f"{root}: no videos in class folders; expected CLASS/video.mp4 or CLASS/video/frames "
            "below it"
        )
    filled = {folder.class_name for folder in folders if folder.videos}
    classes = names or _in_label_order(
        [
            folder.class_name
            for folder in folders
            if folder.split in ("train", "all") and folder.class_name in filled
        ]
    )
    labels = {name: label for label, name in enumerate(classes)}
    splits: dict[str, list[tuple[Place, int]]] = {}
    for folder in folders:
        if not folder.videos:
            continue
        if folder.class_name not in labels:
            raise UserError(
                f"{root}/{folder.path}: {folder.class_name!r} is not one of the {len(labels)} "
                "classes; rename or move the folder"
            )
        label = labels[folder.class_name]
        if folder.split == "all" or (folder.split == "train" and "val" not in by_split):
            train, val = _divided(folder.videos, 0.2 if share is None else share, seed)
            splits.setdefault("train", []).extend((place, label) for place in train)
            if val:
                splits.setdefault("val", []).extend((place, label) for place in val)
        else:
            splits.setdefault(folder.split, []).extend((place, label) for place in folder.videos)
    return ClassFolders(
        classes,
        {split: splits[split] for split in ("train", "val", "test") if split in splits},
        ignored,
        [folder.path for folder in folders if folder.class_name not in filled],
    )


def _split_folders(root: str, tops: list[str]) -> dict[str, str]:
    """Split -> its folder, where ``root`` holds nothing but folders of splits; else "all" -> "",
    the root itself.

    Raises UserError for two folders of one split.
    """
    by_split: dict[str, str] = {}
    for name in tops:
        split = _SPLIT_FOLDERS.get(name.lower())
        if split is None:
            return {"all": ""}
        if split in by_split:
            raise UserError(
                f"{root}: both {by_split[split]} and {name} look like the folder of {split}; keep "
                "one of them"
            )
        by_split[split] = name
    return by_split if "train" in by_split else {"all": ""}


def _in_label_order(names: list[str]) -> list[str]:
    numbers = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=int if numbers else str)


def _divided(videos: list[Place], share: float, seed: int) -> tuple[list[Place], list[Place]]:
    """The videos of a class for training and for validation."""
    by_stem = {
        place.path if place.is_folder else os.path.splitext(place.path)[0]: place
        for place in videos
    }
    chosen = split_off(list(by_stem), share, seed)
    train = [place for stem, place in by_stem.items() if stem not in chosen]
    return train, [place for stem, place in by_stem.items() if stem in chosen]


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def _videos(root: str, folder: str, kind: str, ignored: list[str]) -> list[Place]:
    """The videos of a class; names of files that are none are added to ``ignored``."""
    places: dict[str, Place] = {}
    for entry in entries(f"{root}/{folder}"):
        if not entry.is_folder and not _is_video(entry.name):
            ignored.append(f"{folder}/{entry.name}")
        elif kind == "auto" or entry.is_folder == (kind == "frames"):
            place = Place(f"{folder}/{entry.name}", entry.is_folder)
            first = places.setdefault(
                entry.name if entry.is_folder else os.path.splitext(entry.name)[0], place
            )
            if first is not place:
                raise UserError(
                    f"{root}/{place.path}: the same name as {os.path.basename(first.path)}, maybe the same video; "
                    "keep one, or give --kind"
                )
    return list(places.values())


def described(
    root: str, out: str, splits: Iterable[str], modality: str, image_tmpl: str | None
) -> str:
    """The file of the data set (docs/data.md) whose lists are in ``out``; its paths are relative to itself."""
    fields = {
        "root_path": os.path.relpath(root, out).replace("$", "$$"),
        "class_names": "classes.txt",
    }
    fields |= {f"{split}_list": f"{split}.txt" for split in splits if split != "test"}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    lines += ["", "[flow]"] if modality == "Flow" else []
    template = image_tmpl or (EXAMPLES["Flow"] if modality == "Flow" else None)
    return (
        "\n".join([*lines, *([f"image_tmpl = {json.dumps(template)}"] if template else [])]) + "\n"
    )
