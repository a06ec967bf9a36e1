"""The metadata of a score directory: ``scores.json``, beside its ``{clip}_crop{crop}.pkl`` files.

The score files of the original repositories contain scores and labels only. This file contains the
rest: the protocol, a fingerprint of the weights, the class names, which clips were scored, which
videos could not be read, and the id and label of each row, one video per line::

    {"format": 1,
    "protocol": {"num_segments": 8, "crops": 3, "crop_size": 256, "average": "logits", ...},
    "weights": {"file": "runs/tsm/best.pth", "sha256": "..."},
    "files": {"list": "val.txt", "root_path": "frames", "image_tmpl": "{:05d}.jpg",
              "modality": "RGB"},
    "class_names": ["Approaching something with your camera", ...],
    "clips": [0, 1],
    "failures": [{"row": 17, "line": 18, "id": "1734", "reason": "No such file or directory",
                  "clips": [0, 1]}],
    "videos": [
    ["74225", 3],
    ["116154", 126]
    ]}

``weights`` has ``options`` too, if flags of the test changed the network.
"""

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ops.data.class_names import check_names
from ops.data.labels import as_array, differing, of_row
from ops.scores.aggregation import AVERAGES
from ops.scores.video_ids import check_ids
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, read_regular
from ops.utils.text import counted, printable

FILE_NAME = "scores.json"
FORMAT = 1
# The entries of "files", with which a report finds the videos.
FILES_KEYS = {"list", "root_path", "image_tmpl", "modality"}
# With several labels per video the labels become a table [V, classes]. For a file of any size it
# may have this many bytes; a larger table needs a file of at least 1/256 of its size.
_TABLE_BYTES = 2**26
_TABLE_RATIO = 256
_SHA256_DIGITS = 64
_SHOWN_DIGITS = 12


class ScoreMetadata(NamedTuple):
    """The content of ``scores.json``.

    Attributes:
        protocol: what was tested and how: the flags that affect the scores.
        weights: the weight file and its SHA-256.
        files: where the videos are, for reports; may be empty.
        class_names: in label order, or None.
        clips: the clips that were scored.
        failures: the videos that could not be read.
        ids: one per video, in row order.
        labels: int64 ``[V]``, or bool ``[V, classes]`` with several labels per video.
    """

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
        """The number of videos of which every clip could be read."""
        return len(self.ids) - len({failure["row"] for failure in self.failures})


def views_in_words(num_segments: int, num_crops: int, num_clips: int) -> str:
    """``8 frames x 3 crops x 10 clips``."""
    frames = counted(num_segments, "frame")
    return f"{frames} x {counted(num_crops, 'crop')} x {counted(num_clips, 'clip')}"


def protocol_line(
    metadata: ScoreMetadata | None, num_clips: int, num_crops: int, num_videos: int, fusion: str
) -> str:
    """The protocol of a result in words.

    Args:
        metadata: as ``read_metadata`` returns it; None if the directory has none.
        num_clips: clips that the result is of.
        num_crops: crops that the result is of.
        num_videos: videos in the score files.
        fusion: how views are put together: ``softmax per view``, ``mean of logits``.

    Returns:
        ``8 frames x 3 crops x 10 clips, 256, 19796/19796 videos, softmax per view``; without
        metadata ``10 clips x 3 crops, softmax per view, 19796/19796 videos``.
    """
    if metadata is None:
        views = f"{counted(num_clips, 'clip')} x {counted(num_crops, 'crop')}"
        return f"{views}, {fusion}, {num_videos}/{num_videos} videos"
    views = views_in_words(metadata.protocol["num_segments"], num_crops, num_clips)
    size = metadata.protocol["crop_size"]
    return f"{views}, {size}, {metadata.read}/{len(metadata.ids)} videos, {fusion}"


def write_failures(path: str | Path, failures: list[dict]) -> None:
    """Write the videos that could not be read as a table, atomically: line, id, reason, clips."""
    with atomic_write(path, "w") as file:
        table = csv.writer(file)
        table.writerow(("line", "id", "reason", "clips"))
        for failure in failures:
            clips = " ".join(map(str, failure["clips"]))
            table.writerow((failure["line"], failure["id"], failure["reason"], clips))


def write_metadata(directory: str | Path, metadata: ScoreMetadata) -> None:
    """Write ``scores.json``, atomically. The directory is created if it does not exist."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / FILE_NAME, "w") as file:
        file.write(f'{{"format": {FORMAT},\n')
        for key in ("protocol", "weights", "files", "class_names", "clips", "failures"):
            file.write(f'"{key}": {json.dumps(getattr(metadata, key), ensure_ascii=False)},\n')
        file.write('"videos": [\n')
        for row, video in enumerate(metadata.ids):
            entry = [video, of_row(metadata.labels, row)]
            separator = ",\n" if row else ""
            file.write(separator + json.dumps(entry, ensure_ascii=False))
        file.write("\n]}\n")


def read_metadata(directory: str | Path) -> ScoreMetadata | None:
    """Read ``scores.json``.

    Returns:
        Its content, or None if the directory has no such file.

    Raises:
        UserError: the file is damaged, or its content is not of this kind.
    """
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
            f"{path}: cannot be read as JSON ({type(error).__name__}); "
            "run the test again, or remove it"
        ) from None
    try:
        _check_content(content)
        labels = _read_labels(content, path.stat().st_size)
    except ValueError as error:
        raise UserError(f"{path}: {error}; run the test again, or remove the file") from None
    names = content.get("class_names")
    check_names(path, names or [])
    ids = [video[0] for video in content["videos"]]
    check_ids(path, ids)
    return ScoreMetadata(
        content["protocol"],
        content["weights"],
        content["files"],
        names,
        content["clips"],
        content["failures"],
        ids,
        labels,
    )


def _check_content(content: object) -> None:
    """Check the content of ``scores.json``; raises ``ValueError``, as the functions below."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"is not a description of scores of format {FORMAT}")
    for key in ("protocol", "weights", "files"):
        if not isinstance(content.get(key), dict):
            raise ValueError(f"has no {key}")
    for key in ("clips", "failures", "videos"):
        if not isinstance(content.get(key), list):
            raise ValueError(f"has no {key}")
    protocol = content["protocol"]
    _check_protocol(protocol)
    _check_files(content["files"])
    names = content.get("class_names")
    if names is not None and not _are_texts(names, protocol["num_class"]):
        raise ValueError(f"does not have {protocol['num_class']} class names")
    if not all(type(clip) is int and clip >= 0 for clip in content["clips"]):
        raise ValueError("has clips that are not numbers")
    _check_videos(content["videos"], protocol["num_class"])
    if not all(_is_failure(failure, len(content["videos"])) for failure in content["failures"]):
        raise ValueError("has failures without row, line, id, reason and clips")


