"""Frames of video files through decord 0.6, for ``--decoder decord``."""

import os
import re
from typing import Any

import numpy as np

from ops.data.readers.base import Opener, Reader, UnreadableVideo, check_file
from ops.data.readers.containers import open_checked
from ops.data.readers.orientation import UPRIGHT, probe_orientation
from ops.utils.errors import UserError

try:
    import decord
except ImportError:  # there are no wheels for some platforms
    decord = None

_CHUNK = 64  # frames converted at a time
# The place in decord's source that its messages begin with: "/src/video/video_reader.cc:125: ".
_SOURCE_PLACE = re.compile(r"^.*\.cc:[0-9]+: ")


class DecordReader(Reader):
    """A video file through decord, on one thread, from the first frame to the last requested one.

    decord's own seeking returns neighbors of the requested frame, up to a group of pictures away,
    for videos with open GOPs, intra refresh, or B-frames in MPEG-4. Decoding all frames in order
    does not. These differences from PyAVReader remain:

    * An edit list that hides a part of a mov or mp4 file: hidden frames count, and the last visible
      frame replaces them. Packets without a picture count as well.
    * A frame that cannot be decoded is replaced by the one before it, without an error.
    * Pixels differ for odd widths and for more than 8 bits per sample.
    * Frames of transport streams are lost.

    Truncated mov and mp4 files, AV1, and display matrices in other containers than mov and mp4 are
    refused.
    """

    def __init__(self, path: str | os.PathLike, opener: Opener | None = None) -> None:
        """Open a video.

        Args:
            path: the file; with `opener` only a name.
            opener: opens the content in place of `path`.

        Raises:
            UnreadableVideo: decord cannot decode the file, or decodes it wrongly.
            UserError: decord is not installed.
        """
        super().__init__(path)
        if opener is None:
            check_file(self.path)
        if decord is None:
            raise UserError("--decoder decord needs the package decord: pip install decord")
        decord.logging.set_level(decord.logging.QUIET)
        open_checked(self.path, opener).close()
        self._opener = opener
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._video = self._open()
        except self._errors as error:
            raise UnreadableVideo(self.path, _reason(error)) from None
        self._is_at_start = True
        if not len(self._video):
            raise UnreadableVideo(self.path, "no frame can be decoded")
        self._mirrored_axis = self._find_mirrored_axis()

    def _open(self) -> Any:
        if self._opener is not None:
            return decord.VideoReader(self._opener(), num_threads=1)
        # Absolute: decord would interpret what precedes a colon in the name as a protocol.
        return decord.VideoReader(os.path.abspath(self.path), num_threads=1)

    def _find_mirrored_axis(self) -> int | None:
        """The axis of ``[n, H, W, C]`` to reverse: decord rotates, but does not mirror."""
        orientation, container = probe_orientation(self.path, self._opener)
        if orientation != UPRIGHT and not container.startswith("mov"):
            raise UnreadableVideo(
                self.path, "decord reads display matrices of mov and mp4 only; use --decoder pyav"
            )
        return orientation.mirrored_axis

    def close(self) -> None:
        self._video = None  # decord has no other way to end its thread

    def __len__(self) -> int:
        return len(self._video)

    def decode(self, indices: list[int]) -> np.ndarray:
        try:
            frames = self._decode_from_start(indices)
        except self._errors as error:
            raise UnreadableVideo(self.path, _reason(error)) from None
        if self._mirrored_axis is None:
            return frames
        return np.ascontiguousarray(np.flip(frames, self._mirrored_axis))

    def _decode_from_start(self, indices: list[int]) -> np.ndarray:
        if not self._is_at_start:
            self._video = self._open()  # going back would be a seek
        self._is_at_start = False
        stop = indices[-1] + 1
        parts = []
        for start in range(0, stop, _CHUNK):
            chunk = range(start, min(start + _CHUNK, stop))
            picks = [index - start for index in indices if index in chunk]
            parts.append(self._video.get_batch(list(chunk)).asnumpy()[picks])
        return np.concatenate(parts)


def _reason(error: Exception) -> str:
    """The first line of decord's message, without the place in its source."""
    message = str(error).split("\n")[0]
    return _SOURCE_PLACE.sub("", message).strip() or type(error).__name__
