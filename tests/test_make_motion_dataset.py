import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.launch import ROOT, call, contents, is_running, refused, start_tool, wait_until
from scipy.ndimage import gaussian_filter
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import cross_val_predict

from lib.videos import motion_dataset, motion_videos
from lib.videos.motion_videos import CLASSES, PHOTOS, encode, endless, photo, render
from ops.data.class_names import flip_label_map, read_class_names
from ops.data.lists import read_list
from ops.data.readers.open import open_reader

TOOL = ROOT / "tools" / "make_motion_dataset.py"
QUICK = ["--size", 32, "--frames", 4]


def decode(source):
    """Gray frames, float32 ``[n, H, W]``."""
    with av.open(source) as container:
        return np.stack(
            [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        ).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """16 + 8 videos made by two processes in another folder, with unusual uninitialized memory."""
    folder = tmp_path_factory.mktemp("motion")
    process = start_tool(
        "make_motion_dataset",
        "--videos",
        16,
        "--size",
        64,
        "--out",
        "set",
        "-j",
        2,
        cwd=folder,
        env={**os.environ, "MALLOC_PERTURB_": "85"},
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return folder / "set"


def test_layout(made):
    about = json.loads((made / "about.json").read_text())
    assert about == {"videos": 16, "val_videos": 8, "size": 64, "frames": 24, "seed": 0}
    assert {path.name for path in made.iterdir()} == {
        "videos",
        "train.txt",
        "val.txt",
        "classes.txt",
        "about.json",
    }
    names = read_class_names(str(made / "classes.txt"))
    assert flip_label_map(names).tolist() == [1, 0, 2, 3, 4, 5, 7, 6]
    for split, count in (("train", 16), ("val", 8)):
        records = read_list(str(made / f"{split}.txt"), root_path=str(made), num_class=8)
        assert np.bincount(records.labels).tolist() == [count // 8] * 8
        assert [record.id for record in records] == [
            f"videos/{split}/{i:05d}.mp4" for i in range(count)
        ]
        assert {Path(record.path) for record in records} == set((made / "videos" / split).iterdir())
        with open_reader(records[-1].path, image_tmpl="") as reader:
            assert len(reader) == 24 and reader.get([0, 23]).shape == (2, 64, 64, 3)
    with av.open(records[0].path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        keys = [i for i, frame in enumerate(container.decode(stream)) if frame.key_frame]
    assert keys[:2] == [0, 12]


@pytest.mark.slow
def test_one_process_makes_the_same_bytes_and_another_seed_others(made, tmp_path):
    common = ["make_motion_dataset", "--size", 64, "-j", 1]
    assert call(*common, "--videos", 16, "--out", tmp_path / "same") == 0
    assert contents(tmp_path / "same") == contents(made)
    assert call(*common, "--videos", 8, "--seed", 1, "--out", tmp_path / "other") == 0
    videos = [
        value for name, value in contents(tmp_path / "other").items() if name.endswith(".mp4")
    ]
    assert len(set(videos)) == 16 and not set(videos) & set(contents(made).values())


def test_second_run(tmp_path, capsys):
    def run(*args):
        return ["make_motion_dataset", *QUICK, "--out", tmp_path / "set", "-j", 1, *args]

    assert call(*run("--videos", 9)) == 0
    before = contents(tmp_path / "set")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")}
    capsys.readouterr()
    assert call(*run("--videos", 9, "-j", 3)) == 0
    assert "already there: 9 training and 8 validation videos" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*")} == times
    line = refused(capsys, *run("--videos", 8, "--seed", 5))
    assert "videos 9 -> 8, seed 0 -> 5" in line and "--force" in line
    assert contents(tmp_path / "set") == before
    (tmp_path / "set" / "videos" / "val" / "00007.mp4").unlink()
    assert call(*run("--videos", 9)) == 0
    assert contents(tmp_path / "set") == before
    assert call(*run("--videos", 8, "--seed", 5, "--force")) == 0
    after = contents(tmp_path / "set")
    assert (
        "videos/train/00008.mp4" not in after
        and after["videos/val/00000.mp4"] != before["videos/val/00000.mp4"]
    )
    assert json.loads((tmp_path / "set" / "about.json").read_text())["seed"] == 5


def workers_of(pid):
    """The processes that ``pid`` started for its work."""
    children = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)],
        capture_output=True,
        text=True,
    ).stdout
    return [int(line.split()[0]) for line in children.splitlines() if "spawn_main" in line]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_killed_runs_are_completed(tmp_path, capsys):
    args = ["--videos", 64, "--frames", 8, "--size", 32]
    out = tmp_path / "set"

    def begin():
        count = len(list(out.rglob("*.mp4")))
        process = start_tool("make_motion_dataset", *args, "--out", out, "-j", 2)
        wait_until(lambda: len(list(out.rglob("*.mp4"))) >= count + 2)
        workers = workers_of(process.pid)
        assert len(workers) == 2 and not (out / "about.json").exists()
        return process, workers

    process, workers = begin()
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(map(is_running, workers)))
    (out / "videos" / "train" / "00063.mp4.0a1b2c3d.tmp").write_bytes(
        b"what a killed writer leaves"
    )
    assert len(list(out.rglob("*.mp4"))) < 80
    line = refused(capsys, "make_motion_dataset", *args, "--seed", 1, "--out", out)
    assert "seed 0 -> 1" in line

    process, workers = begin()
    os.kill(workers[0], signal.SIGKILL)  # another takes its place
    (out / "videos" / "train" / "00062.mp4.0a1b2c3d.tmp").write_bytes(
        b"what a killed worker leaves"
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in errors
    assert call("make_motion_dataset", *args, "--out", tmp_path / "whole", "-j", 2) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_a_video_that_kills_its_process_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(motion_dataset, "make_video", sys.exit)
    line = refused(capsys, "make_motion_dataset", "--videos", 8, *QUICK, "--out", tmp_path, "-j", 1)
    video = tmp_path / "videos" / "train" / "00000.mp4"
    assert f"{video} ended with status 1" in line


@pytest.mark.slow
def test_no_room(tmp_path):
    """A limit of 1 KiB a file stands for a full disk."""
    out = tmp_path / "set"
    args = ["--videos", "8", "--size", "32", "--frames", "24", "--out", str(out), "-j", "1"]
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", sys.executable, TOOL, *args],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert limited.returncode == 2 and "Traceback" not in limited.stderr
    line = limited.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {out}/videos/train/0000") and "File too large" in line
    assert not list(out.rglob("*.mp4*"))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--videos", 7], "--videos 7 is too small; give 8"),
        (["--val_videos", 0], "--val_videos 0 is too small"),
        (["--size", 30], "--size 30 is too small; give 32"),
        (["--size", 65], "--size 65 is odd"),
        (["--frames", 1], "--frames 1 is too small"),
        (["--seed", -1], "--seed -1 is too small"),
        (["--processes", 0], "--processes 0 is too small"),
    ],
)
def test_bad_numbers(flags, words, tmp_path, capsys):
    out = ["--out", tmp_path / "set"]
    assert words in refused(
        capsys, "make_motion_dataset", "--videos", 8, "--size", 32, *out, *flags
    )
    assert not (tmp_path / "set").exists()


