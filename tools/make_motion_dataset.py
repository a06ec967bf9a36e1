"""Make a small action dataset whose classes differ only in motion; no single frame gives them away.

    python tools/make_motion_dataset.py --videos 640 --size 64 --out data/motion

A camera looks at a photograph: one in all training videos, another in all validation videos. Both
come with scikit-learn; nothing is downloaded. In each video one of position, size and angle changes
at constant speed, forwards or backwards in time. The class names describe the motion of the picture
on the screen, not of the camera, so a horizontal flip swaps left and right, and clockwise and
counterclockwise. Written to --out:

    videos/train/00000.mp4 ...  videos/val/00000.mp4 ...
    train.txt  val.txt    one line per video: path relative to --out, label
    classes.txt           one class name per line, in label order
    about.json            the arguments, written last

On one machine the same arguments give the same bytes, for any -j. The command completes what an
earlier run did not finish, and does nothing if the dataset is complete.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.utils.errors import UserError, run_cli

SMALLEST = {"videos": 8, "val_videos": 8, "size": 32, "frames": 2, "seed": 0, "processes": 1}


def main() -> None:
    args = parser().parse_args()
    for flag, smallest in SMALLEST.items():
        value = getattr(args, flag)
        if value is not None and value < smallest:
            raise UserError(f"--{flag} {value} is too small; give {smallest} or more")
    if args.size % 2:
        raise UserError(f"--size {args.size} is odd; give an even number, as H.264 requires")
    from lib.videos.motion_dataset import Recipe, default_val_videos, make_dataset  # not for --help

    val_videos = args.val_videos
    if val_videos is None:
        val_videos = default_val_videos(args.videos)
    recipe = Recipe(args.videos, val_videos, args.size, args.frames, args.seed)
    print(make_dataset(args.out, recipe, args.processes, args.force))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "--videos",
        type=int,
        required=True,
        metavar="N",
        help="number of training videos, 8 or more",
    )
    top.add_argument(
        "--val_videos",
        type=int,
        metavar="N",
        help="number of validation videos (default: a quarter of --videos)",
    )
    top.add_argument(
        "--size",
        type=int,
        required=True,
        metavar="S",
        help="width and height in pixels, even, 32 or more",
    )
    top.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the dataset; created if missing",
    )
    top.add_argument(
        "--frames", type=int, default=24, metavar="N", help="frames per video (default: 24)"
    )
    top.add_argument(
        "--seed", type=int, default=0, help="another seed gives other videos (default: 0)"
    )
    top.add_argument(
        "-j",
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of processes (default: one per core)",
    )
    top.add_argument(
        "--force",
        action="store_true",
        help="replace a dataset that this command made with other arguments",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
