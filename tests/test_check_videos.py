import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from helpers.launch import call, is_running, refused, start_tool, wait_until
from helpers.videos import copy_without_times, damage_packet, encode, textured_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib.lists import list_checks
from lib.videos import video_checks
from ops.utils.errors import UserError

TOOL = Path(__file__).resolve().parents[1] / "tools" / "check_videos.py"


def folder(path, names):
    """A folder of small pictures."""
    path.mkdir(parents=True)
    for number, name in enumerate(names):
        Image.fromarray(np.full((16, 24, 3), number, np.uint8)).save(path / name)
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Videos and folders of frames, sound and damaged in every way."""
    root = tmp_path_factory.mktemp("videos")
    encode(root / "good.mp4", textured_frames(20))
    encode(root / "short.mp4", textured_frames(3))
    encode(root / "with blank.mp4", textured_frames(20, seed=1))
    for name in ("-dash.mp4", "Übung.mp4"):
        (root / name).write_bytes((root / "good.mp4").read_bytes())
    whole = encode(
        root / "cut.mp4", textured_frames(60), container_options={"movflags": "faststart"}
    ).read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    damage_packet(encode(root / "middle.mp4", textured_frames(20)), 10)
    damage_packet(encode(root / "seventh.mp4", textured_frames(20), bframes=0, gop=1), 7)
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("no video " * 100)
    (root / "nowhere.mp4").symlink_to("gone.mp4")
    folder(root / "frames", [f"img_{i:05d}.jpg" for i in range(1, 10)])
    folder(root / "other", [f"{i:06d}.png" for i in range(1, 10)])
    folder(root / "zero", [f"f{i:03d}.jpg" for i in range(9)])
    folder(root / "gap", [f"img_{i:05d}.jpg" for i in (1, 2, 3, 5, 6)])
    folder(root / "void", [])
    (
        folder(root / "broken", [f"img_{i:05d}.jpg" for i in range(1, 10)]) / "img_00005.jpg"
    ).write_bytes(b"\xff\xd8 no more")
    return root


def check(tmp_path, root, text, *flags):
    """Check a list of this text.

    Returns the exit status and the rows (line, id, reason, kind) of --csv.
    """
    (tmp_path / "list.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    status = call(
        "check_videos",
        tmp_path / "list.txt",
        "--root_path",
        root,
        "--csv",
        tmp_path / "out.csv",
        "-j",
        1,
        *flags,
    )
    with open(tmp_path / "out.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["line", "id", "reason", "kind"]
    return status, rows


def test_every_kind_of_problem(tmp_path, root, capsys):
    lines = [
        "good.mp4 20 0",
        "frames 9 1",
        "with blank.mp4\t1",
        "gone.mp4 0",
        "nowhere.mp4 0",
        "empty.mp4 0",
        "void 3 0",
        "other 9 0",
        "zero 9 0",
        "cut.mp4 0",
        "middle.mp4 0",
        "text.mp4 0",
        "gap 6 0",
        "broken 9 0",
        "frames/ 8 1",
        "short.mp4 0",
        "seventh.mp4 0",
    ]
    status, rows = check(tmp_path, root, "\n".join(lines), "--min_frames", "4", "--num_class", "3")
    assert status == 1
    expected = {
        4: "missing",
        5: "missing",
        6: "empty",
        7: "empty",
        8: "template",
        9: "template",
        10: "unreadable",
        11: "unreadable",
        12: "unreadable",
        13: "unreadable",
        14: "unreadable",
        16: "short",
    }
    found = {int(row[0]): row for row in rows if row[0] and row[0] != "15"}
    assert {line: row[3] for line, row in found.items()} == expected
    assert all(
        row[1] == lines[line - 1].split("\t")[0].split(" ")[0] for line, row in found.items()
    )
    assert "{:06d}.png would fit" in found[8][2] and "f{zero:03d}.jpg would fit" in found[9][2]
    assert (
        "img_00004.jpg is missing, but img_00005.jpg" in found[13][2]
        and "img_00005.jpg" in found[14][2]
    )
    assert found[5][2] == "a broken link" and found[16][2] == "3 frames, fewer than 4"
    twice = [row for row in rows if row[0] == "15"]
    assert [row[3] for row in twice] == [
        "count",
        "duplicate",
    ] and "says 8 frames, there are 9" in twice[0][2]
    assert "the same path as line 2" in twice[1][2]
    assert rows[0] == ["", "", "1 of 3 labels without videos: 2", "labels"]
    printed = capsys.readouterr().out
    assert "17 videos checked, first, middle and last frame decoded, 15 problems" in printed
    assert (
        "unreadable  5       " in printed and f"{tmp_path / 'list.txt'}:12: text.mp4: " in printed
    )


def test_sound_list(tmp_path, root, capsys):
    status, rows = check(
        tmp_path, root, "good.mp4 0\nwith blank.mp4\t1\nframes 9 2\nshort 2\n", "--num_class", 3
    )
    assert (status, rows) == (0, []) and "4 videos checked" in capsys.readouterr().out


def test_times_in_decoding_order_are_accepted(tmp_path):
    source = encode(tmp_path / "source.mp4", textured_frames(20))
    copy_without_times(source, tmp_path / "lost.mp4")
    status, rows = check(tmp_path, tmp_path, "lost.mp4 0\n", "--num_class", 1, "--frames", "all")
    assert (status, rows) == (0, [])


def test_choice_of_decoded_frames(tmp_path, root):
    for frames, lines in (("none", []), ("first-middle-last", ["2"]), ("all", ["1", "2"])):
        status, rows = check(tmp_path, root, "seventh.mp4 0\nbroken 9 0\n", "--frames", frames)
        assert [row[0] for row in rows] == lines and status == bool(lines)


def test_all_frames_in_chunks(tmp_path, root, monkeypatch):
    """Each frame once, the last ones too."""
    asked = []
    monkeypatch.setattr(video_checks, "DECODED_AT_ONCE", 3 * 64 * 96 * 3)

    class Reader:
        def __len__(self):
            return 20

        def get(self, indices):
            asked.append(list(indices))
            return np.empty((len(indices), 64, 96, 3), np.uint8)

    video_checks.decode(Reader(), "all")
    assert (
        asked[0] == [0] and list(chain(*asked[1:])) == list(range(20)) and max(map(len, asked)) == 3
    )


def test_duplicates_with_other_labels_leaks_and_bytes(tmp_path, root):
    (tmp_path / "other.txt").write_text("short.mp4 0\n../list/good.mp4 0\n")
    os.symlink(root, tmp_path / "list")
    text = "good.mp4 0\ngood 0\nshort.mp4 0\n-dash.mp4\t1\nframes 9 1\nsub/../frames 9 0\n"
    flags = ["--other", tmp_path / "other.txt", "--other_root", tmp_path / "list"]
    (root / "sub").mkdir(exist_ok=True)
    _, rows = check(tmp_path, root, text, *flags)
    assert [(row[0], row[3]) for row in rows] == [
        ("2", "duplicate"),
        ("5", "duplicate"),
        ("6", "duplicate"),
    ]
    assert "several labels" in rows[1][2] and "has label 1 and not 0" in rows[2][2]
    _, rows = check(tmp_path, root, text, *flags, "--content")
    kinds = [(row[0], row[3]) for row in rows]
    assert kinds == [
        ("1", "duplicate"),
        ("1", "leak"),
        ("2", "duplicate"),
        ("2", "leak"),
        ("3", "leak"),
        ("4", "duplicate"),
        ("4", "leak"),
        ("5", "duplicate"),
        ("6", "duplicate"),
    ]
    assert f"the same bytes as {tmp_path / 'other.txt'}:2, ../list/good.mp4" in rows[1][2]
    _, rows = check(tmp_path, root, text, "--other", tmp_path / "list.txt")
    assert sum(row[3] == "leak" for row in rows) == 6


def test_folders_of_the_same_bytes(tmp_path, root):
    for name in ("twin a", "twin b"):
        folder(tmp_path / name, ["img_00001.jpg", "img_00002.jpg"])
    folder(tmp_path / "less", ["img_00001.jpg"])
    _, rows = check(tmp_path, tmp_path, "twin a\t2\t0\nless\t1\t0\ntwin b\t2\t0\n", "--content")
    assert [(row[0], row[3]) for row in rows] == [("3", "duplicate")]


def test_clean_keeps_bytes(tmp_path, root, capsys):
    text = (
        b"\xef\xbb\xbfgood.mp4 0\r\n\r\ngone.mp4 0\r\n  frames   9 1 \nshort.mp4\t1\r"
        b"text.mp4 0\n\xc3\x9cbung.mp4 1"
    )
    status, _ = check(tmp_path, root, text, "--clean", tmp_path / "clean.txt")
    assert status == 1 and "5 of 7 lines kept" in capsys.readouterr().out
    kept = b"\xef\xbb\xbfgood.mp4 0\r\n\r\n  frames   9 1 \nshort.mp4\t1\r\xc3\x9cbung.mp4 1"
    assert (tmp_path / "clean.txt").read_bytes() == kept
    assert check(tmp_path, root, kept)[0] == 0


def deadly(rules, record):
    """Like check_video, but some videos crash the process or never end."""
    if "dash" in record.id:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "blank" in record.id:
        time.sleep(600)
    return video_checks.check_video(rules, record)


@pytest.mark.slow
def test_video_that_crashes_its_process_is_reported(tmp_path, root, monkeypatch):
    monkeypatch.setattr(list_checks, "check_video", deadly)
    text = "good.mp4 0\n-dash.mp4 0\nshort.mp4 0\nwith blank.mp4\t0\nframes 9 0\ntext.mp4 0\n"
    status, rows = check(
        tmp_path, root, text, "--timeout", "2", "-j", 2, "--clean", tmp_path / "clean.txt"
    )
    assert status == 1 and [row[:2] for row in rows] == [
        ["2", "-dash.mp4"],
        ["4", "with blank.mp4"],
        ["6", "text.mp4"],
    ]
    assert rows[0][2:] == ["the process that read it was killed by SIGSEGV", "unreadable"]
    assert rows[1][2] == "the process that read it was not done within 2 s"
    assert (tmp_path / "clean.txt").read_text() == "good.mp4 0\nshort.mp4 0\nframes 9 0\n"


def cpu_seconds(pid):
    """Of which a worker needs less than one to start."""
    return sum(
        map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])
    ) / os.sysconf("SC_CLK_TCK")


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@linux
def test_ctrl_c_prints_the_problems_found(tmp_path, root):
    (tmp_path / "list.txt").write_text("text.mp4 0\n" + "good.mp4 0\n" * 20000)
    out = [tmp_path / name for name in ("out.csv", "clean.txt")]
    command = [
        sys.executable,
        TOOL,
        tmp_path / "list.txt",
        "--root_path",
        root,
        "-j",
        "1",
        "--csv",
        out[0],
        "--clean",
        out[1],
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: any(cpu_seconds(pid) > 1 for pid in children.read_text().split()), 120)
    workers = [int(pid) for pid in children.read_text().split()]
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and errors.strip().endswith("interrupted")
        and "Traceback" not in errors
    )
    assert (
        " of 20001 videos checked when interrupted, 1 problem" in printed and "text.mp4" in printed
    )
    assert "text.mp4" in out[0].read_text() and not out[1].exists()
    wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["-j", 0], "argument -j/--processes: 0 is not a positive number"),
        (["--multi_label"], "--multi_label needs --num_class or --class_names"),
        (["--num_class", 1], "list.txt:2: label 1 "),
        (["--image_tmpl", "frame.jpg"], "--image_tmpl 'frame.jpg' does not name"),
        (["--class_names", "gone.txt"], "gone.txt: no such file"),
        (
            ["--csv", "no/such/folder.csv"],
            "no/such/folder.csv: No such file or directory; give a file that can be written",
        ),
        (["--clean", "list.txt"], "--clean list.txt is a list that is read"),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, root, capsys, monkeypatch, flags, words):
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("good.mp4 0\nshort.mp4 1\n")
    assert words in refused(
        capsys, "check_videos", "list.txt", "--root_path", root, "-j", 1, *flags
    )


def test_multi_label(tmp_path, root):
    text = "good.mp4 0,2\nfrom.mp4 2\nframes 9 2,3\ngood 2,0\nframes/ 9 3\n"
    _, rows = check(tmp_path, root, text, "--multi_label", "--num_class", 5)
    assert [(row[0], row[3]) for row in rows] == [
        ("", "labels"),
        ("2", "missing"),
        ("3", "duplicate"),
        ("4", "duplicate"),
        ("5", "duplicate"),
    ]
    assert (
        rows[0][2] == "2 of 5 labels without videos: 1, 4"
        and "which has label (2, 3) and not (3,)" in rows[4][2]
    )


def test_label_out_of_range_is_refused_before_videos_are_read(tmp_path, root, capsys):
    (tmp_path / "list.txt").write_text("good.mp4 0\nshort.mp4 20190612123456\n")
    line = refused(capsys, "check_videos", tmp_path / "list.txt", "--root_path", root)
    assert f"{tmp_path / 'list.txt'}:2: label 20190612123456" in line


def test_segments_and_frames_from_zero(tmp_path, root):
    folder(tmp_path / "zero", [f"img_{i:05d}.jpg" for i in range(5)])
    encode(tmp_path / "v.mp4", textured_frames(8))
    _, rows = check(tmp_path, tmp_path, "v.mp4 2 6 0\nzero 4 0\n")
    assert [(row[0], row[3]) for row in rows] == [("1", "missing"), ("2", "template")]
    assert "segments are not supported" in rows[0][2] and "img_{zero:05d}.jpg" in rows[1][2]
    assert check(tmp_path, tmp_path, "zero 5 0\n", "--image_tmpl", "img_{zero:05d}.jpg")[0] == 0


def test_path_that_is_not_a_list(tmp_path, root, capsys):
    assert "good.mp4 0" in refused(capsys, "check_videos", root / "good.mp4")
    assert "make_lists.py folder" in refused(capsys, "check_videos", tmp_path)


def test_dataset_file_checks_both_lists(tmp_path, root, capsys):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/set.toml").write_text(
        f'num_class = 2\nroot_path = "{root}"\ntrain_list = "train.txt"\nval_list = "val.txt"\n'
    )
    (tmp_path / "set/train.txt").write_text("good.mp4 0\nwith blank.mp4\t1\n")
    (tmp_path / "set/val.txt").write_text("good.mp4 0\nshort.mp4 1\n")
    for name in (tmp_path / "set", tmp_path / "set/set.toml"):
        assert call("check_videos", name, "-j", 1) == 1
        printed = capsys.readouterr().out
        assert "train.txt: 2 videos checked" in printed and "val.txt: 2 videos checked" in printed
        assert printed.count("leak") == 1 and "val.txt:1" in printed
    line = refused(capsys, "check_videos", tmp_path / "set", "--csv", tmp_path / "out.csv")
    assert "--csv" in line


def test_known_dataset_is_checked_by_its_name(tmp_path, root, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("data/hmdb51/splits")
    folder.mkdir(parents=True)
    for split, video in (("train", "good.mp4"), ("val", "short.mp4")):
        (folder / f"hmdb51_rgb_{split}_split_1.txt").write_text(f"{video} 0\n")
    # 1: most labels have no video.
    assert call("check_videos", "hmdb51", "--root_path", root, "-j", 1) == 1
    printed = capsys.readouterr().out
    for split in ("train", "val"):
        assert f"hmdb51_rgb_{split}_split_1.txt: 1 video checked" in printed


def test_killed_run_leaves_the_problems_found(tmp_path, root):
    lines = ["text.mp4 0\n", "empty.mp4 0\n", *(f"good.mp4 {i}\n" for i in range(20_000))]
    (tmp_path / "list.txt").write_text("".join(lines))
    partial = tmp_path / "out.csv.partial"
    process = start_tool(
        "check_videos",
        tmp_path / "list.txt",
        "--root_path",
        root,
        "-j",
        1,
        "--csv",
        tmp_path / "out.csv",
    )
    wait_until(lambda: partial.exists() and len(partial.read_text().splitlines()) == 3)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out.csv").exists()
    rows = [line.split(",")[:2] for line in partial.read_text().splitlines()]
    assert rows == [["line", "id"], ["1", "text.mp4"], ["2", "empty.mp4"]]
    assert check(tmp_path, root, "empty.mp4 0\n")[0] == 1 and not partial.exists()


def test_clean_without_any_sound_video(tmp_path, root, capsys):
    (tmp_path / "list.txt").write_text("text.mp4 0\n")
    args = [
        "check_videos",
        tmp_path / "list.txt",
        "--root_path",
        root,
        "-j",
        1,
        "--clean",
        tmp_path / "clean.txt",
    ]
    assert (
        "every video has a problem" in refused(capsys, *args)
        and not (tmp_path / "clean.txt").exists()
    )


def test_flow(tmp_path, root, capsys):
    for video in ("000012", "000013"):
        folder(
            tmp_path / video, [f"{video}-{axis}_{i:05d}.jpg" for axis in "xy" for i in range(1, 6)]
        )
    folder(tmp_path / "pair", [f"flow_{axis}_{i:05d}.jpg" for axis in "xy" for i in range(1, 6)])
    flags = ["--modality", "Flow", "--image_tmpl"]
    _, rows = check(
        tmp_path, tmp_path, "12 10 0\n000013 5 0\npair 10 0\n", *flags, "{:06d}-{}_{:05d}.jpg"
    )
    assert [(row[0], row[3]) for row in rows] == [("2", "count"), ("3", "unreadable")]
    assert "says 5 frames, there are 10" in rows[0][2]
    _, rows = check(tmp_path, tmp_path, "000012 10 0\npair 5 0\n", *flags, "flow_{}_{:05d}.jpg")
    assert [(row[0], row[3]) for row in rows] == [("1", "template")]
    assert "; {:06d}-{}_{:05d}.jpg would fit" in rows[0][2]
    _, rows = check(tmp_path, tmp_path, "pair 5 0\n", *flags, "{}{:d}.jpg")
    assert "; flow_{}_{:05d}.jpg would fit" in rows[0][2]


@pytest.fixture(scope="module")
def packed(root, tmp_path_factory):
    """A shard set of most of root, a video in each shard, and the list of it."""
    place = tmp_path_factory.mktemp("packed")
    (place / "list.txt").write_text(
        "good.mp4 0\nframes 9 1\nempty.mp4 0\nvoid 3 0\nother 9 0\ncut.mp4 0\nmiddle.mp4 0\n"
        "gap 6 0\nbroken 9 0\nshort.mp4 3 0\n"
    )
    pack(place, root)
    return place


def pack(place, root):
    """Makes ``place/k.shards`` of ``place/list.txt``, a video in each shard."""
    flags = ["--root_path", root, "--out", place / "k.shards", "--shard_size", 1, "-j", 1]
    assert call("make_shards", place / "list.txt", *flags) == 0


def test_a_shard_set_has_the_problems_of_the_files(tmp_path, root, packed):
    text = (packed / "list.txt").read_text() + "gone.mp4 0\ngood 0\nframes 8 1\n"
    results = [
        check(tmp_path, place, text, "--min_frames", 4)
        for place in (root, packed / "k.shards", f"file://{packed}/k.shards")
    ]
    first, *others = [
        [[re.sub(" object at 0x[0-9a-f]+", "", field) for field in row] for row in rows]
        for _, rows in results
    ]
    assert others == [first, first] and [status for status, _ in results] == [1, 1, 1]
    assert [(row[0], row[3]) for row in first] == [
        ("3", "empty"),
        ("4", "empty"),
        ("5", "template"),
        ("6", "unreadable"),
        ("7", "unreadable"),
        ("8", "unreadable"),
        ("9", "unreadable"),
        ("10", "short"),
        ("11", "missing"),
        ("12", "duplicate"),
        ("13", "count"),
        ("13", "duplicate"),
    ]
    (tmp_path / "other.txt").write_text("good 0\n")
    _, rows = check(
        tmp_path, packed / "k.shards", "good.mp4 0\n", "--other", tmp_path / "other.txt"
    )
    assert [row[3] for row in rows] == ["leak"]


def test_a_damaged_shard_set(tmp_path, packed, capsys):
    out = shutil.copytree(packed / "k.shards", tmp_path / "k.shards")
    data = bytearray((out / "shard-000000.tar").read_bytes())
    data[9000] ^= 1
    (out / "shard-000000.tar").write_bytes(data)
    _, rows = check(tmp_path, out, "good.mp4 0\nframes 9 0\n")
    assert [(row[0], row[3]) for row in rows] == [
        ("1", "unreadable")
    ] and "shard-000000.tar is damaged at byte" in rows[0][2]
    (out / "shard-000001.tar").unlink()
    args = ["check_videos", tmp_path / "list.txt", "--root_path", out, "-j", 1]
    line = refused(capsys, *args)
    assert f"{out}/shard-000001.tar" in line and "tools/make_shards.py" in line
    assert "--content compares files and folders, not" in refused(capsys, *args, "--content")
    (out / "index.tsv").unlink()
    assert f"{out}/index.tsv: no such file" in refused(capsys, *args)
    assert "s3://bucket/videos/" in refused(capsys, *args[:-3], "s3://bucket/videos")


def test_flow_in_a_shard_set(tmp_path, capsys):
    """Damage is the problem of one video; a missing shard is an error of the whole run."""
    for video in ("000012", "pair"):
        folder(
            tmp_path / video, [f"{video}-{axis}_{i:05d}.jpg" for axis in "xy" for i in range(1, 6)]
        )
    encode(tmp_path / "v.mp4", textured_frames(3))
    text, out = "12 10 0\npair 10 0\nv.mp4 0\n", tmp_path / "k.shards"
    (tmp_path / "list.txt").write_text(text)
    pack(tmp_path, tmp_path)
    flags = ["--modality", "Flow", "--image_tmpl", "{:06d}-{}_{:05d}.jpg"]
    _, rows = check(tmp_path, out, text, *flags)
    assert [(row[0], row[3]) for row in rows] == [("2", "unreadable"), ("3", "unreadable")]
    assert (
        "the folder is called 'pair'" in rows[0][2]
        and "flow is not read from a video file" in rows[1][2]
    )
    (out / "shard-000000.tar").unlink()
    line = refused(
        capsys, "check_videos", tmp_path / "list.txt", "--root_path", out, "-j", 1, *flags
    )
    assert "shard-000000.tar: no such file; copy it there" in line


def test_real_videos(tmp_path, real_videos, capsys):
    text = "arm_wrestling_10s.mp4 280 0\nclip_a.mp4 300 1\nclip_b.avi 163 2\n"
    status, rows = check(tmp_path, real_videos, text, "--frames", "all", "--num_class", 3)
    assert status == 1 and rows == [
        ["3", "clip_b.avi", "the list says 163 frames, there are 164", "count"]
    ]


def test_clean_keeps_a_blank_line_apart_from_the_line_end_before_it(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"good.mp4 0\rgone.mp4 0\n\nshort.mp4 1\n")
    list_checks.write_clean(tmp_path / "clean.txt", tmp_path / "list.txt", {2})
    assert (tmp_path / "clean.txt").read_bytes() == b"good.mp4 0\r\rshort.mp4 1\n"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"good.mp4 0", b"\xc3\x9cbung.mp4\t1", b"", b"  ", b"gone.mp4 3"]),
        max_size=8,
    ),
    st.sets(st.integers(1, 8)),
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=8, max_size=8),
)
def test_clean_drops_those_lines_and_no_others(tmp_path_factory, lines, bad, ends):
    from ops.data.lists import read_text

    place = tmp_path_factory.mktemp("clean")
    (place / "list.txt").write_bytes(
        b"".join(line + end for line, end in zip(lines, ends, strict=False))
    )
    numbered = enumerate(read_text(place / "list.txt").split("\n")[:-1], 1)
    expected = [line for number, line in numbered if number not in bad]
    try:
        list_checks.write_clean(place / "clean.txt", place / "list.txt", bad)
    except UserError:
        assert not any(line.strip() for line in expected)
    else:
        assert read_text(place / "clean.txt").split("\n")[:-1] == expected
