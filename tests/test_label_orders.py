import pytest

from ops.data.class_names import read_class_names
from ops.data.datasets import KNOWN
from ops.data.label_orders import (
    FOLDER,
    LABEL_ORDERS,
    describe_order,
    in_order,
    moved_labels,
    same_classes,
)
from ops.utils.errors import UserError


def test_class_name_files_have_the_classes_of_their_dataset():
    for dataset, orders in LABEL_ORDERS.items():
        names = [
            read_class_names(FOLDER / file, KNOWN[dataset].num_class) for file, _ in orders.values()
        ]
        assert names[0] == sorted(names[1]) != names[1]
    for file, dataset in (
        ("kinetics400", "kinetics"),
        ("somethingv2", "somethingv2"),
        ("ucf101", "ucf101"),
    ):
        names = read_class_names(FOLDER / f"{file}.txt", KNOWN[dataset].num_class)
        assert names == sorted(names, key=str.lower)
    for count in (600, 700):
        assert read_class_names(FOLDER / f"kinetics{count}.txt", count)


def test_flip_pairs_of_the_dataset_file_are_of_the_sorted_order():
    names = read_class_names(FOLDER / "something_sorted.txt")
    for first, second in KNOWN["something"].flip_pairs:
        assert {"left", "right"} == set(names[first].split()) ^ set(names[second].split()) or (
            "left to right" in names[first] and "right to left" in names[second]
        )


def test_orders():
    sorted_names = read_class_names(FOLDER / "jester_sorted.txt")
    official = read_class_names(FOLDER / "jester_official.txt")
    assert in_order("jester", "sorted", official) == sorted_names
    assert in_order("jester", "official", sorted_names) == official
    assert describe_order("jester", sorted_names).startswith("sorted")
    assert describe_order("jester", official).startswith("official")
    assert describe_order("jester", official[::-1]) is None
    assert describe_order("kinetics", ["a"]) is None
    with pytest.raises(UserError, match="--labels FILE"):
        in_order("hmdb51", "tsn", ["a", "b"])


def test_moved_labels():
    names = read_class_names(FOLDER / "kinetics400.txt")
    spelled = [f'"{name.replace(" ", "_")}"' for name in names]
    assert moved_labels("kinetics400.txt", spelled) == 0
    spelled[3], spelled[9] = spelled[9], spelled[3]
    assert moved_labels("kinetics400.txt", spelled) == 2
    assert same_classes("kinetics400.txt", spelled)
    assert not same_classes("kinetics400.txt", names[:399])
    assert not same_classes("kinetics400.txt", [*names[:399], "another"])
    official = read_class_names(FOLDER / "something_official.txt")
    assert moved_labels("something_sorted.txt", official) > 160
