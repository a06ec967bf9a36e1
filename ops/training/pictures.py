"""Pictures of a run for TensorBoard and the trackers: the first batch and confusion matrices.

Pillow draws them in milliseconds, so that they can be drawn at every validation. The report
(``ops/report``) has the matrix as a figure with a legend.
"""

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ops.backbones.modalities import clip_images
from ops.report import heat
from ops.report.markup import shorten
from ops.utils.text import counted

MOST_VIDEOS = 8  # of a batch
MOST_PIXELS = 1600  # width of the pictures of a video
LARGEST_CELL = 160  # pixels; larger crops are scaled
GAP = 6  # pixels between pictures, and around them
LINE_HEIGHT = 18  # of text, in pixels
FONT_SIZE = 13
TEXT_MARGIN = 3  # pixels between a number and the border of its cell, both sides together
LONGEST_TEXT = 100  # characters of a label
# Of a confusion matrix: largest number of classes, and pixels of a cell.
CELL_SIZES = ((12, 40), (30, 26), (60, 16))
MATRIX_PIXELS = 800  # side of a larger matrix
NUMBERED_CLASSES = 30  # up to this number, cells contain the number of videos
NAMED_CLASSES = 60  # up to this number, rows have names, and columns labels
LONGEST_NAME = 40  # characters of the name of a row


class RunPictures:
    """Draws the pictures of a run.

    Args:
        log: a ``RunLog``.
        modality: "RGB", "Flow" or "RGBDiff".
        num_class: number of classes.
        class_names: in label order, or None.
    """

    def __init__(self, log, modality, num_class, class_names):
        self.log = log
        self.modality = modality
        self.names = class_names or [str(label) for label in range(num_class)]

    def log_first_batch(self, clips, labels):
        """Log the first training batch, as the network gets it.

        Args:
            clips: uint8 ``[B, T, L*C, H, W]``.
            labels: as the loss takes them: integers ``[B]``, bool ``[B, classes]``, or shares
                ``[B, classes]`` of mixed videos.
        """
        clips, labels = clips[:MOST_VIDEOS].cpu(), labels[:MOST_VIDEOS].cpu()
        texts = [label_text(label, self.names) for label in labels]
        self.log.log_image(0, "first_batch", batch_sheet(clips, texts, self.modality))

    def log_confusion(self, step, confusion):
        """Log the confusion matrix of a validation.

        Args:
            step: number of optimizer steps.
            confusion: counts int64 ``[classes, classes]``, one row per true class.
        """
        self.log.log_image(step, "val/confusion", confusion_picture(confusion, self.names))


def label_text(label, names):
    """The label of a video, or its labels: ``3 Jumping``, ``60% 3 Jumping, 40% 5 Running``.

    Args:
        label: an integer (0-d), bool ``[classes]``, or the shares ``[classes]`` of a mixed video.
        names: class names in label order.
    """
    if label.dim() == 0:
        text = f"{int(label)} {names[int(label)]}"
    else:
        parts = []
        for place in torch.nonzero(label).flatten().tolist():
            share = f"{float(label[place]):.0%} " if label.is_floating_point() else ""
            parts.append(f"{share}{place} {names[place]}")
        text = ", ".join(parts)
    if len(text) > LONGEST_TEXT:
        return f"{text[: LONGEST_TEXT - 1]}…"
    return text


def batch_sheet(clips, texts, modality):
    """A contact sheet of clips: a row for each video, the middle picture of each segment.

    Args:
        clips: uint8 ``[B, T, L*C, H, W]``.
        texts: what is written above each video.
        modality: "RGB", "Flow" or "RGBDiff".

    Returns:
        a PIL image.
    """
    rows = [_middle_pictures(clip, modality) for clip in clips]
    segments, height, width, _ = rows[0].shape
    scale = min(1.0, LARGEST_CELL / width, (MOST_PIXELS / segments - GAP) / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    font = ImageFont.load_default(FONT_SIZE)
    text_width = max(int(font.getlength(text)) for text in texts)
    row_height = LINE_HEIGHT + size[1] + GAP
    sheet_width = GAP + max(segments * (size[0] + GAP), text_width + GAP)
    sheet = Image.new("RGB", (sheet_width, GAP + len(rows) * row_height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (images, text) in enumerate(zip(rows, texts, strict=True)):
        top = GAP + place * row_height
        pen.text((GAP, top), text, "black", font)
        for segment, image in enumerate(images):
            picture = Image.fromarray(image).resize(size)
            sheet.paste(picture, (GAP + segment * (size[0] + GAP), top + LINE_HEIGHT))
    return sheet


def _middle_pictures(clip, modality):
    """The middle picture of each segment, uint8 ``[T, H, W, 3]``."""
    images = clip_images(clip, modality)
    middle = images[:, images.shape[1] // 2]
    return np.ascontiguousarray(middle.permute(0, 2, 3, 1).numpy())


def confusion_picture(confusion, names):
    """A confusion matrix in the colors of the report: rows are true classes.

    Args:
        confusion: counts int64 ``[classes, classes]``.
        names: class names in label order.

    Returns:
        a PIL image.
    """
    classes = len(confusion)
    cell = _cell_size(classes)
    title_font = ImageFont.load_default(FONT_SIZE)
    font = ImageFont.load_default(max(1, min(FONT_SIZE, cell - TEXT_MARGIN)))
    title = f"{counted(int(confusion.sum()), 'video')}; rows: true class, columns: predicted class"
    rows = []
    if classes <= NAMED_CLASSES:
        rows = [f"{shorten(name, LONGEST_NAME)}  {label}" for label, name in enumerate(names)]
    left = GAP + max((int(font.getlength(row)) + GAP for row in rows), default=0)
    top = GAP + 2 * LINE_HEIGHT
    side = classes * cell
    width = GAP + max(left + side, GAP + int(title_font.getlength(title)))
    picture = Image.new("RGB", (width, top + side + GAP), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((GAP, GAP), title, "black", title_font)
    for label, row in enumerate(rows):
        middle = (label + 0.5) * cell
        pen.text((left - GAP, top + middle), row, "black", font, anchor="rm")
        pen.text((left + middle, top - GAP), str(label), "black", font, anchor="mb")
    picture.paste(_draw_cells(confusion, cell, font), (left, top))
    return picture


def _cell_size(classes):
    """Pixels of a cell."""
    for most, size in CELL_SIZES:
        if classes <= most:
            return size
    return max(1, MATRIX_PIXELS // classes)


def _draw_cells(confusion, cell, font):
    """The cells of a confusion matrix, with numbers where there are few classes."""
    levels = heat.levels(confusion)
    colors = np.array([ImageColor.getrgb(color) for color in heat.LIGHT], np.uint8)
    picture = Image.fromarray(colors[levels].repeat(cell, axis=0).repeat(cell, axis=1))
    if len(confusion) > NUMBERED_CLASSES:
        return picture
    pen = ImageDraw.Draw(picture)
    for row, column in np.argwhere(confusion).tolist():
        middle = ((column + 0.5) * cell, (row + 0.5) * cell)
        color = heat.text_color(heat.LIGHT[levels[row, column]])
        pen.text(middle, str(confusion[row, column]), color, font, anchor="mm")
    return picture
