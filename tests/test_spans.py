from types import SimpleNamespace

import numpy as np
import pytest

from ops.scores.spans import merge_spans
from ops.utils.errors import UserError


def spans(rows, *, step=1.0, length=2.0, **options):
    """(start, end, label, probability) of each span of windows with these probabilities."""
    windows = [
        SimpleNamespace(
            start=i * step, end=i * step + length, probabilities=np.array(row), picture=i
        )
        for i, row in enumerate(rows)
    ]
    found = merge_spans(windows, **options)
    return [(s.start, s.end, s.label, round(s.probability, 6), s.picture) for s in found]


def test_borders_are_halfway_between_the_middles():
    rows = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]]
    assert spans(rows) == [(0, 2.5, 0, 0.85, 0), (2.5, 5, 1, 0.85, 2)]


def test_hysteresis_continues_a_span_and_does_not_begin_one():
    rows = [[0.4, 0.3], [0.6, 0.1], [0.35, 0.1], [0.31, 0.45], [0.2, 0.4], [0.4, 0.1]]
    assert spans(rows) == [(1.5, 4.5, 0, 0.42, 1)]


def test_a_more_probable_class_ends_a_span():
    assert [span[2] for span in spans([[0.7, 0.2], [0.35, 0.6], [0.35, 0.6]])] == [0, 1]
    assert [span[2] for span in spans([[0.55, 0.3], [0.3, 0.45], [0.55, 0.3]])] == [0]


def test_gaps_between_windows_belong_to_no_span():
    found = spans([[0.9], [0.1], [0.9]], step=10.0, enter=0.5, stay=0.5)
    assert [(start, end) for start, end, *_ in found] == [(0, 2), (20, 22)]


def test_spans_of_several_classes_overlap():
    rows = [[0.9, 0.1], [0.8, 0.7], [0.2, 0.8], [0.1, 0.1]]
    found = spans(rows, multi_label=True)
    assert [(start, end, label) for start, end, label, *_ in found] == [(0, 2.5, 0), (1.5, 3.5, 1)]


def test_nothing():
    assert spans([]) == [] and spans([[0.1, 0.1]]) == []


@pytest.mark.parametrize("enter, stay", [(0.3, 0.5), (1.2, 0.5), (0.5, -0.1), (float("nan"), 0.1)])
def test_invalid_thresholds_raise(enter, stay):
    with pytest.raises(UserError):
        list(merge_spans([], enter, stay))
