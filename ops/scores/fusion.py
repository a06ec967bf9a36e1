"""Fuse several sources of scores: match their videos, take the weighted mean of their scores."""

from collections.abc import Sequence

import numpy as np

from ops.data.labels import differing, mark_unread, of_row
from ops.scores.aggregation import softmax
from ops.scores.metadata import FILE_NAME
from ops.scores.source import ScoreSource, check_same_videos
from ops.scores.video_ids import order_of
from ops.utils.errors import UserError


def join(sources: Sequence[ScoreSource]) -> list[ScoreSource]:
    """Put the videos of all sources in the same order, that of the first source with ids.

    Sources with ids are matched by id. The rows of a source without ids must be in that order
    already; only their labels can be compared.

    Raises:
        UserError: videos, labels or classes differ; it names the id or the row.
    """
    first = next((source for source in sources if source.ids), sources[0])
    joined = []
    for source in sources:
        if source is not first:
            source = _in_order(first, source)
        joined.append(source)
    return joined


def _in_order(first: ScoreSource, source: ScoreSource) -> ScoreSource:
    if source.ids and first.ids:
        rows = order_of((first.name, first.ids), (source.name, source.ids))
        source = source._replace(
            scores=source.scores[rows], labels=source.labels[rows], failed=source.failed[rows]
        )
        _check_labels_by_id(first, source)
    check_same_videos(
        (first.name, first.scores.shape, first.labels),
        (source.name, source.scores.shape, source.labels),
    )
    return source._replace(ids=first.ids)


def _check_labels_by_id(first: ScoreSource, source: ScoreSource) -> None:
    if source.labels.ndim != first.labels.ndim:
        return  # check_same_videos reports it
    rows = differing(source.labels, first.labels)
    if rows.size:
        row = rows[0]
        raise UserError(
            f"{source.name}: video {first.ids[row]} has the label {of_row(source.labels, row)}, "
            f"but {of_row(first.labels, row)} in {first.name}; test both on the same list"
        )


def to_probabilities(sources: Sequence[ScoreSource]) -> list[ScoreSource]:
    """Take the softmax of the sources that are logits (TSM test_models.py ``--softmax``).

    Raises:
        UserError: none of them are.
    """
    if all(source.probabilities for source in sources):
        raise UserError(
            "--softmax: the sources are averages of softmaxes already; use it with --average logits"
        )
    converted = []
    for source in sources:
        if not source.probabilities:
            source = source._replace(scores=softmax(source.scores), probabilities=True)
        converted.append(source)
    return converted


def fuse(sources: Sequence[ScoreSource], weights: Sequence[float] | None = None) -> np.ndarray:
    """``weighted_mean`` of joined sources, float64 ``[V, classes]``.

    A video that could not be read in one of the tests counts as wrong.
    """
    scores = weighted_mean([source.scores for source in sources], weights)
    mark_unread(scores, sources[0].labels, any_failed(sources))
    return scores


def any_failed(sources: Sequence[ScoreSource]) -> np.ndarray:
    """bool ``[V]``: the videos that could not be read in one of the joined sources."""
    return np.any([source.failed for source in sources], axis=0)


def weighted_mean(runs: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Weighted mean of the scores of several runs.

    With the mean over views of each run, this is the 8+16-frame ensemble of TDN's tables.

    Args:
        runs: scores ``[V, classes]`` each.
        weights: one positive number per run; None: equal weights.

    Returns:
        float64 ``[V, classes]``.

    Raises:
        ValueError: invalid weights.
    """
    if weights is None:
        weights = [1.0] * len(runs)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (len(runs),) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"{len(runs)} runs need as many positive weights, got {weights.tolist()}")
    return np.average(np.stack(runs), axis=0, weights=weights)


def check_scales(sources: Sequence[ScoreSource]) -> str | None:
    """A warning if probabilities and logits are about to be added up, else None."""
    kinds = {source.probabilities: source.name for source in sources}
    if len(kinds) < 2:
        return None
    return (
        f"{kinds[True]} contains probabilities and {kinds[False]} logits, which differ in scale; "
        "--softmax makes all of them probabilities, --average sets how views are averaged"
    )


def need_ids(sources: Sequence[ScoreSource]) -> list[str]:
    """The ids of joined sources.

    Raises:
        UserError: the sources do not contain ids.
    """
    if sources[0].ids is None:
        raise UserError(
            f"--csv_file: {sources[0].name} does not contain the ids of its videos "
            f"(no {FILE_NAME}, no ids); run the test again"
        )
    return sources[0].ids
