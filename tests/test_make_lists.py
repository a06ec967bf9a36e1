import os
import re
import shlex
from pathlib import Path

import pytest
from helpers.annotations import frames, kinetics, lines, make, something_v1, touch, write
from helpers.launch import launch, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.lists import list_making
from lib.lists.list_classes import split_off
from lib.lists.list_text import class_text, format_lines
from ops.data.class_names import read_class_names
from ops.data.datasets import dataset_name, resolve
from ops.data.lists import read_list
from ops.utils.errors import UserError


@pytest.fixture
def something(tmp_path):
    return something_v1(tmp_path / "v1")


def own(root):
    touch(
        root,
        *(f"{name}/v {i}.mp4" for name in ("walk", "Ünï", "-run") for i in range(10)),
        "walk/notes.txt",
        "one/a.MP4",
    )
    frames(root / "walk/f1", 5, "img_{:05d}.jpg")
    return root


def test_own_folder(tmp_path, capsys):
    root = own(tmp_path / "own")
    frames(root / "-run/gap", 2, "img_{:05d}.jpg", first=2)
    frames(root / "-run/names", 2, "{:06d}.png")
    assert make("folder", root, "--out", tmp_path / "out") == 0
    classes = read_class_names(tmp_path / "out/classes.txt")
    assert classes == ["-run", "one", "walk", "Ünï"]
    train, val = (
        read_list(tmp_path / f"out/{split}.txt", root_path=root, num_class=4)
        for split in ("train", "val")
    )
    found = {record.id: record for videos in (train, val) for record in videos}
    assert (
        len(found) == len(train) + len(val) == 32
        and found["walk/f1"].num_frames == 5
        and found["one/a.MP4"].label == 1
    )
    for record in found.values():
        assert record.label == classes.index(record.id.split("/")[0]) and Path(record.path).exists()
    assert [sum(video.label == label for video in val) for label in range(4)] == [1, 0, 2, 2]
    missing = sorted(
        lines(tmp_path / "out/missing_train.txt") + lines(tmp_path / "out/missing_val.txt")
    )
    assert missing[0] == "-run/gap\timg_00001.jpg is missing, but img_00002.jpg exists"
    assert missing[1] == "-run/names\tno frames named img_{:05d}.jpg; {:06d}.png would fit"
    printed = capsys.readouterr().out
    assert (
        "1 file that is not a video (walk/notes.txt)" in printed
        and "warning: 1 class without videos: one" in printed
    )
    command = next(line for line in printed.splitlines() if line.startswith("train with"))
    assert f"python main.py {tmp_path / 'out/out.toml'} RGB" in command
    dataset = resolve(str(tmp_path / "out/out.toml"))
    assert (
        dataset.num_class == 4
        and os.path.samefile(dataset.root_path, root)
        and dataset.image_tmpl == "img_{:05d}.jpg"
    )
    assert [os.path.basename(path) for path in (dataset.train_list, dataset.val_list)] == [
        "train.txt",
        "val.txt",
    ]


def test_dataset_file_of_flow_in_a_folder_with_special_characters(tmp_path):
    root = tmp_path / 'a $HOME "b"'
    for i in range(1, 4):
        touch(root, f"run/v/x_{i:03d}.png", f"run/v/y_{i:03d}.png")
    assert (
        make(
            "folder",
            root,
            "--out",
            tmp_path / "out",
            "--modality",
            "Flow",
            "--image_tmpl",
            "{}_{:03d}.png",
            "--val_share",
            0,
        )
        == 0
    )
    dataset = resolve(str(tmp_path / "out/out.toml"), "Flow")
    assert (
        dataset.image_tmpl == "{}_{:03d}.png"
        and dataset.val_list is None
        and os.path.samefile(dataset.root_path, root)
    )


def test_own_split_does_not_depend_on_the_order_of_files(tmp_path, monkeypatch):
    def made(name, *args):
        assert (
            make("folder", own(tmp_path / f"root {name}"), "--out", tmp_path / f"out {name}", *args)
            == 0
        )
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
    assert len(made("e", "--val_share", 0.5)) == 16 and set(made("f", "--val_share", 0.3)) > set(
        first
    )
    # More videos of one class leave the others as they are.
    touch(tmp_path / "root a", *(f"walk/w{i}.mp4" for i in range(20)))
    assert make("folder", tmp_path / "root a", "--out", tmp_path / "out a", "--force") == 0
    kept = [line for line in lines(tmp_path / "out a/val.txt") if not line.startswith("walk")]
    assert kept == [line for line in first if not line.startswith("walk")]


