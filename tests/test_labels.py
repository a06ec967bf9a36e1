import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ops.data.labels import as_array, best_of, differing, is_unread, mark_unread, of_row, one_hot


@given(st.lists(st.integers(0, 8), min_size=1))
def test_one_label_a_video(labels):
    array = as_array(labels, None)
    assert array.dtype == np.int64 and [of_row(array, row) for row in range(len(labels))] == labels
    assert one_hot(array, 9).argmax(1).tolist() == labels and (one_hot(array, 9).sum(1) == 1).all()


@given(st.lists(st.sets(st.integers(0, 8), min_size=1), min_size=1))
def test_multi_label_training(labels):
    array = as_array([sorted(own) for own in labels], 9)
    assert array.dtype == bool and [set(of_row(array, row)) for row in range(len(labels))] == labels
    assert one_hot(array, 9) is array


def test_both_kinds_do_not_mix():
    with pytest.raises(ValueError, match="in the same list"):
        as_array([1, (2, 3)], 9)
    with pytest.raises(IndexError):
        as_array([(1, 9)], 9)
    assert as_array([], 9).shape == (0,)


def test_differing_rows():
    assert differing(np.array([1, 2, 3]), np.array([1, 0, 0])).tolist() == [1, 2]
    hot = np.eye(3, dtype=bool)
    assert differing(hot, hot[[0, 2, 2]]).tolist() == [1]


def test_the_best_of_several():
    scores = np.array([[3, 2, 2], [1, 2, 9.0]])
    assert best_of(scores, np.array([[0, 1, 1], [1, 1, 0]], bool)).tolist() == [1, 1]
    assert best_of(scores, np.array([2, 0])).tolist() == [2, 0]


@given(hnp.arrays(np.float32, (6, 4), elements=st.integers(-1, 2)), st.booleans(), st.data())
def test_marked_rows_are_found_again(scores, several, data):
    labels = data.draw(
        hnp.arrays(bool, (6, 4)) if several else hnp.arrays(np.int64, 6, elements=st.integers(0, 3))
    )
    if several:
        labels[:, 0] |= ~labels.any(1)
    rows = data.draw(hnp.arrays(bool, 6))
    hot = one_hot(labels, 4).tolist()
    expected = [
        rows[v] or scores[v].tolist() == [-1 if true else 0 for true in hot[v]] for v in range(6)
    ]
    mark_unread(scores, labels, rows)
    assert is_unread(scores, labels).tolist() == expected
    for row in np.flatnonzero(rows):
        assert scores[row][one_hot(labels, 4)[row]].max() < scores[row][
            ~one_hot(labels, 4)[row]
        ].min(initial=0)
