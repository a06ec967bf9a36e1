"""Text on frames."""

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

_BAND = 0.1  # height of the band with the text, as a share of the frame
_LEAST_BAND = 14  # pixels
_DARKNESS = 0.35  # what is left of the light under the text
_TEXT = 0.62  # height of the text, as a share of the band
_LEAST_TEXT = 8  # pixels
_PANEL_LINE = 0.045  # height of a line of the panel, as a share of the frame
_PANEL_WIDTH = 0.5  # of the frame


def caption(name: str, probability: float) -> str:
    """A class and its probability, for the band."""
    return f"{name}  {100 * probability:.0f} %"


def label(image: np.ndarray, text: str) -> None:
    """Write a text onto a band at the bottom of a frame, uint8 ``[H, W, 3]``, in place."""
    if not text:
        return
    height, width = image.shape[:2]
    mask = _text_mask(text, width, min(height, max(_LEAST_BAND, round(_BAND * height))))
    _blend(image[height - len(mask) :], mask)


def draw_panel(image: np.ndarray, lines: Sequence[str]) -> None:
    """Write small lines into the upper left corner of a frame, uint8 ``[H, W, 3]``, in place."""
    height, width = image.shape[:2]
    line_height = max(_LEAST_BAND, round(_PANEL_LINE * height))
    for number, text in enumerate(lines[: height // line_height]):
        mask = _text_mask(text, round(_PANEL_WIDTH * width), line_height)
        top = number * line_height
        _blend(image[top : top + line_height, : mask.shape[1]], mask)


def _blend(band: np.ndarray, mask: np.ndarray) -> None:
    """Darken a part of a frame and write the text of a mask onto it, in place."""
    dark = band * _DARKNESS
    band[:] = dark + (255 - dark) * mask[..., None]


@lru_cache(maxsize=16)
def _text_mask(text: str, width: int, height: int) -> np.ndarray:
    """White text on black, float32 ``[height, width]`` in [0, 1]; small enough for the width."""
    size = max(_LEAST_TEXT, round(_TEXT * height))
    font = _font(size)
    while size > _LEAST_TEXT and font.getlength(text) > width - height:
        size -= 1
        font = _font(size)
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((height // 2, height / 2), text, 255, font, anchor="lm")
    return np.asarray(image, np.float32) / 255


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings; PIL's own font has English letters only."""
    return ImageFont.truetype(os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)
