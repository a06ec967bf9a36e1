"""ops/report: what is found out of scores: ranks, calibration, confusions, changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, confusion_matrix

from ops.report.analysis import BINS, TestResult, analyze, class_accuracy
from ops.report.changes import changes
from ops.report.confusion import confusion_of, order_and_groups, pairs
from ops.scores.aggregation import softmax
from ops.scores.metrics import mean_class_accuracy, topk_accuracy


def of_scores(scores, labels, **other):
    return TestResult(
        "d",
        "",
        np.asarray(scores, dtype=np.float64),
        np.asarray(labels),
        None,
        None,
        **{"probabilities": False, **other},
    )


# Few distinct values, so that ties are common.
SCORES = st.integers(1, 8).flatmap(
    lambda classes: hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.just(classes)),
        elements=st.integers(-2, 2).map(float),
    )
)


@given(SCORES, st.integers(0, 10**6), st.booleans())
def test_ranks_agree_with_the_metrics(scores, seed, multi_label):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, scores.shape[1], len(scores))
    if multi_label:
        labels = (rng.random(scores.shape) < 0.3) | np.eye(scores.shape[1], dtype=bool)[labels]
    tested = of_scores(scores, labels)
    found = analyze(tested)
    ks = range(1, scores.shape[1] + 1)
    assert [100 * (found.rank <= k).mean() for k in ks] == pytest.approx(
        topk_accuracy(scores, labels, ks)
    )
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    assert np.array_equal(found.best, order)
    shares = 1 / (1 + np.exp(-scores)) if multi_label else softmax(scores)
    np.testing.assert_allclose(found.probability, np.take_along_axis(shares, order, 1), atol=1e-12)
    if not multi_label:
        assert np.nanmean(class_accuracy(tested, found.right)) == pytest.approx(
            mean_class_accuracy(scores, labels)
        )
        own = shares[np.arange(len(scores)), labels]
        np.testing.assert_allclose(found.truth, own, atol=1e-12)


def test_more_videos_than_are_looked_at_together():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(5000, 3)), rng.integers(0, 3, 5000)
    kept = scores.copy()
    found = analyze(of_scores(scores, labels))
    assert (
        np.array_equal(found.best[:, 0], scores.argmax(1)) and found.calibration.count.sum() == 5000
    )
    assert np.array_equal(scores, kept)  # the scores of the caller stay as they are


def test_calibration_of_a_known_case():
    sure = np.repeat([0.6, 0.9], [10, 20])
    scores = np.stack([sure, 1 - sure], axis=1)
    labels = np.array(
        [0] * 5 + [1] * 5 + [0] * 20
    )  # half of the unsure ones and all of the sure ones are right
    curve = analyze(of_scores(scores, labels, probabilities=True)).calibration
    assert curve.error == pytest.approx(100 * (10 * 0.1 + 20 * 0.1) / 30)
    assert (
        curve.count[[9, 13]].tolist() == [10, 20]
        and curve.count.sum() == 30
        and len(curve.count) == BINS
    )
    assert curve.accuracy[[9, 13]].tolist() == [0.5, 1] and curve.confidence[
        [9, 13]
    ] == pytest.approx([0.6, 0.9])


def test_calibration_of_several_labels_counts_pairs():
    hot = np.array([[True, False, False], [True, True, False]])
    curve = analyze(
        of_scores([[0.95, 0.5, 0.0], [0.95, 0.5, 1.0]], hot, probabilities=True)
    ).calibration
    assert curve.count.sum() == 6 and curve.accuracy[[0, 7, 14]].tolist() == [
        0,
        0.5,
        pytest.approx(2 / 3),
    ]
    assert curve.error == pytest.approx(100 * (0 + abs(1 - 1) + abs(2.9 - 2)) / 6)


def test_a_video_that_was_not_read_is_wrong_and_nowhere_else():
    scores, labels = np.eye(4)[[0, 1, 2]] * 5, np.array([0, 1, 2])
    scores[2] = -np.eye(4)[2]
    tested = of_scores(scores, labels, failed=np.array([False, False, True]))
    found = analyze(tested)
    assert found.rank.tolist() == [1, 1, 5] and found.calibration.count.sum() == 2
    assert confusion_of(tested, found).sum() == 2
    assert class_accuracy(tested, found.right).tolist()[:3] == [100, 100, 0]
    hot = np.eye(4, dtype=bool)[labels] | np.eye(4, dtype=bool)[[3, 3, 3]]
    several = analyze(of_scores(scores, hot, failed=tested.failed))
    assert several.rank.tolist() == [1, 1, 5] and several.calibration.count.sum() == 8
    assert several.precision[3] == pytest.approx(
        100 * average_precision_score(hot[:, 3], np.array([0, 0, -1]))
    )  # the one that was not read comes last


def test_average_precision_of_classes():
    rng = np.random.default_rng(0)
    scores, hot = (
        rng.normal(size=(40, 5)),
        np.concatenate([rng.random((40, 4)) < 0.4, np.zeros((40, 1), bool)], axis=1),
    )
    hot[:, 0] |= ~hot.any(axis=1)
    expected = [
        100 * average_precision_score(hot[:, label], scores[:, label]) for label in range(4)
    ]
    found = analyze(of_scores(scores, hot)).precision
    assert found[:4] == pytest.approx(expected) and np.isnan(found[4])


def test_probabilities_of_views_that_do_not_add_up_to_one():
    found = analyze(of_scores([[0.9, 0.9, 0]], [0], probabilities=True))
    assert found.probability[0].tolist() == [0.5, 0.5, 0]
    large = analyze(
        of_scores([[1000.0, -1000]], [[True, False]])
    )  # a sigmoid that does not overflow
    assert large.probability[0].tolist() == [1, 0]


def test_confusion_is_scikit_learns():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 6)), rng.integers(0, 6, 200)
    tested = of_scores(scores, labels)
    expected = confusion_matrix(labels, scores.argmax(1), labels=range(6))
    assert np.array_equal(confusion_of(tested, analyze(tested)), expected)


def test_pairs_add_both_directions():
    confusion = np.array([[9, 1, 0], [4, 9, 3], [0, 3, 9]])
    assert [tuple(pair) for pair in pairs(confusion, 5)] == [(1, 2, 3, 3), (1, 0, 4, 1)]
    assert len(pairs(confusion, 1)) == 1 and pairs(np.diag([1, 2]), 5) == []


def test_the_order_puts_groups_together_and_names_them():
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(5), 4))  # twenty classes of five kinds, shuffled
    confusion = np.where(kind[:, None] == kind, 5, 0) + np.diag(np.full(20, 40))
    order, groups = order_and_groups(confusion, 3)
    assert sorted(order.tolist()) == list(range(20))
    assert (np.diff(kind[order]) != 0).sum() == 4
    assert len(groups) == 3
    for group in groups:
        assert len(group.classes) == 4 and len({kind[label] for label in group.classes}) == 1
        assert (group.videos, group.errors, group.inside) == (4 * 60, 60, 60)


@pytest.mark.parametrize("classes", [1, 2, 3, 12])
def test_few_classes_stay_in_order(classes):
    order, groups = order_and_groups(np.eye(classes, dtype=np.int64), 3)
    assert order.tolist() == list(range(classes)) and groups == []


def test_changes_between_two_tests():
    labels = np.array([0, 0, 0, 1, 1, 2])
    before = of_scores(np.eye(4)[[0, 0, 1, 0, 1, 0]], labels, probabilities=True)
    after = of_scores(
        [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0.4, 0.6, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]],
        labels,
        probabilities=True,
    )
    found = changes(before, analyze(before), analyze(after))
    assert (found.both, found.first, found.second, found.neither) == (2, 1, 2, 1)
    assert found.won.tolist() == [2, 3] and found.lost.tolist() == [
        1
    ]  # the larger gain of probability first
    assert found.gain[:3].tolist() == [0, 50, 0] and np.isnan(found.gain[3])
    assert found.p == 1


@pytest.mark.parametrize(
    "first, second, p", [(0, 5, 0.0625), (1, 9, 22 / 1024), (0, 0, 1), (3, 3, 1)]
)
def test_the_chance_of_so_uneven_a_split(first, second, p):
    right = np.zeros((2, first + second + 1), bool)
    right[0, :first] = right[1, first : first + second] = True
    one, two = (
        of_scores(np.where(row[:, None], [1, 0], [0, 1]), np.zeros(len(row), int)) for row in right
    )
    assert changes(one, analyze(one), analyze(two)).p == pytest.approx(p)
