"""A video opens no other file, and all video formats can be read."""

import contextlib
import gc
import io
import os
import socket
import threading
import time

import av
import numpy as np
import pytest
from helpers.decoders import every_decoder
from helpers.launch import call
from helpers.videos import encode, textured_frames

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.containers import is_playlist
from ops.data.readers.open import DECODERS, open_reader
from ops.data.readers.pyav import PyAVReader

FRAMES = textured_frames(6, 48, 64)
# Suffix -> codec, and the muxer where the suffix does not say.
FORMATS = {
    "mp4": ("libx264", None),
    "mov": ("libx264", None),
    "f4v": ("libx264", "f4v"),
    "3gp": ("mpeg4", None),
    "mkv": ("libx264", None),
    "webm": ("libvpx-vp9", None),
    "avi": ("mpeg4", None),
    "ts": ("libx264", None),
    "m2ts": ("libx264", None),
    "flv": ("flv", None),
    "wmv": ("msmpeg4", "asf"),
    "asf": ("msmpeg4", None),
    "mpg": ("mpeg2video", None),
    "vob": ("mpeg2video", None),
    "m2v": ("mpeg2video", None),
    "mxf": ("mpeg2video", None),
    "ogv": ("libtheora", None),
    "h264": ("libx264", None),
    "hevc": ("libx265", None),
    "m4v": ("mpeg4", "m4v"),
    "mjpeg": ("mjpeg", None),
    "ivf": ("libvpx-vp9", None),
    "nut": ("mpeg4", None),
    "y4m": ("wrapped_avframe", None),
    "gif": ("gif", None),
    "apng": ("apng", None),
    "png": ("apng", "apng"),
}
PIX_FMTS = {"mjpeg": "yuvj420p", "gif": "rgb8", "apng": "rgb24"}


def write_video(path, codec, muxer):
    """FRAMES in a format, with the encoder's defaults; skips the test without such an encoder."""
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no {codec} encoder")
    with av.open(str(path), "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = FRAMES.shape[2], FRAMES.shape[1]
        stream.pix_fmt = PIX_FMTS.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        for image in FRAMES:
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_of_videos_is_read(tmp_path, suffix):
    path = tmp_path / f"video.{suffix}"
    write_video(path, *FORMATS[suffix])
    with PyAVReader(path) as reader:
        assert len(reader) == len(FRAMES)
        frames = reader.get(range(len(FRAMES)))
    with PyAVReader(path, lambda: io.BytesIO(path.read_bytes())) as reader:
        np.testing.assert_array_equal(reader.get(range(len(FRAMES))), frames)
    assert not is_playlist(str(path))


# Files that name others


@pytest.fixture
def listener():
    """A server on the loopback that accepts any connection, and the connections that it has had."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        seen, stop = [], threading.Event()

        def serve():
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    seen.append(connection)
                    connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", seen
        finally:
            stop.set()
            thread.join()


def hls(target):
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n"
    return f"{head}#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n".encode()


def live_hls(target):
    return hls(target).replace(b"#EXT-X-ENDLIST\n", b"")


def tagged_hls(target):
    """Behind a tag as of MP3 files, which FFmpeg skips."""
    return b"ID3\x04\x00\x00\x00\x00\x00\x10" + bytes(16) + hls(target)


def ffconcat(target):
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def dash(target):
    return (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    ).encode()


def sdp(target):
    return (
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 33\n"
    )


PLAYLISTS = [hls, live_hls, tagged_hls, ffconcat, dash, sdp]
NAMES = ["v.mp4", "v.m3u8", "v.mpd", "v.sdp", "v.ts", "v.ffconcat"]


def refused(open_video, *arguments, **options):
    start = time.perf_counter()
    with pytest.raises(UnreadableVideo) as caught:
        open_video(*arguments, **options)
    assert time.perf_counter() - start < 3
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_an_unrestricted_ffmpeg_reads_the_marker(tmp_path):
    """So that the next tests test something."""
    marker = encode(tmp_path / "marker.ts", FRAMES)
    for name, content in (("v.m3u8", hls), ("v.mp4", ffconcat)):
        (tmp_path / name).write_bytes(content("marker.ts"))
        with av.open(str(tmp_path / name)) as container:
            assert len(list(container.decode(video=0))) == len(FRAMES)
    assert marker.exists()


@every_decoder
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_nothing(tmp_path, listener, kind, decoder):
    address, seen = listener
    encode(tmp_path / "marker.ts", FRAMES)
    for target in ("marker.ts", tmp_path / "marker.ts", f"http://{address}/a.ts", "v.m3u8"):
        for name in NAMES:
            (tmp_path / name).write_bytes(kind(target))
            reason = refused(open_reader, tmp_path / name, image_tmpl="", decoder=decoder)
            assert "playlist" in reason
    assert not seen


@every_decoder
def test_a_playlist_in_a_shard_set_opens_nothing(tmp_path, listener, decoder):
    address, seen = listener
    root = tmp_path / "videos"
    root.mkdir()
    encode(root / "good.mp4", FRAMES)
    marker = encode(tmp_path / "marker.ts", FRAMES)
    bad = {
        f"{kind.__name__}{number}{name[1:]}": kind(target)
        for kind in PLAYLISTS
        for number, target in enumerate((marker, f"http://{address}/a.ts"))
        for name in ("v.mp4", "v.m3u8")
    }
    for name, content in bad.items():
        (root / name).write_bytes(content)
    videos = tmp_path / "list.txt"
    videos.write_text("".join(f"{name} 0\n" for name in ["good.mp4", *bad]))
    shards = tmp_path / "k.shards"
    made = call(
        "tools.make_shards", videos, "--root_path", root, "--out", shards, "--num_class", 1, "-j", 1
    )
    assert made == 0
    with open_reader(shards / "good.mp4", image_tmpl="", decoder=decoder) as reader:
        assert len(reader) == len(FRAMES)
    for name in bad:
        assert "playlist" in refused(open_reader, shards / name, image_tmpl="", decoder=decoder)
    assert not seen


@every_decoder
def test_names_that_are_protocols_or_patterns_open_nothing(tmp_path, monkeypatch, decoder):
    """decord would take "concat:a.ts|a.ts" for the two files."""
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "a.ts", FRAMES)
    for name in ("concat:a.ts|a.ts", "subfile,,start,0,end,0,,:a.ts", "data:a.ts"):
        with open(name, "wb") as file:
            file.write(b"no video\n" * 99)
        refused(open_reader, name, image_tmpl="", decoder=decoder)


# Descriptors


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@every_decoder
def test_a_damaged_file_is_closed_at_once(tmp_path, decoder):
    whole = encode(tmp_path / "whole.ts", FRAMES).read_bytes()
    bad = {
        "noise.ts": np.random.default_rng(0).bytes(50_000),
        "silent.ts": whole[:188] * 200,
        "broken.mkv": encode(tmp_path / "whole.mkv", FRAMES).read_bytes()[:600],
        "list.m3u8": hls("whole.ts"),
    }
    gc.collect()
    gc.disable()
    try:
        for name, content in bad.items():
            (tmp_path / name).write_bytes(content)
            errors = []
            try:
                DECODERS[decoder](tmp_path / name)
            except UnreadableVideo as error:
                errors.append(
                    error
                )  # while the error is kept, and with it what its traceback holds
            open_files = [
                os.readlink(f"/proc/self/fd/{descriptor}")
                for descriptor in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{descriptor}")
            ]
            assert errors and str(tmp_path / name) not in open_files
    finally:
        gc.enable()
