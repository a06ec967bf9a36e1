"""ops/video_ids.py: videos.txt both ways, and the join by id."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import UserError
from ops.video_ids import check_labels, load_videos, order_of, save_videos

# What a path can hold, but for the characters that videos.txt does not.
IDS = st.lists(st.text(st.characters(exclude_characters="\t\n\r\0", exclude_categories=["Cs"]), min_size=1), min_size=1)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(IDS, st.data())
def test_round_trip(tmp_path, ids, data):
    labels = data.draw(st.lists(st.integers(0, 10**9 - 1), min_size=len(ids), max_size=len(ids)))
    save_videos(tmp_path / "made", ids, labels)
    loaded, listed = load_videos(tmp_path / "made")
    assert loaded == ids and listed.tolist() == labels and listed.dtype == np.int64
    assert os.listdir(tmp_path / "made") == ["videos.txt"]


def test_the_file(tmp_path):
    assert load_videos(tmp_path) is None
    save_videos(tmp_path, ["a b", "é/1"], np.array([3, 0]))
    assert (tmp_path / "videos.txt").read_bytes() == "a b\t3\né/1\t0\n".encode()


def test_files_of_other_hands(tmp_path):
    (tmp_path / "videos.txt").write_bytes(b"\xef\xbb\xbf a b \t 3 \r\nc\t0\r\n\r\n\n")
    ids, labels = load_videos(tmp_path)
    assert ids == [" a b ", "c"] and labels.tolist() == [3, 0]


@pytest.mark.parametrize("text, line", [
    (b"", 1), (b"a\n", 1), (b"a\t1\nb 2\n", 2), (b"a\t1\n\nb\t2\n", 2), (b"\t1\n", 1), (b"a\tb\t1\n", 1), (b"a\t-1", 1),
    (b"a\t1\nb\tx", 2), (b"a\t1234567890", 1), (b"a\t\xd9\xa1", 1), (b"a\rb\t1", 1), (b"a\t1\n\xff\t2\n", 2)])
def test_wrong_lines_are_named(tmp_path, text, line):
    (tmp_path / "videos.txt").write_bytes(text)
    with pytest.raises(UserError) as caught:
        load_videos(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'videos.txt'}:{line}: ") and "\n" not in str(caught.value)


def test_a_folder_in_its_place(tmp_path):
    (tmp_path / "videos.txt").mkdir()
    with pytest.raises(UserError, match=r"videos\.txt: cannot be read"):
        load_videos(tmp_path)


@pytest.mark.parametrize("name", ["", "a\tb", "a\nb", "a\rb", "a\0b", "\udcff"])
def test_ids_that_do_not_fit_in_a_line_are_not_written(tmp_path, name):
    with pytest.raises(UserError, match=r"videos\.txt: row 2: the id ") as caught:
        save_videos(tmp_path, ["good", name], [0, 1])
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == []
    with pytest.raises(ValueError, match="1 ids and 2 labels"):
        save_videos(tmp_path, ["a"], [0, 1])


def test_labels_against_the_score_files(tmp_path):
    check_labels(tmp_path, np.array([1, 2]), np.array([1, 2]))
    with pytest.raises(UserError, match=r"videos\.txt:2: label 2, but 3 in the score files"):
        check_labels(tmp_path, np.array([1, 2]), np.array([1, 3]))
    with pytest.raises(UserError, match=r"videos\.txt: 1 videos, but the score files beside it have 2"):
        check_labels(tmp_path, np.array([1]), np.array([1, 3]))


@given(st.permutations(list("abcdefg")), st.permutations(list("abcdefg")))
def test_order(first, other):
    assert [other[row] for row in order_of(("x", first), ("y", other))] == first


def test_ids_that_cannot_be_joined():
    for first, other in ((["a", "b", "a"], ["a", "b"]), (["a", "b"], ["a", "b", "a"])):
        name = "x" if len(first) == 3 else "y"
        with pytest.raises(UserError, match=f"^{name}: the id a is in rows 1 and 3"):
            order_of(("x", first), ("y", other))
    with pytest.raises(UserError, match=r"^5 of 6 videos of x are not in y \(b, c, d, \.\.\.\); test both on the same list$"):
        order_of(("x", list("abcdef")), ("y", ["a"]))
    with pytest.raises(UserError, match=r"^1 of 2 videos of x are not in y \(b\); 1 of 2 videos of y are not in x \(z\); test"):
        order_of(("x", ["a", "b"]), ("y", ["z", "a"]))
