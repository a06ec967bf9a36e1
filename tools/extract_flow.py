"""Extract the optical flow of videos to folders of pictures, as `main.py DATASET Flow` reads it.

    python tools/extract_flow.py videos flow --rgb_tmpl img_{:05d}.jpg
        img_, flow_x_ and flow_y_ in one folder, as in TSN
    python tools/extract_flow.py frames flow --frames img_{:05d}.jpg
        from folders that extract_frames.py made
    python tools/extract_flow.py videos flow --image_tmpl {:06d}.png
        x and y in one picture

Picture i (from 1) is the flow from frame i to frame i + 1: there is one picture less than frames,
and the RGB picture of the same number is the later frame, as in TSN's tools. A byte is
round(255 * (v + B) / (2 B)) with v in pixels; 128 is no motion. A folder appears when it is
complete. The same command completes what an earlier run did not finish, and retries videos that
failed. Videos without flow are listed in OUT/failures.csv; the exit status is then 1.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.arguments import add_video_flags, command_parser, parse_size
from ops.utils.errors import run_cli

METHODS = ("tvl1", "dis", "farneback")


def main() -> None:
    args = parser().parse_intermixed_args()
    from lib.videos.optical_flow import check_arguments, extract_flow, flow_method  # not for --help
    from lib.videos.video_jobs import find_jobs, run
    from ops.data.readers.templates import file_namer

    check_arguments(args)
    flow_method(args.method)  # reports a missing package once, and not in each process
    jobs = find_jobs(args, frames_tmpl=args.frames)
    for job in jobs:
        file_namer(args.image_tmpl, job.target, "Flow")
    arguments = {
        "method": args.method,
        "warp": args.warp,
        "bound": args.bound,
        "image_tmpl": args.image_tmpl,
        "rgb_tmpl": args.rgb_tmpl,
        "frames": args.frames,
        "size": args.size,
        "quality": args.quality,
    }
    work = partial(extract_flow, **arguments)
    sys.exit(run("extract_flow", args.out, jobs, work, arguments, args.processes))


def parser() -> argparse.ArgumentParser:
    top = command_parser(__doc__)
    add_video_flags(top, "folders of flow")
    top.add_argument(
        "--frames",
        metavar="NAME",
        help="SRC contains folders of pictures with these names, such as img_{:05d}.jpg (default: "
        "videos)",
    )
    top.add_argument(
        "--method",
        choices=METHODS,
        default="tvl1",
        help="tvl1: published flow weights were trained on it; it takes seconds per frame. dis: a "
        "hundredth of the time. farneback: as fast, less exact (default: tvl1)",
    )
    top.add_argument(
        "--warp",
        action="store_true",
        help="remove the motion of the camera, a homography: the warped flow of TSN",
    )
    top.add_argument(
        "--bound",
        type=float,
        default=20,
        metavar="B",
        help="largest motion in each direction, in pixels (default: 20)",
    )
    top.add_argument(
        "--image_tmpl",
        "--template",
        default="flow_{}_{:05d}.jpg",
        metavar="NAME",
        help="names of the flow: two gray pictures with a place for x or y, or one picture whose "
        "channels are x, y and blank; see docs/data.md (default: flow_{}_{:05d}.jpg)",
    )
    top.add_argument(
        "--rgb_tmpl",
        metavar="NAME",
        help="write the frames with these names to the same folders (default: no frames)",
    )
    top.add_argument(
        "--size",
        type=parse_size,
        default="0",
        metavar="S",
        help="scale before the flow is estimated: short side, which is never enlarged, or "
        "WIDTHxHEIGHT, such as TSN's 340x256; 0 keeps the size (default: 0)",
    )
    top.add_argument(
        "--quality", type=int, default=95, metavar="Q", help="JPEG quality, 1 to 100 (default: 95)"
    )
    return top


if __name__ == "__main__":
    run_cli(main)
