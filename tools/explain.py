"""Show which places of which frames are evidence for a class (Grad-CAM).

    python tools/explain.py dance.mp4 --weights best.pth
    python tools/explain.py dance.mp4 --weights best.pth --class "Moving up" --out up.png
    python tools/explain.py dance.mp4 --weights best.pth --out cam.mp4

A PNG is a sheet with the frames of a clip, the same frames with the evidence in color, and the
share of each frame in it. An mp4 plays the video beside the same video with the evidence, which is
interpolated between the frames of the clip.

The clip is the one of a prediction (tools/predict.py), its center crop; of several clips, the one
with the highest probability of the class. The strongest evidence of the whole clip has the
brightest color: a frame without color does not count.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import (
    add_class_names_flag,
    add_device_flag,
    add_weights_flags,
    check_output_file,
    command_parser,
)
from ops.cli.types import positive_int
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    check_output_file(args.out)
    # Imports PyTorch, which --help does not need.
    from lib.pictures.explanation import write_explanation

    write_explanation(args)


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument("video", metavar="VIDEO", help="video file or folder of frames")
    add_weights_flags(top)
    add_class_names_flag(top)
    top.add_argument(
        "--class",
        dest="wanted",
        metavar="NAME",
        help="name or label of the class to explain (default: the predicted one)",
    )
    top.add_argument(
        "--stage",
        type=positive_int,
        metavar="N",
        help="stage of the backbone whose last map is taken, from 1 (default: the last one whose "
        "map has at least 6 x 6 cells)",
    )
    top.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help="file names in a folder of frames (default: inferred from the files)",
    )
    add_device_flag(top)
    top.add_argument(
        "--out",
        type=Path,
        default=Path("cam.png"),
        metavar="FILE",
        help="file to write, .png or .mp4 (default: cam.png)",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
