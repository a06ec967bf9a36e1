"""Makes the lists of a dataset and its file of class names: what make_lists.py does."""

import argparse
import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lib.lists.list_classes import dataset_text, read_classes
from lib.lists.list_records import Annotations
from lib.lists.list_sources import read_source
from lib.lists.list_text import check_names, class_text, format_lines
from lib.lists.video_search import Place, choose, count_folders, find
from lib.messages import first_names
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.datasets import KNOWN, Dataset, dataset_name, describe_flip, resolve
from ops.data.label_orders import describe_order
from ops.data.lists import read_text
from ops.data.readers.templates import EXAMPLES, count_places
from ops.utils.errors import UserError
from ops.utils.files import atomic_write
from ops.utils.text import counted

KINETICS_SIZES = (400, 600, 700)  # numbers of classes
LABEL_WIDTH = 16  # of the first column of the output
MISSING_PRINTED = 3  # missing videos per split


class ListedVideo(NamedTuple):
    """A video that a list shall contain.

    Attributes:
        name: its name in the annotations, for messages.
        place: where it is, None if it was not found.
        label: of its class.
    """

    name: str
    place: Place | None
    label: int


class Content(NamedTuple):
    """The dataset whose lists are made.

    Attributes:
        dataset: paths and templates.
        classes: class names in label order.
        splits: split -> its videos.
        notes: lines to print first.
    """

    dataset: Dataset
    classes: list[str]
    splits: dict[str, list[ListedVideo]]
    notes: list[str]


class SplitList(NamedTuple):
    """The list of a split.

    Attributes:
        path: its file.
        entries: path, number of frames (None for a video file) and label of each video.
        missing: name of each missing video, and the reason.
    """

    path: str
    entries: list[tuple[str, int | None, int]]
    missing: list[tuple[str, str]]


def make_lists(args: argparse.Namespace) -> list[str]:
    """Read the annotations, search the videos and write lists and class names.

    Args:
        args: arguments of make_lists.py.

    Returns:
        The lines to print.

    Raises:
        UserError: invalid annotations, videos that cannot be found, or files that cannot be
            written. Then nothing was written.
    """
    content = _own_content(args) if args.dataset == "folder" else _published_content(args)
    dataset, classes, splits, notes = content
    _check_all_names(content)
    lists = _split_lists(args, content)
    texts: dict[str, str] = {}
    lines = list(notes)
    for split, split_list in lists.items():
        texts[split_list.path] = format_lines(split_list.entries, dataset.root_path)
        missing_path = _missing_path(split_list.path, split, args.modality)
        texts[missing_path] = "".join(f"{name}\t{why}\n" for name, why in split_list.missing)
        lines += _describe_list(split, split_list)
        if not split.startswith("test"):
            lines += _describe_classes(classes, [label for *_, label in split_list.entries])
    texts[dataset.class_names] = class_text(classes, numbered=args.dataset == "ucf101")
    if args.dataset == "folder":
        texts[dataset_file_path(args.out)] = dataset_text(
            args.root_path, args.out, splits, args.modality, args.image_tmpl
        )
    write_files(texts, dataset.class_names, classes, args.force)
    return [*lines, *_describe_flips(dataset, classes), *_training_commands(args, dataset, splits)]


def _published_content(args: argparse.Namespace) -> Content:
    """The content of a dataset with published annotations."""
    given = {}
    for kind in ("labels", "train", "val", "test"):
        if getattr(args, kind, None):
            given[kind] = getattr(args, kind)
    source = read_source(args.dataset, args.annotations, given, getattr(args, "order", None))
    _check_num_class(source.classes, args.num_class, args.dataset, args.annotations)
    dataset = _published_dataset(args, len(source.classes))
    wanted = set()
    for videos in source.splits.values():
        for video in videos:
            wanted.update(video.names)
    splits = _locate(source, find(dataset.root_path, wanted, args.kind, args.threads))
    order = describe_order(args.dataset, source.classes)
    notes = [_line("class order", order)] if order else []
    return Content(dataset, source.classes, splits, notes)


def _published_dataset(args: argparse.Namespace, num_class: int) -> Dataset:
    """Paths and templates of a dataset with published annotations."""
    options = {
        "image_tmpl": args.image_tmpl,
        "root_path": args.root_path,
        "num_class": num_class,
    }
    if args.modality == "Flow" and args.dataset in ("jester", "kinetics"):
        if not (args.out and args.image_tmpl and args.root_path):
            raise UserError(
                f"the flow of {args.dataset} has no usual place; give --image_tmpl, --root_path "
                "and --out"
            )
        options["train_list"] = "train_videofolder_flow.txt"
        options["val_list"] = "val_videofolder_flow.txt"
    dataset = resolve(args.dataset, args.modality, **options)
    if args.out is None:
        return dataset
    return replace(
        dataset,
        train_list=_moved(dataset.train_list, args.out),
        val_list=_moved(dataset.val_list, args.out),
        class_names=_moved(dataset.class_names, args.out),
    )


def _moved(path: str, folder: str) -> str:
    return os.path.join(folder, os.path.basename(path))


