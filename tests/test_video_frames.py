import argparse

import numpy as np
import pytest
from helpers.videos import (
    copy_without_times,
    damage_packet,
    decode_all,
    encode,
    hide_frames,
    textured_frames,
)
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.arguments import parse_size
from lib.videos.video_frames import (
    FrameStream,
    check_picture_names,
    folder_frames,
    scaled,
    write_picture,
)
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.images import decode_image
from ops.data.readers.pyav import PyAVReader
from ops.utils.errors import UserError

side = st.integers(10, 4000)


@given(
    st.one_of(st.text(max_size=8), st.from_regex(r"[0-9]{1,4}(x[0-9]{1,4})?", fullmatch=True)),
    side,
    side,
)
def test_every_size_is_refused_or_kept(text, width, height):
    try:
        size = parse_size(text)
    except argparse.ArgumentTypeError as error:
        assert repr(text) in str(error)
        return
    new = scaled(size, width, height)
    if "x" in size:
        assert "{}x{}".format(*new) == size
    elif size == "0" or int(size) >= min(width, height):
        assert new == (width, height)
    else:
        assert min(new) == int(size) and max(new) == int(
            max(width, height) * int(size) / min(width, height) + 0.5
        )
    assert all(
        a % 2 == 0 and abs(a - b) <= 1
        for a, b in zip(scaled(size, width, height, 2), new, strict=True)
    )


@pytest.mark.parametrize(
    "text", ["", "-1", "256 ", "x", "256x", "0x5", "1e2", "٢٥٦", "340X256", "256.0", "1", "00"]
)
def test_invalid_sizes_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_size(text)


@pytest.fixture(scope="module")
def frames():
    return textured_frames(40)


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("v.mp4", {}),
        ("v.mp4", {"rotation": 90}),
        ("v.mp4", {"rotation": 180}),
        ("v.mp4", {"rotation": 270}),
        ("v.mkv", {"open_gop": True}),
        ("v.avi", {"codec": "mpeg4"}),
        ("v.mpg", {"codec": "mpeg2video"}),
        ("v.mp4", {"pts": list(range(0, 80000, 2000))}),
    ],
)
def test_frames_equal_a_sequential_decode(name, kwargs, frames, tmp_path):
    path = encode(tmp_path / name, frames, **kwargs)
    truth = decode_all(path)
    with FrameStream(path) as stream:
        assert np.array_equal(np.stack(list(stream)), truth)
        times = [frame.pts for frame in stream.frames()]
    assert len(times) == len(truth) and (np.diff(times) > 0).all()
    with FrameStream(path, "40") as stream:
        small = np.stack(list(stream))
    height, width = small.shape[1:3]
    assert (height, width) == ((60, 40) if kwargs.get("rotation", 0) % 180 else (40, 60))
    expected = np.stack(
        [Image.fromarray(np.ascontiguousarray(image)).resize((width, height), 3) for image in truth]
    )
    distance = [np.abs(image.astype(float) - expected).mean((1, 2, 3)).argmin() for image in small]
    assert distance == list(range(len(truth)))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"hflip": True},
        {"rotation": 90, "hflip": True},
        {"pix_fmt": "yuv420p10le"},
        {"options": {"x264-params": "interlaced=1"}},
    ],
    ids=str,
)
def test_frames_equal_those_of_the_reader(kwargs, frames, tmp_path):
    path = encode(tmp_path / "v.mp4", frames, **kwargs)
    with PyAVReader(path) as reader:
        expected = reader.get(range(len(frames)))
    with FrameStream(path) as stream:
        assert np.array_equal(np.stack(list(stream)), expected)
    with FrameStream(path, "40") as stream:
        small = np.stack(list(stream)).astype(float)
    height, width = small.shape[1:3]
    expected = np.stack(
        [
            Image.fromarray(np.ascontiguousarray(image)).resize((width, height), 3)
            for image in expected
        ]
    )
    nearest = [np.abs(expected - image).mean((1, 2, 3)).argmin() for image in small]
    assert nearest == list(range(len(frames)))


def test_times_in_decoding_order(tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(30))
    truth = decode_all(path)
    lost = copy_without_times(path, tmp_path / "lost.mp4")
    with FrameStream(lost) as stream:
        assert np.array_equal(np.stack(list(stream)), truth)
        times = [frame.pts for frame in stream.frames()]
    assert (np.diff(times) > 0).all()


def test_hidden_frames_and_long_files(frames, tmp_path, monkeypatch):
    path = encode(tmp_path / "v.mp4", frames)
    avi = encode(tmp_path / "v.avi", frames, codec="mpeg4")
    hide_frames(path, 5, 20)
    truth, truth_avi = decode_all(path), decode_all(avi)
    assert len(truth) == 20
    for kept in (2**20, 100):  # bytes of packets or frames that are kept in memory
        monkeypatch.setattr("ops.data.readers.pyav.KEPT_BYTES", kept)
        for name, expected in ((path, truth), (avi, truth_avi)):
            with FrameStream(name) as stream:
                assert np.array_equal(np.stack(list(stream)), expected)


def test_lost_frame_raises(frames, tmp_path):
    path = encode(tmp_path / "v.mp4", frames, options={"x264-params": "keyint=1"})
    damage_packet(path, 7)
    got = []
    with (
        FrameStream(path) as stream,
        pytest.raises(UnreadableVideo, match="frame 7 cannot be decoded"),
    ):
        got.extend(stream)
    assert len(got) >= 7


@pytest.mark.parametrize(
    "name, chroma, worst", [("a.png", "420", 0), ("a.jpg", "444", 9), ("a.JPEG", "420", 40)]
)
def test_written_pictures(name, chroma, worst, tmp_path):
    y, x = np.mgrid[:48, :65]
    image = np.stack([x * 3, y * 4, 255 - x - y], axis=-1).astype(np.uint8)
    write_picture(str(tmp_path / name), image[:, ::-1], 95, chroma)
    write_picture(str(tmp_path / f"grey{name}"), image[..., 0], 95)
    difference = decode_image(str(tmp_path), name).astype(int) - image[:, ::-1]
    assert np.abs(difference).max() <= worst and np.abs(difference).mean() <= worst / 9
    grey = decode_image(str(tmp_path), f"grey{name}", "L")
    assert grey.shape == (48, 65) and np.abs(grey.astype(int) - image[..., 0]).max() <= min(
        worst, 4
    )


def test_invalid_picture_names_are_refused():
    for name in ("a/img_{:05d}.jpg", "img_{:05d}.gif", "{:05d}"):
        with pytest.raises(UserError, match="does not name pictures"):
            check_picture_names(name, 90)
    for quality in (0, 101):
        with pytest.raises(UserError, match=f"--quality {quality} is not in 1 to 100"):
            check_picture_names("{:05d}.png", quality)


def test_folder_frames(frames, tmp_path):
    for i in range(6):
        write_picture(str(tmp_path / f"{i + 1:03d}.png"), frames[i], 90)
    assert np.array_equal(
        np.stack(list(folder_frames(str(tmp_path), "{:03d}.png", "0"))), frames[:6]
    )
    assert next(folder_frames(str(tmp_path), "{:03d}.png", "32")).shape == (32, 48, 3)
    write_picture(str(tmp_path / "004.png"), frames[3, :32], 90)
    with pytest.raises(UnreadableVideo, match=r"004.png differs in size"):
        list(folder_frames(str(tmp_path), "{:03d}.png", "32"))
    (tmp_path / "003.png").unlink()
    with pytest.raises(UnreadableVideo, match=r"003.png is missing"):
        list(folder_frames(str(tmp_path), "{:03d}.png", "0"))
