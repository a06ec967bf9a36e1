"""Print what TIN does to a clip: the offset of each channel group and the weight of each frame.

    python tools/show_offsets.py runs/tin_sthv1_r50_8f/best.pth clip.mp4
    python tools/show_offsets.py best.pth clip.mp4 folder --image_tmpl "{:05d}.jpg" --out o.png

WEIGHTS is any file of a TIN that --weights takes. The network processes the center crop of one clip
of each VIDEO, the middle frame of each of T segments. A positive offset, in segments, moves content
to later segments. Groups 3 and 4 are moved as far as 1 and 2 in the other direction and have the
same weights, which lie in (0, 2); a weight of 1 leaves a frame as it is.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.data.readers.templates import EXAMPLES
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    # Imports PyTorch, which --help does not need.
    from lib.pictures import offsets, offsets_figure
    from lib.pictures.panels import check_png, save_panels

    if args.out:
        check_png(args.out)
    model = offsets.load_tin(args.weights)
    panels = []
    for video in args.videos:
        clip, frames, total = offsets.read_clip(
            video, model, args.image_tmpl or EXAMPLES[model.modality]
        )
        blocks = offsets.find_offsets(model, clip)
        title = f"{video}: frames {' '.join(map(str, frames))} of {total}, counted from 0"
        offsets.print_offsets(title, blocks)
        panels.append(offsets_figure.draw(title, clip, blocks))
    if args.out:
        save_panels(args.out, panels)
        print(f"\nwritten {args.out}")


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "weights", metavar="WEIGHTS", help="checkpoint of a TIN, of this project or a published one"
    )
    top.add_argument("videos", nargs="+", metavar="VIDEO", help="video file or folder of frames")
    top.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help=f"file names in a folder (default: {EXAMPLES['RGB']}, {EXAMPLES['Flow']})",
    )
    top.add_argument(
        "--out", type=Path, metavar="FILE.png", help="also draw them, one panel per video"
    )
    return top


if __name__ == "__main__":
    run_cli(main)
