import json
import os
import random
from pathlib import Path

import list_files
import pytest
from fronts import call, launch, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from list_sources import read_source

from ops.data.class_names import flip_label_map, read_class_names
from ops.data.datasets import resolve
from ops.data.lists import read_list
from ops.data.sources import read_checked
from ops.errors import UserError

# The six names of Something-Something that a flip exchanges stand at these labels, in both versions (TDN ops/models.py).
PAIRS = {86: "Pulling something from left to right", 87: "Pulling something from right to left",
         93: "Pushing something from left to right", 94: "Pushing something from right to left",
         166: "Turning the camera left while filming something", 167: "Turning the camera right while filming something"}
# What stands between them is made up, in alphabetical order, and says nothing of sides.
FILL = ((0, 86, "Holding"), (88, 93, "Pushing something a"), (95, 166, "Putting"), (168, 174, "Turning the camera upside"))
SOMETHING = [PAIRS.get(label) or next(f"{word} {label:03d}" for first, last, word in FILL if first <= label < last)
             for label in range(174)]
# The 27 classes of Jester in their order (TSM online_demo/main.py).
JESTER = ["Doing other things", "Drumming Fingers", "No gesture", "Pulling Hand In", "Pulling Two Fingers In",
          "Pushing Hand Away", "Pushing Two Fingers Away", "Rolling Hand Backward", "Rolling Hand Forward", "Shaking Hand",
          "Sliding Two Fingers Down", "Sliding Two Fingers Left", "Sliding Two Fingers Right", "Sliding Two Fingers Up",
          "Stop Sign", "Swiping Down", "Swiping Left", "Swiping Right", "Swiping Up", "Thumb Down", "Thumb Up",
          "Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand",
          "Zooming In With Two Fingers", "Zooming Out With Full Hand", "Zooming Out With Two Fingers"]
HEADER = "label,youtube_id,time_start,time_end,split\n"


