import numpy as np
import pytest

from ops.training.class_weights import class_weights
from ops.utils.errors import UserError

LABELS = np.array([0, 0, 0, 0, 1, 3, 3, 3])  # class 2 has no video


def written(tmp_path, text):
    path = tmp_path / "weights.txt"
    path.write_text(text)
    return str(path)


def test_balanced_weights_give_every_class_the_same_total():
    weights = class_weights("balanced", LABELS, 4)
    assert weights.dtype == np.float32 and weights[2] == 0
    totals = np.bincount(LABELS, minlength=4) * weights
    assert totals[[0, 1, 3]] == pytest.approx(8 / 3)


@pytest.mark.parametrize("scale", [1, 7.5])
def test_weights_of_a_file_have_a_mean_of_1_over_the_videos(tmp_path, scale):
    numbers = np.array([1, 4, 9, 0]) * scale
    path = written(tmp_path, "\n".join(map(str, numbers)) + "\n\n")
    weights = class_weights(path, LABELS, 4)
    assert weights[LABELS].mean() == pytest.approx(1)
    assert weights / weights[0] == pytest.approx([1, 4, 9, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n3\n", "3 weights for 4 classes"),
        ("1\n2\nx\n4\n", "weights.txt:3: 'x'"),
        ("1\n-2\n3\n4\n", "weights.txt:2"),
        ("1\nnan\n3\n4\n", "weights.txt:2"),
        ("inf\n1\n3\n4\n", "weights.txt:1"),
        ("0\n0\n5\n0\n", "all classes with training videos are 0"),
    ],
)
def test_invalid_files_raise(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        class_weights(written(tmp_path, text), LABELS, 4)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.txt: no such file"):
        class_weights(str(tmp_path / "nowhere.txt"), LABELS, 4)


def test_several_labels_are_refused():
    with pytest.raises(UserError, match="--class_weights is for one label"):
        class_weights("balanced", np.eye(4, dtype=bool), 4)
