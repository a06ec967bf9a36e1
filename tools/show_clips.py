"""Draw the input of the network: clips after sampling and augmentation, one video per row.

    python tools/show_clips.py something RGB
    python tools/show_clips.py data/mine/mine.toml RGB --module tsm --epoch 3 --videos 20 \\
        --out epoch3.png
    python tools/show_clips.py ucf101 Flow --module tsn --split val --ids v_Archery_g01_c01 \\
        --all_frames

The pictures are pixel for pixel those of main.py with the same --seed and --epoch: training clips,
or the center crops of the validation. On the left is the whole middle frame with the crop; below
each picture is its frame number, from 0. Flow is drawn as it is stored, x above y, gray where
nothing moves; RGBDiff as differences around gray.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ops.backbones.modalities import MODALITIES
from ops.cli.common_args import add_data, base_parser
from ops.cli.types import non_negative_int, positive_int
from ops.data.dataset_files import FLIPS
from ops.data.readers.templates import choose_template
from ops.data.sampling import samplings_for_training
from ops.temporal import MODULES
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    args.image_tmpl = choose_template(args.image_tmpl, args.flow_prefix, args.modality)
    from lib.pictures.clip_sheet import make_sheet  # imports PyTorch, which --help does not need
    from lib.pictures.panels import check_png, save_panels

    check_png(args.out)
    save_panels(args.out, make_sheet(args))
    print(f"\nwritten {args.out}")


def parser() -> argparse.ArgumentParser:
    top = base_parser(__doc__)
    top.add_argument("modality", choices=tuple(MODALITIES), help="input modality")
    add_data(
        top, (("train_list", "videos of --split train"), ("val_list", "videos of --split val"))
    )
    add_clip_flags(top)
    group = top.add_argument_group("sheet")
    group.add_argument(
        "--all_frames",
        action="store_true",
        help="draw all frames of a segment, not only the middle one",
    )
    group.add_argument(
        "--out", type=Path, default=Path("clips.png"), metavar="FILE.png", help="file to write"
    )
    return top


def add_clip_flags(top: argparse.ArgumentParser) -> None:
    """Add the flags that select videos, and how their clips are made."""
    group = top.add_argument_group("clips")
    group.add_argument(
        "--split",
        choices=("train", "val"),
        default="train",
        help="training clips, or those of the validation",
    )
    selection = group.add_mutually_exclusive_group()
    selection.add_argument(
        "--videos",
        type=positive_int,
        default=8,
        metavar="N",
        help="number of videos, evenly spaced in the list",
    )
    selection.add_argument(
        "--ids", nargs="+", metavar="ID", help="videos, by their ids in the list"
    )
    group.add_argument(
        "--module",
        choices=tuple(MODULES),
        default="tdn",
        help="temporal module, which gives the frames per segment",
    )
    group.add_argument(
        "--num_segments",
        type=positive_int,
        default=8,
        metavar="T",
        help="number of segments of a clip",
    )
    group.add_argument(
        "--input_size",
        type=positive_int,
        default=224,
        metavar="PIXELS",
        help="width and height of the crops",
    )
    group.add_argument(
        "--sampling",
        choices=tuple(samplings_for_training()),
        default="uniform",
        help="sampling of the training",
    )
    group.add_argument(
        "--flip", choices=FLIPS, help="labels of flipped training clips, as in the training"
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
        "--seed", type=non_negative_int, default=0, metavar="N", help="seed of all random numbers"
    )


if __name__ == "__main__":
    run_cli(main)
