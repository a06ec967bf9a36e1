"""What all frame readers share."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ops.utils.files import check_regular

_MAX_ASPECT_RATIO = 100


class UnreadableVideo(Exception):
    """A video that cannot be read, or not the frames asked for: `path`, and `reason` in one line."""

    def __init__(self, path: str, reason: str | None = None) -> None:
        # A DataLoader raises a worker's exception anew, from one string.
        self.path, self.reason = ("", path) if reason is None else (path, reason)
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class Reader(ABC):
    """The frames of one video, numbered from 0; a context manager. `path` is the file or folder."""

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = os.fspath(path)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _read(self, wanted: list[int]) -> np.ndarray:
        """The frames `wanted` (not empty, in range, ascending, distinct), uint8 ``[len(wanted), H, W, C]``."""

    def get(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The frames `indices`, in any order and with repeats, uint8 ``[len(indices), H, W, C]``, C-contiguous: RGB, or
        the x and y of a flow.

        Each distinct frame is decoded once. Raises IndexError for an index outside ``[0, len(self))`` and
        UnreadableVideo for a frame that cannot be decoded, differs in size from the others or cannot be scaled.
        """
        wanted, rows = np.unique(np.asarray(indices), return_inverse=True)
        if not len(wanted):
            return np.empty((0, *self._read([0]).shape[1:]), np.uint8)
        for index in wanted[[0, -1]]:
            if not 0 <= index < len(self):
                raise IndexError(f"{self.path}: frame {index} of {len(self)}")
        frames = self._read(wanted.tolist())
        check_aspect_ratio(self.path, frames.shape[2], frames.shape[1])
        return frames if np.array_equal(rows, np.arange(len(wanted))) else frames[rows]


def check_aspect_ratio(path: str, width: int, height: int, name: str = "") -> None:
    """Check that a frame can be scaled: 2^20 x 1 pixels would become 268 million x 256.

    Args:
        path: of the video.
        width, height: in pixels.
        name: of the frame's file, for the message.

    Raises:
        UnreadableVideo: one side is more than 100 times as long as the other one.
    """
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        frame = f"{name}: " if name else ""
        raise UnreadableVideo(
            path,
            f"{frame}frames of {width}x{height} cannot be scaled: one side is more than "
            f"{_MAX_ASPECT_RATIO} times the other one",
        )


def check_file(path: str) -> None:
    """Raises UnreadableVideo unless `path` is a regular file with something in it."""
    try:
        check_regular(path)
        size = os.stat(path).st_size
    except OSError as error:
        raise UnreadableVideo(path, error.strerror) from None
    if not size:
        raise UnreadableVideo(path, "empty file")
