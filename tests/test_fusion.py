"""ops/scores/fusion.py: sources joined by id or by position, and their weighted mean."""

import numpy as np
import pytest
from helpers.score_dirs import random_views, write_views

from ops.scores.aggregation import softmax
from ops.scores.fusion import (
    check_scales,
    fuse,
    join,
    need_ids,
    to_probabilities,
    weighted_mean,
)
from ops.scores.npz_file import save_npz
from ops.scores.source import Aggregation, ScoreSource, load_source
from ops.utils.errors import UserError

CLIPS, CROPS, VIDEOS, CLASSES = 4, 3, 9, 6
IDS = [f"video {row}" for row in range(VIDEOS)]


@pytest.fixture(scope="module")
def views():
    return random_views(VIDEOS, CLIPS, CROPS, CLASSES)


@pytest.mark.parametrize(
    "rule",
    [
        Aggregation(),
        Aggregation("logits"),
        Aggregation(crop_agg="max"),
        Aggregation(frame_agg="topk:1"),
    ],
)
def test_video_that_could_not_be_read_counts_as_wrong(tmp_path, views, rule):
    logits, labels = views[0].copy(), views[1]
    logits += 100 * np.eye(CLASSES, dtype=np.float32)[labels][:, None, None]
    logits[3, 2] = -np.eye(CLASSES)[
        labels[3]
    ]  # as ops/testing/test.py writes it: clip 2 of video 3
    write_views(tmp_path / "d", logits, labels, IDS)
    save_npz(tmp_path / "n.npz", logits, labels, IDS)
    for name in ("d", "n.npz"):
        one = load_source(str(tmp_path / name), rule)
        assert np.flatnonzero(one.failed).tolist() == [3]
        assert (
            one.scores[3].argmin() == labels[3]
            and (one.scores.argmax(1) == labels).sum() == VIDEOS - 1
        )
        order = np.roll(np.arange(VIDEOS), 2)
        other = ScoreSource(
            "o",
            np.eye(CLASSES)[labels][order] * 1e4,
            labels[order],
            [IDS[row] for row in order],
            False,
            "",
            np.zeros(VIDEOS, bool),
        )
        for joined in (join([one, other]), join([other, one])):
            right = fuse(joined, [1, 1000]).argmax(1) == joined[0].labels
            assert [joined[0].ids[row] for row in np.flatnonzero(~right)] == [IDS[3]]


def source(name, ids=None, labels=(0, 1, 2), classes=3, probabilities=True, seed=0):
    scores = np.random.default_rng(seed).random((len(labels), classes))
    return ScoreSource(
        name,
        scores,
        np.array(labels),
        list(ids) if ids else None,
        probabilities,
        "",
        np.zeros(len(labels), bool),
    )


def test_join_by_id_in_the_order_of_the_first():
    first, second = source("x", "abc"), source("y", "cab", (2, 0, 1), seed=1)
    joined = join([first, second])
    assert (
        joined[0] is first
        and joined[1].ids == ["a", "b", "c"]
        and joined[1].labels.tolist() == [0, 1, 2]
    )
    assert np.array_equal(joined[1].scores, second.scores[[1, 2, 0]])


def test_join_by_position_where_ids_are_missing():
    first, second, third = source("x"), source("y", "abc"), source("z", "bca", (1, 2, 0), seed=1)
    joined = join([first, second, third])
    assert [one.ids for one in joined] == [["a", "b", "c"]] * 3 and np.array_equal(
        joined[0].scores, first.scores
    )
    assert np.array_equal(joined[2].scores, third.scores[[2, 0, 1]])
    assert join([first, first])[1].ids is None


@pytest.mark.parametrize(
    "first, second, message",
    [
        (
            source("x", "abc"),
            source("y", "cab", (2, 0, 2)),
            "y: video b has the label 2, but 1 in x; test both on the same list",
        ),
        (
            source("x", "abc"),
            source("y", "abd"),
            r"1 of 3 videos of x are not in y \(c\); 1 of 3 videos of y are not in x \(d\)",
        ),
        (
            source("x", "abc"),
            source("y", "ab", (0, 1)),
            r"1 of 3 videos of x are not in y \(c\); test",
        ),
        (source("x", "abc"), source("y", "aba"), "y: the id a is in rows 1 and 3"),
        (source("x", "abc"), source("y", "abc", classes=4), "y: 4 classes, but x has 3"),
        (source("x", "abc"), source("y", None, (0, 2, 1)), "y: row 2 has the label 2, but 1 in x"),
        (source("x"), source("y", "ab", (0, 1)), "x: 3 videos, but y has 2"),
        (source("x"), source("y", classes=4), "y: 4 classes, but x has 3"),
    ],
)
def test_sources_that_do_not_match_raise(first, second, message):
    with pytest.raises(UserError, match=message) as caught:
        join([first, second])
    assert "\n" not in str(caught.value)


def test_softmax_of_sources_that_are_logits():
    logits, shares = source("x", probabilities=False), source("y")
    made = to_probabilities([logits, shares])
    np.testing.assert_array_equal(made[0].scores, softmax(logits.scores))
    assert made[0].probabilities and made[1] is shares
    with pytest.raises(UserError, match="--softmax"):
        to_probabilities([shares, shares])


def test_different_scales_warn():
    logits, shares = source("x", probabilities=False), source("y")
    assert check_scales([logits, logits]) is None and check_scales([shares]) is None
    assert check_scales([logits, shares]).startswith("y contains probabilities and x logits")


def test_missing_ids_raise():
    assert need_ids([source("x", "abc")]) == ["a", "b", "c"]
    with pytest.raises(UserError, match="--csv_file: x "):
        need_ids([source("x")])


def test_weighted_mean():
    a, b = np.array([[1.0, 0]]), np.array([[0.0, 1]])
    assert weighted_mean([a, b]).tolist() == [[0.5, 0.5]]
    assert weighted_mean([a, b], [1, 3]).tolist() == [[0.25, 0.75]]
    assert weighted_mean([a], [7]).tolist() == [[1, 0]]
    for weights in ([1], [1, 2, 3], [1, 0], [1, -1], [1, np.nan], [1, np.inf]):
        with pytest.raises(ValueError, match="positive weights"):
            weighted_mean([a, b], weights)