def write(folder, **files):
    """Text files; ``__`` in a name is a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def frames(folder, count, template="{:05d}.jpg", first=1):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        (folder / template.format(number)).touch()


def lines(path):
    return path.read_text().splitlines()


def shuffled(names):
    names = list(names)
    random.Random(0).shuffle(names)
    assert names != sorted(names)
    return names


@pytest.fixture
def something(tmp_path):
    """The annotations of Something-Something V1: names not in order, as published."""
    return write(tmp_path / "v1", **{
        "something-something-v1-labels.csv": "\n".join(shuffled(SOMETHING)) + "\n",
        "something-something-v1-train.csv": f"11;{PAIRS[86]}\n7;{PAIRS[94]}\n100218;{SOMETHING[0]}\n9;{SOMETHING[173]}\n",
        "something-something-v1-validation.csv": f"5;{PAIRS[166]}\n",
    })


def make(*args):
    return call("make_lists", *args)


def test_names_that_the_pairs_are_pinned_with():
    assert sorted(SOMETHING) == SOMETHING and len(set(SOMETHING)) == 174 and sorted(JESTER) == JESTER
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
    assert lines(base / "missing_train.txt") == ["9\tno file or folder of this name"] and not lines(base / "missing_val.txt")
    printed = capsys.readouterr().out
    assert "train           3 videos (3 folders of frames), 1 missing: data/something/train_videofolder.txt" in printed
    assert "174 classes of 0 to 1 videos, median 0\n" in printed
    assert "warning: 171 classes without videos: Holding 001, Holding 002," in printed
    assert "flip: 3 label pairs swapped, 0 classes never flipped\n" in printed
    assert all(f"{a} {PAIRS[a]} / {a + 1} {PAIRS[a + 1]}\n" in printed for a in (86, 93, 166))
    # main.py finds them where they are.
    from ops.data.datasets import load_class_names, resolve
    dataset = resolve("something")
    assert read_checked(dataset, "train_list")[1] == 0 and load_class_names(dataset) == SOMETHING


def test_lists_of_test_splits(tmp_path, something):
    """Label 0 where none is told, for the servers that score them."""
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
            touch(root, f"000011/000011-{axis}_{number:05d}.jpg", f"000005/000005-{axis}_{number:05d}.jpg")
    touch(root, "000007/000007-x_00001.jpg", "000007/000007-y_00001.jpg", "000007/000007-x_00002.jpg")
    assert make("something", something, "--modality", "Flow", "--root_path", root, "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/train_videofolder_flow.txt") == ["000011 6 86"]
    missing = lines(tmp_path / "out/missing_train_flow.txt")
    assert missing[0] == "7\t000007-y_00002.jpg is missing, but 000007-x_00002.jpg is there" and len(missing) == 3


def test_something_v2(tmp_path):
    def entry(video, template):
        return {"id": video, "label": "pulling pen from left to right", "template": template, "placeholders": ["pen"]}

    names = {name: str(label) for label, name in enumerate(SOMETHING)}
    folder = write(tmp_path / "v2", **{
        "something-something-v2-labels.json": json.dumps(dict(sorted(names.items(), reverse=True))),
        "something-something-v2-train.json": json.dumps([entry("78687", PAIRS[93].replace("something", "[something]"))]),
        "something-something-v2-validation.json": json.dumps([entry("5", PAIRS[167].replace("something", "[something]"))]),
        "something-something-v2-test.json": json.dumps([{"id": "1420"}, {"id": "3"}]),
    })
    root = touch(tmp_path / "videos", "78687.webm", "part_2/5.webm", "1420.webm", "6.webm", "78687.txt")
    args = ["somethingv2", folder, "--root_path", root, "--out", tmp_path / "out"]
    assert make(*args, "--test", folder / "something-something-v2-test.json") == 0
    read = {name: lines(tmp_path / f"out/{name}_videofolder.txt") for name in ("train", "val", "test")}
    assert read == {"train": ["78687.webm 93"], "val": ["part_2/5.webm 167"], "test": ["1420.webm 0"]}
    assert lines(tmp_path / "out/missing_test.txt") == ["3\tno file or folder of this name"]
    names["Holding 000"], names["Holding 001"] = "1", "0"
    write(folder, **{"something-something-v2-labels.json": json.dumps(names)})
    with pytest.raises(UserError, match="'Holding 001' has label 0, in alphabetical order 'Holding 000' has it"):
        read_source("somethingv2", folder, {})


def test_jester(tmp_path, capsys):
    folder = write(tmp_path / "j", **{"jester-v1-labels.csv": "\n".join(shuffled(JESTER)),
                                      "jester-v1-train.csv": "34870;Drumming Fingers\r\n56557;Sliding Two Fingers Right",
                                      "jester-v1-validation.csv": "9223;Zooming Out With Two Fingers\n"})
    for video in ("34870", "56557", "9223"):
        frames(tmp_path / "root" / video, 3)
    assert make("jester", folder, "--root_path", tmp_path / "root", "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["34870 3 1", "56557 3 12"]
    assert lines(tmp_path / "out/val_videofolder.txt") == ["9223 3 26"] and lines(tmp_path / "out/category.txt") == JESTER
    assert "flip: 3 label pairs swapped, 0 classes never flipped" in capsys.readouterr().out


def kinetics(tmp_path, train, val, **more):
    return write(tmp_path / "k", train__csv=HEADER + train, validate__csv=HEADER + val, **more)


def test_kinetics_videos_in_parts(tmp_path):
    """As TAM's online lists: any number of parts, files by id and padded times."""
    train = 'abseiling,-3B32lodo2M,59,69,train\n"petting animal (not cat)",a b,0,10,train\nzumba,gone,7,17,train\n'
    folder = kinetics(tmp_path, train, "zumba,__x,1,11,val\n")
    root = touch(tmp_path / "root", "train/part_0/-3B32lodo2M_000059_000069.mp4", "train/part_1/a b_000000_000010.mkv",
                 "val/part_0/__x_000001_000011.mp4", "val/part_0/other_000001_000011.mp4", ".hidden/gone_000007_000017.mp4")
    assert make("kinetics", folder, "--root_path", root, "--out", tmp_path / "out", "--num_class", 3) == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["train/part_0/-3B32lodo2M_000059_000069.mp4\t0",
                                                             "train/part_1/a b_000000_000010.mkv\t1"]
    assert lines(tmp_path / "out/val_videofolder.txt") == ["val/part_0/__x_000001_000011.mp4 2"]
    assert lines(tmp_path / "out/missing_train.txt") == ["gone_000007_000017\tno file or folder of this name"]
    assert lines(tmp_path / "out/category.txt") == ["abseiling", "petting animal (not cat)", "zumba"]


