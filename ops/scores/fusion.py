"""From score directories and ``.npz`` files to one score a video: what ``pkl_to_results.py`` does."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ops.data.labels import differing, is_unread, mark_unread, of_row
from ops.scores.aggregation import aggregate_videos, aggregator, softmax
from ops.scores.metadata import FILE_NAME, Facts, read_facts
from ops.scores.metrics import topk_accuracy
from ops.scores.npz_file import load_npz
from ops.scores.pickle_file import check_same_videos, find_views, load_views, protocol_line
from ops.scores.video_ids import order_of
from ops.utils.errors import UserError
from ops.utils.text import counted


class Source(NamedTuple):
    """One score directory or ``.npz`` file: scores float64 ``[V, classes]``, labels (int64 ``[V]``, or bool ``[V, classes]``
    of several labels a video), ids or None.

    ``probabilities`` tells whether the scores come from a softmax; ``line`` names the protocol. ``failed``, bool ``[V]``:
    videos that a test could not read and counts as wrong. ``facts``: what ``scores.json`` says, if there is one.
    """

    name: str
    scores: np.ndarray
    labels: np.ndarray
    ids: list[str] | None
    probabilities: bool
    line: str
    failed: np.ndarray
    facts: Facts | None = None


class Grid:
    """Accuracy against the number of clips and crops: the ``on_view`` of ``load_source``.

    ``top1``: one list a clip k of one number a crop m, Prec@1 in percent of the mean over the first k + 1 clips and the first
    m + 1 crops.
    """

    def __init__(self) -> None:
        self.top1: list[list[float]] = []
        self._sums: list[np.ndarray] = []  # of each crop, over the clips so far

    def __call__(self, clip: int, crop: int, scores: np.ndarray, labels: np.ndarray) -> None:
        if crop == 0:
            self.top1.append([])
            self._total = np.zeros_like(scores)
        if clip == 0:
            self._sums.append(np.zeros_like(scores))
        self._sums[crop] += scores
        self._total += self._sums[crop]
        self.top1[-1].append(topk_accuracy(self._total, labels, (1,))[0])


class Rule(NamedTuple):
    """How the views of a source become one score a video.

    average: each view's "logits" or "softmax" (None: as the source says); crop_agg: "mean" or "max" over crops (None:
    mean, but max for windows, as TSN has it); frame_agg: "mean", "topk:K" or "window" over clips or frames.
    """

    average: str | None = None
    crop_agg: str | None = None
    frame_agg: str = "mean"

    @property
    def crop(self) -> str:
        return self.crop_agg or ("max" if self.frame_agg == "window" else "mean")

    def text(self, average: str, unit: str) -> str:
        """What the line of a source says of it: "softmax per view", "logits, max of crops, top 3 of clips"."""
        if (self.crop, self.frame_agg) == ("mean", "mean"):
            return "softmax per view" if average == "softmax" else "mean of logits"
        frames = {"mean": "mean", "window": "sliding windows"}.get(
            self.frame_agg, self.frame_agg.replace("topk:", "top ")
        )
        return f"{'softmax per view' if average == 'softmax' else 'logits'}, {self.crop} of crops, {frames} of {unit}"


def is_npz(name: str) -> bool:
    """Whether a source is an ``.npz`` file; else it is a score directory."""
    return name.lower().endswith(".npz") and not Path(name).is_dir()


def load_source(
    name: str,
    rule: Rule,
    num_clips: int | None = None,
    num_crops: int | None = None,
    on_view: Callable[[int, int, np.ndarray, np.ndarray], None] | None = None,
) -> Source:
    """Read one source. Of a directory, ``num_clips`` and ``num_crops`` (default: all) limit what is read.

    ``on_view(clip, crop, scores, labels)`` is called with each view of a directory; the scores, logits or their softmax, are
    its to read only, and not to keep. Raises ``UserError``.
    """
    return (
        _npz(name, rule) if is_npz(name) else _directory(name, rule, num_clips, num_crops, on_view)
    )


def _npz(name: str, rule: Rule) -> Source:
    videos, labels, ids = load_npz(name)
    average, function = rule.average or "logits", aggregator(rule.frame_agg, rule.crop)
    scores = aggregate_videos(
        videos, (lambda part: function(softmax(part))) if average == "softmax" else function
    )
    flat = (video.reshape(-1, video.shape[-1]) for video in videos)
    failed = np.array(
        [
            is_unread(rows, np.full(len(rows), label)).any()
            for rows, label in zip(flat, labels, strict=True)
        ]
    )
    mark_unread(scores, labels, failed)
    frames = _span([video.shape[0] for video in videos], "frame")
    crops = _span([video.shape[1] for video in videos], "crop")
    count = counted(len(labels), "video")
    line = f"{frames} x {crops}, {count}, {rule.text(average, 'frames')}"
    return Source(name, scores, labels, ids, average == "softmax", line, failed)


def _span(counts: Sequence[int], noun: str) -> str:
    """The smallest and largest number with its noun: ``1 crop``, ``3 to 25 frames``."""
    if min(counts) == max(counts):
        return counted(min(counts), noun)
    return f"{min(counts)} to {counted(max(counts), noun)}"


def _directory(
    name: str, rule: Rule, num_clips: int | None, num_crops: int | None, on_view: Callable | None
) -> Source:
    clips, crops = find_views(name, num_clips, num_crops)
    facts = read_facts(name)
    average = rule.average or (facts.protocol["average"] if facts else "softmax")
    function = aggregator(rule.frame_agg, rule.crop)
    of_clips = _clips(load_views(name, clips, crops), crops, average, rule.crop, on_view)
    if rule.frame_agg == "mean":
        total, labels, failed = next(of_clips)
        for scores, _, also in of_clips:
            total += scores
            failed |= also
        total /= clips
    else:
        kept, (labels, *_), parts = zip(*of_clips, strict=True)
        total, failed = (
            aggregate_videos(np.stack(kept, axis=1)[:, :, None], function),
            np.any(parts, axis=0),
        )
    mark_unread(total, labels, failed)
    if facts:
        described = (
            Path(name) / FILE_NAME,
            (len(facts.ids), facts.protocol["num_class"]),
            facts.labels,
        )
        check_same_videos(described, (f"{name}: the score files", total.shape, labels))
    line = protocol_line(facts, clips, crops, len(labels), fusion=rule.text(average, "clips"))
    return Source(
        name, total, labels, facts and facts.ids, average == "softmax", line, failed, facts
    )


def _clips(
    views: Iterable[tuple[np.ndarray, np.ndarray]],
    crops: int,
    average: str,
    crop_agg: str,
    on_view: Callable | None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(scores float64 ``[V, classes]``, labels, failed) of each clip, crops put together, one view in memory at a time."""
    combine = np.add if crop_agg == "mean" else np.maximum
    of_clip, failed = None, False
    for view, (logits, labels) in enumerate(views):
        clip, crop = divmod(view, crops)
        scores = softmax(logits) if average == "softmax" else logits.astype(np.float64)
        if on_view:
            on_view(clip, crop, scores, labels)
        of_clip = combine(of_clip, scores, out=scores) if crop else scores
        failed = is_unread(logits, labels) | (failed if crop else False)
        if crop == crops - 1:
            yield (of_clip / crops if crop_agg == "mean" else of_clip), labels, failed


