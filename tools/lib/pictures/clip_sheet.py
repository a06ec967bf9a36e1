"""Draws clips as a contact sheet, one video per row: what show_clips.py does."""

import argparse
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from lib.pictures.traced_clips import TracedClip, TracedTestDataset, TracedTrainDataset
from ops.backbones.modalities import clip_images
from ops.data.clips import Failure
from ops.data.datasets import (
    Dataset,
    choose_flip,
    describe_flip,
    flip_map,
    load_class_names,
    resolve,
)
from ops.data.lists import VideoList
from ops.data.loader import make_loader
from ops.data.preflight import read_checked
from ops.data.sampling import SAMPLINGS
from ops.models import TSN
from ops.temporal import MODULES
from ops.utils.errors import UserError

GAP = 8  # pixels between pictures, and around them
LINE_HEIGHT = 18  # of text, in pixels
TEXT_LINES = 2  # above the pictures of a video
FONT_SIZE = 14
MIN_CELL_WIDTH = 5 * GAP  # space for a frame number
RED = (200, 40, 40)


class SheetRow(NamedTuple):
    """A row of the sheet: a video, and the two lines of text above it."""

    item: TracedClip | Failure
    text: tuple[str, str]


def make_sheet(args: argparse.Namespace) -> list[Image.Image]:
    """Read clips, print a line for each, and draw them.

    Args:
        args: arguments of show_clips.py.

    Returns:
        A panel for each video, all of the same width.

    Raises:
        UserError: invalid arguments or lists, or none of the videos can be read.
    """
    data = resolve(
        args.dataset,
        args.modality,
        train_list=args.train_list,
        val_list=args.val_list,
        root_path=args.root_path,
        num_class=args.num_class,
        class_names=args.class_names,
        image_tmpl=args.image_tmpl,
        multi_label=args.multi_label or None,
    )
    names = load_class_names(data)
    videos, _ = read_checked(data, f"{args.split}_list", stop=False)
    indices = choose_videos(videos, args.ids, args.videos)
    dataset = _make_dataset(args, data, names, videos)
    keys = [(args.epoch, index) for index in indices]
    rows = []
    for item in make_loader(dataset, keys, None, workers=args.workers, timeout=args.timeout):
        text = describe(item, videos, names)
        print("; ".join(text))
        rows.append(SheetRow(item, text))
    if all(isinstance(row.item, Failure) for row in rows):
        raise UserError(
            f"{videos.path}: none of the {len(rows)} videos can be read; correct the list, or give "
            "other --ids"
        )
    return draw(rows, args.modality, args.all_frames)


def _make_dataset(
    args: argparse.Namespace, data: Dataset, names: list[str] | None, videos: VideoList
) -> TracedTrainDataset | TracedTestDataset:
    """The dataset of the training or the validation of main.py."""
    with torch.device("meta"):  # only its properties are used
        net = TSN(
            data.num_class,
            args.num_segments,
            module=args.module,
            modality=args.modality,
            input_size=args.input_size,
        )
    common = {
        "num_segments": args.num_segments,
        "frames_per_segment": net.frames_per_segment,
        "image_tmpl": data.image_tmpl,
        "decoder": args.decoder,
        "crop_size": args.input_size,
        "seed": args.seed,
        "modality": args.modality,
        "compat": args.sampling_compat,
    }
    if args.split == "val":
        sampling = SAMPLINGS[args.sampling].validation
        return TracedTestDataset(
            videos, num_clips=1, scale_size=net.scale_size, sampling=sampling, **common
        )
    flip, _ = choose_flip(data, args.flip, args.module, MODULES[args.module].flips)
    labels = flip_map(data, names, flip)
    print(describe_flip(data, labels))
    return TracedTrainDataset(videos, flip_map=labels, sampling=args.sampling, **common)


def choose_videos(videos: VideoList, ids: list[str] | None, number: int) -> list[int]:
    """The videos to show, as indices in the list.

    Args:
        videos: the list.
        ids: all entries with these ids, in this order; None: any videos.
        number: without ``ids``, the number of videos, evenly spaced from the first to the last.

    Raises:
        UserError: an id is not in the list.
    """
    if ids is None:
        count = min(number, len(videos))
        return np.linspace(0, len(videos) - 1, count).round().astype(int).tolist()
    found: dict[str, list[int]] = {video_id: [] for video_id in ids}
    for index, record in enumerate(videos):
        if record.id in found:
            found[record.id].append(index)
    chosen = []
    for video_id, indices in found.items():
        if not indices:
            raise UserError(
                f"--ids {video_id}: no such video in {videos.path}, whose first is "
                f"{videos[0].id!r}; give ids as in the list"
            )
        chosen += indices
    return chosen


def describe(
    item: TracedClip | Failure, videos: VideoList, names: list[str] | None
) -> tuple[str, str]:
    """A clip in two lines: the video with its frames, and labels, flip and crop.

    Args:
        item: the clip.
        videos: the list.
        names: class names, if known.
    """
    record = videos[item.index]
    video = f"{videos.path}:{record.line}: {record.id}"
    if isinstance(item, Failure):
        return video, f"unreadable: {item.reason}"
    frames = " ".join(_frame_range(segment) for segment in item.indices.tolist())
    before, after = _label_text(record.label, names), _label_text(item.label, names)
    change = f" -> {after}" if after != before else ""
    mirrored = " mirrored;" if item.is_mirrored else ""
    x, y, width, height = item.crop
    whole_height, whole_width, _ = item.whole.shape
    return (
        f"{video}: frames {frames} of {item.total}",
        f"label {before}{change};{mirrored} crop {width}x{height} at {x},{y} of "
        f"{whole_width}x{whole_height}",
    )


