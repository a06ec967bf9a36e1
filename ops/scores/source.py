"""Read a source of scores, a directory of score files or an ``.npz`` file: one score per video."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ops.data.labels import differing, is_unread, mark_unread, of_row
from ops.scores.aggregation import aggregate_videos, aggregator, softmax
from ops.scores.metadata import FILE_NAME, ScoreMetadata, protocol_line, read_metadata
from ops.scores.metrics import topk_accuracy
from ops.scores.npz_file import load_npz
from ops.scores.pickle_file import load_scores, score_path
from ops.utils.errors import UserError
from ops.utils.text import counted

_SCORE_FILE = re.compile(r"(0|[1-9][0-9]{0,8})_crop(0|[1-9][0-9]{0,8})\.pkl")
_NAMED_FILES = 5  # at most, in a message about missing files

# Called with (clip, crop, scores float64 [V, classes], labels) of each view of a directory.
ViewCallback = Callable[[int, int, np.ndarray, np.ndarray], None]


class ScoreSource(NamedTuple):
    """The scores of a test, one per video and class.

    Attributes:
        name: the score directory or ``.npz`` file.
        scores: float64 ``[V, classes]``, aggregated over views.
        labels: int64 ``[V]``, or bool ``[V, classes]`` with several labels per video.
        ids: one per video, None if the source does not contain them.
        probabilities: whether the softmax of each view was aggregated; else the logits were.
        protocol_line: the protocol in words, for the user.
        failed: bool ``[V]``, videos that the test could not read. They count as wrong.
        metadata: the content of ``scores.json``, None without that file.
    """

    name: str
    scores: np.ndarray
    labels: np.ndarray
    ids: list[str] | None
    probabilities: bool
    protocol_line: str
    failed: np.ndarray
    metadata: ScoreMetadata | None = None


class AccuracyByView:
    """Accuracy by number of clips and crops: an ``on_view`` of ``load_source``.

    Attributes:
        top1: one list per clip k with one number per crop m: Prec@1 in percent of the mean over the
            first k + 1 clips and the first m + 1 crops.
    """

    def __init__(self) -> None:
        self.top1: list[list[float]] = []
        self._sums_of_crops: list[np.ndarray] = []  # each over the clips so far

    def __call__(self, clip: int, crop: int, scores: np.ndarray, labels: np.ndarray) -> None:
        if crop == 0:
            self.top1.append([])
            self._total = np.zeros_like(scores)
        if clip == 0:
            self._sums_of_crops.append(np.zeros_like(scores))
        self._sums_of_crops[crop] += scores
        self._total += self._sums_of_crops[crop]
        (top1,) = topk_accuracy(self._total, labels, (1,))
        self.top1[-1].append(top1)


class Aggregation(NamedTuple):
    """How the views of a source become one score per video.

    Attributes:
        average: "logits" or "softmax" of each view; None: as the source specifies.
        crop_agg: "mean" or "max" over crops; None: the default of ``frame_agg``.
        frame_agg: "mean", "topk:K" or "window" over clips or frames.
    """

    average: str | None = None
    crop_agg: str | None = None
    frame_agg: str = "mean"

    @property
    def crops(self) -> str:
        """The aggregation over crops; as in TSN, the default is "max" with sliding windows."""
        if self.crop_agg:
            return self.crop_agg
        return "max" if self.frame_agg == "window" else "mean"

    def describe(self, average: str, unit: str) -> str:
        """In words: ``softmax per view``, or ``logits, max of crops, top 3 of clips``.

        Args:
            average: "logits" or "softmax".
            unit: what ``frame_agg`` aggregates: "clips" or "frames".
        """
        if (self.crops, self.frame_agg) == ("mean", "mean"):
            return "softmax per view" if average == "softmax" else "mean of logits"
        views = "softmax per view" if average == "softmax" else "logits"
        frames = self.frame_agg.replace("topk:", "top ").replace("window", "sliding windows")
        return f"{views}, {self.crops} of crops, {frames} of {unit}"

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        """The function of scores ``[..., F, crops, classes]``."""
        return aggregator(self.frame_agg, self.crops)


def is_npz(name: str) -> bool:
    """Whether a source is an ``.npz`` file; else it is a score directory."""
    return name.lower().endswith(".npz") and not Path(name).is_dir()


def load_source(
    name: str,
    aggregation: Aggregation,
    clips: Sequence[int] | None = None,
    num_crops: int | None = None,
    on_view: ViewCallback | None = None,
) -> ScoreSource:
    """Read one source of scores.

    Args:
        name: a score directory or an ``.npz`` file.
        aggregation: how the views of each video are aggregated.
        clips: clips of a directory to read; None: all.
        num_crops: number of crops of a directory to read; None: all.
        on_view: called with each view of a directory. It must neither change nor keep the scores.

    Raises:
        UserError: a file is missing or damaged, or files do not match.
    """
    if is_npz(name):
        return _load_npz(name, aggregation)
    return _load_directory(name, aggregation, clips, num_crops, on_view)


def _load_npz(name: str, aggregation: Aggregation) -> ScoreSource:
    videos, labels, ids = load_npz(name)
    average = aggregation.average or "logits"
    aggregate = aggregation.function()

    def score(part: np.ndarray) -> np.ndarray:
        return aggregate(softmax(part) if average == "softmax" else part)

    scores = aggregate_videos(videos, score)
    failed = np.zeros(len(labels), bool)
    for row, (video, label) in enumerate(zip(videos, labels, strict=True)):
        views = video.reshape(-1, video.shape[-1])
        failed[row] = is_unread(views, np.full(len(views), label)).any()
    mark_unread(scores, labels, failed)
    frames = _range_in_words([video.shape[0] for video in videos], "frame")
    crops = _range_in_words([video.shape[1] for video in videos], "crop")
    count = counted(len(labels), "video")
    line = f"{frames} x {crops}, {count}, {aggregation.describe(average, 'frames')}"
    return ScoreSource(name, scores, labels, ids, average == "softmax", line, failed)


def _range_in_words(counts: Sequence[int], noun: str) -> str:
    """The smallest and largest number with its noun: ``1 crop``, ``3 to 25 frames``."""
    if min(counts) == max(counts):
        return counted(min(counts), noun)
    return f"{min(counts)} to {counted(max(counts), noun)}"


def _load_directory(
    name: str,
    aggregation: Aggregation,
    clips: Sequence[int] | None,
    num_crops: int | None,
    on_view: ViewCallback | None,
) -> ScoreSource:
    clips, crops = find_views(name, clips, num_crops)
    metadata = read_metadata(name)
    average = aggregation.average
    if average is None:  # the score files of TDN, without metadata, are for a mean of softmaxes
        average = metadata.protocol["average"] if metadata else "softmax"
    aggregate = aggregation.function()
    parts = _aggregated_clips(name, clips, crops, average, aggregation.crops, on_view)
    if aggregation.frame_agg == "mean":  # adds up clips: one of them in memory at a time
        scores, labels, failed = next(parts)
        for of_clip, _, failed_in_clip in parts:
            scores += of_clip
            failed |= failed_in_clip
        scores /= len(clips)
    else:
        all_scores, all_labels, all_failed = zip(*parts, strict=True)
        frames = np.stack(all_scores, axis=1)[:, :, None]  # [V, clips, 1, classes]
        scores = aggregate_videos(frames, aggregate)
        labels = all_labels[0]
        failed = np.any(all_failed, axis=0)
    mark_unread(scores, labels, failed)
    ids = None
    if metadata:
        ids = metadata.ids
        described_shape = (len(ids), metadata.protocol["num_class"])
        check_same_videos(
            (Path(name) / FILE_NAME, described_shape, metadata.labels),
            (f"{name}: the score files", scores.shape, labels),
        )
    fusion = aggregation.describe(average, "clips")
    line = protocol_line(metadata, len(clips), crops, len(labels), fusion)
    return ScoreSource(name, scores, labels, ids, average == "softmax", line, failed, metadata)


def _aggregated_clips(
    directory: str,
    clips: Sequence[int],
    crops: int,
    average: str,
    crop_agg: str,
    on_view: ViewCallback | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(scores float64 ``[V, classes]``, labels, failed bool ``[V]``) of each clip.

    Crops are aggregated one after the other, so that one view is in memory at a time.
    """
    combine = np.add if crop_agg == "mean" else np.maximum
    of_clip = failed = None
    for clip, crop, logits, labels in load_views(directory, clips, crops):
        scores = softmax(logits) if average == "softmax" else logits.astype(np.float64)
        if on_view:
            on_view(clip, crop, scores, labels)
        if crop == 0:
            of_clip = scores
            failed = is_unread(logits, labels)
        else:
            of_clip = combine(of_clip, scores, out=scores)
            failed = failed | is_unread(logits, labels)
        if crop == crops - 1:
            yield (of_clip / crops if crop_agg == "mean" else of_clip), labels, failed


