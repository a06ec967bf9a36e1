"""Fonts of the pictures that commands draw."""

import os

from matplotlib import get_data_path
from PIL import ImageFont

_FILES = {False: "DejaVuSans.ttf", True: "DejaVuSans-Bold.ttf"}


def sans(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings; PIL's own font has English letters only."""
    return ImageFont.truetype(os.path.join(get_data_path(), "fonts", "ttf", _FILES[bold]), size)


def fitting_sans(
    text: str, width: float, size: int, least: int, bold: bool = False
) -> ImageFont.FreeTypeFont:
    """The font of at most ``size`` pixels, at least ``least``, in which a text fits a width."""
    font = sans(size, bold)
    while size > least and font.getlength(text) > width:
        size -= 1
        font = sans(size, bold)
    return font
