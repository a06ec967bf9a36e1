import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from helpers.videos import encode, filtered, rgb_graph, textured_frames

from ops.data.readers.rgb import prepare, to_rgb

# x264 keeps sharp colored edges with these.
SHARP = {"x264-params": "crf=1:bframes=0"}


def frames_of(path):
    with av.open(str(path)) as container:
        graph = rgb_graph(container.streams.video[0])
        frames = list(container.decode(video=0))
    return frames, graph


@pytest.mark.parametrize(
    "kwargs",
    [
        {"pix_fmt": "yuv420p10le"},
        {"pix_fmt": "yuv422p10le"},
        {"pix_fmt": "yuv444p10le"},
        {"pix_fmt": "gray10le"},
        {"pix_fmt": "yuv420p10le", "codec": "libx265"},
        {"pix_fmt": "yuv420p12le", "codec": "libx265"},
        {"pix_fmt": "yuv422p"},
        {"options": {"x264-params": "interlaced=1"}},
        {"options": {"x264-params": "interlaced=1"}, "pix_fmt": "yuv420p10le"},
        {"options": {"x264-params": "interlaced=1"}, "pix_fmt": "yuv422p"},
    ],
    ids=str,
)
def test_pixels_are_those_of_ffmpeg_by_way_of_8_bits(kwargs, tmp_path):
    frames, graph = frames_of(encode(tmp_path / "v.mp4", textured_frames(4), **kwargs))
    reformatter = VideoReformatter()
    for frame in frames:
        picture = to_rgb(frame, reformatter)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, filtered(graph, frame))


def test_8_and_10_bits_and_interlaced_frames_look_alike(tmp_path):
    frames = textured_frames(4)
    pictures = {}
    for name, kwargs in {
        "8": {},
        "10": {"pix_fmt": "yuv420p10le"},
        "interlaced": {"options": {"x264-params": "crf=1:bframes=0:interlaced=1"}},
    }.items():
        path = encode(tmp_path / f"{name}.mp4", frames, **{"options": SHARP, **kwargs})
        reformatter = VideoReformatter()
        decoded, _ = frames_of(path)
        pictures[name] = np.stack([to_rgb(frame, reformatter) for frame in decoded]).astype(int)
    for name in ("10", "interlaced"):
        difference = np.abs(pictures[name] - pictures["8"])
        assert difference.mean() < 1 and difference.max() < 20, name


def test_ordinary_frames_are_not_copied(tmp_path):
    (frame, *_), _ = frames_of(encode(tmp_path / "v.mp4", textured_frames(2)))
    assert prepare(frame, VideoReformatter()) is frame