def test_kinetics_frames_in_class_folders(tmp_path):
    """As TSM's lists: folders id_start below the class, whose name has no blanks, brackets or quotes there."""
    train = '"skiing (not slalom)",a,59,69,train\nskiing crosscountry,b,3,13,train\n'
    folder = kinetics(tmp_path, train, "massaging person's head,c,1,11,\n",
                      kinetics_label_map__txt="zumba\nskiing crosscountry\n\nskiing (not slalom)\nmassaging person's head\n")
    root = tmp_path / "root"
    for name in ("skiing_not_slalom/a_59", "skiing_crosscountry/b_3", "massaging_persons_head/c_1"):
        frames(root / name, 3, "img_{:05d}.jpg")
    assert make("kinetics", folder, "--root_path", root, "--out", tmp_path / "out", "--num_class", 4) == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["skiing_not_slalom/a_59 3 2", "skiing_crosscountry/b_3 3 1"]
    assert lines(tmp_path / "out/val_videofolder.txt") == ["massaging_persons_head/c_1 3 3"]
    (folder / "kinetics_label_map.txt").unlink()
    assert read_source("kinetics", folder, {}).classes[1:] == ["skiing (not slalom)", "skiing crosscountry"]


def test_kinetics_number_of_classes(tmp_path, capsys):
    for count, status in ((400, 0), (600, 0), (700, 0), (399, 2)):
        rows = "".join(f"c{i:03d},v{i},0,10,train\n" for i in range(count))
        folder = kinetics(tmp_path, rows, "c000,w,0,10,val\n")
        root = touch(tmp_path / "root", *(f"v{i}_000000_000010.mp4" for i in range(count)), "w_000000_000010.mp4")
        assert make("kinetics", folder, "--root_path", root, "--out", tmp_path / f"out{count}") == status
        captured = capsys.readouterr()
        assert ("--num_class 600" in captured.out) == (count == 600)
    assert "399 classes instead of 400 or 600 or 700" in captured.err


