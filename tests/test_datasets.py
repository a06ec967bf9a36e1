import json
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from ops.data.datasets import (
    FLOW,
    KNOWN,
    describe_flip,
    flip_label_map,
    flip_map,
    load_class_names,
    read_class_names,
    resolve,
)
from ops.data.templates import file_namer
from ops.errors import UserError


def write(tmp_path, text, name="names.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "num_class", "first_frame", "sampling"),
    [
        ("ucf101", 101, "img_00001.jpg", "center"),
        ("hmdb51", 51, "img_00001.jpg", "center"),
        ("something", 174, "00001.jpg", "center"),
        ("somethingv2", 174, "000001.jpg", "center"),
        ("jester", 27, "00001.jpg", "center"),
        ("kinetics", 400, "img_00001.jpg", "random"),
    ],
)
def test_known(name, num_class, first_frame, sampling):
    dataset = resolve(name)
    assert (dataset.name, dataset.num_class, dataset.test_sampling) == (name, num_class, sampling)
    assert dataset.image_tmpl.format(1) == first_frame
    for path in (dataset.root_path, dataset.train_list, dataset.val_list, dataset.class_names):
        assert path.startswith(f"data/{name}/") and "*" not in path
    assert "train" in dataset.train_list and "val" in dataset.val_list
    with pytest.raises(FrozenInstanceError):
        dataset.num_class = 3


def test_places_follow_the_original_names():
    assert KNOWN["ucf101"].train_list == "data/ucf101/file_list/ucf101_rgb_train_split_1.txt"
    assert KNOWN["kinetics"].val_list == "data/kinetics/labels/val_videofolder.txt"
    assert KNOWN["somethingv2"].root_path == "data/somethingv2/20bn-something-something-v2-frames"


def test_flags_apply_and_none_is_not_given():
    dataset = resolve("kinetics", root_path="/k400", val_list="v.txt", num_class=None, image_tmpl=None)
    assert dataset == replace(KNOWN["kinetics"], root_path="/k400", val_list="v.txt")
    with pytest.raises(TypeError):
        resolve("kinetics", root="/k400")


def test_unknown_name_with_lists_and_classes(tmp_path):
    dataset = resolve("mine", val_list="v.txt", num_class=7)
    assert (dataset.num_class, dataset.train_list, dataset.val_list, dataset.root_path) == (7, None, "v.txt", "")
    assert load_class_names(dataset) is None
    named = resolve("mine", train_list="t.txt", class_names=write(tmp_path, "run\nwalk\n"), image_tmpl="{:04d}.png")
    assert named.num_class == 2 and named.image_tmpl.format(1) == "0001.png"
    assert load_class_names(named) == ["run", "walk"]


def test_unknown_name_says_what_is_missing():
    with pytest.raises(UserError) as error:
        resolve("somethingV3")
    text = str(error.value)
    assert "'somethingV3'" in text and "did you mean something" in text and "kinetics" in text
    assert "--train_list or --val_list and --num_class or --class_names" in text
    with pytest.raises(UserError) as error:
        resolve("zzzz", num_class=3)
    assert "did you mean" not in str(error.value)
    assert "--train_list" in str(error.value) and "--num_class" not in str(error.value)


@pytest.mark.parametrize("template", ["img.jpg", "img_{}_{:05d}.jpg", "img_{name}.jpg", "{:05x", "{0.x}.jpg", "{0[a]}"])
def test_template_without_a_number(template):
    with pytest.raises(UserError, match="image_tmpl"):
        resolve("ucf101", image_tmpl=template)


@pytest.mark.parametrize(
    ("name", "first_files", "root_path", "val_list"),
    [
        ("ucf101", ("flow_x_00001.jpg", "flow_y_00001.jpg"), "jpg", "file_list/ucf101_flow_val_split_1.txt"),
        ("hmdb51", ("flow_x_00001.jpg", "flow_y_00001.jpg"), "images", "splits/hmdb51_flow_val_split_1.txt"),
        ("something", ("000123-x_00001.jpg", "000123-y_00001.jpg"), "20bn-something-something-v1-flow",
         "val_videofolder_flow.txt"),
        ("somethingv2", ("000001.jpg",), "20bn-something-something-v2-flow", "val_videofolder_flow.txt"),
    ],
)
def test_flow_of_a_known_data_set(name, first_files, root_path, val_list):
    flow = resolve(name, "Flow")
    assert file_namer(flow.image_tmpl, "a/123", "Flow")(1) == first_files
    assert (flow.root_path, flow.val_list) == (f"data/{name}/{root_path}", f"data/{name}/{val_list}")
    assert flow.train_list == flow.val_list.replace("val", "train")
    assert replace(flow, **{field: getattr(KNOWN[name], field) for field in FLOW[name]}) == KNOWN[name]
    assert resolve(name, "Flow", root_path="/flow", image_tmpl="{:d}.png").root_path == "/flow"
    assert resolve(name, "RGBDiff") == KNOWN[name]


