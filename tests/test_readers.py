"""Readers against a plain sequential decode and damaged files, here and in loader workers."""

import pickle
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from helpers.decoders import decoder_param, every_decoder, needs_torchcodec
from helpers.videos import (
    check,
    copy_from_key,
    copy_with_messages,
    copy_without_times,
    damage_packet,
    decode_all,
    encode,
    encode_audio,
    end_of_packet,
    flip_bits,
    hide_frames,
    standard_samples,
    textured_frames,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from ops.data.readers import decord, pyav
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.containers import open_container
from ops.data.readers.decord import DecordReader
from ops.data.readers.open import DECODERS, open_reader
from ops.data.readers.pyav import PyAVReader
from ops.data.readers.torchcodec import TorchcodecReader
from ops.utils.errors import UserError

CASE_FILES = Path(__file__).parent / "cases"
FRAMES = 60
JITTERED = [1000 * i + 37 * i * i % 900 for i in range(FRAMES)]
X265 = "bframes=4:b-pyramid=1:open-gop={}:scenecut=0:log-level=none:pools=none"
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "12"}
CASES = {  # file name -> arguments of encode
    "h264.mp4": {},
    "h264.mkv": {},
    "h264_sound.mp4": {"audio": True},
    "h264_open_gop.mp4": {"open_gop": True, "bframes": 3},
    "h264_open_gop.mkv": {"open_gop": True, "bframes": 3},
    "h264_intra_refresh.mp4": {"options": {"x264-params": "intra-refresh=1:bframes=0"}},
    "h264_fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_odd_size.mp4": {"pix_fmt": "yuv444p"},
    "h264_interlaced.mp4": {"options": {"x264-params": "interlaced=1:bframes=2"}},
    "h264_variable_rate.mp4": {"pts": JITTERED},
    "h264_variable_rate.mkv": {"pts": JITTERED},
    "h264_rotated_90.mp4": {"rotation": 90},
    "h264_rotated_180.mp4": {"rotation": 180},
    "h264_rotated_270.mp4": {"rotation": -90},
    "h264.ts": {},
    "h264.avi": {},
    "h264_frames_at_one_time.mkv": {"pts": [10 * i for i in range(FRAMES)]},
    "hevc.mp4": {"codec": "libx265"},
    "hevc_open_gop_pyramid.mp4": {"codec": "libx265", "options": {"x265-params": X265.format(1)}},
    "hevc_temporal_layers.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "temporal-layers=3:" + X265.format(0)},
    },
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9_odd_size.webm": {"codec": "libvpx-vp9"},
    "vp9_hidden_frames.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "good", "cpu-used": "5", **HIDDEN},
    },
    "vp8.webm": {"codec": "libvpx", "options": HIDDEN},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4.mp4": {"codec": "mpeg4"},
}
# decord gives other pixels of odd widths, and loses frames of a transport stream.
DECORD_LOST = r"vp9_odd|\.ts$"
# torchcodec gives other pixels of odd widths, refuses containers and times that do not number the
# frames, and cannot decode some frames of an intra refresh.
TORCHCODEC_LOST = r"vp9_odd|\.ts$|\.avi$|one_time|intra_refresh"
# Where packets do not tell the frames reliably; everything else is indexed.
FROM_THE_START = r"mpeg4|vp8|one_time|\.ts$|\.avi$"
if hasattr(VideoCodecContext, "field_order"):
    FROM_THE_START += "|interlaced"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """name -> (path, all frames by a plain decode), made once."""
    folder, made = tmp_path_factory.mktemp("videos"), {}

    def get(name):
        if name not in made:
            frames = textured_frames(FRAMES, *((51, 67) if "odd" in name else (64, 96)))
            path = encode(folder / name, frames, **CASES[name])
            made[name] = path, decode_all(path)
        return made[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_pyav_gives_the_frames_of_a_plain_decode(video, name):
    check(PyAVReader, *video(name), standard_samples(FRAMES))


@pytest.mark.parametrize("name", [name for name in CASES if not re.search(DECORD_LOST, name)])
def test_decord_gives_the_frames_of_a_plain_decode(video, name):
    path, truth = video(name)
    check(DecordReader, path, truth, [range(2, FRAMES, 7), range(FRAMES), [0], [59, 3, 3, 40]])


@needs_torchcodec
@pytest.mark.parametrize("name", [name for name in CASES if not re.search(TORCHCODEC_LOST, name)])
def test_torchcodec_gives_the_frames_of_a_plain_decode(video, name):
    path, truth = video(name)
    check(TorchcodecReader, path, truth, standard_samples(FRAMES))


@needs_torchcodec
@pytest.mark.parametrize("name", ["h264.ts", "mpeg4.avi", "h264_frames_at_one_time.mkv"])
def test_torchcodec_refuses_files_whose_packets_do_not_number_the_frames(video, name):
    with pytest.raises(UnreadableVideo, match=rf"{name}: .*--decoder pyav"):
        TorchcodecReader(video(name)[0])


@pytest.mark.parametrize(
    "name", ["h264_open_gop.mp4", "h264_variable_rate.mkv", "vp9.webm", "mpeg4.avi"]
)
def test_a_file_that_does_not_fit_into_memory(video, name, monkeypatch):
    monkeypatch.setattr(pyav, "KEPT_BYTES", 3000)
    check(PyAVReader, *video(name), standard_samples(FRAMES))


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from([name for name in CASES if not name.startswith("h264_rotated")]),
    indices=st.lists(st.integers(0, FRAMES - 1), min_size=1, max_size=12),
    kept=st.sampled_from([3000, 2**20]),
)
def test_any_indices(video, name, indices, kept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyav, "KEPT_BYTES", kept)
        check(PyAVReader, *video(name), [indices, indices[::-1]])


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        decoder_param(decoder, name)
        for decoder in DECODERS
        for name in ("arm_wrestling_10s.mp4", "clip_a.mp4", "clip_b.avi")
        if (decoder, name) != ("torchcodec", "clip_b.avi")  # refused
    ],
)
def test_real_videos(real_videos, name, decoder):
    truth = decode_all(real_videos / name)
    n = len(truth)
    rng = np.random.default_rng(0)
    samples = [
        range(n // 16, n, n // 8),
        rng.integers(0, n, 12),
        [n - 1],
        range(n // 2, n // 2 + 5),
    ]
    check(DECODERS[decoder], real_videos / name, truth, samples)


@pytest.mark.parametrize("kept", [3000, 2**20])
@pytest.mark.parametrize("name", [name for name in CASES if "intra_refresh" not in name])
def test_an_indexed_file_is_decoded_in_one_pass(video, name, kept, monkeypatch):
    """A second pass, for frames that the first one does not give, would hide that it is wrong."""
    monkeypatch.setattr(pyav, "KEPT_BYTES", kept)
    opened = []

    def open_counted(*arguments):
        opened.append(arguments)
        return open_container(*arguments)

    monkeypatch.setattr(pyav, "open_container", open_counted)
    with PyAVReader(video(name)[0]) as reader:
        assert reader.is_indexed != bool(re.search(FROM_THE_START, name))
        if not reader.is_indexed:
            return
        reader.get([0])  # opens the file once more where a check of the index has used the decoder
        # Every pass opens the file, but for one that finds its packets kept in memory.
        is_kept = video(name)[0].stat().st_size < kept
        for indices in standard_samples(FRAMES):
            opened.clear()
            assert len(reader.get(indices)) == len(indices)
            assert len(opened) == (0 if is_kept else 1)


@pytest.mark.parametrize("target", ["cut.mp4", "cut.mkv"])
@pytest.mark.parametrize("name", ["h264_open_gop.mkv", "hevc_open_gop_pyramid.mp4"])
def test_file_cut_where_pictures_lose_their_references(video, tmp_path, name, target):
    path = copy_from_key(video(name)[0], tmp_path / target, key=1)
    truth = decode_all(path)
    assert len(truth) == 48
    check(PyAVReader, path, truth, standard_samples(48))


def test_textured_frames_are_distinguishable(video):
    _, truth = video("h264.mkv")
    source = textured_frames(FRAMES).astype(int)
    for i, frame in enumerate(truth):
        assert np.abs(source - frame).mean((1, 2, 3)).argmin() == i


@pytest.mark.parametrize("decoder", ["pyav", decoder_param("torchcodec")])
def test_hidden_frames_do_not_count(tmp_path, decoder):
    everything = decode_all(encode(tmp_path / "all.mp4", textured_frames(FRAMES)))
    path = encode(tmp_path / "edited.mp4", textured_frames(FRAMES))
    hide_frames(path, first=20, shown=25)
    np.testing.assert_array_equal(decode_all(path), everything[20:45])
    check(DECODERS[decoder], path, everything[20:45], standard_samples(25))


def test_display_matrix_is_applied(video):
    _, upright = video("h264_fragments.mp4")
    for name, turns in (
        ("h264_rotated_90.mp4", 1),
        ("h264_rotated_180.mp4", 2),
        ("h264_rotated_270.mp4", 3),
    ):
        with PyAVReader(video(name)[0]) as reader:
            turned = reader.get([7, 30]).astype(int)
        assert (
            np.abs(turned - np.rot90(upright[[7, 30]], turns, axes=(1, 2))).mean() < 3
        )  # the encoder is not exact


@every_decoder
def test_indices_out_of_range_and_empty(video, decoder):
    with DECODERS[decoder](video("h264.mp4")[0]) as reader:
        for indices in ([FRAMES], [0, -1], [3, 10**6]):
            with pytest.raises(IndexError, match=f"h264.mp4: frame -?[0-9]+ of {FRAMES}"):
                reader.get(indices)
        assert reader.get([]).shape == (0, 64, 96, 3)


@every_decoder
def test_names_that_ffmpeg_would_interpret(video, tmp_path, monkeypatch, decoder):
    path, truth = video("h264.mp4")
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "%03d.mp4", "-i.mp4", "a b'c\u00e9.mp4"):
        shutil.copy(path, tmp_path / name)
        check(DECODERS[decoder], name, truth, [[5, 9]])


# Files whose packets do not give the order or the number of their frames

REORDERED = {  # arguments of encode
    "closed": {},
    "open": {"open_gop": True, "bframes": 3},
    "short": {"gop": 3},
    "one group": {"gop": 1000},
    "adaptive": {"options": {"x264-params": "bframes=3:b-adapt=2:keyint=8"}},
    "hevc": {"codec": "libx265"},
    "hevc pyramid": {"codec": "libx265", "options": {"x265-params": X265.format(1)}},
}


def grey_levels(frames):
    return [round(float(frame.mean())) for frame in frames]


def test_times_in_decoding_order_of_a_small_case():
    """The number of a frame is the width of its bar."""
    truth = decode_all(CASE_FILES / "order" / "bar.mp4")
    assert grey_levels(truth) == sorted(grey_levels(truth))
    check(PyAVReader, CASE_FILES / "order" / "bar.mp4", truth, standard_samples(len(truth)))
    with DecordReader(CASE_FILES / "order" / "bar.mp4") as reader:
        np.testing.assert_array_equal(reader.get(range(len(truth))), truth)


@needs_torchcodec
def test_torchcodec_never_returns_another_frame():
    path = CASE_FILES / "order" / "bar.mp4"
    truth = decode_all(path)
    unreadable = 0
    with TorchcodecReader(path) as reader:
        assert len(reader) == len(truth)
        for index in range(len(truth)):
            try:
                np.testing.assert_array_equal(reader.get([index])[0], truth[index])
            except UnreadableVideo as error:
                assert error.reason.endswith(f"frame {index}; use --decoder pyav")
                unreadable += 1
    assert unreadable


@pytest.mark.parametrize("kept", [3000, 2**20])
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("name", REORDERED)
def test_times_in_decoding_order(name, suffix, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(pyav, "KEPT_BYTES", kept)
    path = encode(tmp_path / "sound.mp4", textured_frames(40), **REORDERED[name])
    truth = decode_all(path)
    lost = copy_without_times(path, tmp_path / f"lost.{suffix}")
    check(PyAVReader, lost, truth, [range(40), [17], range(3, 40, 9)])


def test_times_in_decoding_order_after_a_sound_part(tmp_path):
    path = encode(tmp_path / "sound.mkv", textured_frames(48))
    truth = decode_all(path)
    target = tmp_path / "half.mkv"
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = sorted(packet.pts for packet in packets)
        for number, packet in enumerate(packets):
            if number >= 24:
                packet.pts = packet.dts = times[number]
            packet.stream = stream
            copy.mux(packet)
    check(PyAVReader, target, truth, [range(48), [25], [40]])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_file_without_reordered_pictures_is_indexed(codec, tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(40), codec=codec, bframes=0)
    lost = copy_without_times(path, tmp_path / "lost.mp4")
    with PyAVReader(lost) as reader:
        assert reader.is_indexed
    check(PyAVReader, lost, decode_all(path), [range(40), [17]])


@pytest.mark.parametrize("kwargs", [{"codec": "libx264"}, {"codec": "mpeg2video", "bframes": 0}])
def test_joined_transport_streams(kwargs, tmp_path):
    parts = [
        encode(tmp_path / f"{seed}.ts", textured_frames(20 + seed, seed=seed), **kwargs)
        for seed in range(3)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(joined)) as container:
        assert any(packet.is_corrupt for packet in container.demux(video=0))
    truth = decode_all(joined)
    assert len(truth) == 63
    check(PyAVReader, joined, truth, [range(63), [19, 20, 21], [62]])


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_packets_without_a_picture_do_not_count(codec, suffix, tmp_path):
    path = encode(tmp_path / "sound.mp4", textured_frames(40), codec=codec)
    padded = copy_with_messages(path, tmp_path / f"padded.{suffix}")
    with av.open(str(padded)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 45
    check(PyAVReader, padded, decode_all(path), [range(40), [17], range(3, 40, 9)])


# Broken files

BAD = ("missing", "folder", "empty", "text", "table_cut_off", "sound_only", "noise")


def make_bad(folder, kind, video):
    path = folder / f"{kind}.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "sound_only":
        encode_audio(path)
    elif kind == "table_cut_off":
        whole = video("h264.mp4")[0].read_bytes()
        assert whole.index(b"mdat") < whole.index(b"moov")
        path.write_bytes(whole[: len(whole) // 2])
    elif kind != "missing":
        noise = np.random.default_rng(0).bytes(100_000)
        path.write_bytes(
            {"empty": b"", "text": b"This is not a video.\n" * 100, "noise": noise}[kind]
        )
    return path


@every_decoder
@pytest.mark.parametrize("kind", BAD)
def test_unreadable_files_are_named_at_once(video, tmp_path, kind, decoder):
    path = make_bad(tmp_path, kind, video)
    start = time.perf_counter()
    with pytest.raises(UnreadableVideo) as caught:
        DECODERS[decoder](path)
    assert time.perf_counter() - start < 1
    assert caught.value.path == str(path) and caught.value.reason
    assert str(caught.value) == f"{path}: {caught.value.reason}" and "\n" not in str(caught.value)


class OneFrameEach(Dataset):
    """What a loader does: open per item, read, close. An unreadable video is its reason."""

    def __init__(self, paths, decoder):
        self.paths, self.decoder = paths, decoder

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        try:
            with open_reader(self.paths[i], image_tmpl="{:d}.jpg", decoder=self.decoder) as reader:
                return reader.get([len(reader) // 2])[0]
        except UnreadableVideo as error:
            return error.reason


@pytest.mark.parametrize(
    ("decoder", "start"),
    [
        ("pyav", "fork"),
        ("pyav", "spawn"),
        decoder_param("decord", "fork"),
        decoder_param("torchcodec", "fork"),
    ],
)
def test_good_and_bad_files_in_loader_workers(video, tmp_path, decoder, start):
    good, truth = video("h264.mp4")
    DECODERS[decoder](good).close()  # a reader used before the fork must not matter
    bad = [make_bad(tmp_path, kind, video) for kind in BAD]
    paths = [str(path) for pair in zip([good] * len(bad), bad, strict=True) for path in pair]
    workers = {
        "num_workers": 1,
        "multiprocessing_context": start,
        "batch_size": None,
        "timeout": 60,
    }
    items = list(DataLoader(OneFrameEach(paths, decoder), **workers))
    for frame in items[::2]:
        np.testing.assert_array_equal(frame, truth[FRAMES // 2])
    assert all(isinstance(reason, str) and reason for reason in items[1::2])


class Raising(Dataset):
    """Lets the exception of an absent video out of the worker."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return PyAVReader("gone.mp4")


def test_an_unreadable_video_keeps_its_type_on_the_way_out_of_a_worker():
    with pytest.raises(UnreadableVideo, match=r"(?s)worker process 0.*gone\.mp4: No such file"):
        next(iter(DataLoader(Raising(), num_workers=1)))
    error = pickle.loads(pickle.dumps(UnreadableVideo("a/b.mp4", "no video stream")))
    assert (error.path, error.reason, str(error)) == (
        "a/b.mp4",
        "no video stream",
        "a/b.mp4: no video stream",
    )


def each_alone(path, indices):
    """Index -> frame, each read by a reader of its own; without those that cannot be read."""
    frames = {}
    for index in indices:
        with PyAVReader(path) as reader, suppress(UnreadableVideo):
            frames[index] = reader.get([index])[0]
    return frames


def check_independence(path, samples):
    """A frame is the same alone and with others."""
    with PyAVReader(path) as reader:
        alone = each_alone(path, range(len(reader)))
        for indices in samples:
            readable = [index for index in indices if index in alone]
            if readable:
                expected = np.stack([alone[index] for index in readable])
                np.testing.assert_array_equal(reader.get(readable), expected)


@pytest.mark.parametrize("kept", [3000, 2**20])
def test_damaged_frames_do_not_depend_on_other_requested_frames(kept, monkeypatch):
    monkeypatch.setattr(pyav, "KEPT_BYTES", kept)
    path = CASE_FILES / "damaged" / "noisy2.mp4"
    truth = decode_all(path)
    assert len(truth) == 60
    ten = range(4, 60, 6)
    alone = each_alone(path, [16, *ten])
    with PyAVReader(path) as reader:
        for indices in (range(60), ten, [15, 16, 17], [16]):
            np.testing.assert_array_equal(reader.get(indices), truth[indices])
    for index, frame in alone.items():
        np.testing.assert_array_equal(frame, truth[index])


DAMAGED = {  # arguments of encode
    "h264.mp4": {},
    "h264_pyramid.mkv": {
        "gop": 20,
        "options": {"x264-params": "bframes=3:b-pyramid=normal:ref=4:keyint=20"},
    },
    "h264_open_gop.mp4": {"open_gop": True, "bframes": 3},
    "h264_cavlc_slices.mp4": {"options": {"x264-params": "cabac=0:bframes=2:slices=3"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "mpeg4.avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", DAMAGED)
def test_frames_after_flipped_bits_do_not_depend_on_others(name, seed, tmp_path):
    path = encode(tmp_path / name, textured_frames(36), **DAMAGED[name])
    damaged = flip_bits(path, tmp_path / f"damaged_{name}", seed)
    check_independence(damaged, [range(36), range(1, 36, 4), range(10, 20)])


# Not with flipped bits: where a slice of HEVC ends early, FFmpeg leaves old memory there, without
# an error.
@pytest.mark.parametrize("frame", [3, 16, 30])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_after_a_lost_picture_do_not_depend_on_others(codec, frame, tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(36), codec=codec, bframes=3)
    damage_packet(path, frame)
    check_independence(path, [range(36), range(1, 36, 4), range(10, 20)])


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_frames_after_any_damage_do_not_depend_on_others(name, tmp_path):
    path = encode(tmp_path / name, textured_frames(36), **DAMAGED[name])
    for seed in range(100, 130):
        damaged = flip_bits(path, tmp_path / f"damaged_{name}", seed, damages=1 + seed % 6)
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.choice(36, 10, replace=False)).tolist()
        check_independence(damaged, [range(36), sample])


@pytest.mark.parametrize("packets", [1, 14, 15, 16, 17, 18, 19, 40, 57])
def test_a_truncated_mp4_keeps_its_length_and_its_good_frames(tmp_path, packets):
    path = encode(
        tmp_path / "cut.mp4", textured_frames(FRAMES), container_options={"movflags": "faststart"}
    )
    truth = decode_all(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: end_of_packet(path, packets) + 10])
    with PyAVReader(path) as reader:
        assert len(reader) == FRAMES
        missing = []
        for i in range(FRAMES):
            try:
                np.testing.assert_array_equal(reader.get([i])[0], truth[i])
            except UnreadableVideo as error:
                assert str(error) == f"{path}: frame {i} is missing: the file is truncated"
                missing.append(i)
        assert packets - 3 <= FRAMES - len(missing) <= packets
        with pytest.raises(UnreadableVideo, match=f"frame {missing[0]} is missing"):
            reader.get([0, FRAMES - 1, missing[0]])
    with pytest.raises(UnreadableVideo, match=r"cut\.mp4"):
        DecordReader(path)


@needs_torchcodec
def test_torchcodec_refuses_a_truncated_mp4(tmp_path):
    path = encode(
        tmp_path / "cut.mp4", textured_frames(FRAMES), container_options={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: end_of_packet(path, 35) + 10])
    with pytest.raises(UnreadableVideo, match=r"cut\.mp4: .*truncated.*--decoder pyav"):
        TorchcodecReader(path)


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        ("pyav", "h264.mkv"),
        ("pyav", "vp9.webm"),
        ("pyav", "mpeg4.avi"),
        decoder_param("torchcodec", "h264.mkv"),
        decoder_param("torchcodec", "vp9.webm"),
    ],
)
def test_truncated_file_without_an_index_table(tmp_path, name, decoder):
    path = encode(tmp_path / name, textured_frames(FRAMES), **{**CASES[name], "bframes": 0})
    truth = decode_all(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: end_of_packet(path, 35) + 50])
    check(DECODERS[decoder], path, truth[:35], standard_samples(35))


@needs_torchcodec
def test_torchcodec_raises_for_a_damaged_frame_in_one_line(tmp_path):
    path = encode(tmp_path / "damaged.mp4", textured_frames(FRAMES), bframes=0)
    truth = decode_all(path)
    damage_packet(path, 17)
    with TorchcodecReader(path) as reader:
        before_and_after = [*range(17), *range(24, FRAMES)]
        np.testing.assert_array_equal(reader.get(before_and_after), truth[before_and_after])
        with pytest.raises(UnreadableVideo, match=r"damaged\.mp4: [^\n]*$") as error:
            reader.get([3, 17, 40])
    assert ".cpp" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 2**20])
def test_a_frame_that_cannot_be_decoded_is_named_and_the_others_are_read(
    tmp_path, monkeypatch, kept
):
    monkeypatch.setattr(pyav, "KEPT_BYTES", kept)
    path = encode(tmp_path / "damaged.mp4", textured_frames(FRAMES), bframes=0)
    truth = decode_all(path)
    damage_packet(path, 17)
    with PyAVReader(path) as reader:
        assert len(reader) == FRAMES
        before_and_after = [*range(17), *range(24, FRAMES)]
        np.testing.assert_array_equal(reader.get(before_and_after), truth[before_and_after])
        with pytest.raises(
            UnreadableVideo, match=r"damaged\.mp4: frame 17 cannot be decoded \(Invalid data"
        ):
            reader.get([3, 17, 40])


def test_a_change_of_frame_size_is_unreadable(tmp_path):
    small = encode(tmp_path / "small.h264", textured_frames(20))
    large = encode(tmp_path / "large.h264", textured_frames(20, 96, 128))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with PyAVReader(path) as reader:
        assert len(reader) == 40
        assert reader.get([3]).shape == (1, 64, 96, 3) and reader.get([30]).shape == (1, 96, 128, 3)
        with pytest.raises(UnreadableVideo, match="the frame size changes at or before frame 30"):
            reader.get([3, 30])


def test_missing_decord_names_the_package_to_install(video, monkeypatch):
    monkeypatch.setattr(decord, "decord", None)
    with pytest.raises(UserError, match="pip install decord"):
        DecordReader(video("h264.mp4")[0])


@pytest.mark.parametrize(
    "package, said",
    [(None, "pip install torchcodec"), (SimpleNamespace(ffmpeg_major_version=None), "FFmpeg")],
)
def test_missing_torchcodec_or_ffmpeg_names_what_to_install(video, monkeypatch, package, said):
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    decoders = SimpleNamespace(VideoDecoder=None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    with pytest.raises(UserError, match=f"{said}.*docs/install.md") as error:
        TorchcodecReader(video("h264.mp4")[0])
    assert "\n" not in str(error.value)