def test_ucf101(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    classes = sorted(f"Class{i:03d}" for i in range(101))
    videos = {name: [f"v_{name}_g{group:02d}_c01" for group in (1, 2, 3)] for name in classes}
    files = {"classInd.txt": "".join(f"{i} {name}\r\n" for i, name in enumerate(classes, 1))}
    for split in (1, 2, 3):
        train = [f"{name}/{video}.avi {label}" for label, name in enumerate(classes, 1)
                 for group, video in enumerate(videos[name], 1) if group != split]
        files[f"trainlist{split:02d}.txt"] = "\n".join(train)
        files[f"testlist{split:02d}.txt"] = "\n".join(f"{name}/{videos[name][split - 1]}.avi" for name in classes)
    folder = write(tmp_path / "splits", **files)
    root = tmp_path / "data/ucf101/jpg"
    for name in classes:
        touch(root, *(f"{video}/img_00001.jpg" for video in videos[name][:2]), f"{name}/{videos[name][2]}.avi")
    assert make("ucf101", folder) == 0
    base = tmp_path / "data/ucf101/file_list"
    assert lines(base / "ucf101_rgb_train_split_1.txt")[:3] == ["v_Class000_g02_c01 1 0", "Class000/v_Class000_g03_c01.avi 0",
                                                                "v_Class001_g02_c01 1 1"]
    assert lines(base / "ucf101_rgb_val_split_3.txt")[100] == "Class100/v_Class100_g03_c01.avi 100"
    names = {f"{split}_split_{number}.txt" for split in ("train", "val") for number in (1, 2, 3)}
    assert {path.name for path in base.iterdir()} == {f"{kind}_{name}" for kind in ("ucf101_rgb", "missing") for name in names}
    assert lines(tmp_path / "data/ucf101/labels/classInd.txt")[1] == "2 Class001"
    assert read_class_names(tmp_path / "data/ucf101/labels/classInd.txt") == classes
    official = "".join(f"{i} {name}\r\n" for i, name in enumerate(classes, 1)) + "\r\n"
    (tmp_path / "data/ucf101/labels/classInd.txt").write_bytes(official.encode())
    assert make("ucf101", folder) == 0 and (tmp_path / "data/ucf101/labels/classInd.txt").read_bytes() == official.encode()
    capsys.readouterr()
    for name, text, words in (
        ("testlist01.txt", "Class000/v_Class000_g02_c01.avi", "testlist01.txt:1: v_Class000_g02_c01 is also at"),
        ("trainlist02.txt", "Class007/v.avi 9", "trainlist02.txt:1: Class007 is number 9 here, but 8 in classInd.txt"),
        ("trainlist02.txt", "Klass007/v.avi 8", "trainlist02.txt:1: class 'Klass007' is not one of the 101 known (did"),
        ("trainlist03.txt", "\nv_Class007.avi 8", "trainlist03.txt:2: 'v_Class007.avi 8' is not `Class/video.avi`"),
    ):
        before = (folder / name).read_text()
        write(folder, **{name: text})
        assert words in refused(capsys, "make_lists", "ucf101", folder)
        write(folder, **{name: before})


def test_hmdb51(tmp_path):
    classes = [f"c{i:02d}" for i in range(51)]
    text = "a ({0})#.avi {1} \nsame.avi {2} \n{0}3.avi 1 \n{0}4.avi 2 \n"
    files = {f"{name}_test_split{split}.txt": text.format(name, 1 + (split == 2), 2 * (split == 1))
             for name in classes for split in (1, 2, 3)}
    folder = write(tmp_path / "splits", **files)
    root = tmp_path / "root"
    for name in classes:
        touch(root, f"{name}/a ({name})#.avi", f"{name}/same.avi", f"{name}/{name}3.avi", f"{name}/{name}4.avi")
    assert make("hmdb51", folder, "--root_path", root, "--out", tmp_path / "out") == 0
    out = tmp_path / "out"
    assert lines(out / "hmdb51_rgb_train_split_1.txt")[2:4] == ["c01/a (c01)#.avi\t1", "c01/c013.avi\t1"]
    assert lines(out / "hmdb51_rgb_val_split_1.txt")[:3] == ["c00/same.avi 0", "c00/c004.avi 0", "c01/same.avi 1"]
    assert lines(out / "hmdb51_rgb_val_split_2.txt")[0] == "c00/a (c00)#.avi\t0"
    assert lines(out / "category.txt") == classes
    order = write(tmp_path, order="\n".join(reversed(classes))) / "order"
    assert read_source("hmdb51", folder, {"labels": str(order)}).classes[0] == "c50"


def own(root):
    touch(root, *(f"{name}/v {i}.mp4" for name in ("walk", "Ünï", "-run") for i in range(10)), "walk/notes.txt", "one/a.MP4")
    frames(root / "walk/f1", 5, "img_{:05d}.jpg")
    return root


def test_own_folder(tmp_path, capsys):
    root = own(tmp_path / "own")
    frames(root / "-run/gap", 2, "img_{:05d}.jpg", first=2)
    frames(root / "-run/names", 2, "{:06d}.png")
    assert make("folder", root, "--out", tmp_path / "out") == 0
    classes = read_class_names(tmp_path / "out/classes.txt")
    assert classes == ["-run", "one", "walk", "Ünï"]
    train, val = (read_list(tmp_path / f"out/{split}.txt", root_path=root, num_class=4) for split in ("train", "val"))
    found = {record.id: record for videos in (train, val) for record in videos}
    assert len(found) == len(train) + len(val) == 32 and found["walk/f1"].num_frames == 5 and found["one/a.MP4"].label == 1
    for record in found.values():
        assert record.label == classes.index(record.id.split("/")[0]) and Path(record.path).exists()
    assert [sum(video.label == label for video in val) for label in range(4)] == [1, 0, 2, 2]
    missing = sorted(lines(tmp_path / "out/missing_train.txt") + lines(tmp_path / "out/missing_val.txt"))
    assert missing[0] == "-run/gap\timg_00001.jpg is missing, but img_00002.jpg is there"
    assert missing[1] == "-run/names\tno frames named img_{:05d}.jpg; {:06d}.png would fit"
    printed = capsys.readouterr().out
    assert "files that are no video: 1 (walk/notes.txt)" in printed and "warning: 1 classes without videos: one" in printed
    command = next(line for line in printed.splitlines() if line.startswith("train with"))
    assert f"python main.py {tmp_path / 'out/mine.toml'} RGB" in command
    told = resolve(str(tmp_path / "out/mine.toml"))
    assert told.num_class == 4 and os.path.samefile(told.root_path, root) and told.image_tmpl == "img_{:05d}.jpg"
    assert [os.path.basename(path) for path in (told.train_list, told.val_list)] == ["train.txt", "val.txt"]


def test_the_file_of_own_flow_and_of_strange_folders(tmp_path):
    root = tmp_path / 'a $HOME "b"'
    for i in range(1, 4):
        touch(root, f"run/v/x_{i:03d}.png", f"run/v/y_{i:03d}.png")
    assert make("folder", root, "--out", tmp_path / "out", "--modality", "Flow", "--image_tmpl", "{}_{:03d}.png",
                "--val_share", 0) == 0
    told = resolve(str(tmp_path / "out/mine.toml"), "Flow")
    assert told.image_tmpl == "{}_{:03d}.png" and told.val_list is None and os.path.samefile(told.root_path, root)


def test_own_split_is_the_same_on_any_disk(tmp_path, monkeypatch):
    def made(name, *args):
        assert make("folder", own(tmp_path / f"root {name}"), "--out", tmp_path / f"out {name}", *args) == 0
        return lines(tmp_path / f"out {name}/val.txt")

    first, scandir = made("a"), os.scandir

    class Backwards(list):
        __enter__, __exit__ = (lambda self: self), (lambda self, *error: None)

    def backwards(path):
        return Backwards(sorted(scandir(path), key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", backwards)
    assert made("b") == first
    monkeypatch.undo()
    assert made("c", "--seed", 1) != first and made("d", "--seed", 0, "--val_share", 0.2) == first
    assert len(made("e", "--val_share", 0.5)) == 16 and set(made("f", "--val_share", 0.3)) > set(first)
    # More videos of one class leave the others as they are.
    touch(tmp_path / "root a", *(f"walk/w{i}.mp4" for i in range(20)))
    assert make("folder", tmp_path / "root a", "--out", tmp_path / "out a", "--force") == 0
    kept = [line for line in lines(tmp_path / "out a/val.txt") if not line.startswith("walk")]
    assert kept == [line for line in first if not line.startswith("walk")]


def test_own_folder_split_already(tmp_path, capsys):
    root = touch(tmp_path / "root", "train/b/1.mp4", "train/a/1.mp4", "train/c/1.mp4", "val/b/1.mp4", "test/a/7.mp4")
    assert make("folder", root, "--out", tmp_path / "out") == 0
    read = {name: lines(tmp_path / f"out/{name}.txt") for name in ("train", "val", "test")}
    assert read == {"train": ["train/a/1.mp4 0", "train/b/1.mp4 1", "train/c/1.mp4 2"], "val": ["val/b/1.mp4 1"],
                    "test": ["test/a/7.mp4 0"]}
    assert "leave --val_share out" in refused(capsys, "make_lists", "folder", root, "--out", tmp_path, "--val_share", 0.1)
    touch(root, "val/d/1.mp4")
    assert "val/d: 'd' is not one of the 3 classes" in refused(capsys, "make_lists", "folder", root, "--out", tmp_path / "out")


def test_own_classes_called_by_numbers(tmp_path):
    """Labels by value, and names that begin with numbers are not taken for labels."""
    root = touch(tmp_path / "root", *(f"{i}/{j}.mp4" for i in range(11) for j in range(2)))
    assert make("folder", root, "--out", tmp_path / "out", "--val_share", 0) == 0
    assert lines(tmp_path / "out/classes.txt") == [str(i) for i in range(11)] and not (tmp_path / "out/val.txt").exists()
    assert "10/0.mp4 10" in lines(tmp_path / "out/train.txt")
    root = touch(tmp_path / "named", "10 j/0.mp4", "1 a/0.mp4", *(f"{i} x/0.mp4" for i in range(2, 10)))
    assert make("folder", root, "--out", tmp_path / "out2") == 0
    assert read_class_names(tmp_path / "out2/classes.txt") == ["1 a", "10 j", *(f"{i} x" for i in range(2, 10))]


def test_own_labels_and_kinds(tmp_path, capsys):
    root = touch(tmp_path / "root", "b/1.mp4", "a/1.mp4")
    frames(root / "a/1", 2, "img_{:05d}.jpg")
    args = ["folder", root, "--out", tmp_path / "out", "--labels", write(tmp_path, names="b\nnone\na\n") / "names"]
    assert "a/1.mp4: the same name as 1, maybe the same video" in refused(capsys, "make_lists", *args)
    assert make(*args, "--kind", "videos") == 0 and lines(tmp_path / "out/train.txt") == ["a/1.mp4 2", "b/1.mp4 0"]
    assert make(*args, "--kind", "frames", "--force") == 0 and lines(tmp_path / "out/train.txt") == ["a/1 2 2"]
    write(tmp_path, names="b\n")
    assert "'a' is not one of the 1 classes" in refused(capsys, "make_lists", *args)


def test_nothing_is_written_before_all_is_checked(tmp_path, something, capsys):
    args = ["something", something, "--root_path", tmp_path / "root", "--out", tmp_path / "out"]
    for video in ("11", "7"):
        frames(tmp_path / "root" / video, 3)
    assert "1 of 1 videos of val are missing (first: 5: no file or folder" in refused(capsys, "make_lists", *args)
    frames(tmp_path / "root/5", 3)
    line = refused(capsys, "make_lists", *args, "--missing", "stop")
    assert "2 of 4 videos of train are missing (first: 100218: no" in line and not (tmp_path / "out").exists()
    assert make(*args) == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()}
    frames(tmp_path / "root/9", 3)
    assert "train_videofolder.txt is there and differs (1 files in all)" in refused(capsys, "make_lists", *args)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()} == before
    assert make(*args, "--force") == 0
    assert lines(tmp_path / "out/missing_train.txt") == ["100218\tno file or folder of this name"]
    (tmp_path / "out/category.txt").write_text("other\nnames\n")
    assert "category.txt is there and differs" in refused(capsys, "make_lists", *args)


@pytest.mark.parametrize("name, text, words", [
    ("something-something-v1-train.csv", "11;Holdin 003", ":1: class 'Holdin 003' is not one of the 174 known (did you"),
    ("something-something-v1-train.csv", f"11;{SOMETHING[3]}\n11;{SOMETHING[3]}\n", "train.csv:2: 11 is also at "),
    ("something-something-v1-train.csv", f"8;{SOMETHING[3]}\n\n5;{SOMETHING[3]}\n", "validation.csv:1: 5 is also at "),
    ("something-something-v1-train.csv", "id,label\n", "train.csv:1: 'id,label' is not `id;label`"),
    ("something-something-v1-train.csv", "", "train.csv: the file is empty"),
    ("something-something-v1-labels.csv", "a\nb\na\n", "labels.csv:3: class 'a' is also on line 1"),
    ("something-something-v1-labels.csv", "\n".join([*SOMETHING[1:], "x"]), "train.csv:3: class 'Holding 000' is not one of"),
    ("something-something-v1-labels.csv", "\n".join([*SOMETHING, "x"]), "175 classes instead of 174; give the official files"),
    ("a-labels.csv", "", "2 files are called *labels.csv (a-labels.csv, something-something-v1-labels.csv); give --labels"),
])
def test_wrong_annotations(something, capsys, name, text, words):
    write(something, **{name: text})
    assert words in refused(capsys, "make_lists", "something", something)


@pytest.mark.parametrize("text, words", [
    ("name,id\n", "train.csv:1: no column youtube_id, time_start, time_end, label; expected"),
    ("", "train.csv:1: no column"),
    (HEADER, "no videos of train in it"),
    (HEADER + "a,v,0,10\n", "train.csv:2: 4 columns, but 5 on line 1"),
    (HEADER + "a,v,0,10,train\n\na,w,x,10,train\n", "train.csv:4: time_start and time_end are not whole seconds"),
    (HEADER + "a,v,0,10,val\n", "train.csv:2: a video of the split 'val', read as train"),
    (HEADER + "a,,0,10,train\n", "train.csv:2: no youtube_id or no label"),
    (HEADER + '"a,v,0,10,train\n', "train.csv:3: not CSV"),
    (HEADER + "a,v,0,10,train\na,v,0,10,train\n", "train.csv:3: v_000000_000010 is also at"),
    (HEADER + "a b,v,0,10,train\na_b,w,0,10,train\n", "the classes 'a b' and 'a_b' are the same"),
])
def test_wrong_kinetics(tmp_path, capsys, text, words):
    folder = kinetics(tmp_path, "", "a b,u,0,10,val\n")
    write(folder, train__csv=text)
    assert words in refused(capsys, "make_lists", "kinetics", folder, "--root_path", tmp_path)


def test_videos_at_wrong_places(tmp_path, capsys):
    folder = kinetics(tmp_path, "a,v,0,10,train\nb,w,0,10,train\n", "b,u,0,10,val\n")
    args = ["kinetics", folder, "--root_path", tmp_path / "root", "--out", tmp_path / "out", "--num_class", 2]
    touch(tmp_path / "root", "a/v_000000_000010.mp4", "x/w_000000_000010.mp4", "a/u_000000_000010.mp4")
    assert "validate.csv:2: u_000000_000010 is of class 'b', but a/u_000000_000010.mp4" in refused(capsys, "make_lists", *args)
    touch(tmp_path / "root", "b/u_000000_000010.mp4", "y/w_000000_000010.webm")
    line = refused(capsys, "make_lists", *args)
    assert "train.csv:3: w_000000_000010 is there 2 times (x/w_000000_000010.mp4, y/w_000000_000010.webm)" in line
    (tmp_path / "root/y/w_000000_000010.webm").unlink()
    assert make(*args) == 0 and lines(tmp_path / "out/val_videofolder.txt") == ["b/u_000000_000010.mp4 1"]
    kinetics(tmp_path, "a,v,0,10,train\na,v,5,15,train\n", "b,u,0,10,val\n")
    (tmp_path / "root/a/v_000000_000010.mp4").rename(tmp_path / "root/a/v.mp4")
    assert "train.csv:3: a/v.mp4 is also the video of" in refused(capsys, "make_lists", *args)


def test_root_that_is_not_there_and_links_in_circles(tmp_path, capsys):
    folder = kinetics(tmp_path, "a,v,0,10,train\n", "a,u,0,10,val\n")
    args = ["kinetics", folder, "--out", tmp_path / "out", "--num_class", 1, "--root_path"]
    assert f"{tmp_path / 'gone'}: No such file or directory" in refused(capsys, "make_lists", *args, tmp_path / "gone")
    root = touch(tmp_path / "root", "in/v_000000_000010.mp4")
    (root / "in/above").symlink_to(root)
    (root / "in/itself").symlink_to(root / "in/itself")
    for name, other in (("one", "two"), ("two", "one")):
        touch(tmp_path / name, f"{name.replace('one', 'u')}_000000_000010.mp4")
        (tmp_path / name / "next").symlink_to(tmp_path / other)
    (root / "circle").symlink_to(tmp_path / "one")
    assert make(*args, root) == 0
    assert lines(tmp_path / "out/val_videofolder.txt") == ["circle/u_000000_000010.mp4 0"]


def test_every_frame_folder_of_another_template(tmp_path, something, capsys):
    for video in ("11", "7", "5"):
        frames(tmp_path / "root" / video, 3, "img_{:05d}.png")
    args = ["something", something, "--root_path", tmp_path / "root", "--out", tmp_path / "out"]
    line = refused(capsys, "make_lists", *args)
    assert "4 of 4 videos of train are missing (first: 11: no frames named {:05d}.jpg; img_{:05d}.png would fit)" in line
    assert make(*args, "--image_tmpl", "img_{:05d}.png") == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["11 3 86", "7 3 94"]


def test_as_a_user_starts_it(tmp_path):
    """In a process of its own, without torch; folder names that look like flags."""
    root = own(tmp_path / "-o p")
    process = launch("tools/make_lists.py", "folder", f"--out={tmp_path / '-out'}", "--", root)
    assert process.returncode == 0 and len(lines(tmp_path / "-out/val.txt")) == 6 and not process.stderr
    assert launch("tools/make_lists.py", "kinetics", "--help").returncode == 0
    process = launch("-c", "import sys; sys.path.append('tools'); import make_lists; assert 'torch' not in sys.modules")
    assert process.returncode == 0, process.stderr


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=8), st.none() | st.integers(1, 10**6), st.integers(0, 999)), min_size=1))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    """Any path, or it is refused."""
    file = tmp_path_factory.getbasetemp() / "any.txt"
    try:
        text = list_files.format_lines(rows, "root")
    except UserError as error:
        assert "rename it" in str(error)
        return
    file.write_bytes(text.encode())
    read = read_list(file, num_class=1000)
    assert [(record.id, record.num_frames, record.label) for record in read] == rows


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=6), min_size=1, unique=True),
       st.booleans())