def _frame_range(segment: list[int]) -> str:
    if len(segment) == 1:
        return str(segment[0])
    return f"{segment[0]}-{segment[-1]}"


def _label_text(label: int | tuple[int, ...] | np.ndarray, names: list[str] | None) -> str:
    labels = np.flatnonzero(label) if isinstance(label, np.ndarray) else np.atleast_1d(label)
    if names is None:
        return ", ".join(str(number) for number in labels)
    return ", ".join(f"{number} {names[number]}" for number in labels)


def pictures(
    item: TracedClip, modality: str, all_frames: bool
) -> tuple[np.ndarray, list[list[int | str]]]:
    """The pictures of a clip and their captions.

    Args:
        item: the clip.
        modality: "RGB", "Flow" or "RGBDiff".
        all_frames: all pictures of a segment, not only the middle one.

    Returns:
        The K pictures of each segment, uint8 ``[T, K, H, S, 3]``, and a caption for each. K is L
        (L - 1 for RGBDiff), or 1. Flow is x above y, so H is 2 * S; RGBDiff is half the
        difference of two frames, around 128.
    """
    frames = clip_images(item.clip, modality)
    captions = item.indices.tolist()
    if modality == "Flow":
        captions = [[f"{number}: x, y" for number in segment] for segment in captions]
    elif modality == "RGBDiff":
        captions = [
            [f"{after} - {before}" for before, after in pairwise(segment)] for segment in captions
        ]
    kept = slice(None)
    if not all_frames:
        middle = frames.shape[1] // 2
        kept = slice(middle, middle + 1)
    images = frames[:, kept].permute(0, 1, 3, 4, 2).numpy()
    return images, [segment[kept] for segment in captions]


def draw(rows: list[SheetRow], modality: str, all_frames: bool) -> list[Image.Image]:
    """Draw a panel for each row, all of the same width.

    A panel has two lines of text, the whole middle frame with its crop, and the segments side by
    side, the pictures of a segment one below the other.

    Args:
        rows: at least one of them readable.
        modality: see ``pictures``.
        all_frames: see ``pictures``.
    """
    font = ImageFont.load_default(FONT_SIZE)
    readable = [row.item for row in rows if isinstance(row.item, TracedClip)]
    segments, size = readable[0].clip.shape[0], readable[0].clip.shape[-1]
    cell_width = max(size, MIN_CELL_WIDTH) + GAP
    texts = [text for row in rows for text in row.text]
    text_width = max(int(font.getlength(text)) for text in texts) + 2 * GAP
    width = max(text_width, GAP + (segments + 1) * cell_width)
    panels = []
    for row in rows:
        if isinstance(row.item, Failure):
            panels.append(_text_panel(row, width, 0, font))
        else:
            panels.append(_clip_panel(row, width, cell_width, font, modality, all_frames))
    return panels


def _text_panel(
    row: SheetRow, width: int, pictures_height: int, font: ImageFont.FreeTypeFont
) -> Image.Image:
    """A panel with the text of a row, and white space for pictures below."""
    panel = Image.new("RGB", (width, _pictures_top() + pictures_height + GAP), "white")
    pen = ImageDraw.Draw(panel)
    is_plain = isinstance(row.item, TracedClip) and not row.item.is_mirrored
    pen.text((GAP, GAP), row.text[0], "black", font)
    pen.text((GAP, GAP + LINE_HEIGHT), row.text[1], "black" if is_plain else RED, font)
    return panel


def _pictures_top() -> int:
    return GAP + TEXT_LINES * LINE_HEIGHT


def _clip_panel(
    row: SheetRow,
    width: int,
    cell_width: int,
    font: ImageFont.FreeTypeFont,
    modality: str,
    all_frames: bool,
) -> Image.Image:
    """A panel of a readable video; arguments as of ``draw``."""
    images, captions = pictures(row.item, modality, all_frames)
    segments, per_segment, height, size, _ = images.shape
    cell_height = height + LINE_HEIGHT + GAP
    panel = _text_panel(row, width, per_segment * cell_height, font)
    pen = ImageDraw.Draw(panel)
    panel.paste(_thumbnail(row.item, modality, size), (GAP, _pictures_top()))
    for t in range(segments):
        for k in range(per_segment):
            x = GAP + (t + 1) * cell_width
            y = _pictures_top() + k * cell_height
            panel.paste(Image.fromarray(images[t, k]), (x, y))
            pen.text((x, y + height), str(captions[t][k]), "black", font)
    return panel


def _thumbnail(item: TracedClip, modality: str, size: int) -> Image.Image:
    """The whole middle frame, not mirrored (of flow: x), with a frame around the crop.

    size: of its longer side, in pixels.
    """
    whole = item.whole
    if modality == "Flow":
        whole = np.repeat(whole[..., :1], 3, -1)
    height, width, _ = whole.shape
    scale = size / max(height, width)
    new_size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(whole).resize(new_size)
    x, y, crop_width, crop_height = (scale * value for value in item.crop)
    box = (x, y, x + crop_width - 1, y + crop_height - 1)
    ImageDraw.Draw(picture).rectangle(box, outline=RED, width=2)
    return picture
