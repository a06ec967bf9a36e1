"""The report of a page: how fast it was, and whether its numbers are those of Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.live.clients import Stream
from ops.utils.text import counted

MOST_CHECKED = 64  # frames
_SOURCES = ("camera", "video")


@dataclass(frozen=True)
class PageReport:
    """What a page did from a start to a stop.

    Attributes:
        source: "camera" or "video".
        frames: number of results.
        seconds: from the first to the last of them.
        rate: frames per second.
        latency, slow_latency: milliseconds from a picture to its result, the median and the value
            that 95 % do not exceed.
        skipped: pictures that came while the network was busy.
        counts: label -> frames.
        check: scores of computed frames (`check_frame`), ``[frames, classes]``; None if they were
            not asked for.
    """

    source: str
    frames: int
    seconds: float
    rate: float
    latency: float
    slow_latency: float
    skipped: int
    counts: dict[int, int]
    check: np.ndarray | None

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "PageReport":
        """A report as ``tools/web/page.mjs`` sends it.

        Raises:
            ValueError: it is something else.
        """
        try:
            if content["source"] not in _SOURCES:
                raise ValueError
            check = content["check"]
            if check is not None:
                check = np.array(check[:MOST_CHECKED], np.float64)
                if check.ndim != 2:
                    raise ValueError
            return cls(
                content["source"],
                int(content["frames"]),
                float(content["seconds"]),
                float(content["rate"]),
                float(content["latency"]),
                float(content["slow_latency"]),
                int(content["skipped"]),
                {int(label): int(count) for label, count in content["counts"].items()},
                check,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ValueError("not a report of the page") from None

    @property
    def label(self) -> int | None:
        """The most frequent label; None if there was none."""
        return max(self.counts, key=self.counts.__getitem__, default=None)

    def describe(self, class_names: Sequence[str]) -> str:
        """The report in one line."""
        line = (
            f"{self.source}: {counted(self.frames, 'frame')} in {self.seconds:.1f} s, "
            f"{self.rate:.1f} frames/s, latency {self.latency:.1f} ms (median) and "
            f"{self.slow_latency:.1f} ms (95 %), {self.skipped} skipped"
        )
        if self.label in range(len(class_names)):
            line += f", mostly {class_names[self.label]}"
        return line


def check_frame(index: int, size: int) -> np.ndarray:
    """A frame that the page computes, too (``tools/web/frames.mjs``): stripes that move.

    Args:
        index: number of the frame.
        size: S.

    Returns:
        uint8 ``[3, S, S]``.
    """
    y, x = np.mgrid[:size, :size]
    planes = [5 * x + 2 * y + 17 * index, x + 7 * y + 29 * index, 3 * x + 3 * y + 113 * index]
    return (np.stack(planes) % 256).astype(np.uint8)


def largest_difference(check: np.ndarray, stream: Stream, size: int, rate: float) -> float:
    """How far the page's scores are from those of a stream in Python.

    Args:
        check: of a report.
        stream: a new one, with the settings of the page, whose network runs frame by frame.
        size: S.
        rate: frames per second.

    Returns:
        The largest difference, relative to the largest score.

    Raises:
        ValueError: scores of another number of classes.
    """
    frames = [check_frame(index, size) for index in range(len(check))]
    results = [stream.push_crop(frame, index / rate) for index, frame in enumerate(frames)]
    expected = np.array([result.logits for result in results])
    if expected.shape != check.shape:
        raise ValueError("scores of another number of classes")
    return float(np.abs(expected - check).max() / np.abs(expected).max())