def test_own_folder_split_already(tmp_path, capsys):
    root = touch(
        tmp_path / "root",
        "train/b/1.mp4",
        "train/a/1.mp4",
        "train/c/1.mp4",
        "val/b/1.mp4",
        "test/a/7.mp4",
    )
    assert make("folder", root, "--out", tmp_path / "out") == 0
    read = {name: lines(tmp_path / f"out/{name}.txt") for name in ("train", "val", "test")}
    assert read == {
        "train": ["train/a/1.mp4 0", "train/b/1.mp4 1", "train/c/1.mp4 2"],
        "val": ["val/b/1.mp4 1"],
        "test": ["test/a/7.mp4 0"],
    }
    assert "leave --val_share out" in refused(
        capsys, "make_lists", "folder", root, "--out", tmp_path, "--val_share", 0.1
    )
    touch(root, "val/d/1.mp4")
    assert "val/d: 'd' is not one of the 3 classes" in refused(
        capsys, "make_lists", "folder", root, "--out", tmp_path / "out"
    )


@pytest.mark.parametrize(
    "names", [("Train", "Val", "Test"), ("train", "valid", "test"), ("TRAINING", "validation", "x")]
)
def test_folders_of_splits_by_other_names(tmp_path, names):
    train, val, test = names
    paths = [f"{train}/a/1.mp4", f"{train}/b/1.mp4", f"{val}/b/2.mp4"]
    if test != "x":
        paths.append(f"{test}/a/3.mp4")
    root = touch(tmp_path / "root", *paths, "__MACOSX/a/1.mp4")
    assert make("folder", root, "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/classes.txt") == ["a", "b"]
    assert lines(tmp_path / "out/train.txt") == [f"{train}/a/1.mp4 0", f"{train}/b/1.mp4 1"]
    assert lines(tmp_path / "out/val.txt") == [f"{val}/b/2.mp4 1"]
    if test != "x":
        assert lines(tmp_path / "out/test.txt") == [f"{test}/a/3.mp4 0"]


def test_train_without_val_is_split_and_test_stays_apart(tmp_path, capsys):
    root = touch(
        tmp_path / "root", *(f"train/a/{i}.mp4" for i in range(10)), "test/a/7.mp4", "test/a/8.mp4"
    )
    assert make("folder", root, "--out", tmp_path / "out", "--val_share", 0.3) == 0
    counts = [len(lines(tmp_path / f"out/{name}.txt")) for name in ("train", "val", "test")]
    assert counts == [7, 3, 2] and lines(tmp_path / "out/classes.txt") == ["a"]
    touch(root, "Training/a/1.mp4")
    line = refused(capsys, "make_lists", "folder", root, "--out", tmp_path / "out")
    assert "Training" in line and "train" in line


def test_folders_that_are_not_classes(tmp_path, capsys):
    root = touch(
        tmp_path / "root",
        *(f"{name}/v{i}.mp4" for name in ("walk", "run") for i in range(3)),
        *("__MACOSX/walk/v0.mp4", "@eaDir/v.mp4", ".git/v.mp4", "walk/@eaDir/v0.mp4/thumb.jpg"),
        "notes/readme.txt",
    )
    (root / "empty").mkdir()
    assert make("folder", root, "--out", tmp_path / "out") == 0
    assert lines(tmp_path / "out/classes.txt") == ["run", "walk"]
    assert len(lines(tmp_path / "out/train.txt")) == 4
    assert "2 folders without videos (empty, notes)" in capsys.readouterr().out
    line = refused(capsys, "make_lists", "folder", root / "empty", "--out", tmp_path / "out2")
    assert "no videos" in line
    line = refused(capsys, "make_lists", "folder", root / "run/v0.mp4", "--out", tmp_path / "out2")
    assert "run/v0.mp4: a file" in line


def test_own_kinds_of_files(tmp_path):
    names = ["a.gif", "b.f4v", "c.h264", "d.hevc", "e.MKV"]
    root = touch(tmp_path / "root", *(f"walk/{name}" for name in names))
    assert make("folder", root, "--out", tmp_path / "out", "--val_share", 0) == 0
    assert lines(tmp_path / "out/train.txt") == [f"walk/{name} 0" for name in names]


def test_frames_that_count_from_zero_keep_the_first(tmp_path, capsys):
    root = tmp_path / "root"
    for video in ("v", "w"):
        frames(root / "walk" / video, 5, "img_{:05d}.jpg", first=0)
    args = ["folder", root, "--out", tmp_path / "out", "--val_share", 0]
    line = refused(capsys, "make_lists", *args)
    assert "2 of 2 videos" in line and "img_{zero:05d}.jpg" in line and "--image_tmpl" in line
    assert make(*args, "--image_tmpl", "img_{zero:05d}.jpg") == 0
    assert lines(tmp_path / "out/train.txt") == ["walk/v 5 0", "walk/w 5 0"]
    assert resolve(str(tmp_path / "out")).image_tmpl == "img_{zero:05d}.jpg"


