"""Frames of video files through torchcodec, for ``--decoder torchcodec``."""

import os
import re
from contextlib import suppress
from fractions import Fraction
from itertools import chain, islice
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.stream import Disposition

from ops.data.readers.base import Opener, Reader, UnreadableVideo, check_file
from ops.data.readers.containers import open_checked
from ops.data.readers.orientation import UPRIGHT, Orientation, orientation_of
from ops.data.readers.packet_index import index_packets, lost_entries
from ops.data.readers.packets import picture_test
from ops.utils.errors import UserError
from ops.utils.files import open_regular

# Packets of other containers lack exact times.
_CONTAINERS = ("mov", "matroska")
# Packets to decode in search of the first frame: more than a decoder may hold back.
_FIRST_PACKETS = 32
# The function and place in torchcodec's source that its messages begin with:
# "decode_av_frame, /src/SingleStreamDecoder.cpp:1493, ".
_SOURCE_PLACE = re.compile(r"^.*\.(cpp|h):[0-9]+, ")
_USE_PYAV = "use --decoder pyav"
_NOT_INSTALLED = (
    "--decoder torchcodec needs the package torchcodec and FFmpeg's libraries: "
    "pip install torchcodec, and install FFmpeg (docs/install.md)"
)
_NOT_LOADED = (
    "torchcodec cannot be loaded: install FFmpeg's libraries, and the version of torchcodec for "
    "this PyTorch (docs/install.md)"
)


class TorchcodecReader(Reader):
    """A video file through torchcodec in its exact mode, on one thread.

    torchcodec numbers frames by the times of their packets. PyAV inspects the packets first, and a
    file whose frames cannot be numbered in this way is refused: other containers than mov, mp4,
    matroska and webm; truncated mov and mp4 files; packets without a picture; frames that share
    their time. These differences from PyAVReader remain:

    * In place of a frame that it cannot decode, torchcodec returns a later one. The time of that
      frame is checked, and UnreadableVideo raised. This concerns lost frames, some frames of an
      intra refresh, and most frames of files that were copied without their times.
    * A frame is decoded from the keyframe before it. If it is damaged, its pixels can differ from
      those of a decode from the start.
    * Pixels differ for odd widths and for more than 8 bits per sample.

    The FFmpeg of the system decides about the codecs that can be read.
    """

    def __init__(self, path: str | os.PathLike, opener: Opener | None = None) -> None:
        """Open a video.

        Args:
            path: the file; with `opener` only a name.
            opener: opens the content in place of `path`.

        Raises:
            UnreadableVideo: torchcodec cannot decode the file, or decodes it wrongly.
            UserError: torchcodec or FFmpeg's libraries are not installed.
        """
        super().__init__(path)
        if opener is None:
            check_file(self.path)
        decoder_class = _load_decoder_class()
        self._stream = _inspect(self.path, opener)
        self._file = self._open_file(opener)
        self._video = None
        try:
            self._video = self._open(decoder_class)
        except BaseException:
            self.close()
            raise

    def _open_file(self, opener: Opener | None) -> BinaryIO:
        """The content for torchcodec: FFmpeg would interpret parts of a name as a protocol."""
        if opener is not None:
            return opener()
        try:
            return open_regular(self.path)
        except OSError as error:
            raise UnreadableVideo(self.path, error.strerror) from None

    def _open(self, decoder_class: type) -> Any:
        try:
            video = decoder_class(
                self._file,
                stream_index=self._stream.number,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device="cpu",
                seek_mode="exact",
            )
        except Exception as error:  # whatever it raises is about this file
            raise UnreadableVideo(self.path, _reason(error)) from None
        if len(video) != len(self._stream.times):
            raise UnreadableVideo(
                self.path,
                f"torchcodec counts {len(video)} frames of {len(self._stream.times)}; {_USE_PYAV}",
            )
        if video.metadata.rotation is None and self._stream.orientation != UPRIGHT:
            raise UnreadableVideo(
                self.path, f"torchcodec does not read its display matrix; {_USE_PYAV}"
            )
        return video

    def close(self) -> None:
        self._video = None
        self._file.close()

    def __len__(self) -> int:
        return len(self._stream.times)

    def decode(self, indices: list[int]) -> np.ndarray:
        try:
            batch = self._video.get_frames_at(indices)
        except Exception as error:  # whatever it raises is about this file
            raise UnreadableVideo(self.path, _reason(error)) from None
        self._check_times(indices, batch.pts_seconds.numpy())
        frames = batch.data.numpy()
        axis = self._stream.orientation.mirrored_axis
        if axis is None:
            return frames
        return np.ascontiguousarray(np.flip(frames, axis))

    def _check_times(self, indices: list[int], seconds: np.ndarray) -> None:
        times = np.round(seconds / float(self._stream.time_base))
        for index, time in zip(indices, times, strict=True):
            if time != self._stream.times[index]:
                raise UnreadableVideo(
                    self.path, f"torchcodec cannot decode frame {index}; {_USE_PYAV}"
                )


