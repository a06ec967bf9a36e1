"""ops/scores/source.py: score directories and .npz files as one score per video."""

import numpy as np
import pytest
from helpers.score_dirs import describe, random_views, write_views

from ops.scores.aggregation import mean, sliding_window, softmax, top_k
from ops.scores.npz_file import save_npz
from ops.scores.pickle_file import save_scores, score_path
from ops.scores.source import (
    Aggregation,
    check_same_videos,
    find_views,
    is_npz,
    load_source,
    load_views,
)
from ops.utils.errors import UserError

CLIPS, CROPS, VIDEOS, CLASSES = 4, 3, 9, 6
IDS = [f"video {row}" for row in range(VIDEOS)]


@pytest.fixture(scope="module")
def views():
    return random_views(VIDEOS, CLIPS, CROPS, CLASSES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, views):
    """The same scores as a directory and as an .npz file, both with ids."""
    folder = tmp_path_factory.mktemp("scores")
    logits, labels = views
    write_views(folder / "d", logits, labels, IDS)
    save_npz(folder / "n.npz", logits, labels, IDS)
    return {"directory": str(folder / "d"), "npz": str(folder / "n.npz")}


@pytest.mark.parametrize("average", ["logits", "softmax"])
@pytest.mark.parametrize(
    "rule, function, text",
    [
        (Aggregation(), mean, None),
        (Aggregation(crop_agg="max"), lambda x: mean(x, "max"), "max of crops, mean of {}"),
        (Aggregation(frame_agg="topk:2"), lambda x: top_k(x, 2), "mean of crops, top 2 of {}"),
        (
            Aggregation(crop_agg="max", frame_agg="topk:2"),
            lambda x: top_k(x, 2, "max"),
            "max of crops, top 2 of {}",
        ),
        (Aggregation(frame_agg="window"), sliding_window, "max of crops, sliding windows of {}"),
        (
            Aggregation(crop_agg="mean", frame_agg="window"),
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
        assert (
            f"{view}, {text.format('clips' if kind == 'directory' else 'frames')}"
            in source.protocol_line
        )
    else:
        assert (
            "softmax per view" if average == "softmax" else "mean of logits"
        ) in source.protocol_line


def test_how_views_are_averaged_when_nothing_is_specified(tmp_path, views, stored):
    assert load_source(stored["directory"], Aggregation()).probabilities  # TDN's files
    assert not load_source(stored["npz"], Aggregation()).probabilities
    write_views(tmp_path / "d", *views, average="logits", dataset="jester")
    source = load_source(str(tmp_path / "d"), Aggregation())
    assert not source.probabilities and source.metadata.protocol["dataset"] == "jester"
    np.testing.assert_allclose(source.scores, mean(views[0]))
    assert source.protocol_line == "8 frames x 3 crops x 4 clips, 224, 9/9 videos, mean of logits"
    assert load_source(str(tmp_path / "d"), Aggregation("softmax")).probabilities


def test_a_part_of_the_grid_and_each_view(views, stored):
    seen = []
    source = load_source(
        stored["directory"], Aggregation("logits"), range(2), 1, lambda *view: seen.append(view)
    )
    np.testing.assert_allclose(source.scores, mean(views[0][:, :2, :1]))
    assert [view[:2] for view in seen] == [(0, 0), (1, 0)]
    assert np.array_equal(seen[1][2], views[0][:, 1, 0]) and np.array_equal(seen[1][3], views[1])


def test_protocol_line_of_videos_of_different_lengths(tmp_path):
    rows = np.empty((2, 2), object)
    rows[0], rows[1] = (np.zeros((1, 2, 3)), 0), (np.zeros((25, 2, 3)), 1)
    np.savez(tmp_path / "a.npz", scores=rows)
    assert (
        load_source(str(tmp_path / "a.npz"), Aggregation()).protocol_line
        == "1 to 25 frames x 2 crops, 2 videos, mean of logits"
    )


def test_metadata_of_other_videos_raise(tmp_path, views):
    write_views(tmp_path, *views, ids=IDS)
    describe(tmp_path, np.roll(views[1], 1), IDS, num_class=CLASSES)
    with pytest.raises(
        UserError, match=r"the score files: row 1 has the label 0, but 2 in .*scores\.json"
    ):
        load_source(str(tmp_path), Aggregation())
    describe(tmp_path, views[1][1:], IDS[1:], num_class=CLASSES)
    with pytest.raises(UserError, match=r"the score files: 9 videos, but .*scores\.json has 8"):
        load_source(str(tmp_path), Aggregation())


def test_is_npz(tmp_path):
    (tmp_path / "d.npz").mkdir()
    assert (
        is_npz("x/rgb.npz")
        and is_npz("RGB.NPZ")
        and not is_npz("npz")
        and not is_npz(str(tmp_path / "d.npz"))
    )


def test_find_views(tmp_path):
    with pytest.raises(UserError, match="no such directory"):
        find_views(tmp_path / "none")
    (tmp_path / "protocol.json").write_text("{}")
    (tmp_path / "0_crop0.pkl.tmp").write_text("")
    (tmp_path / "00_crop0.pkl").write_text("")
    with pytest.raises(UserError, match=r"no score files such as 0_crop0\.pkl"):
        find_views(tmp_path)
    for clip in range(11):
        for crop in range(3):
            score_path(tmp_path, clip, crop).write_text("")
    assert find_views(tmp_path) == (range(11), 3)
    assert find_views(tmp_path, range(10), 1) == (range(10), 1)
    score_path(tmp_path, 3, 1).unlink()
    with pytest.raises(UserError, match=r"1 of 33 score files are missing: 3_crop1\.pkl$"):
        find_views(tmp_path)
    assert find_views(tmp_path, [2, 4]) == ([2, 4], 3)
    with pytest.raises(
        UserError,
        match=r"12 of 44 .*: 0_crop3\.pkl, 1_crop3\.pkl, 2_crop3\.pkl, 3_crop1\.pkl, .*, \.\.\.$",
    ):
        find_views(tmp_path, num_crops=4)


def test_huge_numbers_in_a_file_name(tmp_path):
    score_path(tmp_path, 10**8, 10**6).write_text("")
    with pytest.raises(UserError, match=r"score files are missing: 0_crop0\.pkl, 0_crop1\.pkl"):
        find_views(tmp_path)


def test_views_must_be_of_the_same_videos(tmp_path):
    (logits, labels) = random_views(7, 1, 1, 5)
    logits = logits[:, 0, 0]
    for crop in range(3):
        save_scores(score_path(tmp_path, 0, crop), logits + np.float32(crop), labels)
    assert [
        float(view[0, 0] - logits[0, 0]) for _, _, view, _ in load_views(tmp_path, [0], 3)
    ] == pytest.approx([0, 1, 2])

    other = labels.copy()
    other[4:] = (other[4:] + 1) % 5
    save_scores(score_path(tmp_path, 0, 2), logits, other)
    with pytest.raises(
        UserError,
        match=rf"0_crop2\.pkl: row 5 has the label {other[4]}, but {labels[4]} in .*0_crop0",
    ):
        list(load_views(tmp_path, [0], 3))
    save_scores(score_path(tmp_path, 0, 1), logits[:-1], labels[:-1])
    with pytest.raises(UserError, match=r"0_crop1\.pkl: 6 videos, but .*0_crop0\.pkl has 7"):
        list(load_views(tmp_path, [0], 3))
    save_scores(score_path(tmp_path, 0, 1), np.zeros((7, 9), np.float32), labels)
    with pytest.raises(UserError, match=r"0_crop1\.pkl: 9 classes, but .*0_crop0\.pkl has 5"):
        list(load_views(tmp_path, [0], 3))
    assert check_same_videos(("a", (7, 5), labels), ("b", (7, 5), labels.copy())) is None


def test_softmax_before_or_after_the_mean_differs(tmp_path):
    # One view is very sure of class 0, two lean to class 1: the logits say 0, the softmaxes 1.
    views = np.array([[[[10, 0]], [[0, 2]], [[0, 2]]]], np.float32)
    write_views(tmp_path, views, np.array([0]))
    assert load_source(str(tmp_path), Aggregation("softmax")).scores.argmax() == 1
    assert load_source(str(tmp_path), Aggregation("logits")).scores.argmax() == 0
    extreme = np.array([[[[3e38, -3e38, 3e38]]]], np.float32)
    write_views(tmp_path / "extreme", extreme, np.array([0]))
    scores = load_source(str(tmp_path / "extreme"), Aggregation("softmax")).scores
    assert scores.tolist() == [[0.5, 0, 0.5]]
