"""The metadata of a score directory: ``scores.json``, beside its ``{clip}_crop{crop}.pkl`` files.

The score files of the originals hold scores and labels only. This file has the rest: the protocol, a fingerprint of the
weights, the names of the classes, which clips are there, which videos could not be read, and the id and label of each row,
one video a line::

    {"format": 1,
    "protocol": {"num_segments": 8, "crops": 3, "crop_size": 256, "average": "logits", "dataset": "something", ...},
    "weights": {"file": "runs/tsm/best.pth", "sha256": "..."},  # "options": flags that make another network of it
    "files": {"list": "val.txt", "root_path": "frames", "image_tmpl": "{:05d}.jpg", "modality": "RGB"},
    "class_names": ["Approaching something with your camera", ...],
    "clips": [0, 1],
    "failures": [{"row": 17, "line": 18, "id": "1734", "reason": "No such file or directory", "clips": [0, 1]}],
    "videos": [
    ["74225", 3],
    ["116154", 126]
    ]}
"""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ops.data.class_names import check_names
from ops.data.labels import as_array, differing, of_row
from ops.scores.video_ids import check_ids
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, read_regular
from ops.utils.text import printable

FILE_NAME = "scores.json"
FORMAT = 1
PLACES = {
    "list",
    "root_path",
    "image_tmpl",
    "modality",
}  # where the videos lie, for who wants to show them
# What may differ between two runs into one directory: how views are put together is decided when they are read.
FREE = ("average",)
# Where videos have several labels these become a table [videos, classes], of up to so many bytes for any file.
_TABLE_BYTES = 2**26


class Facts(NamedTuple):
    """The content of ``scores.json``: ids ``[V]`` and labels (int64 ``[V]`` or bool ``[V, classes]``) in row order."""

    protocol: dict
    weights: dict
    files: dict
    class_names: list[str] | None
    clips: list[int]
    failures: list[dict]
    ids: list[str]
    labels: np.ndarray

    @property
    def read(self) -> int:
        """Videos of which every clip could be read."""
        return len(self.ids) - len({failure["row"] for failure in self.failures})


def write_failures(path: str | Path, failures: list[dict]) -> None:
    """Write the videos that could not be read as a table, atomically: line of the list, id, reason, clips."""
    with atomic_write(path, "w") as file:
        table = csv.writer(file)
        table.writerow(("line", "id", "reason", "clips"))
        table.writerows(
            (one["line"], one["id"], one["reason"], " ".join(map(str, one["clips"])))
            for one in failures
        )


