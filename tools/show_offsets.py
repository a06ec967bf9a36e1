"""What TIN does to a clip: how far each block moves its groups of channels along time, and how it weights the frames.

    python tools/show_offsets.py runs/tin_sthv1_r50_8f/best.pth clip.mp4
    python tools/show_offsets.py best.pth clip.mp4 folder_of_frames --image_tmpl "{:05d}.jpg" --out offsets.png

WEIGHTS is any file of a TIN that --weights takes. Of each VIDEO the network sees the center crop of one clip, the middle
frame of each of T segments. A positive offset, in segments, moves content to later ones. Groups 3 and 4 move as far as 1
and 2 the other way and share their weights, which lie in (0, 2); 1 leaves a frame as it is.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.measure import table
from ops.checkpoints import load_model
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.open import open_reader
from ops.data.readers.templates import EXAMPLES
from ops.data.sampling import center_offsets, frame_indices
from ops.data.transforms import TestTransform
from ops.models import TSN
from ops.temporal.interlace import TemporalInterlace
from ops.utils.errors import UserError, run_cli
from ops.utils.files import atomic_write

MARGIN, NAME, AXIS, CELL, ROW = 12, 60, 240, 40, 20  # of the picture, pixels
REACH = 2  # segments, that an offset is less than
RED, BLUE = (200, 40, 40), (40, 70, 200)
Blocks = list[tuple[str, torch.Tensor, torch.Tensor]]


def main() -> None:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument(
        "weights", metavar="WEIGHTS", help="checkpoint of a TIN, ours or a published one"
    )
    top.add_argument("videos", nargs="+", metavar="VIDEO", help="video file or folder of frames")
    top.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help=f"names in a folder (default: {EXAMPLES['RGB']}, {EXAMPLES['Flow']})",
    )
    top.add_argument("--out", type=Path, metavar="FILE.png", help="also draw it, one panel a video")
    args = top.parse_args()
    if args.out and args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: a PNG is written; give a name that ends with .png")
    model = load_model(args.weights)
    if model.spec["module"] != "tin":
        raise UserError(
            f"{args.weights}: holds a {model.spec['module']}, and offsets are TIN's; give the weights of a tin"
        )
    panels = []
    for video in args.videos:
        clip, frames, total = read_clip(video, model, args.image_tmpl or EXAMPLES[model.modality])
        blocks = look(model, clip)
        title = f"{video}: frames {' '.join(map(str, frames))} of {total}, counted from 0"
        print_blocks(title, blocks)
        panels.append(draw(title, clip, blocks))
    if args.out:
        save(args.out, panels)


def read_clip(video: str, model: TSN, image_tmpl: str) -> tuple[torch.Tensor, list[int], int]:
    """The clip of a one-view test, uint8 ``[T, L*C, H, W]``, the first frame of each segment, and the number of frames. Raises
    UserError for what cannot be read."""
    try:
        with open_reader(video, image_tmpl=image_tmpl, modality=model.modality) as reader:
            total, length = len(reader), model.frames_per_segment
            offsets = center_offsets(total, model.num_segments, length)
            wanted, picks = np.unique(frame_indices(offsets, length, total), return_inverse=True)
            frames = reader.get(wanted)
    except UnreadableVideo as error:
        raise UserError(
            f"{error}; give a video file, or a folder of frames and its --image_tmpl"
        ) from None
    cut = TestTransform(model.scale_size, model.input_size, 1, flow=model.modality == "Flow")
    clip = cut.crops(cut.scale(frames), torch.from_numpy(picks.reshape(-1, length)))[0]
    return clip, offsets.tolist(), total


@torch.no_grad()
def look(model: TSN, clip: torch.Tensor) -> Blocks:
    """For each block that a clip uint8 ``[T, L*C, H, W]`` meets, in that order: its name (``layer1.0``), and per group its
    offsets ``[4]`` in segments and weights ``[T, 4]``."""
    found = []
    names = {
        module: name
        for name, module in model.named_modules()
        if isinstance(module, TemporalInterlace)
    }

    def hook(module, inputs, _):
        name = names[module].removeprefix("backbone.").removesuffix(".before_conv1")
        found.append((name, *(values[0] for values in module.offsets(*inputs))))

    handles = [module.register_forward_hook(hook) for module in names]
    model(clip[None])
    for handle in handles:
        handle.remove()
    return found


def print_blocks(title: str, blocks: Blocks) -> None:
    """Two lines a block: the offsets of a group and of its opposite, and the weights that both give to the segments."""
    columns = max(
        len(weights) for _, _, weights in blocks
    )  # a --temporal_pool halves those of later blocks
    rows = []
    for name, offsets, weights in blocks:
        for group in (0, 1):
            values = [f"{weight:.2f}" for weight in weights[:, group]] + [""] * (
                columns - len(weights)
            )
            rows.append(
                [
                    name,
                    f"{group + 1}, {group + 3}",
                    *(f"{offset:+.2f}" for offset in offsets[group::2]),
                    *values,
                ]
            )
    print(f"\n{title}")
    table(["block", "groups", "offset", "opposite", *(f"w{t + 1}" for t in range(columns))], rows)


def draw(title: str, clip: torch.Tensor, blocks: Blocks) -> Image.Image:
    """A panel: under the frames, a line a block with its offsets as dots and its weights as cells, red above 1."""
    strip, top = CELL * len(clip), 2 * MARGIN + 2 * ROW + CELL
    left = 3 * MARGIN + NAME + AXIS
    panel = Image.new(
        "RGB", (left + 2 * (strip + MARGIN), top + ROW * len(blocks) + MARGIN), "white"
    )
    pen = ImageDraw.Draw(panel)
    for x, y, text in (
        (MARGIN, MARGIN, title),
        (MARGIN, MARGIN + ROW, "offsets: groups 1 red, 2 blue; 3, 4 hollow"),
        (left, MARGIN + ROW, "weights of groups 1 and 3"),
        (left + strip + MARGIN, MARGIN + ROW, "weights of groups 2 and 4"),
    ):
        pen.text((x, y), text, "black")
    for frame in range(-REACH, REACH + 1):
        x = MARGIN + NAME + AXIS * (frame + REACH) / REACH / 2
        pen.text((x - pen.textlength(f"{frame}") / 2, top - ROW), f"{frame}", "black")
        pen.line((x, top, x, top + ROW * len(blocks)), "lightgray")
    shown = (
        clip[:, :3] if clip.shape[1] % 3 == 0 else clip[:, :1].expand(-1, 3, -1, -1)
    )  # of flow, x
    for t, frame in enumerate(shown.permute(0, 2, 3, 1).numpy()):
        for side in (0, 1):
            panel.paste(
                Image.fromarray(frame).resize((CELL - 2, CELL - 2)),
                (left + side * (strip + MARGIN) + t * CELL, top - CELL - 2),
            )
    for number, (name, offsets, weights) in enumerate(blocks):
        y = top + ROW * number
        pen.text((MARGIN, y + 4), name, "black")
        for group, offset in enumerate(offsets.tolist()):
            x, color = (
                MARGIN + NAME + AXIS * (offset + REACH) / REACH / 2,
                BLUE if group % 2 else RED,
            )
            pen.ellipse(
                (x - 4, y + 6, x + 4, y + 14), fill=color if group < 2 else None, outline=color
            )
        wide = strip / len(weights)
        for (t, side), weight in np.ndenumerate(weights[:, :2].numpy()):
            x, pale = left + side * (strip + MARGIN) + t * wide, round(255 - 155 * abs(weight - 1))
            pen.rectangle(
                (x, y, x + wide - 2, y + ROW - 2),
                (255, pale, pale) if weight > 1 else (pale, pale, 255),
            )
            pen.text(
                (x + (wide - pen.textlength(f"{weight:.2f}")) / 2, y + 4), f"{weight:.2f}", "black"
            )
    return panel


def save(path: Path, panels: list[Image.Image]) -> None:
    """Write panels of one width, one below the other."""
    try:
        with atomic_write(path) as file:
            Image.fromarray(np.concatenate([np.asarray(panel) for panel in panels])).save(
                file, "PNG"
            )
    except OSError as error:
        raise UserError(
            f"--out {path}: cannot be written ({error.strerror or error}); give another FILE.png"
        ) from None
    print(f"\nwritten {path}")


if __name__ == "__main__":
    run_cli(main)