def _own_content(args: argparse.Namespace) -> Content:
    """The content of a folder of class folders."""
    names = read_class_names(args.labels) if args.labels else None
    found = read_classes(args.root_path, args.kind, names, args.val_share, args.seed)
    _check_num_class(found.classes, args.num_class, "folder", args.root_path)
    dataset = Dataset(
        name=dataset_name(dataset_file_path(args.out)),
        num_class=len(found.classes),
        image_tmpl=args.image_tmpl or EXAMPLES[args.modality],
        root_path=args.root_path,
        train_list=os.path.join(args.out, "train.txt"),
        val_list=os.path.join(args.out, "val.txt"),
        class_names=os.path.join(args.out, "classes.txt"),
    )
    count_places(dataset.image_tmpl, args.modality)
    splits = {
        split: [ListedVideo(place.path, place, label) for place, label in videos]
        for split, videos in found.splits.items()
    }
    notes = []
    if found.ignored:
        count = counted(len(found.ignored), "file that is not a video", "files that are not videos")
        notes.append(_line("ignored", f"{count} ({first_names(found.ignored)})"))
    if found.empty:
        count = counted(len(found.empty), "folder without videos", "folders without videos")
        notes.append(_line("ignored", f"{count} ({first_names(found.empty)})"))
    return Content(dataset, found.classes, splits, notes)


def dataset_file_path(out: str) -> str:
    """The dataset file in the folder of the lists.

    It has the name of the folder, since runs are named after it.
    """
    name = os.path.basename(os.path.abspath(out)) or "dataset"
    return os.path.join(out, f"{name}.toml")


def _check_num_class(classes: list[str], given: int | None, name: str, source: str) -> None:
    """Raises UserError for another number of classes than given, or than the dataset has."""
    if given is not None:
        expected = (given,)
    elif name == "kinetics":
        expected = KINETICS_SIZES
    elif name in KNOWN:
        expected = (KNOWN[name].num_class,)
    else:
        return
    if len(classes) not in expected:
        raise UserError(
            f"{source}: {len(classes)} classes instead of {' or '.join(map(str, expected))}; give "
            f"the official files, or --num_class {len(classes)} if these are right"
        )


def _locate(source: Annotations, found: dict[str, list[Place]]) -> dict[str, list[ListedVideo]]:
    """Split -> videos with their places.

    Raises UserError as ``choose`` does, and for two videos of a list that have the same place.
    """
    splits: dict[str, list[ListedVideo]] = {}
    users: dict[tuple[str, Place | None], object] = {}
    for split, videos in source.splits.items():
        splits[split] = []
        for video in videos:
            place = choose(video, found, source)
            # train_split_1 and val_split_1 must not share a video; train_split_2 may.
            first = users.setdefault((split.partition("_")[2], place), video)
            if place is not None and first is not video:
                raise UserError(
                    f"{video.place}: {place.path} is also the video of {first.place}; remove one "
                    "of them"
                )
            splits[split].append(ListedVideo(video.names[0], place, video.label))
    return splits


def _check_all_names(content: Content) -> None:
    """Raises UserError for the name of a class or video that a file cannot contain."""
    names = list(content.classes)
    for videos in content.splits.values():
        names += [video.name for video in videos]
    check_names(names, content.dataset.root_path)


def _split_lists(args: argparse.Namespace, content: Content) -> dict[str, SplitList]:
    """Split -> its list, with the frames of folders counted."""
    dataset = content.dataset
    places = []
    for videos in content.splits.values():
        places += [video.place for video in videos if video.place is not None]
    counts = count_folders(
        dataset.root_path, places, dataset.image_tmpl, args.modality, args.threads
    )
    lists = {}
    for split, videos in content.splits.items():
        entries, missing = _divide(videos, counts)
        if missing and (args.missing == "stop" or not entries):
            name, reason = missing[0]
            fix = "--missing skip" if entries else "--image_tmpl or --kind"
            raise UserError(
                f"{dataset.root_path}: {len(missing)} of {len(videos)} videos of {split} are "
                f"missing (first: {name}: {reason}); correct the folder of the videos, or give "
                f"{fix}"
            )
        lists[split] = SplitList(_list_path(dataset, split), entries, missing)
    return lists


def _divide(
    videos: list[ListedVideo], counts: dict[str, int | str]
) -> tuple[list[tuple[str, int | None, int]], list[tuple[str, str]]]:
    """The entries of a list, and the missing videos with the reasons."""
    entries, missing = [], []
    for name, place, label in videos:
        if place is None:
            missing.append((name, "no file or folder of this name"))
            continue
        count = counts[place.path] if place.is_folder else None
        if isinstance(count, str):
            missing.append((name, count))
        else:
            entries.append((place.path, count, label))
    return entries, missing


def _list_path(dataset: Dataset, split: str) -> str:
    """The list of a split such as "test" or "val_split_2", beside those of the dataset."""
    part, _, number = split.partition("_split_")
    folder, name = os.path.split(dataset.train_list if part == "train" else dataset.val_list)
    if part == "test":
        name = name.replace("val", "test", 1)
    return os.path.join(folder, name.replace("split_1", f"split_{number}"))


