"""Re-encode videos to be smaller and fast to read at random positions, which speeds up training.

    python tools/resize_videos.py videos videos256
        videos/class/v.avi -> videos256/class/v.mp4
    python tools/resize_videos.py --list train.txt --root_path videos videos256 --size 320

Writes H.264 in mp4 with a keyframe every 12 frames, settings that decode fast, and non-reference
frames, which the reader can skip. Each frame of the source, as training reads it, becomes one frame
of the result, in the same order and at the same time; rotated as the metadata require, without
sound. The frames are counted before the result appears. The same command completes what an earlier
run did not finish, and retries videos that failed. Videos that cannot be read as a whole are listed
in OUT/failures.csv; the exit status is then 1.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import add_video_flags, command_parser, parse_size
from ops.utils.errors import UserError, run_cli


def main() -> None:
    args = parser().parse_intermixed_args()
    if args.gop < 1:
        raise UserError(f"--gop {args.gop} is too small; give 1 or more")
    if not 0 <= args.crf <= 51:
        raise UserError(f"--crf {args.crf} is not in 0 to 51; give a number like 21")
    from lib.videos.video_encoding import resize  # not needed for --help
    from lib.videos.video_jobs import find_jobs, run

    arguments = {"size": args.size, "gop": args.gop, "crf": args.crf}
    jobs = find_jobs(args, result_suffix=".mp4")
    work = partial(resize, **arguments)
    sys.exit(run("resize_videos", args.out, jobs, work, arguments, args.processes))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    add_video_flags(top, "new videos")
    top.add_argument(
        "--size",
        type=parse_size,
        default="256",
        metavar="S",
        help="short side, which is never enlarged, or WIDTHxHEIGHT; 0 keeps the size; odd numbers "
        "become even (default: 256)",
    )
    top.add_argument(
        "--gop",
        type=int,
        default=12,
        metavar="N",
        help="frames from keyframe to keyframe; fewer are faster to read at random positions and "
        "need more space (default: 12)",
    )
    top.add_argument(
        "--crf",
        type=int,
        default=21,
        metavar="Q",
        help="constant rate factor of x264, 0 to 51; lower is closer to the source and needs more "
        "space (default: 21)",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