def find_views(
    directory: str | Path, clips: Sequence[int] | None = None, num_crops: int | None = None
) -> tuple[Sequence[int], int]:
    """Find the score files of a directory.

    Args:
        directory: the score directory.
        clips: the clips that must exist; None: up to the last one in the directory.
        num_crops: the number of crops that must exist; None: as for clips.

    Returns:
        The clips and the number of crops.

    Raises:
        UserError: score files of these clips and crops are missing.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of score files")
    matches = (_SCORE_FILE.fullmatch(file.name) for file in directory.iterdir())
    found = {(int(match[1]), int(match[2])) for match in matches if match}
    if not found:
        raise UserError(f"{directory}: no score files such as 0_crop0.pkl")
    if clips is None:
        clips = range(max(clip for clip, _ in found) + 1)
    crops = num_crops or max(crop for _, crop in found) + 1
    count = len(clips) * crops - sum(clip in clips and crop < crops for clip, crop in found)
    if count:
        absent = (
            score_path("", clip, crop).name
            for clip in clips
            for crop in range(crops)
            if (clip, crop) not in found
        )
        names = list(islice(absent, _NAMED_FILES))
        if count > _NAMED_FILES:
            names.append("...")
        raise UserError(
            f"{directory}: {count} of {len(clips) * crops} score files are missing: "
            f"{', '.join(names)}"
        )
    return clips, crops


def load_views(
    directory: str | Path, clips: Sequence[int], crops: int
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """(clip, crop, logits, labels) of each score file, clip by clip, one in memory at a time.

    Raises:
        UserError: as ``load_scores``, or a file has other videos or classes than the first one.
    """
    first = None
    for clip in clips:
        for crop in range(crops):
            path = score_path(directory, clip, crop)
            logits, labels = load_scores(path)
            videos = (path, logits.shape, labels)
            if first is None:
                first = videos
            check_same_videos(first, videos)
            yield clip, crop, logits, labels


def check_same_videos(
    first: tuple[str | Path, tuple[int, int], np.ndarray],
    second: tuple[str | Path, tuple[int, int], np.ndarray],
) -> None:
    """Check that two sets of scores are of the same videos and classes.

    Args:
        first: name, shape ``(V, classes)`` and labels of the first scores.
        second: the same of the second scores.

    Raises:
        UserError: the number of videos or classes differs, or a label; it names the first such row.
    """
    first_name, first_shape, first_labels = first
    second_name, second_shape, second_labels = second
    for axis, noun in enumerate(("videos", "classes")):
        if first_shape[axis] != second_shape[axis]:
            raise UserError(
                f"{second_name}: {second_shape[axis]} {noun}, "
                f"but {first_name} has {first_shape[axis]}"
            )
    if first_labels.ndim != second_labels.ndim:
        raise UserError(
            f"{second_name} and {first_name}: one has several labels per video, the other has one"
        )
    rows = differing(first_labels, second_labels)
    if rows.size:
        row = rows[0]
        raise UserError(
            f"{second_name}: row {row + 1} has the label {of_row(second_labels, row)}, "
            f"but {of_row(first_labels, row)} in {first_name}"
        )
