"""ops/scores/fusion.py: views of directories and .npz files put together, sources joined, weighted."""

import numpy as np
import pytest
from helpers.score_dirs import describe

from ops.scores.aggregation import mean, sliding_window, softmax, top_k
from ops.scores.fusion import (
    Rule,
    Source,
    check_scales,
    fuse,
    is_npz,
    join,
    load_source,
    need_ids,
    to_probabilities,
    weighted_mean,
)
from ops.scores.npz_file import save_npz
from ops.scores.pickle_file import save_scores, score_path
from ops.utils.errors import UserError

CLIPS, CROPS, VIDEOS, CLASSES = 4, 3, 9, 6
IDS = [f"video {row}" for row in range(VIDEOS)]


@pytest.fixture(scope="module")
def views():
    """Logits float32 [V, clips, crops, classes], labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(VIDEOS, CLIPS, CROPS, CLASSES), scale=3).astype(np.float32), np.arange(
        VIDEOS
    ) % CLASSES


@pytest.fixture(scope="module")
def stored(tmp_path_factory, views):
    """The same scores as a directory and as an .npz file, both with ids: {"directory": path, "npz": path}."""
    folder = tmp_path_factory.mktemp("scores")
    logits, labels = views
    write(folder / "d", logits, labels, IDS)
    save_npz(folder / "n.npz", logits, labels, IDS)
    return {"directory": str(folder / "d"), "npz": str(folder / "n.npz")}


def write(directory, logits, labels, ids=None, **protocol):
    for clip in range(logits.shape[1]):
        for crop in range(logits.shape[2]):
            save_scores(score_path(directory, clip, crop), logits[:, clip, crop], labels)
    if ids or protocol:
        describe(directory, labels, ids, num_class=CLASSES, crop_size=224, **protocol)


@pytest.mark.parametrize("average", ["logits", "softmax"])
@pytest.mark.parametrize(
    "rule, function, text",
    [
        (Rule(), mean, None),
        (Rule(crop_agg="max"), lambda x: mean(x, "max"), "max of crops, mean of {}"),
        (Rule(frame_agg="topk:2"), lambda x: top_k(x, 2), "mean of crops, top 2 of {}"),
        (
            Rule(crop_agg="max", frame_agg="topk:2"),
            lambda x: top_k(x, 2, "max"),
            "max of crops, top 2 of {}",
        ),
        (Rule(frame_agg="window"), sliding_window, "max of crops, sliding windows of {}"),
        (
            Rule(crop_agg="mean", frame_agg="window"),
            lambda x: sliding_window(x, "mean"),
            "mean of crops, sliding windows of {}",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["directory", "npz"])
def test_directories_and_npz_files_agree_with_the_aggregations(
    views, stored, kind, rule, function, text, average
):
    source = load_source(stored[kind], rule._replace(average=average))
    expected = function(softmax(views[0]) if average == "softmax" else views[0])
    assert source.scores.dtype == np.float64
    np.testing.assert_allclose(source.scores, expected, atol=1e-12)
    assert (
        source.ids == IDS
        and source.labels.tolist() == views[1].tolist()
        and source.probabilities == (average == "softmax")
    )
    if text:
        view = "softmax per view" if average == "softmax" else "logits"
        assert f"{view}, {text.format('clips' if kind == 'directory' else 'frames')}" in source.line
    else:
        assert ("softmax per view" if average == "softmax" else "mean of logits") in source.line


def test_how_views_are_averaged_when_nobody_says(tmp_path, views, stored):
    assert load_source(stored["directory"], Rule()).probabilities  # TDN's files
    assert not load_source(stored["npz"], Rule()).probabilities
    write(tmp_path / "d", *views, average="logits", dataset="jester")
    source = load_source(str(tmp_path / "d"), Rule())
    assert not source.probabilities and source.facts.protocol["dataset"] == "jester"
    np.testing.assert_allclose(source.scores, mean(views[0]))
    assert source.line == "8 frames x 3 crops x 4 clips, 224, 9/9 videos, mean of logits"
    assert load_source(str(tmp_path / "d"), Rule("softmax")).probabilities


def test_a_part_of_the_grid_and_each_view(views, stored):
    seen = []
    source = load_source(stored["directory"], Rule("logits"), 2, 1, lambda *view: seen.append(view))
    np.testing.assert_allclose(source.scores, mean(views[0][:, :2, :1]))
    assert [view[:2] for view in seen] == [(0, 0), (1, 0)]
    assert np.array_equal(seen[1][2], views[0][:, 1, 0]) and np.array_equal(seen[1][3], views[1])


def test_the_line_of_videos_of_different_lengths(tmp_path):
    rows = np.empty((2, 2), object)
    rows[0], rows[1] = (np.zeros((1, 2, 3)), 0), (np.zeros((25, 2, 3)), 1)
    np.savez(tmp_path / "a.npz", scores=rows)
    assert (
        load_source(str(tmp_path / "a.npz"), Rule()).line
        == "1 to 25 frames x 2 crops, 2 videos, mean of logits"
    )


def test_the_description_must_be_of_the_same_test(tmp_path, views):
    write(tmp_path, *views, ids=IDS)
    describe(tmp_path, np.roll(views[1], 1), IDS, num_class=CLASSES)
    with pytest.raises(
        UserError, match=r"the score files: row 1 has the label 0, but 2 in .*scores\.json"
    ):
        load_source(str(tmp_path), Rule())
    describe(tmp_path, views[1][1:], IDS[1:], num_class=CLASSES)
    with pytest.raises(UserError, match=r"the score files: 9 videos, but .*scores\.json has 8"):
        load_source(str(tmp_path), Rule())


def test_what_is_an_npz_file(tmp_path):
    (tmp_path / "d.npz").mkdir()
    assert (
        is_npz("x/rgb.npz")
        and is_npz("RGB.NPZ")
        and not is_npz("npz")
        and not is_npz(str(tmp_path / "d.npz"))
    )


@pytest.mark.parametrize(
    "rule", [Rule(), Rule("logits"), Rule(crop_agg="max"), Rule(frame_agg="topk:1")]
)
def test_a_video_that_could_not_be_read_is_wrong_whatever_its_other_clips_say(
    tmp_path, views, rule
):
    logits, labels = views[0].copy(), views[1]
    logits += 100 * np.eye(CLASSES, dtype=np.float32)[labels][:, None, None]
    logits[3, 2] = -np.eye(CLASSES)[
        labels[3]
    ]  # as ops/testing/test.py writes it: clip 2 of video 3
    write(tmp_path / "d", logits, labels, IDS)
    save_npz(tmp_path / "n.npz", logits, labels, IDS)
    for name in ("d", "n.npz"):
        one = load_source(str(tmp_path / name), rule)
        assert np.flatnonzero(one.failed).tolist() == [3]
        assert (
            one.scores[3].argmin() == labels[3]
            and (one.scores.argmax(1) == labels).sum() == VIDEOS - 1
        )
        order = np.roll(np.arange(VIDEOS), 2)
        other = Source(
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
    return Source(
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
def test_sources_that_cannot_be_joined(first, second, message):
    with pytest.raises(UserError, match=message) as caught:
        join([first, second])
    assert "\n" not in str(caught.value)


def test_softmax_of_sources_that_are_logits():
    logits, shares = source("x", probabilities=False), source("y")
    made = to_probabilities([logits, shares])
    np.testing.assert_array_equal(made[0].scores, softmax(logits.scores))
    assert made[0].probabilities and made[1] is shares
    with pytest.raises(UserError, match=r"--softmax: .* --average logits"):
        to_probabilities([shares, shares])


def test_scales_that_differ_are_named():
    logits, shares = source("x", probabilities=False), source("y")
    assert check_scales([logits, logits]) is None and check_scales([shares]) is None
    assert check_scales([logits, shares]).startswith("y gives probabilities and x logits")


def test_ids_that_are_needed():
    assert need_ids([source("x", "abc")]) == ["a", "b", "c"]
    with pytest.raises(UserError, match="--csv_file: x does not tell the ids"):
        need_ids([source("x")])


def test_weighted_mean():
    a, b = np.array([[1.0, 0]]), np.array([[0.0, 1]])
    assert weighted_mean([a, b]).tolist() == [[0.5, 0.5]]
    assert weighted_mean([a, b], [1, 3]).tolist() == [[0.25, 0.75]]
    assert weighted_mean([a], [7]).tolist() == [[1, 0]]
    for weights in ([1], [1, 2, 3], [1, 0], [1, -1], [1, np.nan], [1, np.inf]):
        with pytest.raises(ValueError, match="positive weights"):
            weighted_mean([a, b], weights)
