import numpy as np
import pytest
from helpers.datasets import make_root
from helpers.videos import copy_without_times, damage_packet, encode, encode_audio, textured_frames

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.readers.stream import open_stream

TEMPLATE = "img_{:05d}.jpg"


def read(path, **options):
    with open_stream(path, image_tmpl=TEMPLATE, **options) as stream:
        frames = [(frame.index, frame.time, frame.image()) for frame in stream]
        return frames, stream


@pytest.mark.parametrize(
    "name, options",
    [
        ("h264.mp4", {}),
        ("b_frames.mp4", {"options": {"bf": "3"}}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("mpeg2.mpg", {"codec": "mpeg2video"}),
        ("h264.ts", {}),
    ],
)
def test_frames_equal_those_of_the_reader(tmp_path, name, options):
    path = tmp_path / name
    encode(path, textured_frames(40), **options)
    frames, stream = read(path)
    with open_reader(path, image_tmpl=TEMPLATE) as reader:
        expected = reader.get(range(len(reader)))
    assert len(frames) == stream.count == len(expected)
    assert np.array_equal(np.stack([image for _, _, image in frames]), expected)
    times = [time for _, time, _ in frames]
    assert times == pytest.approx((np.arange(40) / 30).tolist(), abs=2e-3)
    assert stream.end == pytest.approx(40 / 30, abs=0.05)


def test_frames_of_a_folder(tmp_path):
    frames, stream = read(make_root(tmp_path) / "frames", rate=10)
    assert [time for _, time, _ in frames] == pytest.approx((np.arange(14) / 10).tolist())
    assert stream.end == pytest.approx(1.4) and frames[3][2].shape == (48, 64, 3)


def test_an_image_is_converted_only_when_asked_for(tmp_path, monkeypatch):
    encode(tmp_path / "v.mp4", textured_frames(20))
    calls = []
    from ops.data.readers import stream as module

    convert = module.to_rgb
    monkeypatch.setattr(module, "to_rgb", lambda *args: calls.append(1) or convert(*args))
    with open_stream(tmp_path / "v.mp4", image_tmpl=TEMPLATE) as stream:
        for frame in stream:
            if frame.index == 7:
                frame.image()
    assert len(calls) == 1


def test_files_that_are_no_videos_raise(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    encode_audio(tmp_path / "audio.mp4")
    for name in ("empty.mp4", "noise.mp4", "audio.mp4", "gone.mp4"):
        with pytest.raises(UnreadableVideo) as error:
            read(tmp_path / name)
        assert name in str(error.value)
    with pytest.raises(UnreadableVideo):
        read(tmp_path / "noise.mp4", modality="Flow")


def test_times_do_not_descend_where_a_file_has_none(tmp_path):
    encode(tmp_path / "v.mp4", textured_frames(20), options={"bf": "2"})
    path = copy_without_times(tmp_path / "v.mp4", tmp_path / "copy.mp4")
    times = [time for _, time, _ in read(path)[0]]
    assert times == sorted(times) and times[-1] > 0


def test_variable_frame_rate_and_rotation(tmp_path):
    pts = [0, 1000, 1500, 9000, 9500, 30000]  # in 1 / 30000 s
    encode(tmp_path / "v.mp4", textured_frames(6), pts=pts, bframes=0, rotation=90)
    frames, stream = read(tmp_path / "v.mp4")
    assert [time for _, time, _ in frames] == pytest.approx([p / 30000 for p in pts], abs=1e-3)
    assert frames[0][2].shape == (96, 64, 3)
    assert stream.end > 1.0


def test_damaged_packets_are_counted(tmp_path):
    encode(tmp_path / "v.mp4", textured_frames(60))
    assert read(tmp_path / "v.mp4")[1].damaged == 0
    damage_packet(tmp_path / "v.mp4", 30)
    frames, stream = read(tmp_path / "v.mp4")
    assert stream.damaged > 0 and len(frames) < 60
    assert [index for index, _, _ in frames] == list(range(len(frames)))
