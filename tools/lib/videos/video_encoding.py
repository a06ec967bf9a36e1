"""Encodes videos with x264: what resize_videos.py does with each video."""

from fractions import Fraction
from typing import BinaryIO

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.stream import VideoStream

from lib.videos.video_frames import FrameStream, coded_size, is_quarter_turned
from lib.videos.video_jobs import Job
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.orientation import orientation_of
from ops.data.readers.pyav import PyAVReader
from ops.utils.files import atomic_write

# x264's macroblock tree depends on uninitialized memory: without it the same video gives the same
# bytes. A B-pyramid would leave fewer non-reference frames, which a reader can skip.
X264_OPTIONS = {
    "preset": "fast",
    "tune": "fastdecode",
    "x264-params": "mbtree=0:b-pyramid=none",
}
COLOR_PROPERTIES = ("color_range", "color_primaries", "color_trc", "colorspace")
LARGEST_ASPECT_DENOMINATOR = 1000


def resize(job: Job, *, size: str, gop: int, crf: int) -> None:
    """Encode a video.

    Args:
        job: the video and the file to write.
        size: of the displayed frames, see ``lib.videos.video_frames.scaled``.
        gop: frames from keyframe to keyframe.
        crf: constant rate factor of x264.

    Raises:
        UnreadableVideo: the video cannot be read as a whole; nothing is written.
    """
    with FrameStream(job.source) as stream, atomic_write(job.target) as file:
        encode(stream, file, size, gop, crf)
        file.flush()
        with PyAVReader(file.name) as result:
            if len(result) != len(stream):
                raise UnreadableVideo(job.source, f"its {len(stream)} frames became {len(result)}")


def encode(stream: FrameStream, file: BinaryIO, size: str, gop: int, crf: int) -> None:
    """Encode the frames of a stream to an mp4 file; arguments as of ``resize``."""
    graph = None
    with av.open(file, "w", format="mp4") as container:
        for frame in stream.frames():
            if graph is None:
                graph = picture_filter(frame, stream, size)
                first_time = frame.pts
                aspect = displayed_aspect(frame, stream)
            frame.pts -= first_time
            graph.push(frame)
            picture = graph.pull()
            if not container.streams.video:
                video = add_stream(container, picture, stream, aspect, gop, crf)
            picture.pict_type = 0  # otherwise x264 makes keyframes of the source's keyframes
            container.mux(video.encode(picture))
        container.mux(video.encode(None))


def displayed_aspect(frame: av.VideoFrame, stream: FrameStream) -> Fraction:
    """Width over height of a frame as displayed."""
    aspect = stream.pixel_aspect * Fraction(frame.width, frame.height)
    return 1 / aspect if is_quarter_turned(frame) else aspect


def picture_filter(frame: av.VideoFrame, stream: FrameStream, size: str) -> Graph:
    """A filter from decoded frames to displayed ones in yuv420p.

    Args:
        frame: a frame like those that will be filtered.
        stream: its stream.
        size: of the displayed frames, see ``lib.videos.video_frames.scaled``.

    Returns:
        A graph that gives one frame for each.
    """
    width, height = coded_size(frame, size, step=2)
    graph = Graph()
    graph.threads = 1
    # With the color space and range given, FFmpeg does not assume others and convert the colors.
    source = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:"
        f"time_base={stream.time_base}:colorspace={int(frame.colorspace)}:"
        f"range={int(frame.color_range)}"
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
    aspect: Fraction,
    gop: int,
    crf: int,
) -> VideoStream:
    """Add a video stream to a container.

    Args:
        container: the file.
        picture: the first frame, which gives the size and the color properties.
        source: gives the frame rate and the unit of times.
        aspect: width over height of the frames as displayed.
        gop: frames from keyframe to keyframe.
        crf: constant rate factor of x264.
    """
    options = {**X264_OPTIONS, "crf": str(crf)}
    video = container.add_stream("libx264", rate=source.rate, options=options)
    video.width = picture.width
    video.height = picture.height
    video.pix_fmt = picture.format.name
    context = video.codec_context
    context.time_base = source.time_base
    context.gop_size = gop
    context.thread_count = 1
    pixel_aspect = aspect * Fraction(picture.height, picture.width)
    context.sample_aspect_ratio = pixel_aspect.limit_denominator(LARGEST_ASPECT_DENOMINATOR)
    for name in COLOR_PROPERTIES:
        setattr(context, name, getattr(picture, name))
    return video
