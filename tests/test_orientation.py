from pathlib import Path

import av
import numpy as np
import pytest
from helpers.decoders import decoder_param, every_decoder, needs_torchcodec
from helpers.videos import encode, textured_frames

from ops.data.readers import torchcodec
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.decord import DecordReader
from ops.data.readers.open import DECODERS
from ops.data.readers.orientation import Orientation, orientation_of, probe_orientation

MIRRORED = Path(__file__).parent / "cases" / "mirrored"
# Of four quarters of one color each: top left, top right, bottom left, bottom right.
QUARTERS = {"plain": "RGBW", "hflip": "GRWB", "rot180+hflip": "BWRG"}
COLORS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}
ALL_EIGHT = [(rotation, hflip) for rotation in (0, 90, 180, 270) for hflip in (False, True)]


def quarters(image):
    height, width, _ = image.shape
    found = ""
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            pixel = image[y, x].astype(int)
            found += min(COLORS, key=lambda name: np.abs(pixel - COLORS[name]).sum())
    return found


@every_decoder
@pytest.mark.parametrize("name", QUARTERS)
def test_mirrored_files(name, decoder):
    with DECODERS[decoder](MIRRORED / f"{name}.mp4") as reader:
        assert [quarters(image) for image in reader.get([0, 2])] == [QUARTERS[name]] * 2


@pytest.mark.parametrize(
    ("decoder", "suffix"),
    [
        ("pyav", "mp4"),
        ("pyav", "mov"),
        ("pyav", "mkv"),
        decoder_param("decord", "mp4"),
        decoder_param("decord", "mov"),
        decoder_param("torchcodec", "mp4"),
        decoder_param("torchcodec", "mov"),
    ],
)
def test_all_orientations(decoder, suffix, tmp_path):
    frames = textured_frames(4)
    for rotation, hflip in ALL_EIGHT:
        path = encode(tmp_path / f"turned.{suffix}", frames, rotation=rotation, hflip=hflip)
        with av.open(str(path)) as container:
            coded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        expected = np.rot90(coded, rotation // 90, axes=(1, 2))
        if hflip:
            expected = expected[:, :, ::-1]
        with DECODERS[decoder](path) as reader:
            np.testing.assert_array_equal(reader.get(range(4)), expected)


@pytest.mark.parametrize("kwargs", [{"rotation": 90}, {"hflip": True}])
def test_decord_refuses_the_orientations_that_it_does_not_read(kwargs, tmp_path):
    path = encode(tmp_path / "v.mkv", textured_frames(2), **kwargs)
    with pytest.raises(UnreadableVideo, match=r"v\.mkv: .*--decoder pyav"):
        DecordReader(path)


@needs_torchcodec
def test_torchcodec_refuses_the_orientations_that_it_does_not_read(monkeypatch, tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(2))
    # As if only PyAV's FFmpeg had found a display matrix.
    turned = Orientation(transposed=True, flipped_vertically=True)
    monkeypatch.setattr(torchcodec, "orientation_of", lambda frame: turned)
    with pytest.raises(UnreadableVideo, match=r"v\.mp4: .*display matrix; .*--decoder pyav"):
        DECODERS["torchcodec"](path)


@pytest.mark.parametrize(
    "orientation", [Orientation(*map(bool, bits)) for bits in np.ndindex(2, 2, 2)]
)
def test_filters_do_what_apply_does(orientation):
    image = textured_frames(1)[0]
    graph = av.filter.Graph()
    nodes = [graph.add("buffer", "video_size=96x64:pix_fmt=rgb24:time_base=1/30")]
    nodes += [graph.add(name, arguments) for name, arguments in orientation.filters()]
    nodes.append(graph.add("buffersink"))
    graph.link_nodes(*nodes).configure()
    graph.push(av.VideoFrame.from_ndarray(image, format="rgb24"))
    np.testing.assert_array_equal(graph.pull().to_ndarray(), orientation.apply(image))


@pytest.mark.parametrize(("rotation", "hflip"), ALL_EIGHT)
def test_orientation_of_a_file_is_that_of_its_frames(rotation, hflip, tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(2), rotation=rotation, hflip=hflip)
    with av.open(str(path)) as container:
        orientations = {orientation_of(frame) for frame in container.decode(video=0)}
    assert [*orientations, "mov,mp4,m4a,3gp,3g2,mj2"] == list(probe_orientation(str(path)))
    (orientation,) = orientations
    assert orientation.mirrored == hflip
    assert orientation.transposed == bool(rotation % 180)


def test_a_file_that_cannot_be_read_is_upright(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    assert probe_orientation(str(tmp_path / "text.mp4")) == (Orientation(), "")
