"""What the authors of a data set publish about it -> the videos of each split, with their labels; nothing is looked up on
the disk but these files.

Without another order the classes are numbered as by the original generators (TSM and TAM
tools/gen_label_*.py): Something-Something, Jester and HMDB51 in alphabetical order, UCF101 by
classInd.txt, Kinetics by its label map or else in alphabetical order. ops/data/label_orders.py has
the others.
"""

import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lib.list_records import (
    Source,
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

# What the files are called, below the folder of annotations.
FILES = {
    "kinetics": {"labels": "*label_map*.txt", "train": "*train*.csv", "val": "*val*.csv"},
    "something": {"labels": "*labels.csv", "train": "*train.csv", "val": "*validation.csv"},
    "somethingv2": {"labels": "*labels.json", "train": "*train.json", "val": "*validation.json"},
    "jester": {"labels": "*labels.csv", "train": "*train.csv", "val": "*validation.csv"},
    "ucf101": {"labels": "classInd.txt"},
    "hmdb51": {},
}
_OPTIONAL = ("kinetics", "labels")


def read_source(
    dataset: str, folder: str | Path, given: dict[str, str], order: str | None = None
) -> Source:
    """The videos of a dataset in FILES; given: "labels", "train", "val" or "test" -> a file that is
    called otherwise, or lies elsewhere. The test split is read only if it is given, and has label 0
    throughout where its file contains none.

    order: of the classes, one of ``LABEL_ORDERS[dataset]``; None: that of a file of labels that is
    given, else sorted.

    Raises UserError with ``file:line``: a file that is not there or not of the expected form, an unknown class, a video
    twice in a split or in two splits of which one must not know the other.
    """
    files = {
        kind: _find(dataset, folder, kind, pattern)
        for kind, pattern in FILES[dataset].items()
        if kind not in given
    }
    files = {kind: path for kind, path in (files | given).items() if path}
    if dataset in LABEL_ORDERS:
        if order is None and "labels" not in given:
            order = DEFAULT_ORDER
        source = _READERS[dataset](files, Path(folder), order)
    else:
        source = _READERS[dataset](files, Path(folder))
    for split, videos in source.splits.items():
        if not videos:
            raise UserError(
                f"{files.get(split, folder)}: no videos of {split} in it; give the file that was published"
            )
    # In HMDB51 a name may come again in another class.
    by_class = dataset == "hmdb51"
    for names in _groups(source.splits):
        _check_ids([video for name in names for video in source.splits[name]], by_class)
    return source


def _find(dataset: str, folder: str | Path, kind: str, pattern: str) -> str | None:
    fits = sorted(path for path in Path(folder).glob(pattern) if path.is_file())
    if len(fits) == 1 or (not fits and (dataset, kind) == _OPTIONAL):
        return str(fits[0]) if fits else None
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: no such folder; give the one that holds the annotations of {dataset}"
        )
    some = f" ({fits[0].name}, {fits[1].name})" if fits else ""
    raise UserError(
        f"{folder}: {len(fits) or 'no'} files are called {pattern}{some}; give --{kind} FILE"
    )


def _groups(splits: dict[str, list[Video]]) -> Iterator[list[str]]:
    """Names of the splits that must not share a video: the three splits of UCF101 and HMDB51 do."""
    endings = {name.partition("_")[2] for name in splits}
    yield from (
        [name for name in splits if name.partition("_")[2] == ending] for ending in sorted(endings)
    )


def _check_ids(videos: list[Video], by_class: bool) -> None:
    seen: dict[tuple[str, int], Video] = {}
    for video in videos:
        first = seen.setdefault((video.names[0], video.label if by_class else 0), video)
        if first is not video:
            raise UserError(
                f"{video.place}: {video.names[0]} is also at {first.place}; remove one of them"
            )


