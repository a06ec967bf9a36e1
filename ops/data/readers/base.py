"""The interface of a frame reader, and the checks that all readers share.

A new kind of reader is a subclass of `Reader` with three methods: ``__len__``, ``decode`` and
``close``. To offer it as ``--decoder NAME``, add an entry to ``DECODERS`` in
ops/data/readers/open.py.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np

from ops.utils.files import check_regular

# Opens the content of a video that is not a file of its own, such as a member of a shard.
Opener = Callable[[], BinaryIO]

_MAX_ASPECT_RATIO = 100


class UnreadableVideo(Exception):
    """A video, or one of the requested frames, cannot be decoded.

    Attributes:
        path: the video; empty if a DataLoader has raised the exception again.
        reason: one line.
    """

    def __init__(self, path: str, reason: str | None = None) -> None:
        if reason is None:
            # A DataLoader raises the exception of a worker again, with one string.
            path, reason = "", path
        self.path = path
        self.reason = reason
        # Both arguments, because unpickling calls the class with them.
        super().__init__(path, reason)

    def __str__(self) -> str:
        if not self.path:
            return self.reason
        return f"{self.path}: {self.reason}"


class Reader(ABC):
    """Random access to the frames of one video, numbered from 0 in display order.

    A reader is a context manager. Open it in the process that decodes (a data-loading worker, for
    each item), request all frames at once, close it. A reader holds open files and decoders: it
    cannot be pickled or used on both sides of a fork. ::

        with open_reader(path, image_tmpl="img_{:05d}.jpg") as reader:
            frames = reader.get([0, len(reader) // 2])

    Attributes:
        path: the video file or the folder of frames.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def __len__(self) -> int:
        """The number of frames."""

    @abstractmethod
    def decode(self, indices: list[int]) -> np.ndarray:
        """Decode some frames; callers use `get`, which prepares the indices.

        Args:
            indices: at least one frame number in ``[0, len(self))``; ascending, each once.

        Returns:
            uint8 ``[len(indices), H, W, C]``: RGB, or the x and y of optical flow.

        Raises:
            UnreadableVideo: a frame cannot be decoded, or its size differs from the others.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and decoders."""

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return frames in any order, also repeated ones; each distinct frame is decoded once.

        Args:
            indices: frame numbers in ``[0, len(self))``.

        Returns:
            C-contiguous uint8 ``[len(indices), H, W, C]``: RGB, or the x and y of optical flow.

        Raises:
            IndexError: an index is out of range.
            UnreadableVideo: a frame cannot be decoded, its size differs from the others, or its
                aspect ratio is too extreme to be scaled.
        """
        distinct, positions = np.unique(np.asarray(indices), return_inverse=True)
        if not len(distinct):
            frame_shape = self.decode([0]).shape[1:]
            return np.empty((0, *frame_shape), np.uint8)
        for index in (distinct[0], distinct[-1]):
            if not 0 <= index < len(self):
                raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        frames = self.decode(distinct.tolist())
        check_aspect_ratio(self.path, frames.shape[2], frames.shape[1])
        if np.array_equal(positions, np.arange(len(distinct))):
            return frames  # the usual case, without a copy
        return frames[positions]


def check_aspect_ratio(path: str, width: int, height: int, name: str = "") -> None:
    """Check that a frame can be scaled: 2^20 x 1 pixels would become 268 million x 256.

    Args:
        path: the video, for the message.
        width, height: in pixels.
        name: the file of the frame, for the message.

    Raises:
        UnreadableVideo: one side is more than 100 times as long as the other one.
    """
    if max(width, height) <= _MAX_ASPECT_RATIO * min(width, height):
        return
    prefix = f"{name}: " if name else ""
    raise UnreadableVideo(
        path,
        f"{prefix}frames of {width}x{height} cannot be scaled: one side is more than "
        f"{_MAX_ASPECT_RATIO} times the other one",
    )


def check_file(path: str) -> None:
    """Check that a path is a regular file, or a link to one, and not empty.

    Raises:
        UnreadableVideo: it is not.
    """
    try:
        check_regular(path)
        size = os.stat(path).st_size
    except OSError as error:
        raise UnreadableVideo(path, error.strerror) from None
    if size == 0:
        raise UnreadableVideo(path, "empty file")
