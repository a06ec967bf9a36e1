import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.launch import ROOT, call, contents, refused, start_tool, wait_until
from helpers.videos import decode_all, encode, textured_frames

from ops.data.lists import read_list
from ops.data.readers.open import open_reader


def failures(out):
    with open(out / "failures.csv", newline="") as file:
        return {Path(row["video"]).name: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Five videos in two folders, and a list of them."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(
        ("a/v.mp4", "a/turned.mp4", "b c/v.avi", "b c/größe 视频.mkv", "-x.mp4")
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        codec, rotation = (
            ("mpeg4" if name.endswith(".avi") else "libx264"),
            90 * (name == "a/turned.mp4"),
        )
        encode(
            folder / name, textured_frames(20 + number, seed=number), codec=codec, rotation=rotation
        )
    return folder


def test_frames_equal_those_of_the_videos(videos, tmp_path):
    out = tmp_path / "out"
    assert call("extract_frames", videos, out, "-j", 2, "--quality", 95) == 0
    for path in filter(Path.is_file, videos.rglob("*")):
        truth = decode_all(path)
        with open_reader(
            out / path.relative_to(videos).with_suffix(""), image_tmpl="img_{:05d}.jpg"
        ) as reader:
            frames = reader.get(range(len(reader)))
        assert frames.shape == truth.shape
        assert np.abs(frames.astype(int) - truth).mean() < 8
        assert [
            np.abs(frame.astype(int) - truth).mean((1, 2, 3)).argmin() for frame in frames
        ] == list(range(len(truth)))
    assert json.loads((out / ".extract_frames.json").read_text()) == {
        "image_tmpl": "img_{:05d}.jpg",
        "start": 1,
        "size": "0",
        "quality": 95,
    }


def test_size_names_start_and_quality(videos, tmp_path):
    """PNG keeps every value; a list, another size, other names."""
    args = ["extract_frames", "--template", "{:06d}.png", "-j", 1]
    assert call(*args, videos / "a", tmp_path / "png") == 0
    with open_reader(tmp_path / "png" / "turned", image_tmpl="{:06d}.png") as reader:
        assert np.array_equal(
            reader.get(range(len(reader))), decode_all(videos / "a" / "turned.mp4")
        )
    (tmp_path / "list.txt").write_text("b c/v.avi\t0\na/turned\t1\n")
    listed = [tmp_path / "out", "--list", tmp_path / "list.txt", "--root_path", videos]
    assert call(*args, *listed, "--size", 32, "--start", 0) == 0
    assert sorted(path.name for path in (tmp_path / "out" / "b c" / "v").iterdir()) == [
        f"{i:06d}.png" for i in range(22)
    ]
    for name, shape in (("a/turned", (48, 32, 3)), ("b c/v", (32, 48, 3))):
        with open_reader(tmp_path / "out" / name, image_tmpl="{zero:06d}.png") as reader:
            assert reader.get([0]).shape[1:] == shape
    assert len(read_list(tmp_path / "list.txt", num_class=2)) == 2
    assert call(*args, videos / "a", tmp_path / "tsn", "--size", "34x26") == 0
    with open_reader(tmp_path / "tsn" / "turned", image_tmpl="{:06d}.png") as reader:
        assert reader.get([0]).shape == (1, 26, 34, 3)


def test_frames_numbered_from_0_are_read_back(videos, tmp_path):
    template = "img_{zero:05d}.png"
    assert (
        call("extract_frames", "--image_tmpl", template, "-j", 1, videos / "a", tmp_path / "out")
        == 0
    )
    truth = decode_all(videos / "a" / "turned.mp4")
    assert (
        sorted(path.name for path in (tmp_path / "out" / "turned").iterdir())[0] == "img_00000.png"
    )
    with open_reader(tmp_path / "out" / "turned", image_tmpl=template) as reader:
        assert np.array_equal(reader.get(range(len(reader))), truth)
    flow = [
        "extract_flow",
        "--frames",
        template,
        "--method",
        "dis",
        "--rgb_tmpl",
        template,
        "-j",
        1,
    ]
    if importlib.util.find_spec("cv2"):
        assert call(*flow, tmp_path / "out", tmp_path / "flow") == 0
        assert (
            sorted(path.name for path in (tmp_path / "flow" / "turned").iterdir())[-1]
            == f"img_{len(truth) - 2:05d}.png"
        )


def test_broken_videos_are_listed_and_retried(videos, tmp_path, capfd):
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    whole = (videos / "a" / "v.mp4").read_bytes()
    (src / "good.mp4").write_bytes(whole)
    (src / "empty.mp4").touch()
    (src / "text.avi").write_text("no video")
    (src / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (src / "dangling.mp4").symlink_to(tmp_path / "nothing")
    avi = (videos / "b c" / "v.avi").read_bytes()
    (src / "short.mkv").write_bytes(
        avi[: len(avi) * 2 // 3]
    )  # FFmpeg looks at the bytes, not at the name
    assert call("extract_frames", src, out, "-j", 2) == 1
    output = capfd.readouterr()
    assert "2 videos done, 0 already there, 4 failed and are listed in" in output.out
    assert failures(out) == {
        "empty.mp4": "empty file",
        "dangling.mp4": "No such file or directory",
        "text.avi": "Invalid data found when processing input",
        "cut.mp4": "Invalid data found when processing input",
    }
    assert all(f"{src / name}: {reason}" in output.err for name, reason in failures(out).items())
    assert {path.name for path in out.iterdir()} == {
        ".extract_frames.json",
        "failures.csv",
        "good",
        "short",
    }
    assert 5 < len(list((out / "short").iterdir())) < 22
    (src / "empty.mp4").write_bytes(whole)
    assert call("extract_frames", src, out, "-j", 2) == 1
    assert "empty.mp4" not in failures(out)
    for name in failures(out):
        (src / name).unlink()
    assert call("extract_frames", src, out, "-j", 2) == 0
    assert not (out / "failures.csv").exists() and contents(out / "empty") == contents(out / "good")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--quality", 0], "--quality 0 is not in"),
        (["--start", -1], "--start -1 is too small"),
        (["--size", "x"], "not a size"),
        (["--image_tmpl", "img.jpg"], "does not name the RGB frames"),
        (["--image_tmpl", "{:05d}.tif"], "does not name pictures"),
        (["-j", 0], "-j 0 is too small"),
    ],
)
def test_invalid_arguments_are_refused(flags, words, videos, tmp_path, capsys):
    assert words in refused(capsys, "extract_frames", videos, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_other_arguments_are_refused(videos, tmp_path, capsys):
    assert call("extract_frames", videos / "a", tmp_path / "out", "-j", 1) == 0
    before = contents(tmp_path / "out")
    assert "(size 0 -> 32, quality 92 -> 50)" in refused(
        capsys, "extract_frames", videos / "a", tmp_path / "out", "--size", 32, "--quality", 50
    )
    assert contents(tmp_path / "out") == before


def pictures(out):
    return sum(len(files) for _, _, files in os.walk(out))


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A video whose frames take a second or so, linked twelve times."""
    folder = tmp_path_factory.mktemp("longer")
    path = encode(folder / "v.mkv", textured_frames(60, 180, 240), options={"preset": "ultrafast"})
    (folder / "src" / "c").mkdir(parents=True)
    for number in range(12):
        (folder / "src" / "c" / f"v {number}.mkv").symlink_to(path)
    assert call("extract_frames", folder / "src", folder / "whole", "-j", 2) == 0
    return folder


@pytest.mark.slow
def test_killed_runs_are_completed(longer, tmp_path, capfd):
    out = tmp_path / "out"
    for share in (20, 200, 400):
        process = start_tool("extract_frames", longer / "src", out, "-j", 2)
        wait_until(lambda share=share: pictures(out) > share)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    done = [path for path in out.glob("c/v *") if path.suffix != ".tmp"]
    assert len(done) < 12 and all(len(list(path.iterdir())) == 60 for path in done)
    (out / "c" / ".0a1b2c3d.tmp").mkdir()
    assert call("extract_frames", longer / "src", out, "-j", 2) == 0
    assert contents(out) == contents(longer / "whole") and not list(out.glob("c/.*"))


def test_interrupted_run_ends_with_one_line(longer, tmp_path):
    out = tmp_path / "out"
    process = start_tool("extract_frames", longer / "src", out, "-j", 2, start_new_session=True)
    wait_until(lambda: pictures(out) > 20)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.endswith("interrupted; continue with the same command\n")
    assert not list(out.rglob("*.tmp"))


def test_full_disk_ends_the_run(longer, tmp_path):
    """A limit of 2 KiB per file replaces a full disk: the run ends, and later completes."""
    limited = subprocess.run(
        [
            "bash",
            "-c",
            'ulimit -f 2; exec "$@"',
            "-",
            sys.executable,
            "tools/extract_frames.py",
            str(longer / "src"),
            str(tmp_path / "out"),
            "-j",
            "2",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert limited.returncode == 2 and "Traceback" not in limited.stderr
    line = limited.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ") and "File too large" in line and "must be writable" in line
    assert [path.name for path in (tmp_path / "out" / "c").iterdir()] == []
    assert call("extract_frames", longer / "src", tmp_path / "out", "-j", 2) == 0
    assert contents(tmp_path / "out") == contents(longer / "whole")