def _missing_path(list_path: str, split: str, modality: str) -> str:
    """The file of missing videos, beside the list of a split."""
    suffix = "_flow" if modality == "Flow" else ""
    return os.path.join(os.path.dirname(list_path), f"missing_{split}{suffix}.txt")


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{text}"


def _describe_list(split: str, made: SplitList) -> list[str]:
    folders = sum(count is not None for _, count, _ in made.entries)
    videos = f"{counted(len(made.entries), 'video')} ({counted(folders, 'folder')} of frames)"
    lines = [_line(split, f"{videos}, {len(made.missing)} missing: {made.path}")]
    for name, reason in made.missing[:MISSING_PRINTED]:
        lines.append(_line("", f"missing: {name}: {reason}"))
    return lines


def _describe_classes(classes: list[str], labels: list[int]) -> list[str]:
    """The number of videos per class."""
    counts = np.bincount(labels, minlength=len(classes))
    least, most = counts.min(), counts.max()
    if least == most:
        videos = f"{counted(most, 'video')} each"
    else:
        videos = f"{least} to {most} videos, median {np.median(counts):g}"
    lines = [_line("", f"{counted(len(classes), 'class', 'classes')} with {videos}")]
    absent = [classes[label] for label in np.flatnonzero(counts == 0)]
    if absent:
        count = counted(len(absent), "class", "classes")
        lines.append(_line("", f"warning: {count} without videos: {first_names(absent)}"))
    return lines


def _describe_flips(dataset: Dataset, classes: list[str]) -> list[str]:
    """What a horizontal flip does to the labels."""
    labels = flip_label_map(classes)
    lines = [describe_flip(dataset, labels)]
    for label, flipped in enumerate(labels):
        if label < flipped:
            pair = f"{label} {classes[label]} / {flipped} {classes[flipped]}"
            lines.append(_line("", pair))
    never = [classes[label] for label in np.flatnonzero(labels < 0)]
    if never:
        lines.append(_line("", f"never: {first_names(never)}"))
    return lines


def write_files(texts: dict[str, str], class_names: str, classes: list[str], force: bool) -> None:
    """Write files, each atomically.

    Args:
        texts: path -> content.
        class_names: the file of class names among them; it is kept if it has these names already,
            perhaps in the official form.
        classes: the class names.
        force: whether to overwrite files with other content.

    Raises:
        UserError: a file has other content and not ``force`` (then nothing was written), or one
            cannot be written, or the class names cannot be read back.
    """
    texts = dict(texts)
    if os.path.exists(class_names) and read_class_names(class_names) == classes:
        del texts[class_names]
    differing = [path for path, text in texts.items() if _is_other_content(path, text)]
    if differing and not force:
        raise UserError(
            f"{differing[0]} already exists with other content "
            f"({counted(len(differing), 'file')}); choose another --out, or overwrite with --force"
        )
    for path, text in texts.items():
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with atomic_write(path, "w") as file:
                file.write(text)
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}; give an --out that can be written"
            ) from None
    if read_class_names(class_names) != classes:
        raise UserError(
            f"{class_names}: these class names cannot be read back ({first_names(classes)}); "
            "rename the classes"
        )


def _is_other_content(path: str, text: str) -> bool:
    if os.path.basename(path).startswith("missing_") or not os.path.exists(path):
        return False
    return read_text(path) != text


def _training_commands(
    args: argparse.Namespace, dataset: Dataset, splits: Iterable[str]
) -> list[str]:
    """The commands that train with these lists: one for each split of UCF101 and HMDB51."""
    start = "python main.py"
    if args.dataset == "folder":
        training = command_line(start, dataset_file_path(args.out), args.modality)
        return [_line("train with", training)]
    lines = []
    for split in splits:
        if not split.startswith("train"):
            continue
        suffix = split.removeprefix("train")  # "" or "_split_1"
        flags = {"root_path": args.root_path, "image_tmpl": args.image_tmpl}
        train_list = _list_path(dataset, split)
        if args.out or train_list != dataset.train_list:
            flags["train_list"] = train_list
            flags["val_list"] = _list_path(dataset, f"val{suffix}")
        if args.out:
            flags["class_names"] = dataset.class_names
        if dataset.num_class != KNOWN[dataset.name].num_class:
            flags["num_class"] = dataset.num_class
        if suffix:
            flags["suffix"] = suffix[1:]  # a run directory for each split
        label = f"split {suffix[-1]} with" if suffix else "train with"
        training = command_line(start, dataset.name, args.modality, **flags)
        lines.append(_line(label, training))
    return lines


def command_line(start: str, *words: str, **flags: str | int | None) -> str:
    """A command line to type; flags that are None are left out."""
    parts = [start, *map(shlex.quote, words)]
    for name, value in flags.items():
        if value is None:
            continue
        text = str(value)
        separator = "=" if text.startswith("-") else " "  # or it would be read as a flag
        parts.append(f"--{name}{separator}{shlex.quote(text)}")
    return " ".join(parts)
