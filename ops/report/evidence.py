"""Draws evidence for a class over frames: gray frames, colored where the evidence is.

The color map is inferno of matplotlib, whose lightness grows evenly, also for color-blind readers
and in a gray print.
"""

import numpy as np
from matplotlib import colormaps

_COLORS = colormaps["inferno"]
_DARKEST = 0.25  # place in the color map of the least evidence: black would hide the frame
_BRIGHTEST = 0.97
_OPAQUE = 0.85  # opacity of the color at the strongest evidence
_DIMMED = 0.75  # light that is left of a frame without evidence
_LUMA = (0.299, 0.587, 0.114)


def overlay(pictures: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Draw maps of evidence over pictures.

    Args:
        pictures: uint8 ``[..., H, W, 3]``.
        maps: floats ``[..., H, W]``, from 0 to 1.

    Returns:
        uint8 ``[..., H, W, 3]``.
    """
    maps = maps[..., None]
    gray = _DIMMED * (pictures @ np.array(_LUMA, np.float32))[..., None]
    colors = 255 * _COLORS(_DARKEST + (_BRIGHTEST - _DARKEST) * maps[..., 0])[..., :3]
    opacity = _OPAQUE * maps
    return (gray + (colors - gray) * opacity).round().astype(np.uint8)


def legend(width: int, height: int) -> np.ndarray:
    """The colors from no evidence to the strongest, over middle gray: uint8 ``[h, w, 3]``."""
    amounts = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    return overlay(np.full((height, width, 3), 128, np.uint8), amounts)