def test_class_names_are_read_back_or_refused(tmp_path_factory, names, numbered):
    file = tmp_path_factory.getbasetemp() / "classes.txt"
    file.unlink(missing_ok=True)
    text = list_files.class_text(names, numbered)
    import make_lists
    try:
        make_lists.write({str(file): text}, str(file), names, force=False)
    except UserError as error:
        assert "class names" in str(error)
        assert any(name != name.strip() or name.startswith(("[", "{", "\ufeff")) for name in names)
    else:
        assert read_class_names(file) == names


@given(st.sets(st.text(max_size=5), max_size=30), st.floats(0, 0.99), st.integers(0, 5))
def test_split_off(names, share, seed):
    part = list_files.split_off(list(names), share, seed)
    assert part <= names and part == list_files.split_off(sorted(names), share, seed)
    assert len(part) == (0 if share == 0 or len(names) < 2 else min(max(round(len(names) * share), 1), len(names) - 1))


def test_unfit_names(tmp_path, capsys):
    for name in ("tab\t.mp4", "line\n.mp4", os.fsdecode(b"byte\xff.mp4")):
        root = touch(tmp_path / repr(name), f"walk/{name}", "walk/a.mp4")
        line = refused(capsys, "make_lists", "folder", root, "--out", tmp_path / "out")
        assert "holds a tab or a line break" in line and repr(f"walk/{name}") in line and not (tmp_path / "out").exists()


def test_read_only_out(tmp_path, capsys):
    (tmp_path / "file").touch()
    line = refused(capsys, "make_lists", "folder", own(tmp_path / "own"), "--out", tmp_path / "file")
    assert "give an --out that can be written" in line
