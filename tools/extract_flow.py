"""Extract the optical flow of videos to folders of pictures, as `main.py DATASET Flow` reads it.

    python tools/extract_flow.py videos flow --rgb_tmpl img_{:05d}.jpg           as TSN: img_, flow_x_ and flow_y_ in one folder
    python tools/extract_flow.py frames flow --frames img_{:05d}.jpg             of folders that extract_frames.py made
    python tools/extract_flow.py videos flow --image_tmpl {:06d}.png             x and y in one picture

Picture i (from 1) is the flow from frame i to frame i + 1: one picture less than there are frames, and the RGB picture of the
same number is the later frame, as in TSN's tools. A byte is round(255 * (v + B) / (2 B)), v in pixels: 128 is no motion. A
folder appears when it is whole. The same command completes what an earlier run left unfinished, and tries again what failed.
Videos without flow are listed in OUT/failures.csv, with exit status 1.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lib.video_frames import (
    FrameStream,
    check_picture_names,
    folder_frames,
    parse_size,
    write_picture,
)
from lib.video_jobs import Job, add_flags, atomic_folder, find_jobs, run
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError, run_cli

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
METHODS = ("tvl1", "dis", "farneback")
BLANK = 64  # the third channel of a picture of x and y: JPEG then keeps the 128 of no motion, which beside 0 becomes 127


def main() -> None:
    args = parser().parse_intermixed_args()
    places = count_places(args.image_tmpl, "Flow")
    check_picture_names(args.image_tmpl, args.quality)
    for template in filter(None, (args.frames, args.rgb_tmpl)):
        count_places(template)
        check_picture_names(template, args.quality)
    if args.bound <= 0:
        raise UserError(f"--bound {args.bound} is not above 0; give a number of pixels like 20")
    if (
        args.rgb_tmpl
        and places == 1
        and file_namer(args.rgb_tmpl, "")(1) == file_namer(args.image_tmpl, "", "Flow")(1)
    ):
        raise UserError(
            f"--rgb_tmpl and --image_tmpl are both {args.rgb_tmpl}; give another --rgb_tmpl"
        )
    flow_method(args.method)  # to miss the package here rather than in each process
    jobs = find_jobs(args, frames_tmpl=args.frames)
    for job in jobs:
        file_namer(args.image_tmpl, job.target, "Flow")
    arguments = {
        name: getattr(args, name)
        for name in (
            "method",
            "warp",
            "bound",
            "image_tmpl",
            "rgb_tmpl",
            "frames",
            "size",
            "quality",
        )
    }
    sys.exit(
        run(
            "extract_flow", args.out, jobs, partial(extract, **arguments), arguments, args.processes
        )
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_flags(top, "folders of flow")
    top.add_argument(
        "--frames",
        metavar="NAME",
        help="SRC holds folders of pictures so named, such as img_{:05d}.jpg, instead "
        "of videos (default: videos)",
    )
    top.add_argument(
        "--method",
        choices=METHODS,
        default="tvl1",
        help="tvl1 is what published flow weights were trained on, "
        "and takes seconds a frame; dis takes a hundredth; farneback is as fast and less exact (default: tvl1)",
    )
    top.add_argument(
        "--warp",
        action="store_true",
        help="take out the motion of the camera, as a homography: the warped flow of TSN",
    )
    top.add_argument(
        "--bound",
        type=float,
        default=20,
        metavar="B",
        help="motion in pixels that is kept, in each direction (default: 20)",
    )
    top.add_argument(
        "--image_tmpl",
        "--template",
        default="flow_{}_{:05d}.jpg",
        metavar="NAME",
        help="names of the flow: two "
        "grey pictures with a place for x or y, or one whose channels are x, y and blank; see docs/data.md "
        "(default: flow_{}_{:05d}.jpg)",
    )
    top.add_argument(
        "--rgb_tmpl",
        metavar="NAME",
        help="write the frames too, so named, into the same folders (default: not)",
    )
    top.add_argument(
        "--size",
        type=parse_size,
        default="0",
        metavar="S",
        help="scale before the flow is estimated: the short "
        "side, which is never enlarged, or WIDTHxHEIGHT, such as the 340x256 of TSN (default: 0, as it is)",
    )
    top.add_argument(
        "--quality", type=int, default=95, metavar="Q", help="of JPEG, 1 to 100 (default: 95)"
    )
    return top


def extract(
    job: Job,
    *,
    method: str,
    warp: bool,
    bound: float,
    image_tmpl: str,
    rgb_tmpl: str | None,
    frames: str | None,
    size: str,
    quality: int,
) -> None:
    """Write the flow of the video, or of the folder of frames, ``job.source`` to the folder ``job.target``, or nothing."""
    flow_of = flow_method(method)
    if warp:
        flow_of = partial(warped, flow_of)
    names_of = file_namer(image_tmpl, job.target, "Flow")
    source = (
        FrameStream(job.source, size)
        if frames is None
        else closing(folder_frames(job.source, frames, size))
    )
    with source as images, atomic_folder(job.target) as folder:
        number = 0
        for number, (flow, image) in enumerate(flows(images, flow_of), 1):
            pictures = [quantise(flow[..., axis], bound) for axis in range(2)]
            names = names_of(number)
            if len(names) == 1:
                pictures = [np.stack([*pictures, np.full_like(pictures[0], BLANK)], axis=-1)]
            for name, picture in zip(names, pictures, strict=True):
                write_picture(os.path.join(folder, name), picture, quality, chroma="444")
            if rgb_tmpl is not None:
                write_picture(
                    os.path.join(folder, *file_namer(rgb_tmpl, job.target)(number)), image, quality
                )
        if not number:
            raise UnreadableVideo(job.source, "a single frame has no flow")


def flows(images: Iterator[np.ndarray], flow_of: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The flow of each two frames that follow each other, float32 ``[H, W, 2]``, with the later frame."""
    import cv2

    greys = (
        (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), image)
        for image in map(np.ascontiguousarray, images)
    )
    for (before, _), (after, image) in pairwise(greys):
        yield flow_of(before, after), image


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """One direction of a flow in pixels as bytes: ``round(255 * (v + bound) / (2 * bound))`` within 0 and 255, halves to the
    even neighbour, so 0 becomes 128 (yjxiong/dense_flow, common.cpp)."""
    return np.rint(np.clip(255 * (flow.astype(np.float64) + bound) / (2 * bound), 0, 255)).astype(
        np.uint8
    )


