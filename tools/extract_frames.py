"""Extract the frames of videos: a folder of pictures for each video.

    python tools/extract_frames.py videos frames --size 256             videos/class/v.mp4 -> frames/class/v/img_00001.jpg ...
    python tools/extract_frames.py --list train.txt --root_path videos frames

The frames are those that training and tests read from the video itself: of a plain decode from the beginning, turned as the
file says. A folder appears when all its frames are in it. The same command completes what an earlier run left unfinished,
and tries again what failed. Videos that cannot be read as a whole are listed in OUT/failures.csv, with exit status 1.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.video_frames import FrameStream, check_picture_names, parse_size, write_picture
from lib.video_jobs import Job, add_flags, atomic_folder, find_jobs, run
from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError, run_cli


def main() -> None:
    args = parser().parse_intermixed_args()
    count_places(args.image_tmpl)
    check_picture_names(args.image_tmpl, args.quality)
    if args.start < 0:
        raise UserError(f"--start {args.start} is too small; give 0 or more")
    arguments = {name: getattr(args, name) for name in ("image_tmpl", "start", "size", "quality")}
    sys.exit(
        run(
            "extract_frames",
            args.out,
            find_jobs(args),
            partial(extract, **arguments),
            arguments,
            args.processes,
        )
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(top, "folders of frames")
    top.add_argument(
        "--image_tmpl",
        "--template",
        default="img_{:05d}.jpg",
        metavar="NAME",
        help="names of the pictures, JPEG "
        "or PNG: {:06d}.jpg for Something-Something V2 (default: img_{:05d}.jpg)",
    )
    top.add_argument(
        "--start",
        type=int,
        default=1,
        metavar="N",
        help="number of the first frame; main.py reads folders that "
        "start at 1, or at 0 with --image_tmpl img_{zero:05d}.jpg, here and there (default: 1)",
    )
    top.add_argument(
        "--size",
        type=parse_size,
        default="0",
        metavar="S",
        help="the short side, which is never enlarged, or "
        "WIDTHxHEIGHT, such as the 340x256 of TSN; 0 keeps the size (default: 0)",
    )
    top.add_argument(
        "--quality",
        type=int,
        default=92,
        metavar="Q",
        help="of JPEG, 1 to 100; 90 is about the quality of ffmpeg -qscale:v 2 (default: 92)",
    )
    return top


def extract(job: Job, *, image_tmpl: str, start: int, size: str, quality: int) -> None:
    """Write all frames of the video ``job.source`` to the folder ``job.target``, or nothing."""
    names_of = file_namer(image_tmpl, job.target)
    with FrameStream(job.source, size) as stream, atomic_folder(job.target) as folder:
        for number, image in enumerate(stream, start):
            write_picture(os.path.join(folder, *names_of(number)), image, quality)


if __name__ == "__main__":
    run_cli(main)
