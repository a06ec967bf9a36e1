"""Reads the annotations that the authors of a dataset publish: the videos and labels of each split.

Nothing but these files is read. Without another order, classes are numbered as by the original
generators (TSM and TAM, tools/gen_label_*.py): Something-Something, Jester and HMDB51 in
alphabetical order, UCF101 by classInd.txt, Kinetics by its label map or else in alphabetical order.
ops/data/label_orders.py has the other orders.

To add a dataset, write a reader and add it to ``READERS`` and its files to ``FILES``.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from lib.lists.list_records import (
    Annotations,
    Video,
    class_lines,
    find_label,
    folder_name,
    label_table,
    text_lines,
)
from ops.data.class_names import read_class_names
from ops.data.label_orders import DEFAULT_ORDER, LABEL_ORDERS, in_order
from ops.data.lists import read_text
from ops.utils.errors import UserError

# Patterns of the file names, below the folder of annotations.
FILES = {
    "kinetics": {"labels": "*label_map*.txt", "train": "*train*.csv", "val": "*val*.csv"},
    "something": {"labels": "*labels.csv", "train": "*train.csv", "val": "*validation.csv"},
    "somethingv2": {"labels": "*labels.json", "train": "*train.json", "val": "*validation.json"},
    "jester": {"labels": "*labels.csv", "train": "*train.csv", "val": "*validation.csv"},
    "ucf101": {"labels": "classInd.txt"},
    "hmdb51": {},
}
OPTIONAL_FILES = {("kinetics", "labels")}
SPLITS = ("train", "val", "test")
UNKNOWN_LABEL = 0  # of the videos of a test split without labels
QUOTED_CHARACTERS = 80  # of a malformed line, in messages


def read_source(
    dataset: str, folder: str | Path, given: dict[str, str], order: str | None = None
) -> Annotations:
    """Read the annotations of a dataset.

    Args:
        dataset: one of ``FILES``.
        folder: folder of the annotations.
        given: "labels", "train", "val" or "test" -> file to read instead of the usual one. The
            test split is read only if it is given.
        order: class order, one of ``LABEL_ORDERS[dataset]``; None: that of ``given["labels"]``, or
            the default order.

    Raises:
        UserError: a missing or malformed file, an unknown class, or a video that is repeated in a
            split or in two splits that must not share videos.
    """
    files = {}
    for kind, pattern in FILES[dataset].items():
        path = given.get(kind) or _find_file(dataset, folder, kind, pattern)
        if path:
            files[kind] = path
    files |= {kind: path for kind, path in given.items() if path}
    if dataset in LABEL_ORDERS:
        if order is None and "labels" not in given:
            order = DEFAULT_ORDER
        source = READERS[dataset](files, Path(folder), order)
    else:
        source = READERS[dataset](files, Path(folder))
    for split, videos in source.splits.items():
        if not videos:
            raise UserError(
                f"{files.get(split, folder)}: no videos of {split} in it; give the published file"
            )
    for names in _disjoint_groups(source.splits):
        videos = [video for name in names for video in source.splits[name]]
        # In HMDB51, classes can have videos with the same name.
        _check_ids(videos, by_class=dataset == "hmdb51")
    return source


def _find_file(dataset: str, folder: str | Path, kind: str, pattern: str) -> str | None:
    """The file of a dataset that fits a pattern; None if it is optional and missing."""
    fitting = sorted(path for path in Path(folder).glob(pattern) if path.is_file())
    if len(fitting) == 1:
        return str(fitting[0])
    if not fitting and (dataset, kind) in OPTIONAL_FILES:
        return None
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: no such folder; give the folder of the annotations of {dataset}"
        )
    names = f" ({fitting[0].name}, {fitting[1].name})" if fitting else ""
    raise UserError(
        f"{folder}: {len(fitting) or 'no'} files are named {pattern}{names}; give --{kind} FILE"
    )


def _disjoint_groups(splits: Iterable[str]) -> list[list[str]]:
    """Names of splits that must not share a video.

    The three splits of UCF101 and HMDB51 divide the same videos; each is a group of its own.
    """
    groups: dict[str, list[str]] = {}
    for name in splits:
        groups.setdefault(name.partition("_")[2], []).append(name)
    return [groups[suffix] for suffix in sorted(groups)]


def _check_ids(videos: list[Video], by_class: bool) -> None:
    """Raises UserError for two videos with the same name (in the same class)."""
    seen: dict[tuple[str, int], Video] = {}
    for video in videos:
        key = (video.names[0], video.label if by_class else 0)
        first = seen.setdefault(key, video)
        if first is not video:
            raise UserError(
                f"{video.place}: {video.names[0]} is also at {first.place}; remove one of them"
            )


def _kinetics(files: dict[str, str], folder: Path) -> Annotations:
    lines = {
        split: list(_kinetics_lines(files[split], split)) for split in SPLITS if split in files
    }
    if "labels" in files:
        names_file = files["labels"]
        names = class_lines(names_file)
    else:
        names_file = files["train"]
        labeled = [*lines.get("train", ()), *lines.get("val", ())]
        names = sorted({name for _, name, _ in labeled})
    labels = label_table(names, names_file, folder_name)
    splits: dict[str, list[Video]] = {}
    for split, found in lines.items():
        splits[split] = []
        for number, name, video_names in found:
            label = UNKNOWN_LABEL
            if name:
                place = f"{files[split]}:{number}"
                label = find_label(labels, folder_name(name), name, place)
            splits[split].append(Video(video_names, label, files[split], number))
    return Annotations(names, splits, labels)


def _kinetics_lines(path: str, split: str) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line number, class and possible names of each video.

    The names are ``id_000012_000022`` as in the online lists of TAM, ``id_12`` as TSM names its
    folders of frames, and ``id``.
    """
    lines = _csv_lines(path)
    header = [name.strip() for name in lines[0][1]] if lines else []
    columns = ["youtube_id", "time_start", "time_end"]
    if split != "test" or "label" in header:
        columns.append("label")
    absent = [name for name in columns if name not in header]
    if absent:
        raise UserError(
            f"{path}:1: no column {', '.join(absent)}; expected label, youtube_id, time_start, "
            "time_end, split"
        )
    for number, values in lines[1:]:
        place = f"{path}:{number}"
        if len(values) != len(header):
            raise UserError(
                f"{place}: {len(values)} columns, but {len(header)} on line 1; correct the line"
            )
        cells = dict(zip(header, map(str.strip, values), strict=True))
        if (cells.get("split") or split)[:2] != split[:2]:  # val is also named validate
            raise UserError(
                f"{place}: a video of the split {cells['split']!r}, read as {split}; give a file "
                "for each split"
            )
        video, name = cells["youtube_id"], cells.get("label", "")
        if not video or ("label" in columns and not name):
            raise UserError(f"{place}: no youtube_id or no label; correct the line")
        start = _seconds(cells["time_start"], place)
        end = _seconds(cells["time_end"], place)
        names = (f"{video}_{start:06d}_{end:06d}", f"{video}_{cells['time_start']}", video)
        yield number, name, names


