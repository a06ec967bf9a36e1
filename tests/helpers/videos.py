"""Small synthetic videos for the tests: plain functions over PyAV."""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def textured_frames(n: int, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """A drifting texture under four blocks that encode the frame number, ``[n, H, W, 3]``.

    Every frame differs from every other by far more than a lossy codec loses, so a wrong frame is
    never taken for the right one.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (height // 8 + 8, width // 8 + 8, 3))
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    frames = np.empty((n, height, width, 3), np.uint8)
    side = max(min(height, width) // 4, 2)
    for i in range(n):
        y, x = (i // 2) % 48, i % 48
        frames[i] = texture[y : y + height, x : x + width]
        for digit in range(4):
            frames[i, :side, digit * side : (digit + 1) * side] = (i // 4**digit % 4) * 80
    return frames


def encode(
    path: Path | str,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    fps: int = 30,
    gop: int = 12,
    bframes: int = 2,
    open_gop: bool = False,
    pts: list[int] | None = None,
    rotation: int = 0,
    hflip: bool = False,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio: bool = False,
) -> Path:
    """Encode uint8 ``[n, H, W, 3]`` to `path` (container from its suffix); returns the path.

    `pts` are in units of ``1 / (1000 * fps)`` s and make a variable frame rate; `rotation` is a
    display matrix in degrees counter-clockwise, and `hflip` mirrors what it gives; `options` go to
    the encoder and win over `bframes` and `open_gop`; with `audio` half a second of silence is
    interleaved. Skips the test where the wheel lacks the encoder.
    """
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no {codec} encoder")
    settings: dict[str, str] = {}
    if codec == "libx264":
        settings = {
            "preset": "fast",
            "x264-params": f"bframes={bframes}:open-gop={int(open_gop)}:scenecut=0",
        }
    elif codec == "libx265":
        settings = {
            "preset": "ultrafast",
            "x265-params": f"bframes={bframes}:open-gop={int(open_gop)}:scenecut=0"
            ":log-level=none:pools=none",
        }
    elif codec == "libvpx-vp9":
        settings = {"deadline": "realtime", "cpu-used": "8"}
    elif codec == "mpeg4":
        settings = {"bf": str(bframes)}
    n, height, width, _ = frames.shape
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={**settings, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.bit_rate = 2_000_000
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000 * fps)
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        if audio:
            _add_silence(container)
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(frames[i], format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = Fraction(1, fps) if pts is None else Fraction(1, 1000 * fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def _add_silence(container: av.container.OutputContainer) -> None:
    stream = container.add_stream("aac", rate=16000, layout="mono")
    for i in range(8):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 16000, i * 1024, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def encode_audio(path: Path | str) -> Path:
    """Half a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        _add_silence(container)
    return Path(path)


def hide_frames(path: Path, first: int, shown: int, *, fps: int = 30) -> None:
    """Change the edit list of an mp4: only `shown` frames, from `first`, are displayed."""
    data = bytearray(path.read_bytes())
    entry = (
        data.index(b"elst") + 12
    )  # past the version and the number of entries; times in 1/1000 s and 1/(512 fps) s
    _, start = struct.unpack_from(">Ii", data, entry)
    struct.pack_into(">Ii", data, entry, 1000 * shown // fps, start + first * 512)
    path.write_bytes(data)


def copy_from_key(path: Path, target: Path, key: int) -> Path:
    """Copy the packets from keyframe number `key` on, without encoding anew; returns `target`."""
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            key -= packet.is_keyframe
            if key < 0 and packet.size:
                packet.stream = stream
                copy.mux(packet)
    return target


def copy_without_times(path: Path, target: Path) -> Path:
    """Copy packets with times in decoding order, as from a raw stream; returns `target`."""
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        video = source.streams.video[0]
        step = round(1 / (video.average_rate * video.time_base))
        stream = copy.add_stream_from_template(video)
        packets = (packet for packet in source.demux(video) if packet.size)
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = number * step
            packet.stream = stream
            copy.mux(packet)
    return target


def copy_with_messages(path: Path, target: Path, every: int = 7) -> Path:
    """Copy the packets, with one that holds only a message after each `every`; returns `target`."""
    messages = {"h264": b"\x06\x05\x01\x00\x80", "hevc": b"\x4e\x01\x05\x01\x00\x80"}
    with av.open(str(path)) as source, av.open(str(target), "w") as copy:
        video = source.streams.video[0]
        step = round(1 / (video.average_rate * video.time_base))
        unit = messages[video.codec_context.name]
        stream = copy.add_stream_from_template(video)
        packets = (packet for packet in source.demux(video) if packet.size)
        for number, packet in enumerate(packets, 1):
            message = av.Packet(len(unit).to_bytes(4, "big") + unit)
            message.pts, message.dts = packet.pts + step // 2, packet.dts + step // 2
            message.time_base = packet.time_base
            packet.stream = message.stream = stream
            copy.mux(packet)
            if number % every == 0:
                copy.mux(message)
    return target


def end_of_packet(path: Path, count: int) -> int:
    """Where in the file the `count`-th packet of the picture, in decoding order, ends."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][count - 1]
    return packet.pos + packet.size


def damage_packet(path: Path, frame: int) -> None:
    """Overwrite the packet of `frame` (number in display order) of an indexed video with 0xFF."""
    with av.open(str(path)) as container:
        packets = sorted((p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size)
    _, position, size = packets[frame]
    data = bytearray(path.read_bytes())
    data[position : position + size] = b"\xff" * size
    path.write_bytes(data)


def flip_bits(path: Path, target: Path, seed: int, damages: int = 4) -> Path:
    """Copy a video with some bits flipped in the pictures' data; returns `target`."""
    rng = np.random.default_rng(seed)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size > 16]
    data = bytearray(path.read_bytes())
    for _ in range(damages):
        position, size = packets[rng.integers(len(packets))]
        data[position + rng.integers(8, size)] ^= 1 << int(rng.integers(8))
    target.write_bytes(data)
    return target


def decode_all(path: Path | str) -> np.ndarray:
    """All frames of a sequential decode, uint8 ``[n, H, W, 3]``, rotated as displayed.

    Mirroring is not applied. The pixels are those of ``ffmpeg -vf setfield=prog,format=FORMAT``,
    where FORMAT is that of the video with 8 bits per sample.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        graph = rgb_graph(stream)
        frames = [(filtered(graph, f), f.rotation) for f in container.decode(video=0)]
    return np.stack([np.rot90(image, rotation // 90) for image, rotation in frames])


def rgb_graph(stream: av.video.stream.VideoStream) -> av.filter.Graph:
    """FFmpeg's filters from frames of a stream to RGB, by way of 8 bits per sample."""
    context = stream.codec_context
    shallow = re.sub(r"p(9|1[0-9])(le|be)$", "p", context.pix_fmt)
    graph = av.filter.Graph()
    source = (
        f"video_size={context.width}x{context.height}:pix_fmt={context.pix_fmt}"
        f":time_base={stream.time_base}:colorspace={int(context.colorspace)}"
        f":range={int(context.color_range)}"
    )
    nodes = [
        graph.add("buffer", source),
        graph.add("setfield", "mode=prog"),
        graph.add("scale", "flags=bilinear"),
        graph.add("format", shallow),
        graph.add("scale", "flags=bilinear"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def filtered(graph: av.filter.Graph, frame: av.VideoFrame) -> np.ndarray:
    """The RGB pixels of a frame, uint8 ``[H, W, 3]``."""
    graph.push(frame)
    return graph.pull().to_ndarray()


def check(reader_class, path, truth, samples):
    """A reader returns the frames of `truth`, uint8 ``[n, H, W, C]``, for lists of indices."""
    with reader_class(path) as reader:
        assert len(reader) == len(truth)
        for indices in samples:
            frames = reader.get(indices)
            assert frames.dtype == np.uint8 and frames.flags.c_contiguous
            assert frames.shape == (len(indices), *truth.shape[1:])
            wrong = [
                i
                for i, frame in zip(indices, frames, strict=True)
                if not np.array_equal(frame, truth[i])
            ]
            assert not wrong


def standard_samples(n):
    """Each frame alone, all at once, all backwards, sparse, and with repeats."""
    return [
        *([i] for i in range(n)),
        range(n),
        range(n - 1, -1, -1),
        range(2, n, 7),
        [n - 1, 0, n - 1, n // 2, 0],
    ]
