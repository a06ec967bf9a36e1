"""Encode videos anew, smaller and quick to read at random places: what training from video files spends its time on.

    python tools/resize_videos.py videos videos256                      videos/class/v.avi -> videos256/class/v.mp4
    python tools/resize_videos.py --list train.txt --root_path videos videos256 --size 320

H.264 in mp4 with a keyframe every 12 frames, settings that decode fast, and frames that nothing refers to, which the reader
skips. Each frame of the source, as training would read it, is one frame of the result, in the same order and at the same
time; turned as the file says, without sound. This is counted before the result appears. The same command
completes what an earlier run left unfinished, and tries again what failed. Videos that cannot be read as a whole are listed in
OUT/failures.csv, with exit status 1.
"""

import argparse
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.video_frames import FrameStream, coded_size, parse_size, turned
from lib.video_jobs import Job, add_flags, find_jobs, run
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.orientation import orientation_of
from ops.data.readers.pyav import PyAVReader
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write

# In x264 the macroblock tree depends on what was in the memory before; without it the same video gives the same bytes. A
# pyramid would make frames that nothing refers to rarer, and those are what a reader skips.
X264 = {"preset": "fast", "tune": "fastdecode", "x264-params": "mbtree=0:b-pyramid=none"}


def main() -> None:
    args = parser().parse_intermixed_args()
    if args.gop < 1:
        raise UserError(f"--gop {args.gop} is too small; give 1 or more")
    if not 0 <= args.crf <= 51:
        raise UserError(f"--crf {args.crf} is not in 0 to 51; give a number like 21")
    arguments = {name: getattr(args, name) for name in ("size", "gop", "crf")}
    jobs = find_jobs(args, result_suffix=".mp4")
    sys.exit(
        run(
            "resize_videos", args.out, jobs, partial(resize, **arguments), arguments, args.processes
        )
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(top, "new videos")
    top.add_argument(
        "--size",
        type=parse_size,
        default="256",
        metavar="S",
        help="the short side, which is never enlarged, or "
        "WIDTHxHEIGHT; 0 keeps the size; odd numbers become even (default: 256)",
    )
    top.add_argument(
        "--gop",
        type=int,
        default=12,
        metavar="N",
        help="frames from keyframe to keyframe: fewer are quicker to "
        "read at random places and take more room (default: 12)",
    )
    top.add_argument(
        "--crf",
        type=int,
        default=21,
        metavar="Q",
        help="constant rate factor of x264, 0 to 51: a lower one is "
        "closer to the source and takes more room (default: 21)",
    )
    return top


def resize(job: Job, *, size: str, gop: int, crf: int) -> None:
    """Encode the video ``job.source`` to the file ``job.target``. Raises UnreadableVideo, and leaves nothing, for a source
    that cannot be read as a whole."""
    with FrameStream(job.source) as stream, atomic_write(job.target) as file:
        encode(stream, file, size, gop, crf)
        file.flush()
        with PyAVReader(file.name) as result:
            if len(result) != len(stream):
                raise UnreadableVideo(job.source, f"its {len(stream)} frames became {len(result)}")


def encode(stream: FrameStream, file: BinaryIO, size: str, gop: int, crf: int) -> None:
    graph = None
    with av.open(file, "w", format="mp4") as container:
        for frame in stream.frames():
            if graph is None:
                graph, start = picture_filter(frame, stream, size), frame.pts
                shape = stream.pixel_aspect * Fraction(frame.width, frame.height)
                if turned(frame):
                    shape = 1 / shape
            frame.pts -= start
            graph.push(frame)
            picture = graph.pull()
            if not container.streams.video:
                video = add_stream(container, picture, stream, shape, gop, crf)
            picture.pict_type = 0  # or x264 makes a keyframe of each that was one
            container.mux(video.encode(picture))
        container.mux(video.encode(None))


def picture_filter(frame: av.VideoFrame, stream: FrameStream, size: str) -> Graph:
    """From frames like ``frame`` to pictures as shown in ``size`` (see ``scaled``), yuv420p, each at once."""
    width, height = coded_size(frame, size, step=2)
    graph = Graph()
    graph.threads = 1
    # Told what the colours mean, it does not take them for others and convert them.
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={stream.time_base}:"
        f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"
    )
    nodes = [
        graph.add("buffer", source),
        graph.add("scale", f"{width}:{height}:flags=bicubic"),
        *(graph.add(name, arguments) for name, arguments in orientation_of(frame).filters()),
        graph.add("format", "yuv420p"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def add_stream(
    container: OutputContainer,
    picture: av.VideoFrame,
    source: FrameStream,
    shape: Fraction,
    gop: int,
    crf: int,
) -> VideoStream:
    """The stream for pictures like ``picture``, to be shown in ``shape``, their width over their height. Colours mean what
    they mean in the source."""
    video = container.add_stream("libx264", rate=source.rate, options={**X264, "crf": str(crf)})
    video.width, video.height, video.pix_fmt = picture.width, picture.height, picture.format.name
    context = video.codec_context
    context.time_base, context.gop_size, context.thread_count = source.time_base, gop, 1
    context.sample_aspect_ratio = (
        shape * Fraction(picture.height, picture.width)
    ).limit_denominator(1000)
    for name in ("color_range", "color_primaries", "color_trc", "colorspace"):
        setattr(context, name, getattr(picture, name))
    return video


if __name__ == "__main__":
    run_cli(main)