class _Stream(NamedTuple):
    """The video stream of a file.

    Attributes:
        number: among all streams.
        times: of the frames, ascending, in units of `time_base`.
        time_base: in seconds.
        orientation: of the first frame.
    """

    number: int
    times: list[int]
    time_base: Fraction
    orientation: Orientation


def _inspect(path: str, opener: Opener | None) -> _Stream:
    """Inspect a file with PyAV.

    Raises:
        UnreadableVideo: it has no frames that torchcodec can number.
    """
    try:
        with open_checked(path, opener) as container:
            return _inspect_container(path, container)
    except av.FFmpegError as error:
        raise UnreadableVideo(path, error.strerror) from None


def _inspect_container(path: str, container: av.container.InputContainer) -> _Stream:
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise UnreadableVideo(path, "no video stream")
    decoder = stream.codec_context
    if decoder is None:
        raise UnreadableVideo(path, "no decoder for its video stream")
    family = container.format.name.split(",")[0]
    if family not in _CONTAINERS:
        raise UnreadableVideo(
            path, f"not a mov, mp4, matroska or webm file, which torchcodec needs; {_USE_PYAV}"
        )
    if family == "mov" and lost_entries(stream, container.size):
        raise UnreadableVideo(path, f"the file is truncated; {_USE_PYAV}")
    packets = (packet for packet in container.demux(stream) if packet.size)
    first_packets = list(islice(packets, _FIRST_PACKETS))
    is_picture = picture_test(decoder.name, decoder.extradata)
    index = index_packets(chain(first_packets, packets), is_picture)
    if index is None:
        raise UnreadableVideo(
            path,
            f"its packets do not give the order of its frames, as torchcodec needs; {_USE_PYAV}",
        )
    decoder.thread_count = 1
    orientation = _first_orientation(decoder, first_packets)
    return _Stream(stream.index, index.display_pts, stream.time_base, orientation)


def _first_orientation(decoder: av.VideoCodecContext, packets: list[av.Packet]) -> Orientation:
    """The orientation of the first frame of consecutive packets; upright if there is none."""
    for packet in chain(packets, (None,)):  # None flushes the decoder
        with suppress(av.FFmpegError):  # a damaged packet
            for frame in decoder.decode(packet):
                return orientation_of(frame)
    return UPRIGHT


def _load_decoder_class() -> type:
    """Import torchcodec.

    Raises:
        UserError: torchcodec or FFmpeg's libraries are not installed.
    """
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder
    except ImportError:
        raise UserError(_NOT_INSTALLED) from None
    except (OSError, RuntimeError):  # versions before 0.17, without FFmpeg
        raise UserError(_NOT_LOADED) from None
    if torchcodec.ffmpeg_major_version is None:
        raise UserError(_NOT_LOADED)
    return VideoDecoder


def _reason(error: Exception) -> str:
    """The first line of torchcodec's message, without the place in its source."""
    message = str(error).split("\n")[0]
    return _SOURCE_PLACE.sub("", message).strip() or type(error).__name__