def write_facts(directory: str | Path, facts: Facts) -> None:
    """Write ``scores.json``, atomically. The folder is made if it is not there."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / FILE_NAME, "w") as file:
        file.write(f'{{"format": {FORMAT},\n')
        for key in ("protocol", "weights", "files", "class_names", "clips", "failures"):
            file.write(f'"{key}": {json.dumps(getattr(facts, key), ensure_ascii=False)},\n')
        rows = (
            json.dumps([video, of_row(facts.labels, row)], ensure_ascii=False)
            for row, video in enumerate(facts.ids)
        )
        file.write('"videos": [\n')
        file.writelines((",\n" if number else "") + row for number, row in enumerate(rows))
        file.write("\n]}\n")


def read_facts(directory: str | Path) -> Facts | None:
    """What ``scores.json`` says, or None where there is no such file. Raises ``UserError`` for one that is not of this kind."""
    path = Path(directory) / FILE_NAME
    try:
        content = json.loads(read_regular(path).decode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); run the test again, or remove it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({type(error).__name__}); run the test again, or remove it"
        ) from None

    def want(condition, what):
        if not condition:
            raise UserError(f"{path}: {what}; run the test again, or remove the file")

    want(
        isinstance(content, dict) and content.get("format") == FORMAT,
        f"is not a description of scores of format {FORMAT}",
    )
    kinds = {
        "protocol": dict,
        "weights": dict,
        "files": dict,
        "clips": list,
        "failures": list,
        "videos": list,
    }
    for key, kind in kinds.items():
        want(isinstance(content.get(key), kind), f"has no {key}")
    protocol, names, videos = content["protocol"], content.get("class_names"), content["videos"]
    for key in ("num_segments", "crop_size", "crops", "num_class"):
        want(
            type(protocol.get(key)) is int and 0 < protocol[key] < 2**31,
            f"has no whole number {key} in its protocol",
        )
    want(
        protocol.get("average") in ("logits", "softmax"),
        f"average is {printable(protocol.get('average'))}, neither logits nor softmax",
    )
    want(isinstance(protocol.get("dataset"), str), "has no text dataset in its protocol")
    want(
        all(isinstance(content["files"].get(key, ""), str) for key in PLACES)
        and content["files"].keys() in (set(), PLACES),
        f"has not {', '.join(sorted(PLACES))} in files",
    )
    want(
        names is None
        or (
            isinstance(names, list)
            and all(isinstance(name, str) for name in names)
            and len(names) == protocol["num_class"]
        ),
        f"has not {protocol['num_class']} class names",
    )
    want(
        all(type(clip) is int and clip >= 0 for clip in content["clips"]),
        "has clips that are no numbers",
    )
    want(
        videos
        and all(
            isinstance(video, list)
            and len(video) == 2
            and isinstance(video[0], str)
            and _is_label(video[1], protocol["num_class"])
            for video in videos
        ),
        f"has a video that is not an id and a label below {protocol['num_class']}, or none",
    )
    size = len(videos) * protocol["num_class"] * any(isinstance(video[1], list) for video in videos)
    want(
        size <= max(_TABLE_BYTES, 256 * path.stat().st_size),
        "is too small for labels of so many classes",
    )
    check_names(path, names or [])
    try:
        labels = as_array([video[1] for video in videos], protocol["num_class"])
    except ValueError:
        want(False, "has videos with one label and with several")
    fields = {"row": int, "line": int, "id": str, "reason": str, "clips": list}
    want(
        all(
            isinstance(failure, dict)
            and all(type(failure.get(key)) is kind for key, kind in fields.items())
            and 0 <= failure["row"] < len(videos)
            for failure in content["failures"]
        ),
        "has failures without row, line, id, reason and clips",
    )
    ids = [video[0] for video in videos]
    check_ids(path, ids)
    return Facts(
        protocol,
        content["weights"],
        content["files"],
        names,
        content["clips"],
        content["failures"],
        ids,
        labels,
    )


def _is_label(value: object, num_class: int) -> bool:
    several = value if isinstance(value, list) and value else [value]
    return all(type(label) is int and 0 <= label < num_class for label in several)


def check_same(path: str | Path, old: Facts, new: Facts, clips: bool = False) -> None:
    """Raises ``UserError``, naming the difference, unless both are of the same protocol, weights and videos (and ``clips``)."""
    pairs = [("clips", old.clips, new.clips)] if clips else []
    keys = [key for key in {**old.protocol, **new.protocol} if key not in FREE]
    pairs += [(key, old.protocol.get(key), new.protocol.get(key)) for key in keys]
    pairs.append(("weights", old.weights.get("sha256"), new.weights["sha256"]))
    pairs.append(("options", old.weights.get("options"), new.weights.get("options")))
    changes = [
        f"{printable(key)} {_brief(before)} -> {_brief(after)}"
        for key, before, after in pairs
        if before != after
    ]
    if len(old.ids) != len(new.ids):
        changes.append(f"videos {len(old.ids)} -> {len(new.ids)}")
    elif old.ids != new.ids:
        row = next(
            row for row, pair in enumerate(zip(old.ids, new.ids, strict=True)) if pair[0] != pair[1]
        )
        changes.append(f"video {row + 1} {printable(old.ids[row])} -> {printable(new.ids[row])}")
    elif old.labels.shape != new.labels.shape or len(differing(old.labels, new.labels)):
        changes.append("labels of the videos")
    if changes:
        raise UserError(
            f"{path}: the scores there were made in another way ({', '.join(changes)}); give another --output_dir, "
            f"or remove them"
        )


def _brief(value: object) -> str:
    text = printable(value)
    return text[:12] if isinstance(value, str) and len(value) == 64 else text