def test_bad_folders(tmp_path, capsys):
    def refuse():
        return refused(
            capsys, "make_motion_dataset", "--videos", 8, *QUICK, "--out", out, "--force"
        )

    (tmp_path / "file").write_text("not a folder")
    for out in (tmp_path / "file", tmp_path / "file" / "set"):
        assert str(out) in refuse()
    out = tmp_path / "theirs"
    (out / "videos").mkdir(parents=True)
    assert f"{out / 'videos'} exists" in refuse()
    for text in ("{", "[1]", "\xff"):
        (out / "about.json").write_text(text, encoding="latin-1")
        assert f"{out / 'about.json'}: not a file" in refuse()
    assert {path.name for path in out.iterdir()} == {"videos", "about.json"}


def motion(video):
    """The motion of a video: float64 ``[4]``.

    Pixels moved right and down, and the logarithm of the zoom and radians turned times the side.
    Least squares for one similarity transform over all pairs of consecutive frames (Lucas and
    Kanade, 1981).
    """
    video = gaussian_filter(video, (0, 1.5, 1.5))
    side = video.shape[-1]
    x, y = np.meshgrid(*[np.arange(side) / side - (side - 1) / (2 * side)] * 2)
    down, right = np.gradient((video[1:] + video[:-1]) / 2, axis=(1, 2))
    basis = np.stack([right, down, right * x + down * y, down * x - right * y], axis=-1).reshape(
        -1, 4
    )
    return np.linalg.solve(basis.T @ basis, basis.T @ -np.diff(video, axis=0).ravel()) * (
        len(video) - 1
    )


def test_content_moves_as_its_class_name_says(made):
    """Only the named motion, in the named direction, and enough of it to be visible."""
    expected = {
        "Moving left to right": (0, 1),
        "Moving right to left": (0, -1),
        "Moving up": (1, -1),
        "Moving down": (1, 1),
        "Zooming in": (2, 1),
        "Zooming out": (2, -1),
        "Turning clockwise": (3, 1),
        "Turning counterclockwise": (3, -1),
    }
    names = (made / "classes.txt").read_text().splitlines()
    for split in ("train", "val"):
        for line in (made / f"{split}.txt").read_text().splitlines():
            path, label = line.split()
            parts = motion(decode(made / path)) * [6**0.5, 6**0.5, 1, 1]
            what, sign = expected[names[int(label)]]
            assert sign * parts[what] > 0.25 * 64, (line, parts)
            assert np.abs(np.delete(parts, what)).max() < 0.7 * abs(parts[what]), (line, parts)


