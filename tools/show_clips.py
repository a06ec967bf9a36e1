"""What the network sees: a contact sheet of clips after sampling and augmentation, a row a video.

    python tools/show_clips.py something RGB
    python tools/show_clips.py data/mine/mine.toml RGB --module tsm --epoch 3 --videos 20 --out epoch3.png
    python tools/show_clips.py ucf101 Flow --module tsn --split val --ids v_Archery_g01_c01 --all_frames

The pictures are those of the data set of main.py, pixel for pixel, of the same --seed and --epoch: training clips, or the
center crops of the validation. Left is the whole picture of the middle frame with the crop in it, under each picture its
frame, counted from 0. Flow is shown as it is stored, x above y, grey where nothing moves; RGBDiff as differences around grey.
"""

import argparse
import sys
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from show_offsets import save

from ops.backbones.modalities import MODALITIES
from ops.cli.train_args import add_data, base_parser, file_template
from ops.cli.types import non_negative_int, positive_int
from ops.data.clips import Failure, TestDataset, TrainDataset
from ops.data.dataset_files import FLIPS
from ops.data.datasets import choose_flip, describe_flip, flip_map, load_class_names, resolve
from ops.data.loader import make_loader
from ops.data.preflight import read_checked
from ops.data.sampling import SAMPLINGS, frame_indices, samplings_for_training
from ops.data.transforms import TrainTransform, crop_offsets_test, draw_crop
from ops.models import TSN
from ops.temporal import MODULES
from ops.utils.errors import UserError, run_cli

GAP, LINE = 8, 18  # of the sheet, pixels
RED = (200, 40, 40)


class Shown(NamedTuple):
    """A clip uint8 ``[T, L*C, S, S]`` and how it was made: its label as the data set gives it, its place in the list, its
    frames int64 ``[T, L]`` of the ``total`` of the video, whether it was mirrored, the crop ``(x, y, w, h)``, and where
    that was cut from: the middle frame, uint8 ``[H, W, C]``."""

    clip: torch.Tensor
    label: int | tuple[int, ...] | np.ndarray
    index: int
    indices: np.ndarray
    total: int
    mirrored: bool
    crop: tuple[int, int, int, int]
    whole: np.ndarray


class _Noting:
    """A data set that notes which frames it chooses."""

    def read(self, record, choose):
        def noted(n):
            offsets = choose(n)
            self.total, self.indices = n, frame_indices(offsets, self.frames_per_segment, n)
            return offsets

        return super().read(record, noted)


class _NotingTransform(TrainTransform):  # notes what it drew
    def __call__(self, frames, picks, rng, flip):
        _, height, width, _ = frames.shape
        self.crop = draw_crop(width, height, self.crop_size, self.scales, deepcopy(rng))
        self.mirrored = flip
        self.whole = frames[_middle(picks)].copy()
        return super().__call__(frames, picks, rng, flip)


