import os
import random
import signal
import sys

import numpy as np
import pytest
from helpers.launch import call, contents, refused, start_tool, wait_until
from helpers.videos import encode, textured_frames

from lib.videos.optical_flow import flow_method, quantize, warped_flow
from lib.videos.video_frames import write_picture
from ops.data.readers.open import open_reader

cv2 = pytest.importorskip("cv2")

PLACES = {"flow_{}_{:05d}.jpg": 2, "{:06d}.jpg": 1, "{:06d}.png": 1, "{:06d}-{}_{:05d}.jpg": 3}


def moving(count, speed, side=96, seed=0):
    """A smooth texture that moves by ``speed``, in pixels per frame to the right and down.

    Returns:
        uint8 ``[count, side, side, 3]``.
    """
    rng = np.random.default_rng(seed)
    plane = cv2.GaussianBlur(
        rng.uniform(0, 255, (side + 64, side + 64)).astype(np.float32), (0, 0), 2
    )
    plane = cv2.normalize(plane, None, 0, 255, cv2.NORM_MINMAX)
    shifts = [
        np.float32([[1, 0, speed[0] * t - 32], [0, 1, speed[1] * t - 32]]) for t in range(count)
    ]
    return (
        np.stack([cv2.warpAffine(plane, shift, (side, side)) for shift in shifts])[..., None]
        .repeat(3, -1)
        .astype(np.uint8)
    )


def read(folder, template, frames):
    count = frames * 2 if PLACES[template] == 3 else frames
    with open_reader(folder, image_tmpl=template, num_frames=count, modality="Flow") as reader:
        return reader.get(range(frames))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow") / "src"
    (folder / "c").mkdir(parents=True)
    encode(folder / "c" / "7.mp4", moving(6, (2, -1)), options={"crf": "8"})
    return folder


@pytest.mark.parametrize(
    "value, byte",
    [
        (0, 128),
        (-0.0, 128),
        (20, 255),
        (19.9, 254),
        (25, 255),
        (-20, 0),
        (-99, 0),
        (1, 134),
        (-1, 121),
        (20 / 255, 128),
        (3 * 20 / 255, 129),
        (-20 / 255, 127),
        (0.1, 128),
    ],
)
def test_quantization_equals_dense_flow(value, byte):
    assert quantize(np.full((1, 1), value, np.float64), 20).item() == byte


def test_motion_beyond_the_bound_is_clipped():
    assert quantize(np.float32([[-5, 0, 2.5, 5]]), 5).tolist() == [[0, 128, 191, 255]]


@pytest.mark.parametrize("method, worst", [("tvl1", 0.1), ("dis", 0.15), ("farneback", 0.5)])
def test_methods_estimate_the_motion(method, worst):
    before, after = moving(2, (3, -2))[..., 0]
    flow = flow_method(method)(before, after)
    assert flow.shape == (96, 96, 2) and flow.dtype == np.float32
    assert np.abs(np.median(flow[16:-16, 16:-16], (0, 1)) - (3, -2)).max() < worst


def test_warped_flow_removes_the_motion_of_the_camera():
    background, blob = moving(2, (4, 2), side=160), moving(2, (0, 0), side=40, seed=5)
    background[0, 60:100, 60:100], background[1, 60:100, 60:100] = (
        blob[0],
        blob[1],
    )  # it stays while the camera moves
    before, after = background[..., 0]
    flow_of = flow_method("dis")
    plain, warped = flow_of(before, after), warped_flow(flow_of, before, after)
    away = np.ones((160, 160), bool)
    away[50:110, 50:110] = away[:12] = away[-12:] = away[:, :12] = away[:, -12:] = False
    assert (
        np.abs(np.median(plain[away], 0) - (4, 2)).max()
        < 0.3
        > np.abs(np.median(warped[away], 0)).max()
    )
    inside = np.median(warped[70:90, 70:90], (0, 1))
    assert (
        np.abs(np.median(plain[70:90, 70:90], (0, 1))).max() < 0.5
        and np.abs(inside - (-4, -2)).max() < 0.7
    )


def test_warped_flow_without_points_is_the_plain_flow():
    flat = np.full((64, 64), 90, np.uint8)
    assert np.abs(warped_flow(flow_method("dis"), flat, flat)).max() < 0.01


@pytest.mark.parametrize("template", PLACES)
def test_layouts(template, video, tmp_path):
    args = ["--method", "dis", "--image_tmpl", template, "-j", 1]
    assert call("extract_flow", video, tmp_path / "out", *args, "--rgb_tmpl", "img_{:05d}.jpg") == 0
    folder = tmp_path / "out" / "c" / "7"
    assert len(list(folder.iterdir())) == 5 * (2 if PLACES[template] == 1 else 3)
    flow = read(folder, template, 5)
    assert flow.shape == (5, 96, 96, 2)
    assert np.abs(np.median(flow, (0, 1, 2)) - (128 + 2 * 255 / 40, 128 - 255 / 40)).max() <= 2
    with open_reader(video / "c" / "7.mp4", image_tmpl="") as reader:
        frames = reader.get(range(6)).astype(int)
    with open_reader(folder, image_tmpl="img_{:05d}.jpg") as reader:
        pictures = reader.get(range(len(reader)))
    assert [np.abs(picture - frames).mean((1, 2, 3)).argmin() for picture in pictures] == [
        1,
        2,
        3,
        4,
        5,
    ]  # the later of two


