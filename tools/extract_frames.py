"""Extract the frames of videos: one folder of pictures per video.

    python tools/extract_frames.py videos frames --size 256
        videos/class/v.mp4 -> frames/class/v/img_00001.jpg ...
    python tools/extract_frames.py --list train.txt --root_path videos frames

The frames are the same as those that training and tests read from the video itself: decoded in
order from the first one and rotated as the file's metadata require. A folder appears when all its
frames are in it. The same command completes what an earlier run did not finish, and retries videos
that failed. Videos that cannot be read as a whole are listed in OUT/failures.csv; the exit status
is then 1.
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
    from lib.videos.video_frames import check_picture_names, extract_frames  # not needed for --help
    from lib.videos.video_jobs import find_jobs, run
    from ops.data.readers.templates import count_places

    count_places(args.image_tmpl)
    check_picture_names(args.image_tmpl, args.quality)
    if args.start < 0:
        raise UserError(f"--start {args.start} is too small; give 0 or more")
    arguments = {
        "image_tmpl": args.image_tmpl,
        "start": args.start,
        "size": args.size,
        "quality": args.quality,
    }
    jobs = find_jobs(args)
    work = partial(extract_frames, **arguments)
    sys.exit(run("extract_frames", args.out, jobs, work, arguments, args.processes))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    add_video_flags(top, "folders of frames")
    top.add_argument(
        "--image_tmpl",
        "--template",
        default="img_{:05d}.jpg",
        metavar="NAME",
        help="names of the pictures, JPEG or PNG; {:06d}.jpg for Something-Something V2 (default: "
        "img_{:05d}.jpg)",
    )
    top.add_argument(
        "--start",
        type=int,
        default=1,
        metavar="N",
        help="number of the first frame; main.py reads folders that start at 1, or at 0 with "
        "--image_tmpl img_{zero:05d}.jpg in both commands (default: 1)",
    )
    top.add_argument(
        "--size",
        type=parse_size,
        default="0",
        metavar="S",
        help="short side, which is never enlarged, or WIDTHxHEIGHT, such as TSN's 340x256; 0 keeps "
        "the size (default: 0)",
    )
    top.add_argument(
        "--quality",
        type=int,
        default=92,
        metavar="Q",
        help="JPEG quality, 1 to 100; 90 is about that of ffmpeg -qscale:v 2 (default: 92)",
    )
    return top


if __name__ == "__main__":
    run_cli(main)
