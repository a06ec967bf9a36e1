"""Writes a video with the names of the classes that are seen on its frames."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer, OutputContainer

from lib.pictures.captions import caption, label
from ops.data.readers.containers import open_container
from ops.data.readers.stream import FrameStream, VideoStream
from ops.scores.spans import Span
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_TIME_BASE = Fraction(1, 90000)  # a multiple of the usual frame rates
_PRESET = "fast"  # of x264
_CRF = "20"  # of x264: no loss is visible
_MOST_NAMES = 3  # of classes at a time


def check_format(path: str, flag: str = "--video") -> str:
    """FFmpeg's name of the container that the suffix of a file stands for.

    Args:
        path: of the file.
        flag: that named the file, for the message.

    Raises:
        UserError: another suffix.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise UserError(f"{flag} {path}: the name must end with {', '.join(FORMATS)}")
    return FORMATS[suffix]


class AnnotatedVideo:
    """A video file to which frames are written, with a band at the bottom for text.

    Args:
        output: the open file.
        rate: frames per second, for players; the times of the frames are what counts.
        preset: of x264, "fast" or a quicker one, which makes larger files.
    """

    def __init__(self, output: OutputContainer, rate: Fraction | float, preset: str) -> None:
        self.output = output
        self._video = add_video(output, Fraction(rate), preset)
        self._size: tuple[int, int] | None = None
        self._least_time = 0.0

    def write(self, image: np.ndarray, time: float, text: str) -> None:
        """Write a frame.

        Args:
            image: uint8 ``[H, W, 3]``, is not changed. It loses a row or a column where its size
                is odd, and is scaled to the size of the first frame where it has another one.
            time: seconds since the first frame; later than that of the frame before.
            text: what is seen, empty for no band.
        """
        image = np.array(image[: len(image) & ~1, : image.shape[1] & ~1], order="C")
        if self._size is None:
            self._size = (image.shape[1], image.shape[0])
            self._video.width, self._video.height = self._size
        label(image, text)
        if (image.shape[1], image.shape[0]) != self._size:
            picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(*self._size)
            image = picture.to_ndarray(format="rgb24")
        time = max(time, self._least_time)
        self._least_time = time + float(_TIME_BASE)
        encode_frame(self.output, self._video, image, time)

    def finish(self) -> None:
        """Write what the encoder still holds."""
        self.output.mux(self._video.encode(None))


@contextlib.contextmanager
def open_annotated(
    path: str, rate: Fraction | float, preset: str = _PRESET, flag: str = "--video"
) -> Iterator[AnnotatedVideo]:
    """Create an annotated video, which appears under its name when the context ends.

    Args:
        path: the file, which ends with .mp4, .mov or .mkv.
        rate, preset: as of `AnnotatedVideo`.
        flag: that named the file, for messages.
    """
    kind = check_format(path, flag)
    with atomic_write(path) as file, av.open(file, "w", format=kind) as output:
        video = AnnotatedVideo(output, rate, preset)
        yield video
        video.finish()


def write_annotated(path: str, stream: FrameStream, spans: Sequence[Span]) -> None:
    """Write a video with a band at the bottom that names the classes, atomically.

    Frames keep their times. They are turned as displayed, and lose a row or a column where their
    size is odd. Audio is copied without decoding it.

    Args:
        path: the file, which ends with .mp4, .mov or .mkv.
        stream: the frames; of a video file, its audio too.
        spans: in order of time.

    Raises:
        UnreadableVideo: as the stream does.
        UserError: the container cannot store the audio.
    """
    with open_annotated(path, stream.rate) as video:
        audio = None
        if isinstance(stream, VideoStream):
            audio = _Audio(stream, video.output, path)
        for frame in stream:
            seen = [span for span in spans if span.start <= frame.time < span.end]
            # The first frame sets the size, before anything of the audio is in the file.
            video.write(frame.image(), frame.time, describe_spans(seen))
            if audio:
                audio.copy_until(frame.time)
        if audio:
            audio.copy_until(float("inf"))
            audio.close()


def add_video(output: OutputContainer, rate: Fraction, preset: str = _PRESET) -> av.VideoStream:
    """Add a stream for ``encode_frame``; the first frame sets its width and height."""
    options = {"preset": preset, "crf": _CRF}
    video = output.add_stream("libx264", rate=rate, options=options)
    video.codec_context.time_base = _TIME_BASE
    video.pix_fmt = "yuv420p"
    return video


def encode_frame(
    output: OutputContainer, video: av.VideoStream, image: np.ndarray, time: float
) -> None:
    """Add a frame, uint8 ``[H, W, 3]`` of even sides, that is displayed at a time in seconds."""
    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    picture.pts = round(time / _TIME_BASE)
    picture.time_base = _TIME_BASE
    output.mux(video.encode(picture))


def describe_spans(spans: Sequence[Span]) -> str:
    """What is seen, for the band: the names of a few classes and their probabilities."""
    return ",  ".join(caption(span.name, span.probability) for span in spans[:_MOST_NAMES])


class _Audio:
    """The audio packets of a file, copied into another one beside the frames."""

    def __init__(self, stream: VideoStream, output: OutputContainer, path: str) -> None:
        self._video = stream
        self._output = output
        self._path = path
        self._input: InputContainer = open_container(stream.path)
        self._packets: Iterator[av.Packet] = iter(())
        source = self._input.streams.best("audio")
        if source is None:
            return
        try:
            self._target = output.add_stream_from_template(source)
        except (av.FFmpegError, ValueError) as error:
            raise self._unfit(source.codec_context.name) from error
        self._packets = self._input.demux(source)
        self._codec = source.codec_context.name
        self._following: av.Packet | None = None

    def _unfit(self, codec: str) -> UserError:
        return UserError(f"--video {self._path}: cannot store {codec} audio; give a name.mkv")

    def close(self) -> None:
        self._input.close()

    def copy_until(self, time: float) -> None:
        """Copy the packets that begin at most at a time, in seconds since the first frame."""
        while True:
            packet = self._next_packet()
            if packet is None:
                return
            if float(packet.pts * packet.time_base) > time:
                self._following = packet
                return
            packet.stream = self._target
            try:
                self._output.mux(packet)
            except av.FFmpegError as error:
                raise self._unfit(self._codec) from error

    def _next_packet(self) -> av.Packet | None:
        """The next packet, with times since the first frame."""
        kept = getattr(self, "_following", None)
        if kept is not None:
            self._following = None
            return kept
        for packet in self._packets:
            if not packet.size or packet.pts is None or packet.dts is None:
                continue
            shift = round(self._video.start / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            if packet.dts >= 0:
                return packet
        return None
