"""The animation of tools/explain.py.

The video plays on the left, and with the evidence in color on the right. Below, a bar for each
frame of the clip shows its share, and a line shows the time.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw

from lib.pictures.annotated_video import add_video, encode_frame
from lib.pictures.explained_video import ExplainedVideo
from lib.pictures.explanation_sheet import (
    BLUE,
    GAP,
    HEADER,
    INK,
    LINE,
    MARGIN,
    SOFT,
    TEXT,
    draw_header,
)
from lib.pictures.fonts import sans
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.stream import FrameStream, StreamedFrame
from ops.data.transforms import TestTransform
from ops.explain import to_pictures
from ops.predict import Predictor
from ops.report.evidence import overlay
from ops.utils.errors import UserError
from ops.utils.files import atomic_write

SIDE = 384  # width of a picture, pixels
TIMELINE = 72  # height of the largest bar
WIDEST_BAR = 48
CAPTION = "bars: share of each frame of the clip"
CURRENT = (230, 159, 0)  # color of the bars of the frames that are interpolated
_LITTLE = 1e-3  # of a frame


def write_video(path: Path, predictor: Predictor, explained: ExplainedVideo) -> None:
    """Write the animation of an explained video, atomically.

    Args:
        path: the file, an .mp4.
        predictor: that the video was explained with.
        explained: the video.

    Raises:
        UserError: the video or the file cannot be read or written.
    """
    canvas = _Canvas(explained)
    transform = predictor.protocol.dataset(predictor.model, [], "", predictor.decoder).transform
    try:
        with (
            predictor.stream(explained.prediction.path) as stream,
            atomic_write(path) as file,
            av.open(file, "w", format="mp4") as output,
        ):
            video = add_video(output, stream.rate)
            start = None
            for frame in _frames_of_clip(stream, explained):
                if start is None:
                    start = frame.time
                    video.height, video.width = canvas.height, canvas.width
                image = canvas.draw(_crop(transform, frame.image()), frame.index)
                encode_frame(output, video, image, frame.time - start)
            output.mux(video.encode(None))
    except UnreadableVideo as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"--out {path}: cannot be written ({error.strerror})") from None


def _frames_of_clip(stream: FrameStream, explained: ExplainedVideo) -> Iterator[StreamedFrame]:
    """The frames of the part of a video that the clip was taken from."""
    first, last = explained.frames[0], explained.frames[-1]
    step = _step(explained)
    for frame in stream:
        if frame.index > last + step:
            return
        if frame.index >= first - step:
            yield frame


def _step(explained: ExplainedVideo) -> float:
    """Number of frames from a frame of the clip to the next one, at least 1."""
    frames = explained.frames
    if len(frames) == 1:
        return explained.traced.total
    return max(1, (frames[-1] - frames[0]) / (len(frames) - 1))


def _crop(transform: TestTransform, image: np.ndarray) -> np.ndarray:
    """The part of a frame that the network gets: uint8 ``[H, W, C]`` -> ``[S, S, 3]``."""
    only = torch.zeros((1, 1), dtype=torch.int64)
    (crop,) = transform.crops(transform.scale(image[None]), only)
    return to_pictures(crop)[0].numpy()


class _Canvas:
    """Draws the frames of the animation."""

    def __init__(self, explained: ExplainedVideo) -> None:
        shape = explained.pictures.shape[1:3]
        self._picture_height = round(SIDE * shape[0] / shape[1]) // 2 * 2
        # Strictly increasing, as np.interp wants it: a short video has frames twice.
        self._frames = np.array(explained.frames) + _LITTLE * np.arange(len(explained.frames))
        self._step = _step(explained)
        self._shares = explained.shares
        self._maps = explained.maps(self._picture_height, SIDE)
        self.width = 2 * (SIDE + MARGIN) + GAP
        self.height = MARGIN + HEADER + self._picture_height + 2 * GAP + TIMELINE + MARGIN
        self._empty = Image.new("RGB", (self.width, self.height), "white")
        draw_header(ImageDraw.Draw(self._empty), explained, self.width - 2 * MARGIN)

    def draw(self, picture: np.ndarray, index: int) -> np.ndarray:
        """Draw a frame of the video.

        Args:
            picture: uint8 ``[S, S, 3]``.
            index: its number in the video.

        Returns:
            uint8 ``[height, width, 3]``.
        """
        canvas = self._empty.copy()
        size = (SIDE, self._picture_height)
        plain = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        colored = overlay(np.asarray(plain), self._map_at(index))
        top = MARGIN + HEADER
        canvas.paste(plain, (MARGIN, top))
        canvas.paste(Image.fromarray(colored), (MARGIN + SIDE + GAP, top))
        self._draw_timeline(ImageDraw.Draw(canvas), index)
        return np.asarray(canvas)

    def _weights(self, index: int) -> np.ndarray:
        """The weight of each map at a frame: 1 at its own frame, falling to 0 at the next."""
        count = len(self._frames)
        position = np.interp(index, self._frames, np.arange(count))
        return np.clip(1 - np.abs(np.arange(count) - position), 0, 1)

    def _map_at(self, index: int) -> np.ndarray:
        return np.tensordot(self._weights(index).astype(np.float32), self._maps, 1)

    def _draw_timeline(self, pen: ImageDraw.ImageDraw, index: int) -> None:
        floor = self.height - MARGIN
        left, right = MARGIN, self.width - MARGIN
        first = self._frames[0] - self._step
        scale = (right - left) / (self._frames[-1] + self._step - first)
        half = min(WIDEST_BAR, scale * self._step / 2) / 2
        largest = max(*self._shares, 1 / len(self._shares))
        weights = self._weights(index)
        for frame, share, weight in zip(self._frames, self._shares, weights, strict=True):
            x = left + (frame - first) * scale
            color = tuple(round(b + (c - b) * weight) for b, c in zip(BLUE, CURRENT, strict=True))
            height = round(TIMELINE * share / largest)
            pen.rectangle((x - half, floor - height, x + half, floor), color)
        pen.line((left, floor, right, floor), LINE)
        x = left + (index - first) * scale
        pen.line((x, floor - TIMELINE, x, floor + GAP), INK, 2)
        pen.text((right, floor + GAP), CAPTION, SOFT, sans(TEXT - 1), anchor="rt")