def test_own_dataset_has_the_name_of_its_folder(tmp_path, capsys, monkeypatch):
    root = touch(tmp_path / "root", "a/1.mp4", "a/2.mp4")
    for out in ("data/dance", "data/dance 2/", "."):
        monkeypatch.chdir(tmp_path)
        assert make("folder", root, "--out", out) == 0
        words = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("train with"))
        assert words[:2] == ["python", "main.py"] and words[3:] == ["RGB"]
        name = os.path.basename(os.path.abspath(out))
        assert os.path.samefile(words[2], tmp_path / out / f"{name}.toml")
        assert resolve(words[2]).name == dataset_name(words[2]) == name


def test_own_classes_named_by_numbers(tmp_path):
    """Labels by value, and names that begin with numbers are not taken for labels."""
    root = touch(tmp_path / "root", *(f"{i}/{j}.mp4" for i in range(11) for j in range(2)))
    assert make("folder", root, "--out", tmp_path / "out", "--val_share", 0) == 0
    assert (
        lines(tmp_path / "out/classes.txt") == [str(i) for i in range(11)]
        and not (tmp_path / "out/val.txt").exists()
    )
    assert "10/0.mp4 10" in lines(tmp_path / "out/train.txt")
    root = touch(
        tmp_path / "named", "10 j/0.mp4", "1 a/0.mp4", *(f"{i} x/0.mp4" for i in range(2, 10))
    )
    assert make("folder", root, "--out", tmp_path / "out2") == 0
    assert read_class_names(tmp_path / "out2/classes.txt") == [
        "1 a",
        "10 j",
        *(f"{i} x" for i in range(2, 10)),
    ]


def test_own_labels_and_kinds(tmp_path, capsys):
    root = touch(tmp_path / "root", "b/1.mp4", "a/1.mp4")
    frames(root / "a/1", 2, "img_{:05d}.jpg")
    args = [
        "folder",
        root,
        "--out",
        tmp_path / "out",
        "--labels",
        write(tmp_path, names="b\nnone\na\n") / "names",
    ]
    assert "a/1.mp4: the same name as 1, maybe the same video" in refused(
        capsys, "make_lists", *args
    )
    assert make(*args, "--kind", "videos") == 0 and lines(tmp_path / "out/train.txt") == [
        "a/1.mp4 2",
        "b/1.mp4 0",
    ]
    assert make(*args, "--kind", "frames", "--force") == 0 and lines(
        tmp_path / "out/train.txt"
    ) == ["a/1 2 2"]
    write(tmp_path, names="b\n")
    line = refused(capsys, "make_lists", *args, "--kind", "videos")
    assert "'a' is not one of the 1 classes" in line


def test_nothing_is_written_before_all_is_checked(tmp_path, something, capsys):
    args = ["something", something, "--root_path", tmp_path / "root", "--out", tmp_path / "out"]
    for video in ("11", "7"):
        frames(tmp_path / "root" / video, 3)
    assert "1 of 1 videos of val are missing (first: 5: no file or folder" in refused(
        capsys, "make_lists", *args
    )
    frames(tmp_path / "root/5", 3)
    line = refused(capsys, "make_lists", *args, "--missing", "stop")
    assert (
        "2 of 4 videos of train are missing (first: 100218: no" in line
        and not (tmp_path / "out").exists()
    )
    assert make(*args) == 0
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()
    }
    frames(tmp_path / "root/9", 3)
    assert "train_videofolder.txt already exists with other content (1 file)" in refused(
        capsys, "make_lists", *args
    )
    assert {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()
    } == before
    assert make(*args, "--force") == 0
    assert lines(tmp_path / "out/missing_train.txt") == ["100218\tno file or folder of this name"]
    (tmp_path / "out/category.txt").write_text("other\nnames\n")
    assert "category.txt already exists" in refused(capsys, "make_lists", *args)


