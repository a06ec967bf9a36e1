import pytest

from ops.checkpoints.class_order import order_warning
from ops.data.class_names import read_class_names
from ops.data.label_orders import FOLDER


def names_of(file):
    return read_class_names(FOLDER / file)


@pytest.mark.parametrize(
    ("weights", "layout", "dataset", "file", "other"),
    [
        ("w.pth", "mmaction2", "something", "something_official.txt", "something_sorted.txt"),
        ("w.pth", "tdn", "something", "something_sorted.txt", "something_official.txt"),
        ("w.pth", "mmaction2", "jester", "jester_official.txt", "jester_sorted.txt"),
        ("w.pth", "mmaction2", "hmdb51", "hmdb51.txt", "hmdb51_tsn.txt"),
        (
            "in/mobilenetv2_jester_online.pth.tar",
            "mobilenetv2",
            "gestures",
            "jester_sorted.txt",
            "jester_official.txt",
        ),
    ],
)
def test_another_order_of_the_same_classes(weights, layout, dataset, file, other):
    def warning(names):
        return order_warning(weights, layout, dataset, names, "category.txt")

    assert warning(names_of(file)) is None
    text = warning(names_of(other))
    assert text.startswith(f"{weights}: ") and file in text and "category.txt" in text
    assert "\n" not in text


def test_no_warning_where_nothing_is_known():
    official = names_of("something_official.txt")
    assert order_warning("w.pth", "tdn", "something", None, None) is None
    assert order_warning("w.pth", "ours", "something", official, "c.txt") is None
    other = [f"class {label}" for label in range(174)]
    assert order_warning("w.pth", "tdn", "something", other, "c.txt") is None
    # Both orders are published in this layout, and the name of the dataset does not say which is
    # meant.
    assert order_warning("w.pth", "mmaction2", "mine", official, "c.txt") is None
    spelled = [name.replace(" ", "_").upper() for name in names_of("kinetics400.txt")]
    assert order_warning("w.pth", "tsm", "kinetics", spelled, "c.txt") is None
