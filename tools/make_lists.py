"""Make the lists of a data set from what its authors publish, or from a folder of class folders.

    python tools/make_lists.py somethingv2 annotations --root_path data/somethingv2/20bn-something-something-v2-frames
    python tools/make_lists.py kinetics annotations --root_path /data/k400 --out lists
    python tools/make_lists.py folder videos --val_share 0.2 --out lists

Below the root are looked for: a video file or a folder of frames for each line of the annotations, at any depth, so that
videos may lie in folders of their class or in several parts. A file gets a line `path label`, a folder a line
`path num_frames label` with its frames counted. What is missing is written to missing_train.txt, missing_val.txt beside the
list, a line a video with the reason, and counted. Nothing is written before everything was read and checked.

    kinetics     train.csv, val.csv or validate.csv, of 400, 600 or 700 classes; videos or folders are called ID_000012_000022
                 or ID_12; classes in the order of *label_map*.txt if it is there, else of the alphabet
    something    something-something-v1-labels.csv, ...-train.csv, ...-validation.csv; jester: the same
    somethingv2  something-something-v2-labels.json, ...-train.json, ...-validation.json
    ucf101       classInd.txt, trainlist01.txt ... testlist03.txt: the lists of all three splits
    hmdb51       CLASS_test_split1.txt ...: the lists of all three splits
    folder       ROOT/CLASS/video.mp4, ROOT/CLASS/video/img_00001.jpg; or the same below ROOT/train and ROOT/val (valid,
                 validation) and ROOT/test. Hidden folders, those of systems (__MACOSX, @eaDir) and
                 empty ones are no classes

Without --out the lists and the class names are written where main.py looks for those of the
dataset.

The labels must be those of the weights that are tested or fine-tuned: in another order they score
at chance. Classes are numbered in alphabetical order (UCF101 as in classInd.txt), as by almost all
published weights. --order official: as the weights of MMAction2 for Something-Something V1 and
Jester; --order tsn: as TSN's lists of HMDB51, where kick_ball stands before kick and sword_exercise
before sword. --labels FILE: in the order of that file.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.list_classes import described, read_classes
from lib.list_files import (
    KINDS,
    Place,
    check_names,
    choose,
    class_text,
    count_folders,
    find,
    format_lines,
)
from lib.list_sources import FILES, Source, read_source
from ops.cli.types import fraction, positive_int
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.datasets import KNOWN, Dataset, dataset_name, describe_flip, resolve
from ops.data.label_orders import DEFAULT_ORDER, LABEL_ORDERS, describe_order
from ops.data.lists import read_text
from ops.data.readers.templates import EXAMPLES, count_places
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write
from ops.utils.text import counted

KINETICS = (400, 600, 700)
Rows = dict[
    str, list[tuple[str, Place | None, int]]
]  # split -> (name of a video, where it is, label)


def main() -> None:
    make(parser().parse_args())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    names = top.add_subparsers(dest="dataset", metavar="DATASET", required=True)
    for name, files in [*FILES.items(), ("folder", {})]:
        sub = names.add_parser(
            name, allow_abbrev=False, help="a folder of class folders" if name == "folder" else None
        )
        if name == "folder":
            sub.add_argument(
                "root_path",
                metavar="ROOT",
                help="folder of class folders, or of train, val with class folders",
            )
            sub.add_argument(
                "--out",
                required=True,
                metavar="DIR",
                help="folder to write to: the lists, classes.txt and NAME.toml, called as the "
                "folder is",
            )
            sub.add_argument(
                "--val_share",
                type=fraction,
                help="part of each class to split off for validation (default: 0.2)",
            )
            sub.add_argument(
                "--seed", type=int, default=0, help="another seed splits off others (default: 0)"
            )
        else:
            where = f"folder of the annotations as published ({', '.join(files.values()) or 'CLASS_test_split1.txt ...'})"
            sub.add_argument("annotations", metavar="ANNOTATIONS", help=where.replace("%", "%%"))
            sub.add_argument(
                "--root_path", metavar="DIR", help="folder of the videos (default: that of main.py)"
            )
            sub.add_argument(
                "--out",
                metavar="DIR",
                help="folder to write to (default: where main.py looks for the lists)",
            )
        for kind in ("train", "val", "test") if "train" in files else ():
            sub.add_argument(
                f"--{kind}",
                metavar="FILE",
                help="file to take instead"
                if kind != "test"
                else "also make a list of the test split (label 0 where it is not told)",
            )
        if name in LABEL_ORDERS:
            sub.add_argument(
                "--order",
                choices=tuple(LABEL_ORDERS[name]),
                help="of the classes: "
                + "; ".join(f"{order}: {text}" for order, (_, text) in LABEL_ORDERS[name].items())
                + f" (default: {DEFAULT_ORDER}, or that of --labels)",
            )
        sub.add_argument(
            "--labels",
            metavar="FILE",
            help="class names, in label order unless --order says otherwise",
        )
        sub.add_argument(
            "--num_class",
            type=positive_int,
            help="classes to expect (default: as many as the dataset has)",
        )
        sub.add_argument(
            "--image_tmpl", help="names of the frames in a folder (default: those of the data set)"
        )
        sub.add_argument(
            "--modality",
            choices=("RGB", "Flow"),
            default="RGB",
            help="what the frames are (default: RGB)",
        )
        sub.add_argument(
            "--kind",
            choices=KINDS,
            default="auto",
            help="look for video files or folders only (default: both)",
        )
        sub.add_argument(
            "--missing",
            choices=("skip", "stop"),
            default="skip",
            help="what to do about videos that are not "
            "there or whose frames have a gap (default: skip, to list them in missing_*.txt)",
        )
        sub.add_argument(
            "--force", action="store_true", help="replace lists and class names that differ"
        )
        sub.add_argument(
            "--threads", type=positive_int, default=16, help="that look for files (default: 16)"
        )
    return top


def make(args: argparse.Namespace) -> None:
    """Read, look for, count, write and tell, in this order."""
    notes = []
    if args.dataset == "folder":
        dataset, classes, rows, notes = own_data(args)
    else:
        dataset, classes, rows = known_data(args)
        if order := describe_order(args.dataset, classes):
            notes.append(f"{'class order':<16}{order}")
    places = (place for videos in rows.values() for _, place, _ in videos if place is not None)
    counts = count_folders(
        dataset.root_path, places, dataset.image_tmpl, args.modality, args.threads
    )
    check_names(
        [*classes, *(name for videos in rows.values() for name, _, _ in videos)], dataset.root_path
    )
    texts = {}
    lines = list(notes)
    for split, videos in rows.items():
        path = list_path(dataset, split)
        found, missing = divide(videos, counts)
        if missing and (args.missing == "stop" or not found):
            raise UserError(
                f"{dataset.root_path}: {len(missing)} of {len(videos)} videos of {split} are missing (first: "
                f"{missing[0][0]}: {missing[0][1]}); correct the folder of the videos"
                + (", or give --missing skip" if found else ", --image_tmpl or --kind")
            )
        beside = os.path.join(
            os.path.dirname(path), f"missing_{split}{'_flow' * (args.modality == 'Flow')}.txt"
        )
        texts[path] = format_lines(found, dataset.root_path)
        texts[beside] = "".join(f"{name}\t{reason}\n" for name, reason in missing)
        folders = sum(count is not None for _, count, _ in found)
        videos_found = f"{counted(len(found), 'video')} ({counted(folders, 'folder')} of frames)"
        lines.append(f"{split:<16}{videos_found}, {len(missing)} missing: {path}")
        lines += [f"{'':<16}missing: {name}: {reason}" for name, reason in missing[:3]]
        lines += (
            describe_classes(classes, [label for *_, label in found])
            if not split.startswith("test")
            else []
        )
    texts[dataset.class_names] = class_text(classes, numbered=args.dataset == "ucf101")
    if args.dataset == "folder":
        texts[own_file(args.out)] = described(
            args.root_path, args.out, rows, args.modality, args.image_tmpl
        )
    write(texts, dataset.class_names, classes, args.force)
    print("\n".join([*lines, *describe_flips(dataset, classes), *usage(args, dataset, rows)]))


def known_data(args: argparse.Namespace) -> tuple[Dataset, list[str], Rows]:
    """A data set known by name, with its class names and videos."""
    given = {
        name: getattr(args, name)
        for name in ("labels", "train", "val", "test")
        if getattr(args, name, None)
    }
    source = read_source(args.dataset, args.annotations, given, getattr(args, "order", None))
    expect(source.classes, args.num_class, args.dataset, args.annotations)
    fields = {
        "image_tmpl": args.image_tmpl,
        "root_path": args.root_path,
        "num_class": len(source.classes),
    }
    if args.modality == "Flow" and args.dataset in ("jester", "kinetics"):
        if not (args.out and args.image_tmpl and args.root_path):
            raise UserError(
                f"the flow of {args.dataset} has no usual place; give --image_tmpl, --root_path and --out"
            )
        fields |= {f"{split}_list": f"{split}_videofolder_flow.txt" for split in ("train", "val")}
    dataset = resolve(args.dataset, args.modality, **fields)
    if args.out:
        names = ("train_list", "val_list", "class_names")
        dataset = replace(
            dataset,
            **{
                name: os.path.join(args.out, os.path.basename(getattr(dataset, name)))
                for name in names
            },
        )
    wanted = {name for videos in source.splits.values() for video in videos for name in video.names}
    return (
        dataset,
        source.classes,
        locate(source, find(dataset.root_path, wanted, args.kind, args.threads)),
    )


def own_file(out: str) -> str:
    """The dataset file in a folder of one's own lists, called as the folder is: runs are named
    after it."""
    name = os.path.basename(os.path.abspath(out)) or "dataset"
    return os.path.join(out, f"{name}.toml")


def own_data(args: argparse.Namespace) -> tuple[Dataset, list[str], Rows, list[str]]:
    """A folder of class folders as a dataset, with its class names and videos, and notes on what is
    in it besides."""
    names = read_class_names(args.labels) if args.labels else None
    found = read_classes(args.root_path, args.kind, names, args.val_share, args.seed)
    name = dataset_name(own_file(args.out))
    expect(found.classes, args.num_class, "folder", args.root_path)
    files = (os.path.join(args.out, name) for name in ("train.txt", "val.txt", "classes.txt"))
    dataset = Dataset(
        name,
        len(found.classes),
        args.image_tmpl or EXAMPLES[args.modality],
        args.root_path,
        *files,
    )
    count_places(dataset.image_tmpl, args.modality)
    rows = {
        split: [(place.path, place, label) for place, label in videos]
        for split, videos in found.splits.items()
    }
    notes = [
        f"{'ignored':<16}{counted(len(paths), one, several)} ({some(paths)})"
        for one, several, paths in (
            ("file that is not a video", "files that are not videos", found.ignored),
            ("folder without videos", "folders without videos", found.empty),
        )
        if paths
    ]
    return dataset, found.classes, rows, notes


def expect(classes: list[str], num_class: int | None, name: str, file: str) -> None:
    """Raises UserError unless there are as many classes as asked for, or as the data set has."""
    usual = (
        KINETICS
        if name == "kinetics"
        else (KNOWN[name].num_class,)
        if name in KNOWN
        else (len(classes),)
    )
    expected = (num_class,) if num_class is not None else usual
    if len(classes) not in expected:
        raise UserError(
            f"{file}: {len(classes)} classes instead of {' or '.join(map(str, expected))}; give the official "
            f"files, or --num_class {len(classes)} if these are meant"
        )


def locate(source: Source, found: dict[str, list[Place]]) -> Rows:
    """Each video with its place. Raises UserError as ``choose`` does, and if two lines that must differ lead to one place."""
    rows, users = {}, {}
    for split, videos in source.splits.items():
        rows[split] = []
        for video in videos:
            place = choose(video, found, source)
            first = users.setdefault((split.partition("_")[2], place), video)
            if place is not None and first is not video:
                raise UserError(
                    f"{video.place}: {place.path} is also the video of {first.place}; remove one of them"
                )
            rows[split].append((video.names[0], place, video.label))
    return rows


def divide(
    videos: list[tuple[str, Place | None, int]], counts: dict[str, int | str]
) -> tuple[list, list[tuple[str, str]]]:
    """The lines of a list, ``(path, num_frames or None, label)``, and the names of missing videos with the reasons."""
    found, missing = [], []
    for name, place, label in videos:
        count = counts[place.path] if place is not None and place.is_folder else None
        if place is None or isinstance(count, str):
            missing.append((name, count or "no file or folder of this name"))
        else:
            found.append((place.path, count, label))
    return found, missing


def list_path(dataset: Dataset, split: str) -> str:
    """Where the list of a split lies: beside that of the data set, with the name of the split in its own."""
    part, _, number = split.partition("_split_")
    folder, name = os.path.split(dataset.train_list if part == "train" else dataset.val_list)
    name = name.replace("val", "test", 1) if part == "test" else name
    return os.path.join(folder, name.replace("split_1", f"split_{number}"))


def describe_classes(classes: list[str], labels: list[int]) -> list[str]:
    """How many videos the classes have."""
    counts = np.bincount(labels, minlength=len(classes))
    absent = [classes[label] for label in np.flatnonzero(counts == 0)]
    least, most = counts.min(), counts.max()
    if least == most:
        videos = f"{counted(most, 'video')} each"
    else:
        videos = f"{least} to {most} videos, median {np.median(counts):g}"
    lines = [f"{'':<16}{counted(len(classes), 'class', 'classes')} with {videos}"]
    if absent:
        kind = counted(len(absent), "class", "classes")
        lines.append(f"{'':<16}warning: {kind} without videos: {some(absent)}")
    return lines


def describe_flips(dataset: Dataset, classes: list[str]) -> list[str]:
    """What a horizontal flip does to the labels."""
    labels = flip_label_map(classes)
    pairs = [
        f"{label} {classes[label]} / {to} {classes[to]}"
        for label, to in enumerate(labels)
        if label < to
    ]
    never = [classes[label] for label in np.flatnonzero(labels < 0)]
    lines = [describe_flip(dataset, labels), *(f"{'':<16}{pair}" for pair in pairs)]
    return lines + ([f"{'':<16}never: {some(never)}"] if never else [])


def some(names: list[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)


def write(texts: dict[str, str], class_names: str, classes: list[str], force: bool) -> None:
    """Write the files, each atomically. Raises UserError, before anything is written, if one that is there says something else
    and not ``force``, and if one cannot be written."""
    if os.path.exists(class_names) and read_class_names(class_names) == classes:
        del texts[class_names]  # perhaps the official file
    differing = [
        path
        for path, text in texts.items()
        if os.path.exists(path)
        and read_text(path) != text
        and not os.path.basename(path).startswith("missing_")
    ]
    if differing and not force:
        raise UserError(
            f"{differing[0]} already exists with other content ({counted(len(differing), 'file')}); "
            "choose another --out, or overwrite with --force"
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
            f"{class_names}: these class names cannot be read back ({some(classes)}); rename the classes"
        )


def usage(args: argparse.Namespace, dataset: Dataset, splits: Iterable[str]) -> list[str]:
    """The commands that train with what was written: one, or one for each of the three splits of
    UCF101 and HMDB51."""
    if args.dataset == "folder":
        return [f"{'train with':<16}{command('python main.py', own_file(args.out), args.modality)}"]
    numbers = [split.removeprefix("train") for split in splits if split.startswith("train")]
    lines = []
    for number in numbers:
        flags = {"root_path": args.root_path, "image_tmpl": args.image_tmpl}
        train_list = list_path(dataset, f"train{number}")
        if args.out or train_list != dataset.train_list:
            flags["train_list"] = train_list
            flags["val_list"] = list_path(dataset, f"val{number}")
        if args.out:
            flags["class_names"] = dataset.class_names
        if dataset.num_class != KNOWN[dataset.name].num_class:
            flags["num_class"] = dataset.num_class
        if number:
            flags["suffix"] = number[1:]  # a run of its own for each split
        what = f"split {number[-1]} with" if number else "train with"
        lines.append(f"{what:<16}{command('python main.py', dataset.name, args.modality, **flags)}")
    return lines


def command(start: str, *words: str, **flags: str | int | None) -> str:
    """A command line to type; flags that are None are left out."""
    parts = [start, *map(shlex.quote, words)]
    for name, value in flags.items():
        if value is None:
            continue
        text = str(value)
        # A value that begins with a hyphen would be taken for a flag.
        parts.append(
            f"--{name}={shlex.quote(text)}" if text[0] == "-" else f"--{name} {shlex.quote(text)}"
        )
    return " ".join(parts)


if __name__ == "__main__":
    run_cli(main)