@pytest.mark.parametrize("template", ["flow_{}_{:05d}.jpg", "{:06d}.jpg"])
def test_no_motion_is_128(template, tmp_path):
    (tmp_path / "src" / "still").mkdir(parents=True)
    for number in (1, 2, 3):
        write_picture(str(tmp_path / "src" / "still" / f"{number}.png"), textured_frames(1)[0], 95)
    args = ["--frames", "{}.png", "--method", "dis", "--image_tmpl", template]
    assert call("extract_flow", tmp_path / "src", tmp_path / "out", *args) == 0
    flow = read(tmp_path / "out" / "still", template, 2)
    assert flow.shape == (2, 64, 96, 2) and (flow == 128).all()


def test_flow_of_frames_is_close_to_that_of_the_video(video, tmp_path):
    assert (
        call("extract_frames", video, tmp_path / "frames", "--image_tmpl", "{:05d}.png", "-j", 1)
        == 0
    )
    args = ["--method", "dis", "-j", 1]
    assert (
        call("extract_flow", tmp_path / "frames", tmp_path / "out", "--frames", "{:05d}.png", *args)
        == 0
    )
    assert call("extract_flow", video, tmp_path / "same", *args) == 0
    names = sorted(path.name for path in (tmp_path / "same" / "c" / "7").iterdir())
    assert len(names) == 10
    for name in names:
        assert (tmp_path / "out" / "c" / "7" / name).read_bytes() == (
            tmp_path / "same" / "c" / "7" / name
        ).read_bytes()
    assert call("extract_flow", video, tmp_path / "small", *args, "--size", "48") == 0
    assert (
        np.abs(
            np.median(read(tmp_path / "small" / "c" / "7", "flow_{}_{:05d}.jpg", 5), (0, 1, 2))
            - (134, 125)
        ).max()
        <= 2
    )


def test_single_frame_fails(tmp_path):
    (tmp_path / "src").mkdir()
    encode(tmp_path / "src" / "v.mp4", textured_frames(1))
    assert call("extract_flow", tmp_path / "src", tmp_path / "out", "--method", "dis", "-j", 1) == 1
    assert (
        (tmp_path / "out" / "failures.csv")
        .read_text()
        .endswith("v.mp4,a single frame has no flow\n")
    )


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--bound", 0], "--bound 0.0 is not above 0"),
        (["--image_tmpl", "{}.gif"], "does not name pictures"),
        (["--image_tmpl", "flow.jpg"], "does not name the Flow frames"),
        (["--rgb_tmpl", "img.jpg"], "does not name the RGB frames"),
        (["--image_tmpl", "{:05d}.jpg", "--rgb_tmpl", "{:05d}.jpg"], "are both {:05d}.jpg"),
        (["--frames", "img_{:05d}.jpg"], "no folder with a img_00001.jpg in it or below"),
        (["--quality", 0], "--quality 0 is not"),
    ],
)
def test_invalid_arguments_are_refused(flags, words, video, tmp_path, capsys):
    assert words in refused(
        capsys, "extract_flow", video, tmp_path / "out", "--method", "dis", *flags
    )


def test_folder_name_that_is_not_a_number_is_refused(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    encode(tmp_path / "src" / "seven.mp4", textured_frames(2))
    assert "the folder is called 'seven'" in refused(
        capsys,
        "extract_flow",
        tmp_path / "src",
        tmp_path / "out",
        "--method",
        "dis",
        "--image_tmpl",
        "{:06d}-{}_{:05d}.jpg",
    )


def test_missing_package_is_named(video, tmp_path, capsys, monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    line = refused(capsys, "extract_flow", video, tmp_path / "out")
    assert line.endswith("pip install opencv-contrib-python-headless") and "tvl1" in line
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install opencv-contrib-python-headless" in refused(
        capsys, "extract_flow", video, tmp_path / "out", "--method", "dis"
    )
    assert not (tmp_path / "out").exists()


FLOW_AND_FRAMES = ["--method", "farneback", "--rgb_tmpl", "img_{:05d}.jpg"]
PICTURES = 19 * 3  # of each of eight


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight names of one video, whose flow takes about half a second in all, and the result."""
    folder = tmp_path_factory.mktemp("eight")
    path = encode(folder / "v.mp4", moving(20, (2, -1), side=160))
    (folder / "src" / "c").mkdir(parents=True)
    for number in range(8):
        (folder / "src" / "c" / f"v {number}.mp4").symlink_to(path)
    assert (
        call("extract_flow", folder / "src", folder / "whole", *FLOW_AND_FRAMES, "--processes", 1)
        == 0
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_runs_are_completed_to_the_same_bytes(processes, eight, tmp_path):
    out = tmp_path / "out"
    args = ["extract_flow", eight / "src", out, *FLOW_AND_FRAMES, "--processes", processes]
    moments, ends = sorted(random.sample(range(1, 5 * PICTURES), 3)), []
    for moment in moments:
        process = start_tool(*args)
        wait_until(
            lambda moment=moment: sum(len(files) for _, _, files in os.walk(out / "c")) >= moment
        )
        process.kill()
        process.communicate(timeout=60)
        ends.append(process.returncode)
        assert all(len(list(path.iterdir())) == PICTURES for path in (out / "c").glob("v *")), (
            moments
        )
    assert -signal.SIGKILL in ends
    assert call(*args) == 0
    assert contents(out) == contents(eight / "whole") and not list((out / "c").glob(".*")), moments
