"""ops/scores/aggregation.py against the formulas of pyActionRecog/utils/video_funcs.py as loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.scores.aggregation import (
    aggregate_videos,
    aggregator,
    mean,
    sliding_window,
    softmax,
    top_k,
    view_sum,
)
from ops.utils.errors import UserError


def scores(frames=7, crops=3, classes=4, seed=0, videos=()):
    return (
        np.random.default_rng(seed)
        .normal(size=(*videos, frames, crops, classes))
        .astype(np.float32)
    )


def crops_of(score, crop_agg):
    """[F][classes] of Python floats."""
    pool = max if crop_agg == "max" else lambda values: sum(values) / len(values)
    return [
        [pool(column) for column in zip(*frame, strict=True)]
        for frame in score.astype(float).tolist()
    ]


def best(rows, k):
    columns = [sorted(column, reverse=True)[:k] for column in zip(*rows, strict=True)]
    return np.array([sum(column) / len(column) for column in columns])


def windows_of(score, crop_agg="max", spans=(1, 2, 4, 8, 16), overlap=0.2, fps=1, least=15):
    rows, results = crops_of(score, crop_agg), []
    for span in spans:
        step = math.ceil(span * fps * (1 - overlap))
        local = []
        for start in range(0, len(rows), step):
            local.append(
                [max(column) for column in zip(*rows[start : start + span * fps], strict=True)]
            )
        results.append(best(local, max(least, len(local) // 4)))
    return np.mean(results, axis=0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 99),
    st.sampled_from(("mean", "max")),
)
def test_against_loops(frames, crops, classes, seed, crop_agg):
    score = scores(frames, crops, classes, seed)
    rows = crops_of(score, crop_agg)
    np.testing.assert_allclose(mean(score, crop_agg), best(rows, frames), atol=1e-12)
    for k in (1, 3, frames, frames + 5):
        np.testing.assert_allclose(top_k(score, k, crop_agg), best(rows, k), atol=1e-12)
    np.testing.assert_allclose(
        sliding_window(score, crop_agg), windows_of(score, crop_agg), atol=1e-12
    )
    np.testing.assert_allclose(
        sliding_window(score, crop_agg, spans=(2, 3), overlap=0.5, fps=2, least=1),
        windows_of(score, crop_agg, (2, 3), 0.5, 2, 1),
        atol=1e-12,
    )


def test_many_windows_pass_the_fifteen():
    # 80 frames: of 80 windows of one frame a fourth, 20, are averaged; of 13 of 8 frames all.
    score = scores(frames=80)
    np.testing.assert_allclose(sliding_window(score), windows_of(score), atol=1e-12)
    assert not np.allclose(sliding_window(score), sliding_window(score, least=30))


def test_by_hand():
    score = np.array([[[0.0, 4], [2, 0]], [[6, 1], [0, 1]]])  # 2 frames, 2 crops, 2 classes
    assert mean(score).tolist() == [2, 1.5] and mean(score, "max").tolist() == [4, 2.5]
    assert top_k(score, 1).tolist() == [3, 2] and top_k(score, 1, "max").tolist() == [6, 4]
    assert top_k(score, 9).tolist() == mean(score).tolist()  # k above F: all frames
    # Span 1: windows [2, 4], [6, 1] -> mean [4, 2.5]. Span 2 begins at 0 only: [6, 4]. And so on.
    assert sliding_window(score).tolist() == pytest.approx([(4 + 4 * 6) / 5, (2.5 + 4 * 4) / 5])


def test_nothing_is_changed_and_results_are_float64():
    score = scores()
    before = score.copy()
    for function in (mean, lambda x: top_k(x, 2), sliding_window, softmax):
        assert function(score).dtype == np.float64
    assert np.array_equal(score, before)


def test_normalize_is_a_softmax_of_the_result():
    score = scores()
    for function in (mean, lambda x, **options: top_k(x, 2, **options), sliding_window):
        np.testing.assert_allclose(function(score, normalize=True), softmax(function(score)))
    assert softmax(np.array([[3e38, -3e38, 3e38]])).tolist() == [[0.5, 0, 0.5]]
    assert softmax(np.log([[1.0, 3], [2, 2]])) == pytest.approx(
        np.array([[0.25, 0.75], [0.5, 0.5]])
    )


def test_videos_together_or_one_by_one_whatever_their_shapes():
    ragged = [scores(frames=1 + seed % 4, crops=1 + seed % 2, seed=seed) for seed in range(150)]
    for function in (mean, lambda x: top_k(x, 2, "max"), sliding_window):
        expected = np.stack([function(video) for video in ragged])
        np.testing.assert_array_equal(aggregate_videos(ragged, function), expected)
    equal = scores(videos=(70,))
    np.testing.assert_array_equal(aggregate_videos(equal, mean), mean(equal))
    with pytest.raises(ValueError, match="no videos"):
        aggregate_videos([], mean)


@pytest.mark.parametrize(
    "text, function",
    [
        ("mean", mean),
        ("topk:3", lambda x, crops: top_k(x, 3, crops)),
        ("window", sliding_window),
        ("topk:99999999999999999999", mean),
    ],
)
@pytest.mark.parametrize("crop_agg", ["mean", "max"])
def test_flags(text, function, crop_agg):
    np.testing.assert_allclose(
        aggregator(text, crop_agg)(scores()), function(scores(), crop_agg), atol=1e-12
    )


@pytest.mark.parametrize(
    "text",
    ["", "topk", "topk:", "topk:0", "topk:-1", "topk:1.5", "topk:²", "max", "window:3", "mean "],
)
def test_wrong_flags(text):
    with pytest.raises(UserError, match=r"--frame_agg .* mean, window or topk:K"):
        aggregator(text, "mean")
    with pytest.raises(UserError, match="--crop_agg 'median'"):
        aggregator("mean", "median")


@pytest.mark.parametrize("shape", [(3, 4), (0, 1, 4), (3, 0, 4), (3, 1, 0)])
def test_wrong_shapes(shape):
    for function in (mean, lambda x: top_k(x, 1), sliding_window):
        with pytest.raises(ValueError, match=r"scores must be \[\.\.\., F, crops, classes\]"):
            function(np.zeros(shape))


def test_wrong_parameters():
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k(scores(), 0)
    with pytest.raises(ValueError, match="crop_agg must be one of mean, max"):
        mean(scores(), "min")
    for options in (
        {"spans": ()},
        {"spans": (0,)},
        {"fps": 0},
        {"least": 0},
        {"overlap": 1},
        {"overlap": -0.1},
    ):
        with pytest.raises(ValueError, match="must be at least 1"):
            sliding_window(scores(), **options)


def test_view_sum_is_the_sum_of_softmaxes():
    views = [scores(videos=(5,), seed=seed)[:, 0, 0] for seed in range(3)]
    expected = sum(torch.from_numpy(view).double().softmax(1) for view in views).numpy()
    total = view_sum(views)
    assert total.dtype == np.float64 and np.allclose(total, expected, atol=1e-12)
    assert np.allclose(total.sum(1), 3)
    assert np.allclose(
        view_sum(iter(views), of_softmax=False), np.sum(views, axis=0, dtype=np.float64)
    )
    extreme = np.array([[3e38, -3e38, 3e38]], np.float32)
    assert view_sum([extreme]).tolist() == [[0.5, 0, 0.5]]


def test_softmax_before_or_after_the_sum_differs():
    # One view is very sure of class 0, two lean to class 1: the logits say 0, the softmaxes 1.
    views = [np.array([[10.0, 0]]), np.array([[0.0, 2]]), np.array([[0.0, 2]])]
    assert view_sum(views).argmax() == 1 and view_sum(views, of_softmax=False).argmax() == 0


def test_view_sum_refuses_nothing_and_shapes_that_differ():
    with pytest.raises(ValueError, match="no views"):
        view_sum([])
    with pytest.raises(ValueError, match="views of shapes"):
        view_sum([np.zeros((2, 3)), np.zeros((1, 3))])
