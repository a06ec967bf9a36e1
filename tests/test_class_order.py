import pytest
import torch
from helpers.models import small_model

from ops.checkpoints import tune
from ops.checkpoints.class_order import class_names_of, order_warning
from ops.checkpoints.identify import WeightFile
from ops.checkpoints.manifest import read_manifest
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


def published_something(*, recorded):
    """Weights of MMAction2 for Something-Something V1, whose classes have the official order."""
    torch.manual_seed(0)
    model = small_model("tsm", num_class=174)
    entry = next(
        entry
        for entry in read_manifest()
        if entry["layout"] == "mmaction2" and entry["dataset"] == "something"
    )
    return WeightFile(
        "w.pth",
        "mmaction2",
        model.state_dict(),
        model.spec,
        None,
        "something",
        published=entry if recorded else None,
    )


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("names_file", ["something_official.txt", "something_sorted.txt"])
def test_rows_of_a_published_head_follow_the_class_names(recorded, names_file):
    file = published_something(recorded=recorded)
    official = names_of("something_official.txt")
    assert class_names_of(file) == official
    names = names_of(names_file)
    model = small_model("tsm", num_class=174)
    _, head_kept = tune(model, file, dataset="something", class_names=names)
    assert head_kept
    rows = [official.index(name) for name in names]
    assert torch.equal(model.head.weight, file.state["head.weight"][rows])
    assert torch.equal(model.head.bias, file.state["head.bias"][rows])


def test_other_spellings_of_published_names_are_the_same_classes():
    file = published_something(recorded=True)
    names = [name.upper().replace(" ", "_") for name in names_of("something_sorted.txt")]
    model = small_model("tsm", num_class=174)
    assert tune(model, file, dataset="mine", class_names=names).head_kept


def test_a_published_head_of_unknown_order_is_not_taken_over():
    """Without class names it is not known which of the two orders the lists have."""
    model = small_model("tsm", num_class=174)
    file = published_something(recorded=True)
    report, head_kept = tune(model, file, dataset="something", class_names=None)
    assert not head_kept and "--class_names" in report


def test_a_recorded_order_decides_whatever_the_dataset_is_called():
    entry = published_something(recorded=True).published
    names = names_of("something_sorted.txt")
    assert order_warning("w.pth", "mmaction2", "mine", names, "c.txt") is None
    warning = order_warning("w.pth", "mmaction2", "mine", names, "c.txt", entry)
    assert "something_official.txt" in warning