def _kinetics(files: dict[str, str], folder: Path) -> Source:
    rows = {
        split: list(_kinetics_rows(files[split], split))
        for split in ("train", "val", "test")
        if split in files
    }
    if "labels" in files:
        names, file = class_lines(files["labels"]), files["labels"]
    else:
        names, file = (
            sorted({row[1] for split in ("train", "val") for row in rows.get(split, [])}),
            files["train"],
        )
    labels = label_table(names, file, folder_name)
    splits = {}
    for split, found in rows.items():
        places = ((number, name, ids, f"{files[split]}:{number}") for number, name, ids in found)
        splits[split] = [
            Video(
                ids,
                find_label(labels, folder_name(name), name, place) if name else 0,
                files[split],
                number,
            )
            for number, name, ids, place in places
        ]
    return Source(names, splits, labels)


def _kinetics_rows(path: str, split: str) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, class and names of each video: ``id_000012_000022`` as the online lists of TAM have it, ``id_12`` as TSM's
    frame folders, ``id``."""
    reader = csv.reader(read_text(path).split("\n"), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not CSV ({error}); correct the line") from None
    header = [name.strip() for name in rows[0][1]] if rows else []
    columns = [
        "youtube_id",
        "time_start",
        "time_end",
        *(["label"] if split != "test" or "label" in header else []),
    ]
    if absent := [name for name in columns if name not in header]:
        raise UserError(
            f"{path}:1: no column {', '.join(absent)}; expected label, youtube_id, time_start, time_end, split"
        )
    for number, row in rows[1:]:
        cells = dict(zip(header, map(str.strip, row), strict=False))
        place = f"{path}:{number}"
        if len(row) != len(header):
            raise UserError(
                f"{place}: {len(row)} columns, but {len(header)} on line 1; correct the line"
            )
        if (cells.get("split") or split)[:2] != split[:2]:
            raise UserError(
                f"{place}: a video of the split {cells['split']!r}, read as {split}; give each split its file"
            )
        times = [
            re.fullmatch(r"([0-9]{1,6})(\.0*)?", cells[name]) for name in ("time_start", "time_end")
        ]
        if None in times:
            raise UserError(
                f"{place}: time_start and time_end are not whole seconds; correct the line"
            )
        video, (start, end) = cells["youtube_id"], (int(time[1]) for time in times)
        name = cells.get("label", "")
        if not video or ("label" in columns and not name):
            raise UserError(f"{place}: no youtube_id or no label; correct the line")
        yield (
            number,
            name,
            (f"{video}_{start:06d}_{end:06d}", f"{video}_{cells['time_start']}", video),
        )


def _number_names(video: str) -> tuple[str, ...]:
    """The number of a video, also with six digits: its flow is called so in Something-Something V1."""
    return (
        tuple(dict.fromkeys((video, f"{int(video):06d}")))
        if re.fullmatch("[0-9]{1,18}", video)
        else (video,)
    )


def _plain(name: str) -> str:
    """A template without the brackets that mark its places (TSM tools/gen_label_sthv2.py)."""
    return name.replace("[", "").replace("]", "")


def _numbered_csv(dataset: str, files: dict[str, str], folder: Path, order: str | None) -> Source:
    """Something-Something V1 and Jester: lines ``id;label``."""
    names = class_lines(files["labels"])
    if order is not None:
        names = in_order(dataset, order, names)
    labels = label_table(names, files["labels"])
    splits: dict[str, list[Video]] = {}
    for split in (split for split in ("train", "val", "test") if split in files):
        splits[split] = []
        for number, line in text_lines(files[split]):
            place = f"{files[split]}:{number}"
            video, separator, name = (part.strip() for part in line.partition(";"))
            if not video or (not separator and split != "test"):
                raise UserError(f"{place}: {line[:80]!r} is not `id;label`; correct the line")
            label = find_label(labels, name, name, place) if name or split != "test" else 0
            splits[split].append(Video(_number_names(video), label, files[split], number))
    return Source(names, splits, {})


def _somethingv2(files: dict[str, str], folder: Path) -> Source:
    names = read_class_names(files["labels"])
    for label, (name, expected) in enumerate(zip(names, sorted(names), strict=True)):
        if name != expected:
            raise UserError(
                f"{files['labels']}: {name!r} has label {label}, in alphabetical order {expected!r} has it, as all "
                "published weights expect; give the official file"
            )
    labels = label_table(names, files["labels"], _plain)
    splits = {}
    for split in (split for split in ("train", "val", "test") if split in files):
        splits[split] = [
            _entry(labels, entry, files[split], number, split)
            for number, entry in enumerate(_entries(files[split]), 1)
        ]
    return Source(names, splits, {})


def _entries(path: str) -> list:
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); give the file that was published") from None
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: not a JSON list of videos; give the file that was published")
    return content


def _entry(labels: dict[str, int], entry: dict, path: str, number: int, split: str) -> Video:
    """One object of a JSON list; its number in the list stands for its line."""
    place = f"{path}:{number} (number in the list)"
    if (
        not isinstance(entry, dict)
        or "id" not in entry
        or (split != "test" and not isinstance(entry.get("template"), str))
    ):
        raise UserError(f"{place}: no `id` or no `template`; give the file that was published")
    name = _plain(entry.get("template") or "")
    return Video(
        _number_names(str(entry["id"])),
        find_label(labels, name, name, place) if name else 0,
        path,
        number,
    )


def _ucf101(files: dict[str, str], folder: Path) -> Source:
    names = read_class_names(files["labels"])
    labels, splits = label_table(names, files["labels"]), {}
    for split, stem in (("train", "trainlist"), ("val", "testlist")):
        for number in (1, 2, 3):
            path = str(folder / f"{stem}{number:02d}.txt")
            splits[f"{split}_split_{number}"] = [
                _ucf101_video(labels, path, *line) for line in text_lines(path)
            ]
    return Source(names, splits, labels)


def _ucf101_video(labels: dict[str, int], path: str, number: int, line: str) -> Video:
    match = re.fullmatch(r"([^/\s]+)/(.+)\.avi(?: +([0-9]+))?", line)
    if not match:
        raise UserError(
            f"{path}:{number}: {line[:80]!r} is not `Class/video.avi` or `Class/video.avi number`; correct it"
        )
    label = find_label(labels, match[1], match[1], f"{path}:{number}")
    if match[3] and int(match[3]) != label + 1:
        raise UserError(
            f"{path}:{number}: {match[1]} is number {match[3]} here, but {label + 1} in classInd.txt; correct one"
        )
    return Video((match[2],), label, path, number)


def _hmdb51(files: dict[str, str], folder: Path, order: str | None) -> Source:
    tables = {
        path: re.fullmatch(r"(.+)_test_split([123])\.txt", path.name)
        for path in folder.glob("*_test_split?.txt")
    }
    tables = {path: match for path, match in sorted(tables.items()) if match}
    names = (
        class_lines(files["labels"])
        if "labels" in files
        else sorted({match[1] for match in tables.values()})
    )
    if not tables:
        raise UserError(
            f"{folder}: no file is called CLASS_test_split1.txt; give the folder of the official splits"
        )
    if order is not None:
        names = in_order("hmdb51", order, names)
    labels = label_table(names, files.get("labels", str(folder)))
    splits: dict[str, list[Video]] = {
        f"{split}_split_{number}": [] for number in (1, 2, 3) for split in ("train", "val")
    }
    for name in names:
        for number in (1, 2, 3):
            path = folder / f"{name}_test_split{number}.txt"
            for line, text in text_lines(path):
                _hmdb51_line(splits, number, labels[name], str(path), line, text)
    if unknown := [path for path, match in tables.items() if match[1] not in labels]:
        find_label(labels, tables[unknown[0]][1], tables[unknown[0]][1], str(unknown[0]))
    return Source(names, splits, labels)


def _hmdb51_line(
    splits: dict[str, list[Video]], number: int, label: int, path: str, line: int, text: str
) -> None:
    match = re.fullmatch(r"(.+)\.avi +([012])", text)
    if not match:
        raise UserError(
            f"{path}:{line}: {text[:80]!r} is not `video.avi` and 0, 1 (training) or 2 (test); correct it"
        )
    if match[2] != "0":
        splits[f"{'train' if match[2] == '1' else 'val'}_split_{number}"].append(
            Video((match[1],), label, path, line)
        )


_READERS = {
    "kinetics": _kinetics,
    "something": partial(_numbered_csv, "something"),
    "somethingv2": _somethingv2,
    "jester": partial(_numbered_csv, "jester"),
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
}
