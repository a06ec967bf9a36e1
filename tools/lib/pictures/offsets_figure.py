"""The picture of a TIN's offsets and weights, for tools/show_offsets.py.

A panel has the frames of a clip at the top. Below is one line per block: on the left its offsets as
dots, on the right the weights of its frames as cells.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw

from lib.pictures.offsets import BlockOffsets

# Sizes in pixels.
MARGIN = 12
NAME = 60  # width of the block names
AXIS = 240  # width of the axis of offsets
CELL = 40  # width and height of a frame
ROW = 20  # height of a line
TOP = 2 * MARGIN + 2 * ROW + CELL  # where the first block starts
LEFT = 3 * MARGIN + NAME + AXIS  # where the weights start
DOT = 4  # radius
REACH = 2  # an offset lies between -REACH and REACH segments
RED = (200, 40, 40)
BLUE = (40, 70, 200)


def draw(title: str, clip: torch.Tensor, blocks: list[BlockOffsets]) -> Image.Image:
    """The panel of a clip.

    Args:
        title: first line.
        clip: uint8 ``[T, L*C, H, W]``.
        blocks: what :func:`lib.pictures.offsets.find_offsets` returned.
    """
    strip = CELL * len(clip)
    size = (LEFT + 2 * (strip + MARGIN), TOP + ROW * len(blocks) + MARGIN)
    panel = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(panel)
    pen.text((MARGIN, MARGIN), title, "black")
    pen.text((MARGIN, MARGIN + ROW), "offsets: groups 1 red, 2 blue; 3, 4 hollow", "black")
    pen.text((LEFT, MARGIN + ROW), "weights of groups 1 and 3", "black")
    pen.text((LEFT + strip + MARGIN, MARGIN + ROW), "weights of groups 2 and 4", "black")
    _draw_axis(pen, len(blocks))
    _paste_frames(panel, clip)
    for number, block in enumerate(blocks):
        y = TOP + ROW * number
        pen.text((MARGIN, y + 4), block.name, "black")
        _draw_offsets(pen, y, block)
        _draw_weights(pen, y, block, strip)
    return panel


def _x_of(offset: float) -> float:
    return MARGIN + NAME + AXIS * (offset + REACH) / REACH / 2


def _draw_axis(pen: ImageDraw.ImageDraw, num_blocks: int) -> None:
    for offset in range(-REACH, REACH + 1):
        x = _x_of(offset)
        text = str(offset)
        pen.text((x - pen.textlength(text) / 2, TOP - ROW), text, "black")
        pen.line((x, TOP, x, TOP + ROW * num_blocks), "lightgray")


def _paste_frames(panel: Image.Image, clip: torch.Tensor) -> None:
    """Put the frames above both tables of weights."""
    frames = clip[:, :3]
    if clip.shape[1] % 3:
        frames = clip[:, :1].expand(-1, 3, -1, -1)  # the x of optical flow
    strip = CELL * len(clip)
    for number, frame in enumerate(frames.permute(0, 2, 3, 1).numpy()):
        small = Image.fromarray(frame).resize((CELL - 2, CELL - 2))
        for side in (0, 1):
            x = LEFT + side * (strip + MARGIN) + number * CELL
            panel.paste(small, (x, TOP - CELL - 2))


def _draw_offsets(pen: ImageDraw.ImageDraw, y: int, block: BlockOffsets) -> None:
    """A dot per group: red for 1 and 3, blue for 2 and 4; hollow for 3 and 4."""
    for group, offset in enumerate(block.offsets.tolist()):
        color = (RED, BLUE, RED, BLUE)[group]
        fill = None
        if group < 2:
            fill = color
        x = _x_of(offset)
        middle = y + ROW // 2
        pen.ellipse((x - DOT, middle - DOT, x + DOT, middle + DOT), fill=fill, outline=color)


def _draw_weights(pen: ImageDraw.ImageDraw, y: int, block: BlockOffsets, strip: int) -> None:
    """A cell per frame and pair of groups: red above 1, blue below, white at 1."""
    width = strip / len(block.weights)
    for (frame, side), weight in np.ndenumerate(block.weights[:, :2].numpy()):
        x = LEFT + side * (strip + MARGIN) + frame * width
        pale = round(255 - 155 * abs(weight - 1))
        color = (pale, pale, 255)
        if weight > 1:
            color = (255, pale, pale)
        pen.rectangle((x, y, x + width - 2, y + ROW - 2), color)
        text = f"{weight:.2f}"
        pen.text((x + (width - pen.textlength(text)) / 2, y + 4), text, "black")