def test_videos_at_wrong_places(tmp_path, capsys):
    folder = kinetics(tmp_path, "a,v,0,10,train\nb,w,0,10,train\n", "b,u,0,10,val\n")
    args = [
        "kinetics",
        folder,
        "--root_path",
        tmp_path / "root",
        "--out",
        tmp_path / "out",
        "--num_class",
        2,
    ]
    touch(
        tmp_path / "root", "a/v_000000_000010.mp4", "x/w_000000_000010.mp4", "a/u_000000_000010.mp4"
    )
    assert "validate.csv:2: u_000000_000010 is of class 'b', but a/u_000000_000010.mp4" in refused(
        capsys, "make_lists", *args
    )
    touch(tmp_path / "root", "b/u_000000_000010.mp4", "y/w_000000_000010.webm")
    line = refused(capsys, "make_lists", *args)
    assert re.search(r"train\.csv:3: .*\(x/w_000000_000010\.mp4, y/w_000000_000010\.webm\)", line)
    (tmp_path / "root/y/w_000000_000010.webm").unlink()
    assert make(*args) == 0 and lines(tmp_path / "out/val_videofolder.txt") == [
        "b/u_000000_000010.mp4 1"
    ]
    kinetics(tmp_path, "a,v,0,10,train\na,v,5,15,train\n", "b,u,0,10,val\n")
    (tmp_path / "root/a/v_000000_000010.mp4").rename(tmp_path / "root/a/v.mp4")
    assert "train.csv:3: a/v.mp4 is also the video of" in refused(capsys, "make_lists", *args)


def test_missing_root_and_circular_links(tmp_path, capsys):
    folder = kinetics(tmp_path, "a,v,0,10,train\n", "a,u,0,10,val\n")
    args = ["kinetics", folder, "--out", tmp_path / "out", "--num_class", 1, "--root_path"]
    assert f"{tmp_path / 'gone'}: No such file or directory" in refused(
        capsys, "make_lists", *args, tmp_path / "gone"
    )
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
    assert (
        "4 of 4 videos of train" in line
        and "11: no frames named {:05d}.jpg; img_{:05d}.png would fit" in line
    )
    assert make(*args, "--image_tmpl", "img_{:05d}.png") == 0
    assert lines(tmp_path / "out/train_videofolder.txt") == ["11 3 86", "7 3 94"]


def test_command_in_its_own_process(tmp_path):
    """In a process of its own, without torch; folder names that look like flags."""
    root = own(tmp_path / "-o p")
    process = launch("tools/make_lists.py", "folder", f"--out={tmp_path / '-out'}", "--", root)
    assert (
        process.returncode == 0
        and len(lines(tmp_path / "-out/val.txt")) == 6
        and not process.stderr
    )
    assert launch("tools/make_lists.py", "kinetics", "--help").returncode == 0
    process = launch(
        "-c",
        "import sys; sys.path.append('tools'); import lib.lists.list_making; "
        "assert 'torch' not in sys.modules",
    )
    assert process.returncode == 0, process.stderr


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8), st.none() | st.integers(1, 10**6), st.integers(0, 999)
        ),
        min_size=1,
    )
)
def test_lists_are_read_back_or_refused(tmp_path_factory, rows):
    """Any path, or it is refused."""
    file = tmp_path_factory.getbasetemp() / "any.txt"
    try:
        text = format_lines(rows, "root")
    except UserError as error:
        assert "rename it" in str(error)
        return
    file.write_bytes(text.encode())
    read = read_list(file, num_class=1000)
    assert [(record.id, record.num_frames, record.label) for record in read] == rows


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=6),
        min_size=1,
        unique=True,
    ),
    st.booleans(),
)
def test_class_names_are_read_back_or_refused(tmp_path_factory, names, numbered):
    file = tmp_path_factory.getbasetemp() / "classes.txt"
    file.unlink(missing_ok=True)
    text = class_text(names, numbered)
    try:
        list_making.write_files({str(file): text}, str(file), names, force=False)
    except UserError as error:
        assert "class names" in str(error)
        assert any(name != name.strip() or name.startswith(("[", "{", "\ufeff")) for name in names)
    else:
        assert read_class_names(file) == names


@given(st.sets(st.text(max_size=5), max_size=30), st.floats(0, 0.99), st.integers(0, 5))
def test_split_off(names, share, seed):
    part = split_off(list(names), share, seed)
    assert part <= names and part == split_off(sorted(names), share, seed)
    assert len(part) == (
        0
        if share == 0 or len(names) < 2
        else min(max(round(len(names) * share), 1), len(names) - 1)
    )


def test_unfit_names(tmp_path, capsys):
    for name in ("tab\t.mp4", "line\n.mp4", os.fsdecode(b"byte\xff.mp4")):
        root = touch(tmp_path / repr(name), f"walk/{name}", "walk/a.mp4")
        line = refused(capsys, "make_lists", "folder", root, "--out", tmp_path / "out")
        assert (
            "a tab or a line break" in line
            and repr(f"walk/{name}") in line
            and not (tmp_path / "out").exists()
        )


def test_read_only_out(tmp_path, capsys):
    (tmp_path / "file").touch()
    line = refused(
        capsys, "make_lists", "folder", own(tmp_path / "own"), "--out", tmp_path / "file"
    )
    assert "give an --out that can be written" in line
