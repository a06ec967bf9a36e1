"""All frames of a video once, in order, with their times: for long videos.

A `Reader` counts the frames of a video before the first one can be read, and decodes files without
an index as a whole for that. A stream does not: it decodes each frame once, holds no frames and
no packets, and converts only those that are asked for.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from ops.data.readers.base import Reader, UnreadableVideo, check_aspect_ratio, check_file
from ops.data.readers.containers import open_container
from ops.data.readers.open import open_reader
from ops.data.readers.orientation import orientation_of
from ops.data.readers.rgb import to_rgb

DEFAULT_RATE = Fraction(25)  # frames per second, where a file does not contain it


class StreamedFrame:
    """A frame of a stream.

    Attributes:
        index: number of the frame, from 0.
        time: seconds since the first frame.
    """

    def __init__(self, index: int, time: float, convert: Callable[[], np.ndarray]) -> None:
        self.index = index
        self.time = time
        self._convert = convert

    def image(self) -> np.ndarray:
        """The pixels, uint8 ``[H, W, C]``: RGB as displayed, or the x and y of optical flow."""
        return self._convert()


class FrameStream(ABC):
    """The frames of a video in display order; a context manager, iterated once.

    Attributes:
        path: the video file or folder of frames.
        rate: average frames per second.
        count: frames read so far; after the last one, their number.
        damaged: packets so far that could not be decoded, whose frames are missing.
        end: time at which the last frame read so far ends, in seconds.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)
        self.rate = DEFAULT_RATE
        self.count = 0
        self.damaged = 0
        self.end = 0.0

    def __enter__(self) -> "FrameStream":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def __iter__(self) -> Iterator[StreamedFrame]:
        """The frames.

        Raises:
            UnreadableVideo: no frame can be decoded, or the frame size changes.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and decoders."""


class VideoStream(FrameStream):
    """The frames of a video file, on one thread.

    They are the frames of `PyAVReader`, pixel for pixel, except that damaged frames which FFmpeg
    cannot decode are left out, where the reader refuses them.

    Attributes:
        start: time of the first frame in the file, in seconds, once it has been read.
    """

    def __init__(
        self, path: str | os.PathLike, container: av.container.InputContainer | None = None
    ) -> None:
        """Open a video file.

        Args:
            path: the file.
            container: what is open already, such as a camera, which is closed with the stream;
                ``path`` is its name then.

        Raises:
            UnreadableVideo: not a video.
        """
        super().__init__(path)
        self._container = container or self._open_file()
        self._stream = self._container.streams.best("video")
        reason = self._why_unusable()
        if reason:
            self.close()
            raise UnreadableVideo(self.path, reason)
        self._stream.codec_context.thread_count = 1
        self.rate = self._stream.average_rate or self._stream.guessed_rate or DEFAULT_RATE
        self._reformatter = VideoReformatter()
        self._start: Fraction | None = None
        self._last_time = 0.0

    def _open_file(self) -> av.container.InputContainer:
        check_file(self.path)
        av.logging.set_level(None)  # as in PyAVReader
        try:
            return open_container(self.path)
        except av.FFmpegError as error:
            raise UnreadableVideo(self.path, error.strerror) from None

    def _why_unusable(self) -> str | None:
        if self._stream is None or self._stream.disposition & Disposition.attached_pic:
            return "no video stream"
        if self._stream.codec_context is None:
            return "no decoder for its video stream"
        return None

    def close(self) -> None:
        self._container.close()

    def __iter__(self) -> Iterator[StreamedFrame]:
        size = None
        try:
            for frame in self._decode():
                displayed = (frame.width, frame.height)
                if size is None:
                    size = displayed
                    check_aspect_ratio(self.path, *size)
                if displayed != size:
                    raise UnreadableVideo(
                        self.path, f"the frame size changes at frame {self.count}"
                    )
                time = self.end  # where the file has no time for this frame
                if frame.pts is not None:
                    seconds = frame.pts * self._stream.time_base
                    if self._start is None:
                        self._start = seconds
                    time = float(seconds - self._start)
                time = max(time, self._last_time)
                yield self._streamed(frame, time)
        except av.FFmpegError as error:
            raise UnreadableVideo(self.path, error.strerror) from None
        if self.count == 0:
            raise UnreadableVideo(self.path, "no frame can be decoded")

    @property
    def start(self) -> Fraction:
        return self._start or Fraction(0)

    def _streamed(self, frame: av.VideoFrame, time: float) -> StreamedFrame:
        streamed = StreamedFrame(self.count, time, lambda: self._to_image(frame))
        duration = float(1 / self.rate)
        if frame.duration:
            duration = float(frame.duration * self._stream.time_base)
        self._last_time = time
        self.end = time + duration
        self.count += 1
        return streamed

    def _to_image(self, frame: av.VideoFrame) -> np.ndarray:
        image = orientation_of(frame).apply(to_rgb(frame, self._reformatter))
        return np.array(image, order="C")  # a copy: the image is in memory that FFmpeg owns

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The frames of a sequential decode; errors are skipped."""
        skips_corrupt = self._container.format.name != "mpegts"  # as in PyAVReader
        with suppress(IndexError):  # streams that appear midway confuse PyAV
            for packet in self._packets():
                if skips_corrupt and packet is not None and packet.is_corrupt:
                    self.damaged += 1
                    continue
                try:
                    yield from self._stream.codec_context.decode(packet)
                except av.FFmpegError:
                    self.damaged += 1

    def _packets(self) -> Iterator[av.Packet | None]:
        # A damaged file ends where the demuxer cannot continue.
        with suppress(av.FFmpegError):
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        yield None  # flushes the decoder


class FolderStream(FrameStream):
    """The frames of a folder at a constant rate."""

    def __init__(self, reader: Reader, rate: float) -> None:
        super().__init__(reader.path)
        self.rate = Fraction(rate)
        self._reader = reader

    def close(self) -> None:
        self._reader.close()

    def __iter__(self) -> Iterator[StreamedFrame]:
        for index in range(len(self._reader)):
            self.count = index + 1
            self.end = float(self.count / self.rate)
            yield StreamedFrame(
                index, float(index / self.rate), lambda index=index: self._reader.get([index])[0]
            )


def open_stream(
    path: str | os.PathLike,
    *,
    image_tmpl: str,
    rate: float | None = None,
    modality: str = "RGB",
) -> FrameStream:
    """Open a video file or a folder of frames to be read once, in order.

    Args:
        path: the video.
        image_tmpl: template of the names of a folder's files.
        rate: frames per second of a folder; None: 25.
        modality: "RGB", "Flow" or "RGBDiff"; flow is read from folders only.

    Raises:
        UnreadableVideo: not a video, or a folder without frames.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        reader = open_reader(path, image_tmpl=image_tmpl, modality=modality)
        return FolderStream(reader, rate or float(DEFAULT_RATE))
    if modality == "Flow":
        raise UnreadableVideo(path, "flow is not read from a video file; give a folder of images")
    return VideoStream(path)