def join(sources: Sequence[Source]) -> list[Source]:
    """The sources with their videos in one order, that of the first one with ids.

    Sources with ids are joined by id, whatever their order; one without ids has to be in that order already. Labels
    must agree. Raises ``UserError`` that names the id or the row for videos, labels or classes that do not.
    """
    first = next((source for source in sources if source.ids), sources[0])
    return [source if source is first else _in_order(first, source) for source in sources]


def _in_order(first: Source, source: Source) -> Source:
    if source.ids and first.ids:
        rows = order_of((first.name, first.ids), (source.name, source.ids))
        ordered = {name: getattr(source, name)[rows] for name in ("scores", "labels", "failed")}
        source = source._replace(**ordered, ids=first.ids)
        if (
            source.labels.ndim == first.labels.ndim
            and (wrong := differing(source.labels, first.labels)).size
        ):
            here, there = (of_row(one.labels, wrong[0]) for one in (source, first))
            raise UserError(
                f"{source.name}: video {first.ids[wrong[0]]} has the label {here}, but {there} in {first.name}; test both "
                f"on the same list"
            )
    check_same_videos(*((one.name, one.scores.shape, one.labels) for one in (first, source)))
    return source._replace(ids=first.ids)


def to_probabilities(sources: Sequence[Source]) -> list[Source]:
    """The sources with a softmax of those scores that are logits (TSM test_models.py ``--softmax``).

    Raises ``UserError`` when none of them are.
    """
    if all(source.probabilities for source in sources):
        raise UserError(
            "--softmax: the softmax of each view is averaged already; --average logits takes it afterwards"
        )
    return [
        one if one.probabilities else one._replace(scores=softmax(one.scores), probabilities=True)
        for one in sources
    ]


def fuse(sources: Sequence[Source], weights: Sequence[float] | None = None) -> np.ndarray:
    """``weighted_mean`` of joined sources, float64 ``[V, classes]``; a video that failed in one of them counts as wrong."""
    scores = weighted_mean([source.scores for source in sources], weights)
    mark_unread(scores, sources[0].labels, any_failed(sources))
    return scores


def any_failed(sources: Sequence[Source]) -> np.ndarray:
    """The videos that failed in one of joined sources, bool ``[V]``."""
    return np.any([source.failed for source in sources], axis=0)


def weighted_mean(runs: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Mean of the scores ``[V, classes]`` of several runs, equal weights by default; float64 ``[V, classes]``.

    With the mean over views of each run this is the (8+16)-frame row of TDN's tables. Raises ``ValueError`` for weights
    that are not one positive finite number a run.
    """
    weights = np.ones(len(runs)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(runs),) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"{len(runs)} runs need as many positive weights, got {weights.tolist()}")
    return np.average(np.stack(runs), axis=0, weights=weights)


def check_scales(sources: Sequence[Source]) -> str | None:
    """A warning where probabilities and logits are about to be added up, else None."""
    kinds = {source.probabilities: source.name for source in sources}
    if len(kinds) < 2:
        return None
    return (
        f"{kinds[True]} gives probabilities and {kinds[False]} logits, which differ in scale; --softmax makes all "
        f"probabilities, --average says how views are averaged"
    )


def need_ids(sources: Sequence[Source]) -> list[str]:
    """The ids of joined sources. Raises ``UserError`` when there are none."""
    if sources[0].ids is None:
        raise UserError(
            f"--csv_file: {sources[0].name} does not tell the ids of its videos (no {FILE_NAME}, no ids); run the test again"
        )
    return sources[0].ids
