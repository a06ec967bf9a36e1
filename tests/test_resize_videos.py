import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.launch import ROOT, call, refused
from helpers.videos import decode_all, encode, hide_frames, textured_frames
from PIL import Image

from lib.videos.video_encoding import resize
from lib.videos.video_jobs import Job
from ops.data.readers.pyav import PyAVReader

FRAMES = textured_frames(30, 96, 128)


def times(path):
    """Of the frames, in seconds after the first."""
    with av.open(str(path)) as container:
        found = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    return [float(time - found[0]) for time in found]


@pytest.mark.parametrize(
    "name, frames, kwargs",
    [
        ("v.mp4", FRAMES, {"audio": True}),
        ("v.mp4", FRAMES, {"rotation": 90}),
        ("v.mp4", FRAMES, {"rotation": 180}),
        ("v.mp4", FRAMES, {"rotation": 270}),
        ("v.mp4", FRAMES, {"hflip": True}),
        ("v.mp4", FRAMES, {"rotation": 90, "hflip": True}),
        ("v.mp4", FRAMES, {"pix_fmt": "yuv420p10le"}),
        ("v.mp4", FRAMES, {"options": {"x264-params": "interlaced=1"}}),
        ("v.avi", FRAMES, {"codec": "mpeg4"}),
        ("v.mkv", FRAMES, {"open_gop": True}),
        ("v.webm", FRAMES, {"codec": "libvpx-vp9"}),
        ("v.mpg", FRAMES, {"codec": "mpeg2video"}),
        ("v.mp4", FRAMES, {"pts": np.cumsum(np.arange(30) % 7 * 400 + 300).tolist()}),
        ("v.mp4", FRAMES[:1], {}),
        ("v.mp4", FRAMES, {"pix_fmt": "yuvj420p"}),
        ("v.mp4", textured_frames(30, 97, 131), {"pix_fmt": "yuv444p"}),
        (
            "v.mp4",
            FRAMES,
            {"options": {"x264-params": "colormatrix=bt709:colorprim=bt709:transfer=bt709"}},
        ),
    ],
)
@pytest.mark.parametrize("size", ["0", "64"])
def test_each_frame_becomes_one_frame(name, frames, kwargs, size, tmp_path):
    (tmp_path / "src").mkdir()
    source = encode(tmp_path / "src" / name, frames, **kwargs)
    result = tmp_path / "v.mp4"
    resize(Job(str(source), str(result)), size=size, gop=12, crf=10)
    with PyAVReader(source) as reader:
        truth = reader.get(range(len(frames)))
    got = decode_all(result)
    with PyAVReader(result) as reader:
        assert len(reader) == len(truth) and np.array_equal(reader.get(range(len(truth))), got)
    height, width = got.shape[1:3]
    if size == "0":
        assert abs(height - truth.shape[1]) <= 1 and abs(width - truth.shape[2]) <= 1
    else:
        assert min(height, width) == 64 and max(height, width) in (84, 86)
    assert height % 2 == width % 2 == 0
    expected = np.stack(
        [Image.fromarray(np.ascontiguousarray(image)).resize((width, height), 3) for image in truth]
    )
    assert [
        np.abs(image.astype(float) - expected).mean((1, 2, 3)).argmin() for image in got
    ] == list(range(len(truth)))
    assert (
        np.abs((got.astype(float) - expected).mean((0, 1, 2))).max() < 1.5
    )  # colours mean what they meant
    assert times(result) == pytest.approx(times(source), abs=0.002)
    with av.open(str(result)) as container:
        assert len(container.streams) == 1 and container.streams.video[0].pix_fmt in (
            "yuv420p",
            "yuvj420p",
        )


def test_frames_hidden_by_an_edit_list_are_left_out(tmp_path):
    (tmp_path / "src").mkdir()
    source = encode(tmp_path / "src" / "v.mp4", FRAMES)
    hide_frames(source, 5, 20)
    assert call("resize_videos", tmp_path / "src", tmp_path / "out", "-j", 1) == 0
    truth, got = decode_all(source), decode_all(tmp_path / "out" / "v.mp4")
    assert len(got) == len(truth) == 20
    assert np.abs(got.astype(float) - truth).mean() < 3


def test_keyframes_sizes_and_displayed_shape(tmp_path):
    (tmp_path / "src").mkdir()
    source = encode(tmp_path / "src" / "v.mp4", FRAMES, gop=1)
    assert (
        call(
            "resize_videos",
            tmp_path / "src",
            tmp_path / "out",
            "--gop",
            7,
            "--size",
            "64x64",
            "-j",
            1,
        )
        == 0
    )
    with av.open(str(tmp_path / "out" / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 64, 30)
        assert stream.sample_aspect_ratio == Fraction(4, 3)
        keys = [i for i, frame in enumerate(container.decode(stream)) if frame.key_frame]
    assert keys == [0, 7, 14, 21, 28]
    with av.open(str(source)) as container:
        assert all(frame.key_frame for frame in container.decode(video=0))


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--gop", 0], "--gop 0 is too small"),
        (["--crf", 52], "--crf 52 is not in 0 to 51"),
        (["--size", "big"], "not a size"),
    ],
)
def test_invalid_arguments_are_refused(flags, words, tmp_path, capsys):
    (tmp_path / "src").mkdir()
    encode(tmp_path / "src" / "v.mp4", FRAMES[:2])
    assert words in refused(capsys, "resize_videos", tmp_path / "src", tmp_path / "out", *flags)


def test_truncated_source_leaves_no_result(tmp_path):
    (tmp_path / "src").mkdir()
    source = encode(tmp_path / "src" / "v.mp4", FRAMES, container_options={"movflags": "faststart"})
    source.write_bytes(source.read_bytes()[: -source.stat().st_size // 3])
    assert call("resize_videos", tmp_path / "src", tmp_path / "out", "-j", 1) == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".resize_videos.json",
        "failures.csv",
    }
    assert "the file is truncated" in (tmp_path / "out" / "failures.csv").read_text()


@pytest.mark.slow
def test_killed_runs_are_completed_to_the_same_bytes(tmp_path):
    source = encode(
        tmp_path / "v.mp4", textured_frames(60, 180, 240), options={"preset": "ultrafast"}
    )
    (tmp_path / "src").mkdir()
    for number in range(8):
        (tmp_path / "src" / f"{number}.mp4").symlink_to(source)
    command = [
        sys.executable,
        ROOT / "tools" / "resize_videos.py",
        tmp_path / "src",
        tmp_path / "out",
        "-j",
        "2",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "MALLOC_PERTURB_": "85"}
    )
    end = time.monotonic() + 30
    while not list((tmp_path / "out").glob("*.mp4")):
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list((tmp_path / "out").glob("*.mp4")))
    assert 1 <= done < 8
    assert call("resize_videos", tmp_path / "src", tmp_path / "out", "-j", 2) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".resize_videos.json",
        *(f"{n}.mp4" for n in range(8)),
    }
    assert len({Path(tmp_path / "out" / f"{number}.mp4").read_bytes() for number in range(8)}) == 1
