import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from ops.data.datasets import (
    KNOWN,
    Dataset,
    choose_flip,
    dataset_name,
    describe_flip,
    flip_map,
    load_class_names,
    resolve,
)
from ops.data.readers.templates import file_namer
from ops.utils.errors import UserError


def write(tmp_path, text, name="names.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


# TSM ops/dataset_config.py; the flips are TDN's (ops/models.py).
PAIRS = ((86, 87), (93, 94), (166, 167))
FACTS = {
    "ucf101": (
        101,
        "img_{:05d}.jpg",
        "jpg",
        "file_list/ucf101_rgb_*_split_1.txt",
        "labels/classInd.txt",
        "center",
        (),
    ),
    "hmdb51": (
        51,
        "img_{:05d}.jpg",
        "images",
        "splits/hmdb51_rgb_*_split_1.txt",
        "category.txt",
        "center",
        (),
    ),
    "something": (
        174,
        "{:05d}.jpg",
        "20bn-something-something-v1",
        "*_videofolder.txt",
        "category.txt",
        "center",
        PAIRS,
    ),
    "somethingv2": (
        174,
        "{:06d}.jpg",
        "20bn-something-something-v2-frames",
        "*_videofolder.txt",
        "category.txt",
        "center",
        PAIRS,
    ),
    "jester": (
        27,
        "{:05d}.jpg",
        "20bn-jester-v1",
        "*_videofolder.txt",
        "category.txt",
        "center",
        None,
    ),
    "kinetics": (
        400,
        "img_{:05d}.jpg",
        "images",
        "labels/*_videofolder.txt",
        "labels/category.txt",
        "random",
        (),
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_known(name):
    num_class, tmpl, root, lists, names, sampling, pairs = FACTS[name]
    base = f"data/{name}/"
    dataset = resolve(name)
    assert (
        dataset
        == KNOWN[name]
        == Dataset(
            name,
            num_class,
            tmpl,
            base + root,
            base + lists.replace("*", "train"),
            base + lists.replace("*", "val"),
            base + names,
            sampling,
            "names",
            pairs,
            by_name=True,
        )
    )
    with pytest.raises(FrozenInstanceError):
        dataset.num_class = 3


def test_the_known_are_the_files_of_a_folder():
    assert list(KNOWN) == sorted(FACTS) and len(KNOWN) == 6
    assert "jester" in KNOWN and "jester.toml" not in KNOWN and "../known/jester" not in KNOWN


def test_flags_apply_and_none_is_not_given():
    dataset = resolve(
        "kinetics", root_path="/k400", val_list="v.txt", num_class=None, image_tmpl=None
    )
    assert dataset == replace(KNOWN["kinetics"], root_path="/k400", val_list="v.txt")
    with pytest.raises(TypeError):
        resolve("kinetics", root="/k400")


def test_unknown_name_with_lists_and_classes(tmp_path):
    dataset = resolve("mine", val_list="v.txt", num_class=7)
    assert (dataset.num_class, dataset.train_list, dataset.val_list, dataset.root_path) == (
        7,
        None,
        "v.txt",
        "",
    )
    assert load_class_names(dataset) is None
    named = resolve(
        "mine",
        train_list="t.txt",
        class_names=write(tmp_path, "run\nwalk\n"),
        image_tmpl="{:04d}.png",
    )
    assert named.num_class == 2 and named.image_tmpl.format(1) == "0001.png"
    assert load_class_names(named) == ["run", "walk"]


def test_unknown_name_lists_the_missing_flags():
    with pytest.raises(UserError) as error:
        resolve("somethingV3")
    text = str(error.value)
    assert "'somethingV3'" in text and "did you mean something" in text and "kinetics" in text
    assert "--train_list or --val_list and --num_class or --class_names" in text
    with pytest.raises(UserError) as error:
        resolve("zzzz", num_class=3)
    assert "did you mean" not in str(error.value) and "NAME.toml" in str(error.value)
    assert "--train_list" in str(error.value) and "--num_class" not in str(error.value)


def test_folder_with_one_dataset_file_stands_for_it(tmp_path, monkeypatch):
    folder = tmp_path / "data/dance"
    folder.mkdir(parents=True)
    (folder / "dance.toml").write_text('num_class = 3\nval_list = "val.txt"\n')
    dataset = resolve(str(folder))
    assert dataset == resolve(str(folder / "dance.toml")) and dataset.name == "dance"
    assert dataset_name(str(folder)) == dataset_name(f"{folder}/") == "dance"
    monkeypatch.chdir(tmp_path / "data")
    assert resolve("dance").val_list == "dance/val.txt"
    (folder / "other.toml").write_text("num_class = 4\n")
    with pytest.raises(UserError, match=r"2 dataset files.*dance.toml"):
        resolve(str(folder))


def test_path_that_is_not_a_dataset(tmp_path):
    with pytest.raises(UserError, match=r"data/mine/mine.tml: no such file"):
        resolve("data/mine/mine.tml")
    with pytest.raises(UserError, match=f"{tmp_path}: no dataset file.*make_lists.py folder"):
        resolve(str(tmp_path))
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    with pytest.raises(UserError, match=r"train.txt: not a dataset file"):
        resolve(str(tmp_path / "train.txt"))
    # With lists and classes given by flags any name is a name.
    assert resolve(str(tmp_path), val_list="v.txt", num_class=3).num_class == 3


@pytest.mark.parametrize(
    "template", ["img.jpg", "img_{}_{:05d}.jpg", "img_{name}.jpg", "{:05x", "{0.x}.jpg", "{0[a]}"]
)
def test_template_without_a_number(template):
    with pytest.raises(UserError, match="image_tmpl"):
        resolve("ucf101", image_tmpl=template)


FLOW = {
    "ucf101": (
        "flow_x_00001.jpg",
        "flow_y_00001.jpg",
        "jpg",
        "file_list/ucf101_flow_*_split_1.txt",
    ),
    "hmdb51": (
        "flow_x_00001.jpg",
        "flow_y_00001.jpg",
        "images",
        "splits/hmdb51_flow_*_split_1.txt",
    ),
    "something": (
        "000123-x_00001.jpg",
        "000123-y_00001.jpg",
        "20bn-something-something-v1-flow",
        "*_videofolder_flow.txt",
    ),
    "somethingv2": ("000001.jpg", "20bn-something-something-v2-flow", "*_videofolder_flow.txt"),
}


@pytest.mark.parametrize("name", FLOW)
def test_flow_of_a_known_data_set(name):
    *first_files, root, lists = FLOW[name]
    base = f"data/{name}/"
    flow = resolve(name, "Flow")
    assert file_namer(flow.image_tmpl, "a/123", "Flow")(1) == tuple(first_files)
    assert flow == replace(
        KNOWN[name],
        image_tmpl=flow.image_tmpl,
        root_path=base + root,
        train_list=base + lists.replace("*", "train"),
        val_list=base + lists.replace("*", "val"),
    )
    assert resolve(name, "Flow", root_path="/flow", image_tmpl="{:d}.png").root_path == "/flow"
    assert resolve(name, "RGBDiff") == KNOWN[name]


def test_flow_without_a_usual_place():
    for name in ("jester", "kinetics"):
        for given in ({}, {"image_tmpl": "flow_{}_{:05d}.jpg"}, {"val_list": "v.txt"}):
            with pytest.raises(
                UserError, match=f"flow of {name} has no usual place; give --image_tmpl"
            ):
                resolve(name, "Flow", **given)
        flow = resolve(
            name, "Flow", image_tmpl="flow_{}_{:05d}.jpg", val_list="v.txt", root_path="/flow"
        )
        assert (flow.val_list, flow.train_list, flow.num_class) == (
            "v.txt",
            None,
            KNOWN[name].num_class,
        )
    assert resolve("mine", "Flow", val_list="v.txt", num_class=3).image_tmpl == "flow_{}_{:05d}.jpg"
    assert resolve("mine", "RGBDiff", val_list="v.txt", num_class=3).image_tmpl == "img_{:05d}.jpg"
    with pytest.raises(UserError, match="image_tmpl"):
        resolve("ucf101", "RGBDiff", image_tmpl="flow_{}_{:05d}.jpg")
    with pytest.raises(UserError, match="image_tmpl"):
        resolve("ucf101", "Flow", image_tmpl="{}_{}_{}_{}.jpg")


@pytest.mark.parametrize("sampling", ["center", "random", "dense", "twice", "caffe"])
def test_samplings(sampling):
    assert resolve("ucf101", test_sampling=sampling).test_sampling == sampling


def test_wrong_values(tmp_path):
    with pytest.raises(UserError, match="num_class 0"):
        resolve("ucf101", num_class=0)
    with pytest.raises(UserError, match="test_sampling"):
        resolve("ucf101", test_sampling="edges")
    with pytest.raises(UserError, match="no such file"):
        resolve("ucf101", class_names=str(tmp_path / "none.txt"))
    path = write(tmp_path, "run\nwalk\n")
    with pytest.raises(UserError, match="2 class names for 101 classes"):
        resolve("ucf101", class_names=path)
    assert resolve("ucf101", class_names=path, num_class=2).num_class == 2


def test_flip_without_names():
    for name in ("something", "somethingv2"):
        labels = flip_map(KNOWN[name], None)
        moved = np.flatnonzero(labels != np.arange(174))
        assert moved.tolist() == [86, 87, 93, 94, 166, 167] and labels[moved].tolist() == [
            87,
            86,
            94,
            93,
            167,
            166,
        ]
        assert (
            describe_flip(KNOWN[name], labels)
            == "flip: 3 label pairs swapped, 0 classes never flipped"
        )
    assert (flip_map(KNOWN["jester"], None) == -1).all()
    assert describe_flip(KNOWN["jester"], flip_map(KNOWN["jester"], None)).endswith(
        "27 classes never flipped"
    )
    assert (flip_map(KNOWN["kinetics"], None) == np.arange(400)).all()
    # With other classes the known pairs mean nothing.
    assert (flip_map(resolve("something", num_class=10), None) == -1).all()
    assert (flip_map(resolve("kinetics", num_class=200), None) == np.arange(200)).all()


def test_names_have_priority_and_the_difference_is_logged(tmp_path):
    names = [f"class {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(174)]
    names[86], names[87] = (
        "Pulling something from left to right",
        "Pulling something from right to left",
    )
    names[5] = "Turn left"
    dataset = resolve("something", class_names=write(tmp_path, json.dumps(names), "n.json"))
    labels = flip_map(dataset, load_class_names(dataset))
    assert labels[86] == 87 and labels[93] == 93 and labels[5] == -1
    assert describe_flip(dataset, labels) == (
        "flip: 1 label pair swapped, 1 class never flipped "
        "(pairs by class names: 86/87; usual for something: 86/87 93/94 166/167)"
    )


MINE = """class_names = "classes.txt"
train_list = "lists/train.txt"
val_list = "lists/val.txt"
root_path = "$PLACE/videos"
test_sampling = "dense"
multi_label = true
flip_pairs = [[0, 2]]

[flow]
root_path = "${PLACE}/flow"
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A dataset file in a folder with a space."""
    monkeypatch.setenv("PLACE", "/disk 2")
    (tmp_path / "my data").mkdir()
    write(tmp_path / "my data", "go left\nstay\ngo right\n", "classes.txt")
    return write(tmp_path / "my data", MINE, "my set.toml")


def test_a_file_of_ones_own(mine):
    folder = mine.removesuffix("/my set.toml")
    dataset = resolve(mine)
    assert dataset == Dataset(
        "my set",
        3,
        "img_{:05d}.jpg",
        "/disk 2/videos",
        f"{folder}/lists/train.txt",
        f"{folder}/lists/val.txt",
        f"{folder}/classes.txt",
        "dense",
        "pairs",
        ((0, 2),),
        True,
    )
    assert resolve(mine, "RGBDiff") == dataset
    assert resolve(mine, "Flow") == replace(
        dataset, root_path="/disk 2/flow", image_tmpl="flow_{}_{:05d}.jpg"
    )
    flags = {
        "root_path": "here",
        "val_list": "v.txt",
        "num_class": 3,
        "test_sampling": "twice",
        "image_tmpl": "{:d}.png",
    }
    assert resolve(mine, **flags, class_names=None) == replace(dataset, **flags)
    assert dataset_name(mine) == "my set" and dataset_name("ucf101") == "ucf101"


def test_a_file_beside_its_lists_can_be_given_from_there(mine, monkeypatch):
    monkeypatch.chdir(mine.removesuffix("/my set.toml"))
    dataset = resolve("my set.toml")
    assert (dataset.class_names, dataset.train_list) == ("classes.txt", "lists/train.txt")


def test_the_flip_is_that_of_the_flag_then_the_authors_then_the_dataset(tmp_path):
    authors = {"something": "none"}
    something = KNOWN["something"]
    assert choose_flip(something, None, "tsm", authors)[0] == "none"
    assert choose_flip(something, "names", "tsm", authors)[0] == "names"
    assert choose_flip(KNOWN["somethingv2"], None, "tsm", authors)[0] == "names"
    assert choose_flip(something, "pairs", "tsm", authors)[0] == "pairs"
    # A file of one's own decides itself, however it is called.
    own = replace(something, by_name=False)
    assert choose_flip(own, None, "tsm", authors)[0] == "names"
    with pytest.raises(UserError, match="--flip pairs: kinetics"):
        choose_flip(KNOWN["kinetics"], "pairs", "tsm", {})
    assert (flip_map(something, None, "none") == -1).all()
    assert flip_map(something, None, "pairs")[86] == 87


def test_a_copy_of_a_known_file_is_the_data_set_where_it_lies(tmp_path):
    text = (KNOWN.folder / "jester.toml").read_text()
    path = write(tmp_path, text, "jester.toml")
    with pytest.raises(
        UserError, match=r"category\.txt: no such file"
    ):  # one's own file names what is there
        resolve(path)
    write(tmp_path, "".join(f"gesture {i}\n" for i in range(27)), "category.txt")
    here = {
        field: f"{tmp_path}/{getattr(KNOWN['jester'], field).removeprefix('data/jester/')}"
        for field in ("root_path", "train_list", "val_list", "class_names")
    }
    assert resolve(path) == replace(KNOWN["jester"], by_name=False, **here)
    with pytest.raises(
        UserError, match=rf"{path} has no section \[flow\]; add it, or give --image_tmpl"
    ):
        resolve(path, "Flow")
    assert resolve(path, "Flow", image_tmpl="{}{:05d}.png", val_list="v.txt").train_list is None


def test_the_rule_of_flips(mine):
    dataset, names = resolve(mine), ["go left", "stay", "go right"]
    for flip, with_names, without in (
        ("names", [2, 1, 0], [2, 1, 0]),
        ("pairs", [2, 1, 0], [2, 1, 0]),
        ("none", [-1] * 3, [-1] * 3),
    ):
        ruled = replace(dataset, flip=flip)
        assert (
            flip_map(ruled, names).tolist() == with_names
            and flip_map(ruled, None).tolist() == without
        )
    other = replace(
        dataset, flip_pairs=((0, 1),)
    )  # what is written down in place of the names wins over them
    assert flip_map(other, names).tolist() == [1, 0, 2] and flip_map(
        replace(other, flip="names"), names
    ).tolist() == [2, 1, 0]
    assert flip_map(replace(dataset, flip="names", flip_pairs=None), None).tolist() == [-1] * 3
    assert flip_map(replace(dataset, flip_pairs=()), names).tolist() == [0, 1, 2]


def test_classes_of_a_file(tmp_path):
    path = write(tmp_path, "flip_pairs = [[0, 9]]\n", "a.toml")
    with pytest.raises(UserError, match=r"a\.toml: neither num_class nor class_names"):
        resolve(path)
    names = write(tmp_path, "run\nwalk\n")
    with pytest.raises(UserError, match="name label 9, but there are 2 classes"):
        resolve(path, class_names=names)
    path = write(tmp_path, "num_class = 10\nflip_pairs = [[0, 9]]\n", "b.toml")
    assert resolve(path).flip_pairs == ((0, 9),) and resolve(path).root_path == str(tmp_path)
    fewer = resolve(path, class_names=names, num_class=2)
    assert fewer.flip_pairs is None and flip_map(fewer, ["run", "walk"]).tolist() == [-1, -1]
    with pytest.raises(UserError, match="2 class names for 10 classes"):
        resolve(path, class_names=names)
