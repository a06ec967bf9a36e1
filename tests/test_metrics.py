"""ops/scores/metrics.py against slow definitions and counts by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from ops.scores.metrics import (
    average_precision,
    confusion_matrix,
    evaluate,
    line,
    mean_class_accuracy,
    precision_recall_f1,
    result_lines,
    topk_accuracy,
)

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = np.array([1, 1, 2, 2])


def test_by_hand():
    assert topk_accuracy(SCORES, LABELS, (1, 2, 3)) == (50.0, 75.0, 100.0)
    assert mean_class_accuracy(SCORES, LABELS) == 50.0
    labels = np.array([1, 1, 1, 0])
    result = evaluate(SCORES, labels)
    assert result == {
        "top1": 50.0,
        "top5": 100.0,
        "mean_class": mean_class_accuracy(SCORES, labels),
    }
    assert line(result) == "Prec@1 50.00% Prec@5 100.00% mean class 66.67%"
    assert confusion_matrix(SCORES.argmax(1), LABELS, 3).tolist() == [
        [0, 0, 0],
        [1, 1, 0],
        [1, 0, 1],
    ]


def test_classes_without_videos_are_left_out():
    labels = np.array([1, 1, 1, 0])
    assert mean_class_accuracy(SCORES, labels) == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert topk_accuracy(SCORES, labels, (1,)) == (50.0,)


def test_k_above_the_number_of_classes():
    assert topk_accuracy(SCORES[:, :2], np.array([0, 1, 1, 1])) == (25.0, 100.0)
    assert topk_accuracy(SCORES[:, :1], np.zeros(4, int)) == (100.0, 100.0)


def test_ties_go_to_the_lower_index():
    scores = np.zeros((4, 4), np.float32)
    assert topk_accuracy(scores, np.arange(4), (1, 2, 3)) == (25.0, 50.0, 75.0)
    assert confusion_matrix(scores.argmax(1), np.arange(4), 4)[:, 0].tolist() == [1, 1, 1, 1]


def test_nan_is_never_a_hit():
    scores = np.full((2, 6), np.nan)
    scores[1] = [0, 1, 2, 3, 4, np.nan]
    assert topk_accuracy(scores, np.array([0, 4]), (1, 2, 6)) == (0.0, 50.0, 50.0)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(1, 7)), elements=st.integers(-3, 3)
    ),
    st.data(),
)
def test_against_a_stable_sort(scores, data):
    videos, classes = scores.shape
    labels = np.array(
        data.draw(st.lists(st.integers(0, classes - 1), min_size=videos, max_size=videos))
    )
    order = [sorted(range(classes), key=lambda c: (-row[c], c)) for row in scores]
    for k in (1, 2, 5):
        hits = sum(label in best[:k] for label, best in zip(labels, order, strict=True))
        assert topk_accuracy(scores, labels, (k,))[0] == pytest.approx(100 * hits / videos)
    per_class = [
        np.mean([order[i][0] == c for i in np.flatnonzero(labels == c)])
        for c in set(labels.tolist())
    ]
    assert mean_class_accuracy(scores, labels) == pytest.approx(100 * np.mean(per_class))
    matrix = confusion_matrix(np.array([best[0] for best in order]), labels, classes)
    assert matrix.dtype == np.int64 and matrix.sum() == videos
    for truth in range(classes):
        for guess in range(classes):
            expected = sum(
                t == truth and best[0] == guess for t, best in zip(labels, order, strict=True)
            )
            assert matrix[truth, guess] == expected


@pytest.mark.parametrize(
    "scores, labels, message",
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no videos"),
        (np.zeros((2, 3)), np.zeros(3, int), "must be"),
        (np.zeros(3), np.zeros(3, int), "must be"),
        (np.zeros((2, 3)), np.array([0, 3]), r"in \[0, 3\)"),
        (np.zeros((2, 3)), np.array([-1, 0]), r"in \[0, 3\)"),
        (np.zeros((2, 3)), np.zeros((2, 3), bool), "at least one"),
        (np.zeros((2, 3)), np.ones((2, 3), int), "bool"),
    ],
)
def test_wrong_input(scores, labels, message):
    for metric in (topk_accuracy, mean_class_accuracy):
        with pytest.raises(ValueError, match=message):
            metric(scores, labels)


def test_wrong_k_and_predictions():
    with pytest.raises(ValueError, match="at least 1"):
        topk_accuracy(SCORES, LABELS, (0,))
    with pytest.raises(ValueError, match="predictions must be in"):
        confusion_matrix(np.array([3]), np.array([0]), 3)
    with pytest.raises(ValueError, match="must both be"):
        confusion_matrix(np.array([1, 2]), np.array([0]), 3)
    assert confusion_matrix(np.zeros(0, int), np.zeros(0, int), 2).tolist() == [[0, 0], [0, 0]]


def test_failed_videos_are_wrong_however_few_classes_there_are():
    failed = np.array([True, False, False, False])
    assert evaluate(SCORES, LABELS, failed) == {"top1": 25.0, "top5": 75.0, "mean_class": 25.0}
    assert evaluate(SCORES[:, :1], np.zeros(4, int), failed) == {
        "top1": 75.0,
        "top5": 75.0,
        "mean_class": 75.0,
    }


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(2, 7)), elements=st.integers(-3, 3)
    ),
    st.data(),
)
def test_average_precision_is_that_of_scikit_learn(scores, data):
    hot = data.draw(hnp.arrays(bool, scores.shape))
    for row, (value, values, true) in enumerate(
        zip(average_precision(scores, hot), scores, hot, strict=True)
    ):
        if true.any():
            assert value == pytest.approx(average_precision_score(true, values)), row
        else:
            assert np.isnan(value)


def test_several_labels():
    hot = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]], bool)
    result = evaluate(SCORES, hot)
    assert list(result) == ["map", "map_samples", "top1", "top5"]
    assert result["top1"] == 75.0 and topk_accuracy(SCORES, hot, (2,)) == (100.0,)
    assert result["map_samples"] == pytest.approx(100 * (1 + 1 + 1 + 0.5) / 4)
    assert result["map"] == pytest.approx(
        100 * average_precision_score(hot, SCORES, average="macro")
    )
    # A video without a prediction ranks last in each class, whatever numbers stand for it.
    failed = np.array([True, False, False, False])
    for numbers in (-1, 50):
        scores = SCORES.copy()
        scores[0] = numbers
        of_classes = [1 / 2, (1 / 3 + 2 / 4) / 2, (1 + 2 / 4) / 2]
        assert evaluate(scores, hot, failed)["map"] == pytest.approx(100 * np.mean(of_classes))
        assert evaluate(scores, hot, failed)["map_samples"] == pytest.approx(
            100 * (0 + 1 + 1 + 0.5) / 4
        )


def test_the_lines_that_a_test_ends_with():
    result = {"top1": 50.0, "top5": 99.995, "mean_class": 25.0}
    assert result_lines(result) == [
        "Mean class accuracy 25.00%",
        "Overall Prec@1 50.00% Prec@5 100.00%",
    ]
    assert "mean_class" in result  # it is not changed
    assert result_lines({"map": 1.0}) == ["Overall mAP 1.00%"]


def test_precision_recall_f1_against_sklearn():
    rng = np.random.default_rng(3)
    labels, predictions = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    confusion = confusion_matrix(predictions, labels, 5)
    found = precision_recall_f1(confusion, np.bincount(labels, minlength=5))
    np.testing.assert_allclose(found, precision_recall_fscore_support(labels, predictions)[:3])