def test_flow_without_a_usual_place():
    for name in ("jester", "kinetics"):
        for given in ({}, {"image_tmpl": "flow_{}_{:05d}.jpg"}, {"val_list": "v.txt"}):
            with pytest.raises(UserError, match=f"flow of {name} has no usual place; give --image_tmpl"):
                resolve(name, "Flow", **given)
        flow = resolve(name, "Flow", image_tmpl="flow_{}_{:05d}.jpg", val_list="v.txt", root_path="/flow")
        assert (flow.val_list, flow.train_list, flow.num_class) == ("v.txt", None, KNOWN[name].num_class)
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "Apply Eye\nbowl\nclap\n"),
        ("names.txt", "\ufeffApply Eye\r\n\r\nbowl\r\nclap"),
        ("classInd.txt", "1 Apply Eye\n2 bowl\n3 clap\n"),
        ("ids.txt", "2 clap\n0 Apply Eye\n1 bowl\n"),
        ("tabs.txt", "0\tApply Eye\n1\tbowl\n2\tclap\n"),
        ("list.json", '["Apply Eye", "bowl", "clap"]'),
        ("labels.json", '{"clap": "2", "Apply Eye": "0", "bowl": "1"}'),
        ("labels.txt", '{"clap": 2, "Apply Eye": 0, "bowl": 1}'),
    ],
)
def test_class_name_files(tmp_path, name, text):
    assert read_class_names(write(tmp_path, text, name), 3) == ["Apply Eye", "bowl", "clap"]


def test_names_that_only_look_like_another_form(tmp_path):
    assert read_class_names(write(tmp_path, "[Something] falling\nHolding\n")) == ["[Something] falling", "Holding"]
    assert read_class_names(write(tmp_path, "100 metres\n200 metres\n")) == ["100 metres", "200 metres"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.txt", "\n\n", "no class names"),
        ("a.json", "[1, 2]", "neither a JSON list"),
        ("a.json", "3", "neither a JSON list"),
        ("a.json", "run\nwalk", "not JSON"),
        ("a.json", '{"a": 0, "b": 2}', "not 0 to 1"),
        ("a.json", '{"a": 0, "b": "x"}', "not 0 to 1"),
        ("a.json", '{"a": 0, "b": [1]}', "not 0 to 1"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.txt", b"run\n\xff\n", ":2: not UTF-8"),
        ("a.txt", "one\ntwo\nthree\nfour", "4 class names for 3 classes"),
        ("a.txt", "one", "1 class names for 3 classes"),
    ],
)
def test_class_name_errors(tmp_path, name, text, says):
    path = write(tmp_path, text, name)
    with pytest.raises(UserError) as error:
        read_class_names(path, 3)
    assert str(error.value).startswith(path) and says in str(error.value)


# Eight of the 27 classes of Jester.
JESTER = [
    "Swiping Left", "Swiping Right", "Swiping Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right",
    "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Stop Sign",
]


def test_flip_of_jester():
    assert flip_label_map(JESTER).tolist() == [1, 0, 2, 4, 3, 6, 5, 7]


def test_flip_swaps_both_words_at_once():
    names = [
        "Pulling something from left to right", "Holding something", "Pulling something from right to left",
        "Turning the camera left while filming something", "Turning the camera right while filming something",
    ]
    assert flip_label_map(names).tolist() == [2, 1, 0, 4, 3]


def test_flip_spellings():
    names = ["spin_clockwise", "Spin Counter-Clockwise", "TurnLeft", "turn right", "roll anticlockwise",
             "Roll clockwise", "wind_anti_clockwise", "wind_clockwise", "turn_anticlockwise", "TurnClockwise"]
    assert flip_label_map(names).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]


def test_flip_never_without_a_mirror_class():
    names = ["Turn left", "Raise right hand", "Bright light", "Copyright upright leftover", "Turn right", "turn RIGHT"]
    assert flip_label_map(names).tolist() == [-1, -1, 2, 3, 0, 0]  # two classes called "turn right"


def test_flip_twice_is_no_flip():
    rng = np.random.default_rng(0)
    words = ["left", "right", "clockwise", "anticlockwise", "up", "hand"]
    names = sorted({" ".join(rng.choice(words, size=3)) for _ in range(60)})
    labels = flip_label_map(names)
    flipped = labels >= 0
    assert labels.dtype == np.int64 and flipped.any() and (~flipped).any()
    assert (labels[labels[flipped]] == np.flatnonzero(flipped)).all()


def test_flip_without_names():
    for name in ("something", "somethingv2"):
        labels = flip_map(KNOWN[name], None)
        moved = np.flatnonzero(labels != np.arange(174))
        assert moved.tolist() == [86, 87, 93, 94, 166, 167] and labels[moved].tolist() == [87, 86, 94, 93, 167, 166]
        assert describe_flip(KNOWN[name], labels) == "flip: 3 label pairs swapped, 0 classes never flipped"
    assert (flip_map(KNOWN["jester"], None) == -1).all()
    assert describe_flip(KNOWN["jester"], flip_map(KNOWN["jester"], None)).endswith("27 classes never flipped")
    assert (flip_map(KNOWN["kinetics"], None) == np.arange(400)).all()
    # With other classes the known pairs mean nothing.
    assert (flip_map(resolve("something", num_class=10), None) == -1).all()
    assert (flip_map(resolve("kinetics", num_class=200), None) == np.arange(200)).all()


def test_names_win_and_the_difference_is_told(tmp_path):
    names = [f"class {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(174)]
    names[86], names[87] = "Pulling something from left to right", "Pulling something from right to left"
    names[5] = "Turn left"
    dataset = resolve("something", class_names=write(tmp_path, json.dumps(names), "n.json"))
    labels = flip_map(dataset, load_class_names(dataset))
    assert labels[86] == 87 and labels[93] == 93 and labels[5] == -1
    assert describe_flip(dataset, labels) == (
        "flip: 1 label pairs swapped, 1 classes never flipped "
        "(pairs by class names: 86/87; usual for something: 86/87 93/94 166/167)"
    )