def _csv_lines(path: str) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, with their numbers."""
    reader = csv.reader(read_text(path).split("\n"), strict=True)
    try:
        return [(reader.line_num, values) for values in reader if values]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error}); correct the line") from None


def _seconds(text: str, place: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})(\.0*)?", text)
    if match is None:
        raise UserError(f"{place}: time_start and time_end are not whole seconds; correct the line")
    return int(match[1])


def _number_names(video: str) -> tuple[str, ...]:
    """The number of a video, also with six digits, as the flow of Something-Something V1 has it."""
    if not re.fullmatch("[0-9]{1,18}", video):
        return (video,)
    return tuple(dict.fromkeys((video, f"{int(video):06d}")))


def _without_brackets(name: str) -> str:
    """A template without the brackets around its placeholders (TSM, tools/gen_label_sthv2.py)."""
    return name.replace("[", "").replace("]", "")


def _numbered_csv(
    dataset: str, files: dict[str, str], folder: Path, order: str | None
) -> Annotations:
    """Something-Something V1 and Jester: lines ``id;label``."""
    names = class_lines(files["labels"])
    if order is not None:
        names = in_order(dataset, order, names)
    labels = label_table(names, files["labels"])
    splits: dict[str, list[Video]] = {}
    for split in SPLITS:
        if split not in files:
            continue
        splits[split] = []
        for number, line in text_lines(files[split]):
            place = f"{files[split]}:{number}"
            video, separator, name = (part.strip() for part in line.partition(";"))
            if not video or (not separator and split != "test"):
                raise UserError(
                    f"{place}: {line[:QUOTED_CHARACTERS]!r} is not `id;label`; correct the line"
                )
            label = UNKNOWN_LABEL
            if name or split != "test":
                label = find_label(labels, name, name, place)
            splits[split].append(Video(_number_names(video), label, files[split], number))
    return Annotations(names, splits, {})


def _somethingv2(files: dict[str, str], folder: Path) -> Annotations:
    names = read_class_names(files["labels"])
    for label, (name, expected) in enumerate(zip(names, sorted(names), strict=True)):
        if name != expected:
            raise UserError(
                f"{files['labels']}: {name!r} has label {label}, in alphabetical order "
                f"{expected!r} has it, as all published weights expect; give the official file"
            )
    labels = label_table(names, files["labels"], _without_brackets)
    splits: dict[str, list[Video]] = {}
    for split in SPLITS:
        if split in files:
            path = files[split]
            splits[split] = [
                _json_video(labels, entry, path, number, split)
                for number, entry in enumerate(_json_list(path), 1)
            ]
    return Annotations(names, splits, {})


def _json_list(path: str) -> list:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); give the published file") from None
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: not a JSON list of videos; give the published file")
    return content


def _json_video(labels: dict[str, int], entry: dict, path: str, number: int, split: str) -> Video:
    """The video of an object of a JSON list; its number in the list is used as its line."""
    place = f"{path}:{number} (number in the list)"
    is_valid = isinstance(entry, dict) and "id" in entry
    if is_valid and split != "test":
        is_valid = isinstance(entry.get("template"), str)
    if not is_valid:
        raise UserError(f"{place}: no `id` or no `template`; give the published file")
    name = _without_brackets(entry.get("template") or "")
    label = find_label(labels, name, name, place) if name else UNKNOWN_LABEL
    return Video(_number_names(str(entry["id"])), label, path, number)


def _ucf101(files: dict[str, str], folder: Path) -> Annotations:
    names = read_class_names(files["labels"])
    labels = label_table(names, files["labels"])
    splits: dict[str, list[Video]] = {}
    for split, stem in (("train", "trainlist"), ("val", "testlist")):
        for number in (1, 2, 3):
            path = str(folder / f"{stem}{number:02d}.txt")
            splits[f"{split}_split_{number}"] = [
                _ucf101_video(labels, path, *line) for line in text_lines(path)
            ]
    return Annotations(names, splits, labels)


def _ucf101_video(labels: dict[str, int], path: str, number: int, line: str) -> Video:
    match = re.fullmatch(r"([^/\s]+)/(.+)\.avi(?: +([0-9]+))?", line)
    if not match:
        raise UserError(
            f"{path}:{number}: {line[:QUOTED_CHARACTERS]!r} is not `Class/video.avi` or "
            "`Class/video.avi number`; correct it"
        )
    name, video, listed = match.groups()
    label = find_label(labels, name, name, f"{path}:{number}")
    if listed and int(listed) != label + 1:
        raise UserError(
            f"{path}:{number}: {name} is number {listed} here, but {label + 1} in classInd.txt; "
            "correct one"
        )
    return Video((video,), label, path, number)


def _hmdb51(files: dict[str, str], folder: Path, order: str | None) -> Annotations:
    class_of: dict[Path, str] = {}
    for path in sorted(folder.glob("*_test_split?.txt")):
        match = re.fullmatch(r"(.+)_test_split([123])\.txt", path.name)
        if match:
            class_of[path] = match[1]
    names = class_lines(files["labels"]) if "labels" in files else sorted(set(class_of.values()))
    if not class_of:
        raise UserError(
            f"{folder}: no file is named CLASS_test_split1.txt; give the folder of the official "
            "splits"
        )
    if order is not None:
        names = in_order("hmdb51", order, names)
    labels = label_table(names, files.get("labels", str(folder)))
    for path, name in class_of.items():
        find_label(labels, name, name, str(path))  # raises for an unknown class
    splits: dict[str, list[Video]] = {}
    for number in (1, 2, 3):
        for split in ("train", "val"):
            splits[f"{split}_split_{number}"] = []
    for name in names:
        for number in (1, 2, 3):
            path = folder / f"{name}_test_split{number}.txt"
            for line, text in text_lines(path):
                split, video = _hmdb51_video(str(path), line, text, labels[name])
                if split:
                    splits[f"{split}_split_{number}"].append(video)
    return Annotations(names, splits, labels)


def _hmdb51_video(path: str, line: int, text: str, label: int) -> tuple[str | None, Video]:
    """The split of a video (None: in neither), and the video."""
    match = re.fullmatch(r"(.+)\.avi +([012])", text)
    if not match:
        raise UserError(
            f"{path}:{line}: {text[:QUOTED_CHARACTERS]!r} is not `video.avi` and 0, 1 (training) "
            "or 2 (test); correct it"
        )
    split = {"0": None, "1": "train", "2": "val"}[match[2]]
    return split, Video((match[1],), label, path, line)


# Each takes kind -> file, and the folder; those with several class orders take the order, too.
READERS: dict[str, Callable[..., Annotations]] = {
    "kinetics": _kinetics,
    "something": partial(_numbered_csv, "something"),
    "somethingv2": _somethingv2,
    "jester": partial(_numbered_csv, "jester"),
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
}
