import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.data.dataset_files import FLIPS, read_dataset_file
from ops.data.sampling import samplings_for_tests
from ops.utils.errors import UserError


def write(tmp_path, text, name="mine.toml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def said(tmp_path, text):
    """The error about a file, without the path before the line."""
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_dataset_file(path)
    line = str(error.value)
    assert line.startswith(path) and "\n" not in line
    return line.removeprefix(path)


def test_every_key(tmp_path):
    path = write(
        tmp_path,
        """\ufeff# all of them\r
num_class = 4
class_names = "classes.txt"
root_path = "videos"
train_list = "train.txt"
val_list = "/lists/val.txt"
image_tmpl = "{zero:06d}.png"
test_sampling = "twice"
flip = "names"
flip_pairs = [[0, 1], [3, 2]]
multi_label = true
[flow]
root_path = "flow"
train_list = "flow.txt"
image_tmpl = "{:06d}-{}_{:05d}.jpg"
""",
    )
    pictures, flow = read_dataset_file(path, "base")
    assert pictures == {
        "num_class": 4,
        "class_names": "base/classes.txt",
        "root_path": "base/videos",
        "train_list": "base/train.txt",
        "val_list": "/lists/val.txt",
        "image_tmpl": "{zero:06d}.png",
        "test_sampling": "twice",
        "flip": "names",
        "flip_pairs": ((0, 1), (3, 2)),
        "multi_label": True,
    }
    assert flow == {
        "root_path": "base/flow",
        "train_list": "base/flow.txt",
        "val_list": "/lists/val.txt",
        "image_tmpl": "{:06d}-{}_{:05d}.jpg",
    }
    assert read_dataset_file(path)[0]["train_list"] == f"{tmp_path}/train.txt"


def test_defaults(tmp_path):
    assert read_dataset_file(write(tmp_path, "")) == (
        {"root_path": str(tmp_path), "flip": "names"},
        None,
    )
    pictures, flow = read_dataset_file(
        write(tmp_path, 'root_path = "a"\nval_list = "v"\nflip_pairs = []\n[flow]\n')
    )
    assert (pictures["flip"], pictures["flip_pairs"]) == ("pairs", ())
    assert flow == {
        "root_path": f"{tmp_path}/a",
        "val_list": f"{tmp_path}/v",
        "image_tmpl": "flow_{}_{:05d}.jpg",
    }
    unknown, _ = read_dataset_file(write(tmp_path, 'flip_pairs = "unknown"'))
    assert (unknown["flip"], unknown["flip_pairs"]) == ("names", None)


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOS", "/disk 2/x")
    monkeypatch.setenv("PART", "b")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("NOWHERE", raising=False)

    def root(value):
        return read_dataset_file(write(tmp_path, f"root_path = '{value}'"), "base")[0]["root_path"]

    assert [
        root(value) for value in ("$VIDEOS/v", "${VIDEOS}v", "a/$PART/c", "a$$b", "~/v", "", "../v")
    ] == ["/disk 2/x/v", "/disk 2/xv", "base/a/b/c", "base/a$b", "/home/me/v", "base/", "base/../v"]
    assert said(tmp_path, "num_class = 3\n[flow]\nroot_path = '$NOWHERE/v'").startswith(
        ":3: root_path: the environment variable NOWHERE is not set; export NOWHERE=..."
    )
    assert ":1: train_list: 'a$/b' has a $" in said(tmp_path, "train_list = 'a$/b'")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "num_class = 3\nnum_clas = 3",
            ":2: unknown key 'num_clas'; did you mean num_class? the keys of a dataset are ",
        ),
        ("num_class = 3\nroot = 'x'", ":2: unknown key 'root'; did you mean root_path? "),
        ("\n'zzz' = 1", ":2: unknown key 'zzz'; the keys of a dataset are "),
        (
            "flip_pairs = [\n  [0, 1],\n]\nnum_clas = 3",
            ":4: unknown key 'num_clas'; did you mean num_class? ",
        ),
        ("[ 'flow' ]  # of TV-L1\nval_list = 3", ":2: val_list is text in quotes, not 3"),
        ("[rgb]\nroot_path = 'x'", ":1: unknown key 'rgb'; the keys"),
        (
            "val_list = 'v'\n[flow]\nnum_class = 3",
            ":3: unknown key 'num_class'; it belongs above [flow]",
        ),
        (
            "[flow]\nval_lst = 'v'\nval_list = 'w'",
            ":2: unknown key 'val_lst'; did you mean val_list? ",
        ),
        ("val_list = 'v'\n[flow]\nval_list = 3", ":3: val_list is text in quotes, not 3"),
        ("num_class = '3'", ":1: num_class is a whole number, not '3'"),
        ("num_class = true", ":1: num_class is a whole number, not True"),
        ("multi_label = 1", ":1: multi_label is true or false, not 1"),
        ("flow = 'x'", ":1: flow is a section, [flow], not 'x'"),
        ("root_path = ['a', 'b']", ":1: root_path is text in quotes, not ['a', 'b']"),
        ("num_class = 0", ":1: num_class is 0; a dataset has "),
        (
            "test_sampling = 'edges'",
            f":1: unknown test_sampling 'edges'; choose {', '.join(samplings_for_tests())}",
        ),
        ("flip = 'never'", f":1: unknown flip 'never'; choose {', '.join(FLIPS)}"),
        ("flip = 'pairs'", ':1: flip = "pairs" needs the pairs'),
        ("flip = 'pairs'\nflip_pairs = 'unknown'", ':1: flip = "pairs" needs the pairs'),
        ("flip_pairs = []\nflip = 'none'", ':1: flip = "none"'),
        (
            "flip_pairs = 'x'",
            ":1: flip_pairs is 'x', not a list of pairs of labels, or \"unknown\", each label once",
        ),
        ("flip_pairs = [[0, 1], [1, 2]]", ":1: flip_pairs is [[0, 1], [1, 2]], not"),
        ("flip_pairs = [[0, 1, 2]]", ":1: flip_pairs is [[0, 1, 2]], not"),
        ("flip_pairs = [[0, true]]", ":1: flip_pairs is [[0, True]], not"),
        ("flip_pairs = [0, 1]", ":1: flip_pairs is [0, 1], not"),
        ("flip_pairs = [[-1, 1]]", ":1: flip_pairs: label -1"),
        ("flip_pairs = [[0, 3]]\nnum_class = 3", ":1: flip_pairs: label 3"),
        ("# x\nimage_tmpl = 'img.jpg'", ":2: --image_tmpl 'img.jpg' does not name the RGB frames"),
        (
            "image_tmpl = 'flow_{}_{:05d}.jpg'",
            ":1: --image_tmpl 'flow_{}_{:05d}.jpg' does not name the RGB frames",
        ),
        ("[flow]\nimage_tmpl = 'x'", ":2: --image_tmpl 'x' does not name the Flow frames"),
        ("num_class = 3\nval_list = v.txt", ":2: not TOML: "),
        ("num_class: 3", ":1: not TOML: "),
        ("num_class = 3\nnum_class = 4", ":2: not TOML: "),
        ("a = 1\nflip_pairs = [[0, 1]", ":2: not TOML: "),
        ("num_class = " + "9" * 5000, ": not TOML: "),
        ("a = " + "[" * 5000, ": not TOML: "),
        (b"a = 1\nb = '\xff'", ":2: not UTF-8 text"),
        ("\n" + "a." * 300 + "a = 1", ":2: more than 200 dots"),
        ("num_class" + ".a" * 150 + " = 1", ":1: num_class is a whole number"),
        (
            "num_class = 2000000",
            ":1: num_class is 2000000; a dataset has ",
        ),
        ("num_class = 0x" + "f" * 5000, ":1: num_class is <int>; "),
        ('root_path = "a\\u0000b"', ":1: root_path: 'a\\x00b' contains a line break"),
        ("flip_pairs = [[0, 1_000_000]]", ":1: flip_pairs: label 1000000"),
    ],
)
def test_invalid_files(tmp_path, text, says):
    assert said(tmp_path, text).startswith(says)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: no such file"):
        read_dataset_file(str(tmp_path / "none.toml"))


KEYS = st.sampled_from(
    ["num_class", "root_path", "train_list", "flip", "flip_pairs", "image_tmpl", "flow", "x"]
)
VALUES = st.sampled_from(
    [
        "3",
        "-1",
        "true",
        '"a"',
        '"$x"',
        "[[0, 1]]",
        '"names"',
        '"{:d}.jpg"',
        "{}",
        "{a = 1}",
        "[",
        "",
    ]
)
LINES = st.one_of(
    st.text(max_size=20),
    st.builds("{} = {}".format, KEYS, VALUES),
    st.just("[flow]"),
    st.just("[[flow]]"),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=5))
def test_any_text_is_read_or_refused_in_one_line(tmp_path, lines):
    path = write(tmp_path, "\n".join(lines).encode(errors="replace"))
    try:
        pictures, flow = read_dataset_file(path)
    except UserError as error:
        assert str(error).startswith(path) and "\n" not in str(error)
    else:
        assert pictures["flip"] in FLIPS and pictures.get("num_class", 1) > 0
        assert flow is None or set(flow) <= {"root_path", "train_list", "val_list", "image_tmpl"}
