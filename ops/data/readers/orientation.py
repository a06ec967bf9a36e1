"""How a video frame is displayed: quarter turns and mirroring, from its display matrix."""

import struct
from contextlib import suppress
from typing import NamedTuple

import av
import numpy as np

from ops.data.readers.base import Opener
from ops.data.readers.containers import open_container

_MATRIX = struct.Struct("=9i")  # row by row; see av_display_rotation_get in libavutil/display.h


class Orientation(NamedTuple):
    """How to display a decoded frame: first transpose it, then mirror it.

    These are the orientations of ffmpeg's autorotate. An angle between them, which no camera
    writes, is rounded to the nearest quarter turn.
    """

    transposed: bool = False
    flipped_horizontally: bool = False
    flipped_vertically: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether no rotation alone gives this orientation."""
        return self.transposed ^ self.flipped_horizontally ^ self.flipped_vertically

    @property
    def mirrored_axis(self) -> int | None:
        """The axis to reverse in frames ``[n, H, W, C]`` that have been rotated, not mirrored.

        None if a rotation alone gives this orientation.
        """
        if not self.mirrored:
            return None
        if self.transposed:
            return 2
        return 1

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The frame as displayed: a view of `image`, ``[H, W, C]``."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        if self.flipped_horizontally:
            image = image[:, ::-1]
        if self.flipped_vertically:
            image = image[::-1]
        return image

    def filters(self) -> list[tuple[str, str | None]]:
        """Names and arguments of the FFmpeg filters that do the same."""
        filters = []
        if self.transposed:
            filters.append(("transpose", "cclock_flip"))
        if self.flipped_horizontally:
            filters.append(("hflip", None))
        if self.flipped_vertically:
            filters.append(("vflip", None))
        return filters


UPRIGHT = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation of a decoded frame, from its display matrix."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    # A pixel in column p, row q is displayed in column a * p + c * q, row b * p + d * q.
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(data))
    if abs(b) > abs(a):
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


def probe_orientation(path: str, opener: Opener | None = None) -> tuple[Orientation, str]:
    """The orientation of the first frame of a video, and the container of the video.

    Args:
        path, opener: as of `open_container`.

    Returns:
        The orientation and FFmpeg's name of the container; upright and "" where FFmpeg cannot
        read the file.

    Raises:
        UnreadableVideo: as `open_container` does.
    """
    with suppress(av.FFmpegError, IndexError), open_container(path, opener) as video:
        video.streams.video[0].codec_context.thread_count = 1
        for frame in video.decode(video=0):
            return orientation_of(frame), video.format.name
    return UPRIGHT, ""
