"""Frame readers: exact frames by number from a video file or a folder of images.

Open a reader in the process that reads (a loader worker, per item), ask once for all frames, close it: readers hold
file handles and decoders, and are neither pickled nor shared across a fork. The exact one is PyAVReader.
"""

import os
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from ops.data.readers.base import Reader, UnreadableVideo, check_file
from ops.data.readers.containers import check_video
from ops.data.readers.frame_folder import FlowFolder, FrameFolder, count_frames
from ops.data.readers.orientation import Orientation, probe_orientation
from ops.data.readers.pyav import PyAVReader
from ops.data.readers.shard_paths import find
from ops.data.readers.templates import count_places
from ops.utils.errors import UserError

__all__ = [
    "DECODERS",
    "DecordReader",
    "FlowFolder",
    "FrameFolder",
    "PyAVReader",
    "Reader",
    "UnreadableVideo",
    "count_frames",
    "open_reader",
]


class DecordReader(Reader):
    """A video file through decord 0.6, on one thread, always from the first frame to the last one asked for.

    decord's own seeking gives neighbours of the frame asked for, up to a GOP away, in a video with
    open GOPs, intra refresh or B-frames in MPEG-4; a plain run through the frames does not. These
    differences are left:

    * an edit list that hides part of a mov or mp4: the hidden frames count, and the last shown one
      stands in their place; packets without a picture count, too
    * a frame that cannot be decoded: silently the one before it
    * other pixels than PyAVReader's of odd widths and of more than 8 bits
    * lost frames of transport streams

    A truncated mov or mp4 is refused as a whole, and so are AV1 and a display matrix outside of mov and mp4.
    """

    _CHUNK = 64  # frames converted at a time

    def __init__(self, path: str | os.PathLike, file: Callable[[], BinaryIO] | None = None) -> None:
        super().__init__(path)
        # Absolute: decord would take what stands before a colon in the name for a protocol.
        self._file = file or (lambda: os.path.abspath(self.path))
        if file is None:
            check_file(self.path)
        try:
            import decord
        except ImportError:
            raise UserError(
                "--decoder decord needs the package decord: pip install decord"
            ) from None
        decord.logging.set_level(decord.logging.QUIET)
        check_video(self.path, file)
        self._errors = (RuntimeError, decord.DECORDError)
        self._reader = decord.VideoReader
        try:
            self._video, self._used = self._open(), False
        except self._errors as error:
            raise UnreadableVideo(self.path, self._reason(error)) from None
        if not len(self._video):
            raise UnreadableVideo(self.path, "no frame can be decoded")
        self._mirrored_axis = self._find_mirrored_axis(file)

    def _find_mirrored_axis(self, file: Callable[[], BinaryIO] | None) -> int | None:
        """The axis of ``[n, H, W, C]`` to reverse: of a display matrix decord applies the rotation alone."""
        orientation, container = probe_orientation(self.path, file)
        if orientation != Orientation() and not container.startswith("mov"):
            reason = "decord reads display matrices of mov and mp4 only; use --decoder pyav"
            raise UnreadableVideo(self.path, reason)
        if not orientation.mirrored:
            return None
        return 2 if orientation.transposed else 1

    def _open(self) -> Any:
        return self._reader(self._file(), num_threads=1)

    @staticmethod
    def _reason(error: Exception) -> str:
        """decord's message without the place in its source before it and the stack of addresses after it."""
        return (
            re.sub(r"^.*\.cc:[0-9]+: ", "", str(error).split("\n")[0]).strip()
            or type(error).__name__
        )

    def close(self) -> None:
        self._video = None  # decord has no other way to end its thread

    def __len__(self) -> int:
        return len(self._video)

    def _read(self, wanted: list[int]) -> np.ndarray:
        frames = []
        try:
            if self._used:
                self._video = self._open()  # going back would be a seek
            self._used = True
            for start in range(0, wanted[-1] + 1, self._CHUNK):
                chunk = range(start, min(start + self._CHUNK, wanted[-1] + 1))
                picks = [index - start for index in wanted if index in chunk]
                frames.append(self._video.get_batch(list(chunk)).asnumpy()[picks])
        except self._errors as error:
            raise UnreadableVideo(self.path, self._reason(error)) from None
        images = np.concatenate(frames)
        if self._mirrored_axis is None:
            return images
        return np.ascontiguousarray(np.flip(images, self._mirrored_axis))


DECODERS: dict[str, Callable[..., Reader]] = {"pyav": PyAVReader, "decord": DecordReader}


def open_reader(
    path: str | os.PathLike,
    *,
    image_tmpl: str,
    num_frames: int | None = None,
    decoder: str = "pyav",
    modality: str = "RGB",
) -> Reader:
    """The reader for `path`: a folder of images named by `image_tmpl`, or a video file read by ``DECODERS[decoder]``; on the
    disk or in a shard set (ops/data/readers/shard_paths.py).

    modality: "Flow" gives the frames of a flow, ``[n, H, W, 2]``; "RGB" and "RGBDiff" give pictures, ``[n, H, W, 3]``.
    For a folder `num_frames` is believed, and None counts the files; a video file is always counted. Lists of flow with a
    three-place template tell the number of files, twice that of frames (TSM ops/dataset.py ``_parse_list``).
    Raises UnreadableVideo, also for a folder without frames; UserError for flow from a video file, or for a template that
    does not name the frames.
    """
    flow = modality == "Flow"
    stored = find(os.fspath(path))
    if not (os.path.isdir(path) if stored is None else stored.is_folder):
        if flow:
            if stored is None:
                check_file(os.fspath(path))
            raise UserError(
                "flow is not read from a video file; extract it to a folder of images, and list that"
            )
        return (
            DECODERS[decoder](path) if stored is None else DECODERS[decoder](path, stored.content())
        )
    if num_frames is None:
        num_frames = count_frames(
            path, image_tmpl, modality, None if stored is None else stored.names()
        )
    elif count_places(image_tmpl, modality) == 3:
        num_frames //= 2
    if num_frames < 1:
        raise UnreadableVideo(os.fspath(path), f"no frames named {image_tmpl}")
    return (FlowFolder if flow else FrameFolder)(path, image_tmpl, num_frames, stored)
