"""Check the videos of a list before a training that would fail at them.

    python tools/check_videos.py train.txt --root_path videos --class_names classes.txt \\
        --other val.txt
    python tools/check_videos.py train.txt --root_path videos --frames all --csv problems.csv \\
        --clean train_clean.txt
    python tools/check_videos.py data/mine/mine.toml        both lists of a dataset
    python tools/check_videos.py kinetics

Opens every video as training does, with the same reader, and decodes its first, middle and last
frame. --root_path may be a shard set or its URL. The problems are

    missing     no file or folder at the path, or no such video in the shard set
    empty       an empty file or folder
    template    a folder without frames of --image_tmpl; a template that fits is named
    unreadable  a damaged file, a gap in the frame numbers, a picture that cannot be decoded, or a
                video that crashes its decoder or takes more than --timeout seconds
    count       the list gives another number of frames
    short       fewer frames than --min_frames
    duplicate   the same video as an earlier line; both lines are reported if their labels differ
    leak        a video that --other contains too, by its path or, with --content, by its bytes
    labels      labels without videos

A malformed line or a label out of range is an error that names the line. Exit status: 0 without
problems, 1 with problems, 2 after an error. Ctrl-C prints the problems found until then. With
--csv OUT, problems are written to OUT.partial as they are found; a killed run leaves them there.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import command_parser
from ops.cli.types import positive_float, positive_int
from ops.data.readers.open import DECODERS
from ops.data.readers.templates import EXAMPLES
from ops.utils.errors import run_cli


def main() -> None:
    args = parser().parse_args()
    from lib.lists.list_checks import ListCheck, check_list, lists_to_check  # not needed for --help

    checks = lists_to_check(ListCheck(**vars(args)))
    have_problems = [check_list(check) for check in checks]
    sys.exit(any(have_problems))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    top.add_argument(
        "list",
        metavar="LIST",
        help="list to check, as for --train_list; or a dataset, to check its lists: its name, a "
        "file NAME.toml or its folder",
    )
    top.add_argument(
        "--root_path",
        metavar="DIR",
        help="folder or shard set that the paths of the list are relative to (default: the "
        "current folder)",
    )
    top.add_argument(
        "--num_class",
        type=positive_int,
        metavar="N",
        help="number of classes (default: no limit on labels)",
    )
    top.add_argument(
        "--class_names", metavar="FILE", help="class names in label order, instead of --num_class"
    )
    top.add_argument(
        "--multi_label",
        action="store_true",
        help="a video can have several labels, joined by commas",
    )
    top.add_argument(
        "--other",
        metavar="LIST2",
        help="list that must not have the same videos, such as the other split",
    )
    top.add_argument(
        "--other_root",
        metavar="DIR",
        help="folder that the paths of LIST2 are relative to (default: --root_path)",
    )
    top.add_argument(
        "--content",
        action="store_true",
        help="compare the bytes of videos too, not only their paths; not for a shard set",
    )
    top.add_argument(
        "--frames",
        choices=("first-middle-last", "all", "none"),
        default="first-middle-last",
        help="frames to decode; none only counts them (default: first-middle-last)",
    )
    top.add_argument(
        "--min_frames",
        type=positive_int,
        default=1,
        metavar="N",
        help="minimum number of frames of a video (default: 1)",
    )
    top.add_argument(
        "--image_tmpl",
        metavar="TMPL",
        help=f"file names in a folder of frames (default: {EXAMPLES['RGB']}, for Flow "
        f"{EXAMPLES['Flow']})",
    )
    top.add_argument(
        "--modality",
        choices=("RGB", "Flow"),
        default="RGB",
        help="input modality (default: RGB)",
    )
    top.add_argument(
        "--decoder",
        choices=tuple(DECODERS),
        default="pyav",
        help="library that decodes video files (default: pyav)",
    )
    top.add_argument(
        "--timeout",
        type=positive_float,
        default=300,
        metavar="SECONDS",
        help="time limit for one video (default: 300)",
    )
    top.add_argument(
        "-j",
        "--processes",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of processes (default: one per core)",
    )
    top.add_argument("--csv", metavar="OUT", help="write all problems: line, id, reason, kind")
    top.add_argument(
        "--clean", metavar="OUT", help="write the lines without problems, byte for byte"
    )
    return top


if __name__ == "__main__":
    run_cli(main)
