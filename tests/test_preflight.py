from dataclasses import replace

import pytest
from helpers.datasets import make_root

from ops.data.datasets import Dataset
from ops.data.preflight import check_class_names, read_checked, training_lists
from ops.utils.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("data"))


def dataset_of(root, tmp_path, train, val="v5.mp4 2", **fields):
    for name, lines in (("train", train), ("val", val)):
        (tmp_path / f"{name}.txt").write_text(lines + "\n")
    known = {"num_class": 3, "image_tmpl": "img_{:05d}.jpg", "class_names": None, **fields}
    lists = {f"{name}_list": str(tmp_path / f"{name}.txt") for name in ("train", "val")}
    return Dataset("mine", root_path=str(root), **lists, **known)


GOOD = "v0.mp4 0\nv1.mp4 1\nframes 12 2"


def lists_of(dataset, evaluate=False, skip_missing=False, decoder="pyav"):
    return training_lists(
        dataset, "RGB", evaluate=evaluate, skip_missing=skip_missing, decoder=decoder
    )


def test_sound_lists_give_no_warning(root, tmp_path):
    dataset = dataset_of(root, tmp_path, GOOD)
    lists, warnings = lists_of(dataset)
    assert {name: len(videos) for name, videos in lists.items()} == {
        "train": 3,
        "val": 1,
    } and warnings == []
    assert list(lists_of(dataset, evaluate=True)[0]) == ["val"]


def test_a_list_that_does_not_exist_can_be_made(root, tmp_path):
    dataset = dataset_of(root, tmp_path, GOOD)
    (tmp_path / "train.txt").unlink()
    for name, hint in (("mine", "make_lists.py folder"), ("kinetics", "make_lists.py kinetics")):
        with pytest.raises(UserError, match=rf"train.txt: no such file; .*--train_list.*{hint}"):
            lists_of(replace(dataset, name=name))


def test_warnings(root, tmp_path):
    (root / "bad.mp4").write_bytes(b"not a video" * 50)
    dataset = dataset_of(
        root, tmp_path, "v0.mp4 0\nbad.mp4 0\ngone.mp4 0\nframes 20 2", "v0.mp4 0\nv5.mp4 2"
    )
    warnings = lists_of(dataset, skip_missing=True)[1]
    assert warnings[0] == "1 of 4 training videos are not on disk and will be skipped"
    assert warnings[1] == "1 of 3 classes have no training video (labels 1)"
    assert warnings[2].startswith("1 of 2 validation videos are trained on (")
    assert "val.txt:1: v0.mp4 is also at " in warnings[2]
    tried = [warning.split(f"{tmp_path}/")[1] for warning in warnings[3:]]
    assert [warning.split(": ")[:2] for warning in tried] == [
        ["train.txt:2", "bad.mp4"],
        ["train.txt:3", "gone.mp4"],
        ["train.txt:4", "frames"],
    ]
    assert all(warning.endswith("(1 of 4 videos tried)") for warning in tried)
    assert len(lists_of(dataset, skip_missing=True, decoder=None)[1]) == 3  # nothing is opened
    with pytest.raises(UserError, match=r"train.txt:3: .*gone.mp4 does not exist .*--missing skip"):
        lists_of(dataset)


def test_what_cannot_be_meant_is_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"train.txt:2: v0.mp4 has another label on line 1"):
        lists_of(dataset_of(root, tmp_path, "v0.mp4 0\nv0.mp4 1"))
    wrong = dataset_of(root, tmp_path, "frames 12 2", image_tmpl="frame{:03d}.png")
    with pytest.raises(
        UserError,
        match=r"train.txt:1: frames: .*; none of 1 videos tried can be read: correct --image_tmpl",
    ):
        lists_of(wrong)
    with pytest.raises(UserError, match="no list of this kind; give --train_list"):
        read_checked(Dataset("mine", 3, "img_{:05d}.jpg", "", None, None, None), "train_list")


def test_validation_list_with_a_video_twice_is_refused(root, tmp_path):
    dataset = dataset_of(root, tmp_path, "v0.mp4 0\nv0.mp4 0", "v5.mp4 2\nv0.mp4 0\nv5.mp4 2")
    assert len(read_checked(dataset, "train_list")[0]) == 2  # weighs more in training
    with pytest.raises(UserError, match=r"val.txt:3: v5.mp4 .*val.txt:1"):
        read_checked(dataset, "val_list")


def test_list_of_segments_is_recognized(root, tmp_path):
    dataset = dataset_of(root, tmp_path, GOOD, "v5.mp4 2 6 1")
    with pytest.raises(UserError, match=r"val.txt:1: .*segments are not supported"):
        read_checked(dataset, "val_list")


def test_several_labels_count_for_each_class(root, tmp_path):
    dataset = dataset_of(root, tmp_path, "v0.mp4 0,2\nv1.mp4 0", multi_label=True)
    assert lists_of(dataset)[1] == ["1 of 3 classes have no training video (labels 1)"]


def test_class_names_of_another_order_are_refused():
    check_class_names(None, ["a"], "w.pth", "names.txt")
    check_class_names(["a", "b"], ["a", "b"], "w.pth", "names.txt")
    with pytest.raises(
        UserError,
        match=r"w.pth: .* differ from names.txt at 2 labels \(0: 'a' / 'b', 1: 'b' / 'a'\)",
    ):
        check_class_names(["a", "b"], ["b", "a"], "w.pth", "names.txt")