def _check_protocol(protocol: dict) -> None:
    for key in ("num_segments", "crop_size", "crops", "num_class"):
        value = protocol.get(key)
        if type(value) is not int or not 0 < value < 2**31:
            raise ValueError(f"has no whole number {key} in its protocol")
    average = protocol.get("average")
    if average not in AVERAGES:
        raise ValueError(f"average is {printable(average)}, neither logits nor softmax")
    if not isinstance(protocol.get("dataset"), str):
        raise ValueError("has no text dataset in its protocol")


def _check_files(files: dict) -> None:
    if not files:
        return
    if files.keys() != FILES_KEYS or not all(isinstance(value, str) for value in files.values()):
        raise ValueError(f"does not have the texts {', '.join(sorted(FILES_KEYS))} in files")


def _check_videos(videos: list, num_class: int) -> None:
    problem = f"has a video that is not an id and a label below {num_class}"
    if not videos:
        raise ValueError(f"{problem}, or none")
    for video in videos:
        if not isinstance(video, list) or len(video) != 2 or not isinstance(video[0], str):
            raise ValueError(f"{problem}, or none")
        labels = video[1]
        if not isinstance(labels, list):
            labels = [labels]
        if not labels or not all(type(one) is int and 0 <= one < num_class for one in labels):
            raise ValueError(f"{problem}, or none")


def _are_texts(names: object, count: int) -> bool:
    if not isinstance(names, list) or len(names) != count:
        return False
    return all(isinstance(name, str) for name in names)


def _is_failure(failure: object, num_videos: int) -> bool:
    if not isinstance(failure, dict):
        return False
    fields = {"row": int, "line": int, "id": str, "reason": str, "clips": list}
    if not all(type(failure.get(key)) is kind for key, kind in fields.items()):
        return False
    return 0 <= failure["row"] < num_videos


def _read_labels(content: dict, file_size: int) -> np.ndarray:
    num_class = content["protocol"]["num_class"]
    labels = [video[1] for video in content["videos"]]
    if any(isinstance(own, list) for own in labels):
        table_size = len(labels) * num_class
        if table_size > max(_TABLE_BYTES, _TABLE_RATIO * file_size):
            raise ValueError("is too small for labels of so many classes")
    try:
        return as_array(labels, num_class)
    except ValueError:
        raise ValueError("has videos with one label and with several") from None


def check_same(
    path: str | Path,
    old: ScoreMetadata,
    new: ScoreMetadata,
    clips: bool = False,
    free: Collection[str] = (),
) -> None:
    """Check that two runs are of the same protocol, weights and videos.

    Args:
        path: the file of ``old``, for the message.
        old: the metadata in the directory.
        new: the metadata of this run.
        clips: whether the clips must be the same as well.
        free: entries of the protocol that may differ: flags that do not affect the score files.

    Raises:
        UserError: they differ; it names each difference.
    """
    changes = _protocol_changes(old, new, free)
    if clips and old.clips != new.clips:
        changes.insert(0, f"clips {_brief(old.clips)} -> {_brief(new.clips)}")
    changes += _video_changes(old, new)
    if changes:
        raise UserError(
            f"{path}: the existing scores are of another test ({', '.join(changes)}); "
            "choose another --output_dir, or remove them"
        )


def _protocol_changes(old: ScoreMetadata, new: ScoreMetadata, free: Collection[str]) -> list[str]:
    keys = [key for key in {**old.protocol, **new.protocol} if key not in free]
    pairs = [(key, old.protocol.get(key), new.protocol.get(key)) for key in keys]
    pairs.append(("weights", old.weights.get("sha256"), new.weights["sha256"]))
    pairs.append(("options", old.weights.get("options"), new.weights.get("options")))
    return [
        f"{printable(key)} {_brief(before)} -> {_brief(after)}"
        for key, before, after in pairs
        if before != after
    ]


def _video_changes(old: ScoreMetadata, new: ScoreMetadata) -> list[str]:
    if len(old.ids) != len(new.ids):
        return [f"videos {len(old.ids)} -> {len(new.ids)}"]
    for row, (before, after) in enumerate(zip(old.ids, new.ids, strict=True), 1):
        if before != after:
            return [f"video {row} {printable(before)} -> {printable(after)}"]
    if old.labels.shape != new.labels.shape or len(differing(old.labels, new.labels)):
        return ["labels of the videos"]
    return []


def _brief(value: object) -> str:
    """A value for a message; of a SHA-256 the first digits."""
    text = printable(value)
    if isinstance(value, str) and len(value) == _SHA256_DIGITS:
        return text[:_SHOWN_DIGITS]
    return text
