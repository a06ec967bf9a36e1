"""ops/report/confusion_image.py: the picture of the confusion matrix."""

import io

import numpy as np
import pytest
from PIL import Image

from ops.report import heat
from ops.report.confusion_image import confusion_png


def picture(confusion, names=None):
    names = names or [f"class {label}" for label in range(len(confusion))]
    return Image.open(io.BytesIO(confusion_png(confusion, names))).convert("RGB")


def count(image, color):
    wanted = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.asarray(image) == wanted).all(axis=2).sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [1, 2, 174])
def test_the_colors_are_shares_of_rows(classes):
    right = picture(np.diag(np.full(classes, 3)))
    wrong = picture(np.roll(np.diag(np.full(classes, 3)), 1, axis=1))
    none = picture(np.zeros((classes, classes), np.int64))
    # The color bar has every color once; the cells come on top.
    full, empty = heat.LIGHT[-1], heat.LIGHT[0]
    assert count(none, empty) > count(right, empty) or classes == 1
    assert count(right, full) > count(none, full)
    assert right.size == wrong.size and max(right.size) < 2500


@pytest.mark.filterwarnings(
    "error"
)  # as matplotlib warns of characters that its font does not have
def test_any_name_can_be_drawn():
    names = ["$x_1", "\\frac{", "很长的类名", "اسم طويل", "a\nb", "", "x" * 300, "é\x07"]
    image = picture(np.diag(np.arange(8)), names)
    assert max(image.size) < 2500


def test_same_tests_give_the_same_bytes():
    confusion = np.arange(16).reshape(4, 4)
    assert confusion_png(confusion, list("abcd")) == confusion_png(confusion, list("abcd"))
