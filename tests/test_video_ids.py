"""ops/scores/video_ids.py: the join by id."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.scores.video_ids import check_ids, order_of
from ops.utils.errors import UserError


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb", "a\rb", "a\0b", "\udcff"])
def test_ids_that_do_not_fit_in_a_line(name):
    check_ids("x.npz", ["good", "a b", "é/1"])
    with pytest.raises(UserError, match=r"x\.npz: row 2: the id ") as caught:
        check_ids("x.npz", ["good", name])
    assert "\n" not in str(caught.value)


@given(st.permutations(list("abcdefg")), st.permutations(list("abcdefg")))
def test_order(first, other):
    assert [other[row] for row in order_of(("x", first), ("y", other))] == first


def test_ids_that_cannot_be_joined():
    for first, other in ((["a", "b", "a"], ["a", "b"]), (["a", "b"], ["a", "b", "a"])):
        name = "x" if len(first) == 3 else "y"
        with pytest.raises(UserError, match=f"^{name}: the id a is in rows 1 and 3"):
            order_of(("x", first), ("y", other))
    with pytest.raises(
        UserError,
        match=r"^5 of 6 videos of x .* y \(b, c, d, \.\.\.\);",
    ):
        order_of(("x", list("abcdef")), ("y", ["a"]))
    with pytest.raises(
        UserError,
        match=r"^1 of 2 videos of x .* y \(b\); 1 of 2 videos of y .* x \(z\);",
    ):
        order_of(("x", ["a", "b"]), ("y", ["z", "a"]))