def flow_method(method: str) -> Flow:
    """A function of two uint8 ``[H, W]`` that gives the flow from the first to the second in pixels to the right and down,
    float32 ``[H, W, 2]``. Raises UserError if OpenCV is not there or lacks the method."""
    try:
        import cv2

        cv2.setNumThreads(1)  # the videos are what is divided among processes
        if method == "tvl1":
            tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()
            return lambda before, after: tvl1.calc(before, after, None)
        if method == "dis":
            dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            return lambda before, after: dis.calc(before, after, None)
        return lambda before, after: cv2.calcOpticalFlowFarneback(
            before,
            after,
            None,
            pyr_scale=0.5,
            levels=3,
            winsize=15,
            iterations=3,
            poly_n=5,
            poly_sigma=1.2,
            flags=0,
        )
    except (ImportError, AttributeError):
        raise UserError(
            f"--method {method} needs OpenCV with its contributed modules; pip install "
            "opencv-contrib-python-headless"
        ) from None


def warped(flow_of: Flow, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The flow without the motion of the camera (Wang and Schmid, 2013): a homography is fitted to points that were matched
    or followed by the flow, the later frame is warped back by it, and the flow is estimated anew. The flow as it is where 50
    points or 25 that agree are not found (yjxiong/dense_flow)."""
    import cv2

    flow = flow_of(before, after)
    pairs = np.concatenate([matches(before, after), followed(before, flow)])
    if len(pairs) <= 50:
        return flow
    homography, agree = cv2.findHomography(pairs[:, 1], pairs[:, 0], cv2.RANSAC, 1.0)
    if homography is None or agree.sum() <= 25:
        return flow
    back = cv2.warpPerspective(
        after,
        homography,
        after.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return flow_of(before, back)


def matches(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Points with the same ORB features in both: float32 ``[n, 2, 2]``, (point before, point after)."""
    import cv2

    finder = cv2.ORB_create(1000)
    (points, codes), (points_after, codes_after) = (
        finder.detectAndCompute(image, None) for image in (before, after)
    )
    if codes is None or codes_after is None:
        return np.empty((0, 2, 2), np.float32)
    found = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes, codes_after)
    return np.array(
        [(points[m.queryIdx].pt, points_after[m.trainIdx].pt) for m in found], np.float32
    ).reshape(-1, 2, 2)


def followed(before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Corners and where the flow takes them: float32 ``[n, 2, 2]``."""
    import cv2

    corners = cv2.goodFeaturesToTrack(before, 1000, 0.001, 3)
    if corners is None:
        return np.empty((0, 2, 2), np.float32)
    corners = corners[:, 0]
    x, y = corners.astype(int).T
    return np.stack([corners, corners + flow[y, x]], axis=1)


if __name__ == "__main__":
    run_cli(main)
