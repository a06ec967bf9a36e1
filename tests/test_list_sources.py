import json
import shlex
from pathlib import Path

import pytest
from helpers.annotations import (
    HEADER,
    JESTER,
    PAIRS,
    SOMETHING,
    frames,
    kinetics,
    lines,
    make,
    shuffled,
    something_v1,
    touch,
    write,
)
from helpers.launch import refused

from lib.lists.list_sources import read_source
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.label_orders import FOLDER
from ops.data.preflight import read_checked
from ops.utils.errors import UserError


@pytest.fixture
def something(tmp_path):
    return something_v1(tmp_path / "v1")


def test_names_that_the_pairs_are_pinned_with():
    assert (
        sorted(SOMETHING) == SOMETHING and len(set(SOMETHING)) == 174 and sorted(JESTER) == JESTER
    )
    moved = [(label, to) for label, to in enumerate(flip_label_map(SOMETHING)) if label < to]
    assert moved == [(86, 87), (93, 94), (166, 167)]


def test_something_v1(tmp_path, something, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data/something/20bn-something-something-v1"
    for video, count in (("11", 4), ("7", 30), ("100218", 2), ("5", 7)):
        frames(root / video, count)
    assert make("something", something) == 0
    base = tmp_path / "data/something"
    assert lines(base / "train_videofolder.txt") == ["11 4 86", "7 30 94", "100218 2 0"]
    assert lines(base / "val_videofolder.txt") == ["5 7 166"]
    assert lines(base / "category.txt") == SOMETHING
    assert lines(base / "missing_train.txt") == ["9\tno file or folder of this name"] and not lines(
        base / "missing_val.txt"
    )
    printed = capsys.readouterr().out
    assert (
        "train           3 videos (3 folders of frames), 1 missing: "
        "data/something/train_videofolder.txt" in printed
    )
    assert "174 classes with 0 to 1 videos, median 0\n" in printed
    assert "warning: 171 classes without videos: Holding 001, Holding 002," in printed
    assert "flip: 3 label pairs swapped, 0 classes never flipped\n" in printed
    assert all(f"{a} {PAIRS[a]} / {a + 1} {PAIRS[a + 1]}\n" in printed for a in (86, 93, 166))
    # main.py finds them where they are.
    from ops.data.datasets import load_class_names, resolve

    dataset = resolve("something")
    assert read_checked(dataset, "train_list")[1] == 0 and load_class_names(dataset) == SOMETHING


def test_lists_of_test_splits(tmp_path, something):
    """Label 0 where the file has none, for the servers that score them."""
    (something / "something-something-v1-test.csv").write_text(f"21\n22;{PAIRS[87]}\n")
    root = touch(tmp_path / "root", "11.webm", "5.webm", "21.webm", "22.webm")
    args = ["--root_path", root, "--out", tmp_path / "out", "--test"]
    assert make("something", something, *args, something / "something-something-v1-test.csv") == 0
    assert lines(tmp_path / "out/test_videofolder.txt") == ["21.webm 0", "22.webm 87"]
    test = "youtube_id,time_start,time_end,split\nx,1,11,test\n"
    folder = kinetics(tmp_path, "a,v,0,10,train\n", "a,w,0,10,val\n", test__csv=test)
    touch(root, "v.mp4", "w.mp4", "x_000001_000011.mp4")
    assert make("kinetics", folder, *args, folder / "test.csv", "--num_class", 1, "--force") == 0
    assert lines(tmp_path / "out/test_videofolder.txt") == ["x_000001_000011.mp4 0"]


def test_something_v1_flow(tmp_path, something):
    root = tmp_path / "flow"
    for axis in "xy":
        for number in (1, 2, 3):
            touch(
                root,
                f"000011/000011-{axis}_{number:05d}.jpg",
                f"000005/000005-{axis}_{number:05d}.jpg",
            )
    touch(
        root, "000007/000007-x_00001.jpg", "000007/000007-y_00001.jpg", "000007/000007-x_00002.jpg"
    )
    assert (
        make(
            "something",
            something,
            "--modality",
            "Flow",
            "--root_path",
            root,
            "--out",
            tmp_path / "out",
        )
        == 0
    )
    assert lines(tmp_path / "out/train_videofolder_flow.txt") == ["000011 6 86"]
    missing = lines(tmp_path / "out/missing_train_flow.txt")
    assert (
        missing[0] == "7\t000007-y_00002.jpg is missing, but 000007-x_00002.jpg exists"
        and len(missing) == 3
    )


def test_something_v2(tmp_path):
    def entry(video, template):
        return {
            "id": video,
            "label": "pulling pen from left to right",
            "template": template,
            "placeholders": ["pen"],
        }

    names = {name: str(label) for label, name in enumerate(SOMETHING)}
    folder = write(
        tmp_path / "v2",
        **{
            "something-something-v2-labels.json": json.dumps(
                dict(sorted(names.items(), reverse=True))
            ),
            "something-something-v2-train.json": json.dumps(
                [entry("78687", PAIRS[93].replace("something", "[something]"))]
            ),
            "something-something-v2-validation.json": json.dumps(
                [entry("5", PAIRS[167].replace("something", "[something]"))]
            ),
            "something-something-v2-test.json": json.dumps([{"id": "1420"}, {"id": "3"}]),
        },
    )
    root = touch(
        tmp_path / "videos", "78687.webm", "part_2/5.webm", "1420.webm", "6.webm", "78687.txt"
    )
    args = ["somethingv2", folder, "--root_path", root, "--out", tmp_path / "out"]
    assert make(*args, "--test", folder / "something-something-v2-test.json") == 0
    read = {
        name: lines(tmp_path / f"out/{name}_videofolder.txt") for name in ("train", "val", "test")
    }
    assert read == {
        "train": ["78687.webm 93"],
        "val": ["part_2/5.webm 167"],
        "test": ["1420.webm 0"],
    }
    assert lines(tmp_path / "out/missing_test.txt") == ["3\tno file or folder of this name"]
    names["Holding 000"], names["Holding 001"] = "1", "0"
    write(folder, **{"something-something-v2-labels.json": json.dumps(names)})
    with pytest.raises(
        UserError, match="'Holding 001' has label 0, in alphabetical order 'Holding 000' has it"
    ):
        read_source("somethingv2", folder, {})


def test_jester(tmp_path, capsys):
    folder = write(
        tmp_path / "j",
        **{
            "jester-v1-labels.csv": "\n".join(shuffled(JESTER)),
            "jester-v1-train.csv": "34870;Drumming Fingers\r\n56557;Sliding Two Fingers Right",
            "jester-v1-validation.csv": "9223;Zooming Out With Two Fingers\n",
        },
    )
    for video in ("34870", "56557", "9223"):
        frames(tmp_path / "root" / video, 3)
    assert make("jester", folder, "--root_path", tmp_path / "root", "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["34870 3 1", "56557 3 12"]
    assert (
        lines(tmp_path / "out/val_videofolder.txt") == ["9223 3 26"]
        and lines(tmp_path / "out/category.txt") == JESTER
    )
    assert "flip: 3 label pairs swapped, 0 classes never flipped" in capsys.readouterr().out


def official(name, folder):
    """Annotations with the official class names in their official order."""
    names = read_class_names(FOLDER / f"{name}_official.txt")
    prefix = "something-something-v1" if name == "something" else name
    files = {
        f"{prefix}-labels.csv": "\n".join(names),
        f"{prefix}-train.csv": "\n".join(f"{i};{name}" for i, name in enumerate(names)),
        f"{prefix}-validation.csv": f"1000;{names[0]}\n",
    }
    return write(folder, **files), names


@pytest.mark.parametrize("name", ["something", "jester"])
def test_order_of_the_classes(tmp_path, name):
    folder, names = official(name, tmp_path / name)
    by_order = {order: read_source(name, folder, {}, order) for order in ("sorted", "official")}
    assert by_order["sorted"].classes == sorted(names) and by_order["official"].classes == names
    assert read_source(name, folder, {}).classes == sorted(names)
    assert [video.label for video in by_order["official"].splits["train"]] == list(
        range(len(names))
    )
    for order, source in by_order.items():
        assert source.classes == read_class_names(FOLDER / f"{name}_{order}.txt")
        for video in source.splits["train"]:
            assert source.classes[video.label] == names[int(video.names[0])]


def test_given_labels_keep_their_order(tmp_path):
    folder, names = official("jester", tmp_path / "jester")
    mine = [*names[13:], *names[:13]]
    given = {"labels": str(write(tmp_path, **{"mine.txt": "\n".join(mine)}) / "mine.txt")}
    source = read_source("jester", folder, given)
    assert source.classes == mine and source.splits["train"][13].label == 0
    assert read_source("jester", folder, given, "sorted").classes == sorted(names)
    assert read_source("jester", folder, given, "official").classes == names


def test_order_is_printed_with_the_weights_it_fits(tmp_path, capsys):
    folder, _ = official("something", tmp_path / "v1")
    root = touch(tmp_path / "root", "0.webm", "1000.webm")
    args = ["something", folder, "--root_path", root, "--out", tmp_path / "out", "--order"]
    assert make(*args, "official") == 0
    printed = next(line for line in capsys.readouterr().out.split("\n") if "class order" in line)
    assert printed.index("MMAction2") < printed.index("TSM")
    assert lines(tmp_path / "out/train_videofolder.txt") == ["0.webm 0"]
    assert "--order" in refused(capsys, "make_lists", *args, "tsn")


def test_order_of_tsn_for_hmdb51(tmp_path, capsys):
    names = read_class_names(FOLDER / "hmdb51.txt")
    files = {
        f"{name}_test_split{split}.txt": f"{name}1.avi 1\n{name}2.avi 2\n"
        for name in names
        for split in (1, 2, 3)
    }
    folder = write(tmp_path / "splits", **files)
    assert read_source("hmdb51", folder, {}).classes == names
    tsn = read_source("hmdb51", folder, {}, "tsn").classes
    assert [(label, tsn[label]) for label in range(51) if tsn[label] != names[label]] == [
        (20, "kick_ball"),
        (21, "kick"),
        (44, "sword_exercise"),
        (45, "sword"),
    ]
    # Each split has its command, which finds what was written.
    root = touch(tmp_path / "root", *(f"{name}/{name}{i}.avi" for name in names for i in (1, 2)))
    assert make("hmdb51", folder, "--root_path", root, "--out", tmp_path / "out") == 0
    commands = [line for line in capsys.readouterr().out.split("\n") if "main.py" in line]
    assert [line.split()[:2] for line in commands] == [["split", str(i)] for i in (1, 2, 3)]
    for number, line in enumerate(commands, 1):
        words = shlex.split(line)
        for flag, part in (("--train_list", "train"), ("--val_list", "val")):
            path = Path(words[words.index(flag) + 1])
            assert path.exists() and path.name == f"hmdb51_rgb_{part}_split_{number}.txt"


def test_ucf101_of_fewer_classes_takes_the_flag_that_is_suggested(tmp_path, capsys):
    lists = {f"{stem}list0{i}.txt": "A/v_A.avi 1\n" for stem in ("train",) for i in (1, 2, 3)}
    lists |= {f"testlist0{i}.txt": "B/v_B.avi\n" for i in (1, 2, 3)}
    folder = write(tmp_path / "u", **{"classInd.txt": "1 A\n2 B\n"}, **lists)
    root = touch(tmp_path / "root", "A/v_A.avi", "B/v_B.avi")
    args = ["ucf101", folder, "--root_path", root, "--out", tmp_path / "out"]
    assert "--num_class 2" in refused(capsys, "make_lists", *args)
    assert make(*args, "--num_class", 2) == 0
    assert "--num_class 2" in capsys.readouterr().out


def test_kinetics_videos_in_parts(tmp_path):
    """As TAM's online lists: any number of parts, files by id and padded times."""
    train = (
        'abseiling,-3B32lodo2M,59,69,train\n"petting animal (not cat)",a b,0,10,train\n'
        "zumba,gone,7,17,train\n"
    )
    folder = kinetics(tmp_path, train, "zumba,__x,1,11,val\n")
    root = touch(
        tmp_path / "root",
        "train/part_0/-3B32lodo2M_000059_000069.mp4",
        "train/part_1/a b_000000_000010.mkv",
        "val/part_0/__x_000001_000011.mp4",
        "val/part_0/other_000001_000011.mp4",
        ".hidden/gone_000007_000017.mp4",
    )
    assert (
        make("kinetics", folder, "--root_path", root, "--out", tmp_path / "out", "--num_class", 3)
        == 0
    )
    assert lines(tmp_path / "out/train_videofolder.txt") == [
        "train/part_0/-3B32lodo2M_000059_000069.mp4\t0",
        "train/part_1/a b_000000_000010.mkv\t1",
    ]
    assert lines(tmp_path / "out/val_videofolder.txt") == ["val/part_0/__x_000001_000011.mp4 2"]
    assert lines(tmp_path / "out/missing_train.txt") == [
        "gone_000007_000017\tno file or folder of this name"
    ]
    assert lines(tmp_path / "out/category.txt") == [
        "abseiling",
        "petting animal (not cat)",
        "zumba",
    ]


def test_kinetics_frames_in_class_folders(tmp_path):
    """As in TSM's lists: folders id_start in folders of classes, without blanks and brackets."""
    train = '"skiing (not slalom)",a,59,69,train\nskiing crosscountry,b,3,13,train\n'
    folder = kinetics(
        tmp_path,
        train,
        "massaging person's head,c,1,11,\n",
        kinetics_label_map__txt="zumba\nskiing crosscountry\n\nskiing (not slalom)\n"
        "massaging person's head\n",
    )
    root = tmp_path / "root"
    for name in ("skiing_not_slalom/a_59", "skiing_crosscountry/b_3", "massaging_persons_head/c_1"):
        frames(root / name, 3, "img_{:05d}.jpg")
    assert (
        make("kinetics", folder, "--root_path", root, "--out", tmp_path / "out", "--num_class", 4)
        == 0
    )
    assert lines(tmp_path / "out/train_videofolder.txt") == [
        "skiing_not_slalom/a_59 3 2",
        "skiing_crosscountry/b_3 3 1",
    ]
    assert lines(tmp_path / "out/val_videofolder.txt") == ["massaging_persons_head/c_1 3 3"]
    (folder / "kinetics_label_map.txt").unlink()
    assert read_source("kinetics", folder, {}).classes[1:] == [
        "skiing (not slalom)",
        "skiing crosscountry",
    ]


def test_kinetics_number_of_classes(tmp_path, capsys):
    for count, status in ((400, 0), (600, 0), (700, 0), (399, 2)):
        rows = "".join(f"c{i:03d},v{i},0,10,train\n" for i in range(count))
        folder = kinetics(tmp_path, rows, "c000,w,0,10,val\n")
        root = touch(
            tmp_path / "root",
            *(f"v{i}_000000_000010.mp4" for i in range(count)),
            "w_000000_000010.mp4",
        )
        assert (
            make("kinetics", folder, "--root_path", root, "--out", tmp_path / f"out{count}")
            == status
        )
        captured = capsys.readouterr()
        assert ("--num_class 600" in captured.out) == (count == 600)
    assert "399 classes instead of 400 or 600 or 700" in captured.err


def test_ucf101(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    classes = sorted(f"Class{i:03d}" for i in range(101))
    videos = {name: [f"v_{name}_g{group:02d}_c01" for group in (1, 2, 3)] for name in classes}
    files = {"classInd.txt": "".join(f"{i} {name}\r\n" for i, name in enumerate(classes, 1))}
    for split in (1, 2, 3):
        train = [
            f"{name}/{video}.avi {label}"
            for label, name in enumerate(classes, 1)
            for group, video in enumerate(videos[name], 1)
            if group != split
        ]
        files[f"trainlist{split:02d}.txt"] = "\n".join(train)
        files[f"testlist{split:02d}.txt"] = "\n".join(
            f"{name}/{videos[name][split - 1]}.avi" for name in classes
        )
    folder = write(tmp_path / "splits", **files)
    root = tmp_path / "data/ucf101/jpg"
    for name in classes:
        touch(
            root,
            *(f"{video}/img_00001.jpg" for video in videos[name][:2]),
            f"{name}/{videos[name][2]}.avi",
        )
    assert make("ucf101", folder) == 0
    base = tmp_path / "data/ucf101/file_list"
    assert lines(base / "ucf101_rgb_train_split_1.txt")[:3] == [
        "v_Class000_g02_c01 1 0",
        "Class000/v_Class000_g03_c01.avi 0",
        "v_Class001_g02_c01 1 1",
    ]
    assert lines(base / "ucf101_rgb_val_split_3.txt")[100] == "Class100/v_Class100_g03_c01.avi 100"
    names = {f"{split}_split_{number}.txt" for split in ("train", "val") for number in (1, 2, 3)}
    assert {path.name for path in base.iterdir()} == {
        f"{kind}_{name}" for kind in ("ucf101_rgb", "missing") for name in names
    }
    assert lines(tmp_path / "data/ucf101/labels/classInd.txt")[1] == "2 Class001"
    assert read_class_names(tmp_path / "data/ucf101/labels/classInd.txt") == classes
    official = "".join(f"{i} {name}\r\n" for i, name in enumerate(classes, 1)) + "\r\n"
    (tmp_path / "data/ucf101/labels/classInd.txt").write_bytes(official.encode())
    assert (
        make("ucf101", folder) == 0
        and (tmp_path / "data/ucf101/labels/classInd.txt").read_bytes() == official.encode()
    )
    capsys.readouterr()
    for name, text, words in (
        (
            "testlist01.txt",
            "Class000/v_Class000_g02_c01.avi",
            "testlist01.txt:1: v_Class000_g02_c01 is also at",
        ),
        (
            "trainlist02.txt",
            "Class007/v.avi 9",
            "trainlist02.txt:1: Class007 is number 9 here, but 8 in classInd.txt",
        ),
        (
            "trainlist02.txt",
            "Klass007/v.avi 8",
            "trainlist02.txt:1: class 'Klass007' is not one of the 101 known (did",
        ),
        (
            "trainlist03.txt",
            "\nv_Class007.avi 8",
            "trainlist03.txt:2: 'v_Class007.avi 8' is not `Class/video.avi`",
        ),
    ):
        before = (folder / name).read_text()
        write(folder, **{name: text})
        assert words in refused(capsys, "make_lists", "ucf101", folder)
        write(folder, **{name: before})


def test_hmdb51(tmp_path):
    classes = [f"c{i:02d}" for i in range(51)]
    text = "a ({0})#.avi {1} \nsame.avi {2} \n{0}3.avi 1 \n{0}4.avi 2 \n"
    files = {
        f"{name}_test_split{split}.txt": text.format(name, 1 + (split == 2), 2 * (split == 1))
        for name in classes
        for split in (1, 2, 3)
    }
    folder = write(tmp_path / "splits", **files)
    root = tmp_path / "root"
    for name in classes:
        touch(
            root,
            f"{name}/a ({name})#.avi",
            f"{name}/same.avi",
            f"{name}/{name}3.avi",
            f"{name}/{name}4.avi",
        )
    assert make("hmdb51", folder, "--root_path", root, "--out", tmp_path / "out") == 0
    out = tmp_path / "out"
    assert lines(out / "hmdb51_rgb_train_split_1.txt")[2:4] == [
        "c01/a (c01)#.avi\t1",
        "c01/c013.avi\t1",
    ]
    assert lines(out / "hmdb51_rgb_val_split_1.txt")[:3] == [
        "c00/same.avi 0",
        "c00/c004.avi 0",
        "c01/same.avi 1",
    ]
    assert lines(out / "hmdb51_rgb_val_split_2.txt")[0] == "c00/a (c00)#.avi\t0"
    assert lines(out / "category.txt") == classes
    order = write(tmp_path, order="\n".join(reversed(classes))) / "order"
    assert read_source("hmdb51", folder, {"labels": str(order)}).classes[0] == "c50"


@pytest.mark.parametrize(
    "name, text, words",
    [
        (
            "something-something-v1-train.csv",
            "11;Holdin 003",
            ":1: class 'Holdin 003' is not one of the 174 known (did you",
        ),
        (
            "something-something-v1-train.csv",
            f"11;{SOMETHING[3]}\n11;{SOMETHING[3]}\n",
            "train.csv:2: 11 is also at ",
        ),
        (
            "something-something-v1-train.csv",
            f"8;{SOMETHING[3]}\n\n5;{SOMETHING[3]}\n",
            "validation.csv:1: 5 is also at ",
        ),
        (
            "something-something-v1-train.csv",
            "id,label\n",
            "train.csv:1: 'id,label' is not `id;label`",
        ),
        ("something-something-v1-train.csv", "", "train.csv: the file is empty"),
        (
            "something-something-v1-labels.csv",
            "a\nb\na\n",
            "labels.csv:3: class 'a' is also on line 1",
        ),
        (
            "something-something-v1-labels.csv",
            "\n".join([*SOMETHING[1:], "x"]),
            "train.csv:3: class 'Holding 000' is not one of",
        ),
        (
            "something-something-v1-labels.csv",
            "\n".join([*SOMETHING, "x"]),
            "175 classes instead of 174; give the official files",
        ),
        (
            "a-labels.csv",
            "",
            "*labels.csv (a-labels.csv, something-something-v1-labels.csv); give --labels",
        ),
    ],
)
def test_wrong_annotations(something, capsys, name, text, words):
    write(something, **{name: text})
    assert words in refused(capsys, "make_lists", "something", something)


@pytest.mark.parametrize(
    "text, words",
    [
        ("name,id\n", "train.csv:1: no column youtube_id, time_start, time_end, label; expected"),
        ("", "train.csv:1: no column"),
        (HEADER, "no videos of train in it"),
        (HEADER + "a,v,0,10\n", "train.csv:2: 4 columns, but 5 on line 1"),
        (
            HEADER + "a,v,0,10,train\n\na,w,x,10,train\n",
            "train.csv:4: time_start and time_end are not whole seconds",
        ),
        (HEADER + "a,v,0,10,val\n", "train.csv:2: a video of the split 'val', read as train"),
        (HEADER + "a,,0,10,train\n", "train.csv:2: no youtube_id or no label"),
        (HEADER + '"a,v,0,10,train\n', "train.csv:3: not CSV"),
        (HEADER + "a,v,0,10,train\na,v,0,10,train\n", "train.csv:3: v_000000_000010 is also at"),
        (
            HEADER + "a b,v,0,10,train\na_b,w,0,10,train\n",
            "the classes 'a b' and 'a_b' are the same",
        ),
    ],
)
def test_wrong_kinetics(tmp_path, capsys, text, words):
    folder = kinetics(tmp_path, "", "a b,u,0,10,val\n")
    write(folder, train__csv=text)
    assert words in refused(capsys, "make_lists", "kinetics", folder, "--root_path", tmp_path)