class ShownTraining(_Noting, TrainDataset):
    """The training clips, each a :class:`Shown`."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        plain = self.transform
        self.transform = _NotingTransform(plain.crop_size, plain.scales, plain.flow)

    def sample(self, epoch, index, record):
        clip, label, _ = super().sample(epoch, index, record)
        made = self.transform
        return Shown(
            clip, label, index, self.indices, self.total, made.mirrored, made.crop, made.whole
        )


class ShownTest(_Noting, TestDataset):
    """The first crop of the first clip of each video, a :class:`Shown`."""

    def sample(self, epoch, index, record):
        frames, picks, _ = super().sample(epoch, index, record)
        clip = self.transform.crops(frames, picks[0])[0]
        size = self.transform.crop_size
        x, y, mirrored = crop_offsets_test(
            frames.shape[2], frames.shape[1], size, self.transform.num_crops
        )[0]
        whole = frames[_middle(picks[0])].numpy()
        return Shown(
            clip,
            record.label,
            index,
            self.indices[0],
            self.total,
            mirrored,
            (x, y, size, size),
            whole,
        )


def _middle(picks):
    return int(picks[len(picks) // 2, picks.shape[1] // 2])


def main() -> None:
    args = arguments()
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
    chosen = choose(videos, args.ids, args.videos)
    with torch.device("meta"):
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
    if args.split == "train":
        flip, _ = choose_flip(data, args.flip, args.module, MODULES[args.module].flips)
        labels = flip_map(data, names, flip)
        print(describe_flip(data, labels))
        dataset = ShownTraining(videos, flip_map=labels, sampling=args.sampling, **common)
    else:
        sampling = SAMPLINGS[args.sampling].validation
        dataset = ShownTest(
            videos, num_clips=1, scale_size=net.scale_size, sampling=sampling, **common
        )
    keys = [(args.epoch, index) for index in chosen]
    rows = []
    for item in make_loader(dataset, keys, None, workers=args.workers, timeout=args.timeout):
        told = tell(item, videos, names)
        print("; ".join(told))
        rows.append((item, told))
    if all(isinstance(item, Failure) for item, _ in rows):
        raise UserError(
            f"{videos.path}: none of the {len(rows)} videos can be read; mend the list, or give other --ids"
        )
    save(args.out, draw(rows, args.modality, args.all_frames))


def arguments():
    top = base_parser(__doc__)
    top.add_argument("modality", choices=tuple(MODALITIES), help="input modality")
    add_data(
        top, (("train_list", "videos of --split train"), ("val_list", "videos of --split val"))
    )
    group = top.add_argument_group("which clips")
    group.add_argument(
        "--split",
        choices=("train", "val"),
        default="train",
        help="training clips, or those of the validation",
    )
    some = group.add_mutually_exclusive_group()
    some.add_argument(
        "--videos",
        type=positive_int,
        default=8,
        metavar="N",
        help="so many videos, evenly from the whole list",
    )
    some.add_argument("--ids", nargs="+", metavar="ID", help="these videos, called as in the list")
    group.add_argument(
        "--module",
        choices=tuple(MODULES),
        default="tdn",
        help="temporal module, for its frames of a segment",
    )
    group.add_argument(
        "--num_segments", type=positive_int, default=8, metavar="T", help="segments of a clip"
    )
    group.add_argument(
        "--input_size", type=positive_int, default=224, metavar="PIXELS", help="side of the crops"
    )
    group.add_argument(
        "--sampling",
        choices=tuple(samplings_for_training()),
        default="uniform",
        help="as in training",
    )
    group.add_argument(
        "--flip", choices=FLIPS, help="labels of mirrored training clips, as in training"
    )
    group.add_argument(
        "--no_flip", dest="flip", action="store_const", const="none", help=argparse.SUPPRESS
    )
    group.add_argument(
        "--epoch",
        type=non_negative_int,
        default=0,
        metavar="E",
        help="epoch of the training clips, from 0",
    )
    group.add_argument(
        "--seed", type=non_negative_int, default=0, metavar="N", help="seed of every random draw"
    )
    group = top.add_argument_group("sheet")
    group.add_argument(
        "--all_frames",
        action="store_true",
        help="all frames of a segment, not the middle one alone",
    )
    group.add_argument(
        "--out", type=Path, default=Path("clips.png"), metavar="FILE.png", help="the sheet"
    )
    args = top.parse_args()
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: a PNG is written; give a name that ends with .png")
    args.image_tmpl = file_template(args.image_tmpl, args.flow_prefix, args.modality)
    return args


def choose(videos, ids: list[str] | None, number: int) -> list[int]:
    """Places in the list: of all lines with these ids, in their order, or evenly from the first to the last."""
    if ids is None:
        return (
            np.linspace(0, len(videos) - 1, min(number, len(videos))).round().astype(int).tolist()
        )
    places = {name: [] for name in ids}
    for index, record in enumerate(videos):
        if record.id in places:
            places[record.id].append(index)
    for name, found in places.items():
        if not found:
            raise UserError(
                f"--ids {name}: no such video in {videos.path}, whose first is {videos[0].id!r}; give ids as they "
                "stand there"
            )
    return [index for found in places.values() for index in found]


def tell(item: Shown | Failure, videos, names: list[str] | None) -> tuple[str, str]:
    """Which video it is, and what was done to it."""
    record = videos[item.index]
    where = f"{videos.path}:{record.line}: {record.id}"
    if isinstance(item, Failure):
        return where, f"unreadable: {item.reason}"
    label, after = (_named(value, names) for value in (record.label, item.label))
    x, y, w, h = item.crop
    frames = " ".join(
        f"{row[0]}" if len(row) == 1 else f"{row[0]}-{row[-1]}" for row in item.indices.tolist()
    )
    return (
        f"{where}: frames {frames} of {item.total}",
        f"label {label}{f' -> {after}' if after != label else ''};{' mirrored;' if item.mirrored else ''} crop {w}x{h} at "
        f"{x},{y} of {item.whole.shape[1]}x{item.whole.shape[0]}",
    )


def _named(label, names):
    labels = np.flatnonzero(label) if isinstance(label, np.ndarray) else np.atleast_1d(label)
    return ", ".join(f"{one} {names[one]}" if names else f"{one}" for one in labels)


def pictures(
    item: Shown, modality: str, all_frames: bool
) -> tuple[np.ndarray, list[list[int | str]]]:
    """The K pictures of each segment, uint8 ``[T, K, h, S, 3]``, and what stands under them. K = L; of RGBDiff the L - 1
    differences, halved around 128; without ``all_frames`` the middle one alone. Flow is x above y, ``h = 2 * S``."""
    frames, captions = (
        item.clip.unflatten(1, (-1, MODALITIES[modality].channels)),
        item.indices.tolist(),
    )
    if modality == "Flow":
        frames = frames.flatten(2, 3)[:, :, None].expand(-1, -1, 3, -1, -1)
        captions = [[f"{number}: x, y" for number in row] for row in captions]
    if modality == "RGBDiff":
        frames = ((frames[:, 1:].int() - frames[:, :-1].int() + 256) // 2).byte()
        captions = [[f"{after} - {before}" for before, after in pairwise(row)] for row in captions]
    middle = frames.shape[1] // 2
    kept = slice(None) if all_frames else slice(middle, middle + 1)
    return frames[:, kept].permute(0, 1, 3, 4, 2).numpy(), [row[kept] for row in captions]


def draw(rows, modality: str, all_frames: bool) -> list[Image.Image]:
    """A panel of one width for each row: two lines of text, the whole picture with its crop, and the segments side by side,
    the pictures of a segment one below the other."""
    font = ImageFont.load_default(14)
    T, size = next(
        (item.clip.shape[0], item.clip.shape[-1]) for item, _ in rows if isinstance(item, Shown)
    )
    cell = max(size, 5 * GAP) + GAP  # room for a number
    width = max(
        GAP + (T + 1) * cell,
        *(int(font.getlength(text)) + 2 * GAP for _, told in rows for text in told),
    )
    panels = []
    for item, told in rows:
        readable, top = isinstance(item, Shown), GAP + 2 * LINE
        shown, captions = (
            pictures(item, modality, all_frames) if readable else (np.empty((0, 0, 0)), [])
        )
        pitch = shown.shape[2] + LINE + GAP
        panel = Image.new("RGB", (width, top + shown.shape[1] * pitch + GAP), "white")
        pen = ImageDraw.Draw(panel)
        pen.text((GAP, GAP), told[0], "black", font)
        pen.text(
            (GAP, GAP + LINE), told[1], "black" if readable and not item.mirrored else RED, font
        )
        if readable:
            panel.paste(_thumbnail(item, modality, size), (GAP, top))
        for t, k in np.ndindex(shown.shape[:2]):
            x, y = GAP + (t + 1) * cell, top + k * pitch
            panel.paste(Image.fromarray(shown[t, k]), (x, y))
            pen.text((x, y + shown.shape[2]), str(captions[t][k]), "black", font)
        panels.append(panel)
    return panels


def _thumbnail(item: Shown, modality: str, size: int) -> Image.Image:
    """The picture that the crop was cut from, not mirrored (of flow, x), ``size`` wide or high, with a frame around it."""
    whole = item.whole if modality != "Flow" else np.repeat(item.whole[..., :1], 3, -1)
    scale = size / max(whole.shape[:2])
    picture = Image.fromarray(whole).resize(
        [max(1, round(side * scale)) for side in whole.shape[1::-1]]
    )
    x, y, w, h = (scale * value for value in item.crop)
    ImageDraw.Draw(picture).rectangle((x, y, x + w - 1, y + h - 1), outline=RED, width=2)
    return picture


if __name__ == "__main__":
    run_cli(main)
