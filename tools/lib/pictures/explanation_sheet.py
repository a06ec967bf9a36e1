"""The contact sheet of tools/explain.py.

It has a band for each eight frames: the frames, the same frames with the evidence in color, and a
bar for the share of each frame.
"""

import numpy as np
from PIL import Image, ImageDraw

from lib.pictures.explained_video import ExplainedVideo
from lib.pictures.fonts import fitting_sans, sans
from ops.report.evidence import legend, overlay

# Sizes in pixels.
MARGIN = 24
GAP = 6  # between pictures
BAND_GAP = 20  # between bands
WIDTH = 1280  # of all pictures of a band, about
LARGEST_PICTURE = 256
COLUMNS = 8  # pictures of a band, at most
LEAST_WIDTH = 560  # of the text
TITLE = 26  # of the font, likewise below
TEXT = 14
LEAST_TEXT = 9
BAR = 56  # height of the largest bar
LABEL = 20  # height of a line of text at a bar
HEADER = 96  # height of the title and two lines of text
LEGEND_WIDTH = 220
LEGEND_HEIGHT = 12
FOOTER = 30
INK = (27, 31, 36)
SOFT = (90, 99, 110)
LINE = (212, 217, 223)
BLUE = (0, 114, 178)


def draw_sheet(explained: ExplainedVideo) -> Image.Image:
    """Draw the sheet of an explained video."""
    count = len(explained.frames)
    columns = min(count, COLUMNS)
    bands = -(-count // columns)
    side = min(LARGEST_PICTURE, WIDTH // columns)
    shape = explained.pictures.shape[1:3]
    height = round(side * shape[0] / shape[1])
    content = columns * (side + GAP) - GAP
    inner = max(LEAST_WIDTH, content)
    band_height = 2 * (height + GAP) + LABEL + BAR + LABEL
    total = MARGIN + HEADER + bands * (band_height + BAND_GAP) + FOOTER + MARGIN
    sheet = Image.new("RGB", (inner + 2 * MARGIN, total), "white")
    pen = ImageDraw.Draw(sheet)
    draw_header(pen, explained, inner)
    plain = np.stack([_resized(picture, side, height) for picture in explained.pictures])
    colored = overlay(plain, explained.maps(height, side))
    for number in range(count):
        band, column = divmod(number, columns)
        x = MARGIN + (inner - content) // 2 + column * (side + GAP)
        y = MARGIN + HEADER + band * (band_height + BAND_GAP)
        sheet.paste(Image.fromarray(plain[number]), (x, y))
        sheet.paste(Image.fromarray(colored[number]), (x, y + height + GAP))
        _draw_bar(pen, x, y + 2 * (height + GAP), side, explained, number)
    _draw_footer(sheet, pen, total - MARGIN - FOOTER, inner, count)
    return sheet


def draw_header(pen: ImageDraw.ImageDraw, explained: ExplainedVideo, width: int) -> None:
    """Draw the class with its probability, and two lines about the video and the network."""
    percent = f"{100 * explained.probability:.1f} %"
    room = width - sans(TITLE).getlength(f"   {percent}")
    font = fitting_sans(explained.name, room, TITLE, TEXT, bold=True)
    pen.text((MARGIN, MARGIN + TITLE), explained.name, INK, font, anchor="ls")
    x = MARGIN + font.getlength(explained.name) + TITLE // 2
    pen.text((x, MARGIN + TITLE), percent, BLUE, sans(TITLE), anchor="ls")
    lines = [explained.prediction.path, explained.summary]
    (best,) = explained.prediction.best_labels(1)
    if best != explained.explanation.label:
        ((name, probability),) = explained.prediction.top(1)
        lines[1] += f"; predicted: {name}, {100 * probability:.1f} %"
    for number, line in enumerate(lines, 1):
        font = fitting_sans(line, width, TEXT, LEAST_TEXT)
        y = MARGIN + TITLE + 2 + number * (TEXT + 8)
        pen.text((MARGIN, y), line, SOFT, font, anchor="ls")


def _resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _draw_bar(
    pen: ImageDraw.ImageDraw, x: int, y: int, side: int, explained: ExplainedVideo, number: int
) -> None:
    """Draw the share of a frame below its pictures, with the equal share as a line."""
    shares = explained.shares
    largest = max(*shares, 1 / len(shares))
    share = shares[number]
    floor = y + LABEL + BAR
    middle = x + side / 2
    top = floor - round(BAR * share / largest)
    pen.rectangle((x + side // 4, top, x + side - side // 4, floor), BLUE)
    pen.line((x, floor, x + side - 1, floor), LINE)
    equal = floor - round(BAR / len(shares) / largest)
    for start in range(x, x + side, 8):
        pen.line((start, equal, start + 3, equal), SOFT)
    place = (middle, top - 4)
    percent = f"{100 * share:.0f} %"
    font = sans(TEXT, bold=True)
    pen.rectangle(pen.textbbox(place, f" {percent} ", font, anchor="ms"), "white")
    pen.text(place, percent, INK, font, anchor="ms")
    caption = f"frame {explained.frames[number]}"
    pen.text((middle, floor + LABEL - 4), caption, SOFT, sans(TEXT - 1), anchor="ms")


def _draw_footer(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, y: int, width: int, count: int
) -> None:
    """Draw the legend of the colors and of the bars."""
    font = sans(TEXT - 1)
    middle = y + FOOTER // 2
    x = MARGIN
    pen.text((x, middle), "no evidence", SOFT, font, anchor="lm")
    x += int(font.getlength("no evidence")) + GAP
    colors = Image.fromarray(legend(LEGEND_WIDTH, LEGEND_HEIGHT))
    sheet.paste(colors, (x, middle - LEGEND_HEIGHT // 2))
    x += LEGEND_WIDTH + GAP
    pen.text((x, middle), "strongest of the clip", SOFT, font, anchor="lm")
    text = f"bars: share of each frame;  - - -  equal shares, {100 / count:.3g} %"
    pen.text((MARGIN + width, middle), text, SOFT, font, anchor="rm")
