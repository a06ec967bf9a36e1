"""A folder of class folders -> the videos of each split: the source of lists for data of one's own."""

import json
import os
from collections.abc import Iterable
from typing import NamedTuple

from lib.list_files import ENDINGS, Place, entries, split_off
from ops.data.templates import EXAMPLES
from ops.errors import UserError


class ClassFolders(NamedTuple):
    """The class names in label order; split -> videos with their labels, in order of their paths; files that are no video."""

    classes: list[str]
    splits: dict[str, list[tuple[Place, int]]]
    ignored: list[str]


def read_classes(
    root: str, kind: str, names: list[str] | None, share: float | None, seed: int
) -> ClassFolders:
    """The videos ``root/class/video.mp4`` and folders of frames ``root/class/video/`` (kind: both, "videos" or "frames").

    Without ``names`` the classes are the folders in alphabetical order, or in numerical order if all are called by numbers.
    If ``root`` holds nothing but the folders train and val (and test), they are the splits; else ``share`` (0.2 if None) of
    each class is split off for validation: which, depends on nothing but their names, ``share`` and ``seed``. Raises
    UserError for folders that are no class, and for two videos of the same name in one of them.
    """
    tops = [entry.name for entry in entries(root) if entry.is_folder]
    if {"train", "val"} <= set(tops) <= {"train", "val", "test"}:
        if share is not None:
            raise UserError(
                f"{root}: it is split already, by its folders train and val; leave --val_share out"
            )
        folders = {
            split: [(name, f"{split}/{name}") for name in _class_folders(f"{root}/{split}")]
            for split in sorted(tops)
        }
    else:
        folders = {"all": [(name, name) for name in tops]}
    there = [name for name, _ in folders.get("train") or folders.get("all", [])]
    if not there:
        raise UserError(
            f"{root}: no class folders in it; expected CLASS/video.mp4 or CLASS/video/frames below it"
        )
    classes = names or sorted(
        there, key=int if all(name.isascii() and name.isdigit() for name in there) else str
    )
    labels = {name: label for label, name in enumerate(classes)}
    ignored = [
        entry.name for entry in entries(root) if not entry.is_folder and _is_video(entry.name)
    ]  # beside the classes
    splits: dict[str, list[tuple[Place, int]]] = {}
    for split, pairs in folders.items():
        for name, path in pairs:
            if name not in labels:
                raise UserError(
                    f"{root}/{path}: {name!r} is not one of the {len(labels)} classes; rename or move the folder"
                )
            places = _videos(root, path, kind, ignored)
            by_stem = {
                os.path.splitext(place.path)[0] if not place.is_folder else place.path: place
                for place in places
            }
            val = (
                split_off(list(by_stem), 0.2 if share is None else share, seed)
                if split == "all"
                else ()
            )
            for stem, place in by_stem.items():
                target = split if split != "all" else "val" if stem in val else "train"
                splits.setdefault(target, []).append((place, labels[name]))
    if not splits.get("train"):
        raise UserError(
            f"{root}: no videos in its class folders; expected CLASS/video.mp4 or CLASS/video/frames below it"
        )
    return ClassFolders(
        classes,
        {split: splits[split] for split in ("train", "val", "test") if split in splits},
        ignored,
    )


def _class_folders(folder: str) -> list[str]:
    return [entry.name for entry in entries(folder) if entry.is_folder]


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
