"""ops/scores/submission.py: the csv of TSM's test_models.py, and what it cannot hold."""

import os

import numpy as np
import pytest

from ops.scores.submission import write_submission
from ops.utils.errors import UserError

SCORES = np.array([[0.1, 0.5, 0.2, 0.0, 0.4, 0.3, -1], [1, 1, 1, 1, 1, 1, 2]])
NAMES = [f"Doing {c}, twice" for c in "abcdefg"]


def test_something_v2_is_submitted_as_labels(tmp_path):
    path = tmp_path / "made" / "x.csv"
    write_submission(path, ["12", "a b"], SCORES, class_names=None, dataset="somethingv2")
    assert (
        path.read_text() == "12;1;4;5;2;0\na b;6;0;1;2;3\n"
    )  # of equal scores the lower label first
    write_submission(path, ["12"], SCORES[:1, :3], class_names=None, dataset="somethingv2")
    assert path.read_text() == "12;1;2;0\n" and os.listdir(path.parent) == ["x.csv"]


@pytest.mark.parametrize("dataset", ["jester", "something", None])
def test_others_as_names(tmp_path, dataset):
    write_submission(tmp_path / "x.csv", ["12", "é"], SCORES, class_names=NAMES, dataset=dataset)
    assert (tmp_path / "x.csv").read_bytes() == "12;Doing b, twice\né;Doing g, twice\n".encode()


@pytest.mark.parametrize(
    "dataset, classes, unread, read",
    [
        ("somethingv2", 7, "12;;;;;\n", "a;6;0;1;2;3\n"),
        ("somethingv2", 3, "12;;;\n", "a;0;1;2\n"),
        ("jester", 7, "12;\n", "a;Doing g, twice\n"),
    ],
)
def test_an_unreadable_video_has_no_prediction(tmp_path, dataset, classes, unread, read):
    path = tmp_path / "x.csv"
    warning = write_submission(
        path,
        ["12", "a"],
        SCORES[:, :classes],
        class_names=NAMES[:classes],
        dataset=dataset,
        failed=np.array([True, False]),
    )
    assert path.read_text() == unread + read
    assert str(path) in warning and "1 of 2 videos" in warning


def test_no_warning_where_every_video_was_read(tmp_path):
    for failed in (None, np.zeros(2, bool)):
        assert not write_submission(
            tmp_path / "x.csv", ["a", "b"], SCORES, class_names=NAMES, dataset=None, failed=failed
        )


@pytest.mark.parametrize(
    "ids, names, message",
    [
        (["a", "b"], None, "--class_names"),
        (["a", "b"], NAMES[:3], "3 class names, but the scores are of 7 classes"),
        (["a", "b"], [*NAMES[:6], "a;b"], "the class name 'a;b'"),
        (["a", "b;c"], NAMES, "the id 'b;c'"),
        (["a\nb", "c"], NAMES, r"the id 'a\\nb'"),
        (["", "c"], NAMES, "the id ''"),
        (["c", "c"], NAMES, "the id c "),
    ],
)
def test_invalid_texts_raise(tmp_path, ids, names, message):
    with pytest.raises(UserError, match=message) as caught:
        write_submission(tmp_path / "x.csv", ids, SCORES, class_names=names, dataset="jester")
    assert str(caught.value).startswith(f"{tmp_path / 'x.csv'}: ") and "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_unwritable_path_raises(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be written"):
            write_submission(path, ["a", "b"], SCORES, class_names=NAMES, dataset=None)


def test_as_many_ids_as_scores(tmp_path):
    with pytest.raises(ValueError, match="1 ids"):
        write_submission(tmp_path / "x.csv", ["a"], SCORES, class_names=NAMES, dataset=None)
    with pytest.raises(ValueError, match="failed"):
        write_submission(
            tmp_path / "x.csv",
            ["a", "b"],
            SCORES,
            class_names=NAMES,
            dataset=None,
            failed=np.zeros(3, bool),
        )