def test_pairs_are_each_other_backwards():
    names, plane = list(CLASSES), photo("train")
    for pair in zip(names[::2], names[1::2], strict=True):
        one, other = (
            render(plane, name, 32, 6, np.random.default_rng(3)).astype(float) for name in pair
        )
        assert (
            np.abs(one - other[::-1]).mean() < 8 < np.abs(one - other).mean()
        )  # the noise is not played backwards


@pytest.mark.parametrize("name", CLASSES)
def test_no_border_is_ever_seen(name, monkeypatch):
    """A picture of one color keeps that color except for noise, in the widest and fastest views."""
    monkeypatch.setattr(motion_videos, "VIEW", (motion_videos.VIEW[1],) * 2)
    monkeypatch.setattr(motion_videos, "AMOUNT", (motion_videos.AMOUNT[1],) * 2)
    plane, rng = (
        endless(np.full((90, 110, 3), 128, np.uint8)),
        np.random.default_rng(len(name)),
    )
    for _ in range(16):
        video = render(plane, name, 32, 6, rng).astype(float)
        assert np.ptp(video, axis=(0, 1, 2)).max() < 50


def test_the_splits_show_different_photographs():
    assert PHOTOS["train"][0] != PHOTOS["val"][0]


def frame_features(video):
    """Features of single frames, ``[n, H, W]`` -> ``[n, 24]``.

    Brightness, contrast, sharpness, spectrum, directions and borders.
    """
    n, side, _ = video.shape
    window = np.hanning(side)
    power = (
        np.abs(np.fft.fft2((video - video.mean((1, 2), keepdims=True)) * window[:, None] * window))
        ** 2
    )
    fx, fy = np.meshgrid(*[np.fft.fftfreq(side) * side] * 2)
    radius, sector = np.hypot(fx, fy), (np.arctan2(fy, fx) % np.pi // (np.pi / 4)).clip(0, 3)
    bands = [(radius >= low) & (radius < 2 * low) for low in (1, 2, 4, 8, 16)]
    bands += [(radius >= 3) & (sector == i) for i in range(4)]
    edges = np.abs(np.diff(video, 2, axis=1)[:, :, 1:-1]) + np.abs(
        np.diff(video, 2, axis=2)[:, 1:-1]
    )
    inner = slice(side // 4, -side // 4)
    parts = [
        video,
        video[:, inner, inner],
        video[:, 0],
        video[:, -1],
        video[:, :, 0],
        video[:, :, -1],
        edges,
    ]
    features = [np.log(power[:, band].mean(1) + 1) for band in bands]
    features += [part.reshape(n, -1).mean(1) for part in parts] + [
        part.reshape(n, -1).std(1) for part in parts
    ]
    features += [edges[:, inner, inner].mean((1, 2)) / (edges.mean((1, 2)) + 0.1)]
    return np.stack(features, axis=1)


def accuracy(features, labels):
    """Accuracy of a random forest on videos that it was not fitted to."""
    forest = ExtraTreesClassifier(60, min_samples_leaf=2, random_state=0)
    return (cross_val_predict(forest, features, labels, cv=4) == labels).mean()


@pytest.mark.slow
def test_only_the_order_of_frames_depends_on_the_class():
    """Encoded videos of one photograph, where a leak is most visible.

    The bounds are chance plus three standard errors.
    """
    count, rng, names = 240, np.random.default_rng(0), list(CLASSES)
    labels = np.arange(count) % 8
    rendered = (render(photo("train"), names[label], 32, 8, rng) for label in labels)
    videos = [decode(io.BytesIO(encode(video))) for video in rendered]
    frames = np.stack([frame_features(video) for video in videos])
    by_chance = 1 / 8 + 3 * (7 / 64 / count) ** 0.5
    assert accuracy(frames[np.arange(count), rng.integers(8, size=count)], labels) < by_chance
    assert accuracy(frames.mean(1), labels) < by_chance
    unordered = np.concatenate([frames.mean(1), frames.std(1)], axis=1)
    direction = np.mean(
        [accuracy(unordered[labels // 2 == axis], labels[labels // 2 == axis]) for axis in range(4)]
    )
    assert direction < 1 / 2 + 3 * (1 / 4 / count) ** 0.5
    assert accuracy(np.stack([motion(video) for video in videos]), labels) > 0.9
