import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.data.class_names import flip_label_map, read_class_names
from ops.utils.errors import UserError


def write(tmp_path, text, name="names.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


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
    assert read_class_names(write(tmp_path, "[Something] falling\nHolding\n")) == [
        "[Something] falling",
        "Holding",
    ]
    assert read_class_names(write(tmp_path, "100 metres\n200 metres\n")) == [
        "100 metres",
        "200 metres",
    ]


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
        ("a.json", '{"a": Infinity}', "the labels of the mapping are not 0 to 0"),
        ("a.json", '["a\\nb"]', "the class name a\\nb "),
        ("a.json", '{"a": 0, "\\ud800": 1}', "the class name "),
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
    "Swiping Left",
    "Swiping Right",
    "Swiping Down",
    "Sliding Two Fingers Left",
    "Sliding Two Fingers Right",
    "Turning Hand Clockwise",
    "Turning Hand Counterclockwise",
    "Stop Sign",
]


def test_flip_of_jester():
    assert flip_label_map(JESTER).tolist() == [1, 0, 2, 4, 3, 6, 5, 7]


def test_flip_swaps_both_words_at_once():
    names = [
        "Pulling something from left to right",
        "Holding something",
        "Pulling something from right to left",
        "Turning the camera left while filming something",
        "Turning the camera right while filming something",
    ]
    assert flip_label_map(names).tolist() == [2, 1, 0, 4, 3]


SIDES = {
    86: "Pulling something from left to right",
    87: "Pulling something from right to left",
    93: "Pushing something from left to right",
    94: "Pushing something from right to left",
    166: "Turning the camera left while filming something",
    167: "Turning the camera right while filming something",
}


@pytest.mark.parametrize(
    "something", ["something", "[something]"]
)  # V1 and labels.json of V2; the files of V2's templates
def test_the_three_pairs_of_something(something):
    others = [
        "Putting something upright on the table",
        "Lifting something up",
        "Pulling something from behind of something",
    ]
    names = [
        SIDES.get(label, f"{others[label % 3]} {chr(97 + label // 26)}{chr(97 + label % 26)}")
        for label in range(174)
    ]
    labels = flip_label_map([name.replace("something", something) for name in names])
    moved = {label: int(to) for label, to in enumerate(labels) if label != to}
    assert moved == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}


def test_flip_spellings():
    names = [
        "spin_clockwise",
        "Spin Counter-Clockwise",
        "TurnLeft",
        "turn right",
        "roll anticlockwise",
        "Roll clockwise",
        "wind_anti_clockwise",
        "wind_clockwise",
        "turn_anticlockwise",
        "TurnClockwise",
    ]
    assert flip_label_map(names).tolist() == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]


def test_flip_never_without_a_mirror_class():
    names = [
        "Turn left",
        "Raise right hand",
        "Bright light",
        "Copyright upright leftover",
        "Turn right",
        "turn RIGHT",
    ]
    assert flip_label_map(names).tolist() == [-1, -1, 2, 3, 0, 0]  # two classes called "turn right"


@given(st.lists(st.text("abclLeEfFtTrRiIgGhH _-", max_size=12), max_size=12))
def test_flip_of_random_names(names):
    labels = flip_label_map(names)
    assert labels.shape == (len(names),) and labels.dtype == np.int64
    for label, to in enumerate(labels):
        assert to in (-1, label) or labels[to] in (-1, label)
        if "left" not in names[label].lower() and "right" not in names[label].lower():
            assert to == label


def test_only_sides_are_sides():
    names = [
        "Plugging something into something but pulling it right out as you remove your hand",
        "Leaving, with something left behind",
        "Running right into somebody",
        "Turning right into a street",  # a side, whose mirror class is missing
        "Drifting right off the road",  # a side, because its mirror class is here
        "Drifting left off the road",
        "Raising the right hand",
        "Walking from the right after a jump",
        "Jumping to the left over a fence",
        "Walking right",
    ]
    assert flip_label_map(names).tolist() == [0, 1, 2, -1, 5, 4, -1, -1, -1, -1]


def test_flip_twice_is_the_identity():
    rng = np.random.default_rng(0)
    words = ["left", "right", "clockwise", "anticlockwise", "up", "hand"]
    names = sorted({" ".join(rng.choice(words, size=3)) for _ in range(60)})
    labels = flip_label_map(names)
    flipped = labels >= 0
    assert labels.dtype == np.int64 and flipped.any() and (~flipped).any()
    assert (labels[labels[flipped]] == np.flatnonzero(flipped)).all()
