"""Extract the features of videos, window by window, for temporal localisation and retrieval.

    python tools/extract_features.py videos/ features --weights best.pth
    python tools/extract_features.py list.txt features --weights best.pth --window 64f --step 16f \\
        --pool time --dtype float16

A video VIDEOS/class/v.mp4 becomes OUT/class/v.npy: [windows, T', D], or [windows, D] with --pool
time. OUT/index.json contains, for each file, the video, the start of each window and the time of
its middle, and the settings. The features are those of model.features, the mean over the crops.

Lengths are in frames (64f) or seconds (2.5 or 2.5s). Videos of any length are decoded once, in
bounded memory. The same command continues an interrupted run; a file is whole or not there.

Exit status: 0; 1 if some videos could not be read, which are named; 2 after an error.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import add_device_flags, add_weights_flags, command_parser
from ops.cli.types import CROPS, positive_float, positive_int
from ops.utils.errors import UserError, run_cli


def main() -> None:
    args = parser().parse_intermixed_args()
    window, unit = args.window
    step, step_unit = args.step or args.window
    if step_unit != unit:
        raise UserError("--window and --step: give both in frames (64f), or both in seconds")
    from lib.predicting.feature_extraction import (  # torch is not needed for --help
        Settings,
        extract,
    )

    settings = Settings(window, step, unit, args.pool, args.dtype)
    sys.exit(extract(args, settings))


def length(text: str) -> tuple[float, str]:
    """A length in frames, ``64f``, or in seconds, ``2.5`` or ``2.5s``."""
    match = re.fullmatch(r"([0-9]+)f|([0-9]+(?:\.[0-9]*)?|\.[0-9]+)s?", text)
    value = float(match[1] or match[2]) if match else 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is neither frames, like 64f, nor seconds")
    return value, "frames" if match[1] else "seconds"


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="videos, folders, lists, or - (as predict.py)"
    )
    top.add_argument("out", metavar="OUT", help="folder for the features")
    add_weights_flags(top)
    top.add_argument(
        "--window",
        type=length,
        default=(64, "frames"),
        metavar="LENGTH",
        help="length of a window (default: 64f)",
    )
    top.add_argument(
        "--step",
        type=length,
        metavar="LENGTH",
        help="from the start of a window to that of the next one (default: --window)",
    )
    top.add_argument(
        "--pool",
        choices=("none", "time"),
        default="none",
        help="none: features of each segment; time: their mean (default: none)",
    )
    top.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float32",
        help="of the files (default: float32)",
    )
    top.add_argument(
        "--crops", type=int, choices=CROPS, default=1, help="crops of a frame (default: 1)"
    )
    top.add_argument(
        "--full_res", action="store_true", help="crops as large as the scaled short side (256)"
    )
    top.add_argument(
        "--image_tmpl", metavar="TMPL", help="file names in a folder of frames (default: inferred)"
    )
    top.add_argument(
        "--fps",
        type=positive_float,
        metavar="N",
        help="frames per second of a folder of frames (default: 25)",
    )
    add_device_flags(top)
    top.add_argument(
        "-b",
        "--batch_size",
        type=positive_int,
        default=4,
        metavar="N",
        help="windows that go through the network at once (default: 4)",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
