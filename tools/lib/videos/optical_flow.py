"""Estimates optical flow with OpenCV and stores it as pictures: what extract_flow.py does.

OpenCV is imported when it is used, since --help and other commands do not need it.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise

import numpy as np

from lib.videos.video_frames import FrameStream, check_picture_names, folder_frames, write_picture
from lib.videos.video_jobs import Job, atomic_folder
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.templates import count_places, file_namer
from ops.utils.errors import UserError

# Two uint8 pictures [H, W] -> motion from the first to the second in pixels to the right and down,
# float32 [H, W, 2].
Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
# The third channel of a picture of x and y. With it JPEG keeps the 128 of no motion; with 0 in the
# third channel, 128 becomes 127.
BLANK = 64
# Points that a homography needs, and that must agree with it (yjxiong/dense_flow).
MIN_POINTS = 50
MIN_INLIERS = 25
MAX_FEATURES = 1000  # per frame, of each kind
NO_POINTS = np.empty((0, 2, 2), np.float32)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UserError for invalid templates, or a bound that is not positive."""
    places = count_places(args.image_tmpl, "Flow")
    check_picture_names(args.image_tmpl, args.quality)
    for template in (args.frames, args.rgb_tmpl):
        if template:
            count_places(template)
            check_picture_names(template, args.quality)
    if args.bound <= 0:
        raise UserError(f"--bound {args.bound} is not above 0; give a number of pixels like 20")
    if args.rgb_tmpl and places == 1:
        flow_names = file_namer(args.image_tmpl, "", "Flow")(1)
        if file_namer(args.rgb_tmpl, "")(1) == flow_names:
            raise UserError(
                f"--rgb_tmpl and --image_tmpl are both {args.rgb_tmpl}; give another --rgb_tmpl"
            )


def extract_flow(
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
    """Write the flow of a video, or of a folder of frames, to a folder, or nothing.

    Args:
        job: the source and the folder to write.
        method: "tvl1", "dis" or "farneback".
        warp: whether to remove the motion of the camera.
        bound: largest motion in pixels.
        image_tmpl: names of the pictures of flow.
        rgb_tmpl: names of the frames in the same folder; None: no frames.
        frames: names of the frames in the source folder; None: the source is a video.
        size: of the frames, see ``lib.videos.video_frames.scaled``.
        quality: of JPEG, 1 to 100.

    Raises:
        UnreadableVideo: a source that cannot be read, or a single frame.
    """
    flow_of = flow_method(method)
    if warp:
        flow_of = partial(warped_flow, flow_of)
    names_of = file_namer(image_tmpl, job.target, "Flow")
    rgb_names_of = file_namer(rgb_tmpl, job.target) if rgb_tmpl else None
    if frames is None:
        source = FrameStream(job.source, size)
    else:
        source = closing(folder_frames(job.source, frames, size))
    number = 0
    with source as images, atomic_folder(job.target) as folder:
        for number, (flow, image) in enumerate(flows(images, flow_of), 1):
            write_flow(folder, names_of(number), flow, bound, quality)
            if rgb_names_of:
                write_picture(os.path.join(folder, *rgb_names_of(number)), image, quality)
        if number == 0:
            raise UnreadableVideo(job.source, "a single frame has no flow")


def write_flow(
    folder: str, names: tuple[str, ...], flow: np.ndarray, bound: float, quality: int
) -> None:
    """Write flow as two gray pictures, x and y, or as one picture of both.

    Args:
        folder: where.
        names: of the two pictures, or of the one.
        flow: in pixels, ``[H, W, 2]``.
        bound: largest motion in pixels.
        quality: of JPEG, 1 to 100.
    """
    x = quantize(flow[..., 0], bound)
    y = quantize(flow[..., 1], bound)
    if len(names) == 1:
        pictures = [np.stack([x, y, np.full_like(x, BLANK)], axis=-1)]
    else:
        pictures = [x, y]
    for name, picture in zip(names, pictures, strict=True):
        write_picture(os.path.join(folder, name), picture, quality, chroma="444")


def flows(images: Iterator[np.ndarray], flow_of: Flow) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The flow between each two consecutive frames.

    Args:
        images: uint8 ``[H, W, 3]``.
        flow_of: estimates the flow.

    Yields:
        The flow, float32 ``[H, W, 2]``, and the later frame.
    """
    import cv2

    def with_gray(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = np.ascontiguousarray(image)
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), image

    for (before, _), (after, image) in pairwise(map(with_gray, images)):
        yield flow_of(before, after), image


def quantize(flow: np.ndarray, bound: float) -> np.ndarray:
    """One direction of a flow as bytes, as in yjxiong/dense_flow, common.cpp.

    Args:
        flow: in pixels.
        bound: the motion that becomes 255, in pixels.

    Returns:
        uint8 ``round(255 * (flow + bound) / (2 * bound))`` between 0 and 255. Halves are rounded
        to the even neighbor, so 0 becomes 128.
    """
    scaled = 255 * (flow.astype(np.float64) + bound) / (2 * bound)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def flow_method(method: str) -> Flow:
    """The function that estimates flow by a method.

    Args:
        method: "tvl1", "dis" or "farneback".

    Raises:
        UserError: OpenCV is not installed or does not have the method.
    """
    try:
        return _flow_method(method)
    except (ImportError, AttributeError):
        raise UserError(
            f"--method {method} needs OpenCV with its contributed modules; pip install "
            "opencv-contrib-python-headless"
        ) from None


def _flow_method(method: str) -> Flow:
    import cv2

    cv2.setNumThreads(1)  # the videos are distributed among processes instead
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


def warped_flow(flow_of: Flow, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The flow without the motion of the camera (Wang and Schmid, 2013).

    A homography is fitted to matched points and to points followed by the flow; the later frame is
    warped back by it, and the flow is estimated again.

    Args:
        flow_of: estimates the flow.
        before: uint8 ``[H, W]``.
        after: uint8 ``[H, W]``.

    Returns:
        float32 ``[H, W, 2]``; the plain flow where the points do not determine a homography.
    """
    import cv2

    flow = flow_of(before, after)
    pairs = np.concatenate([matched_points(before, after), followed_points(before, flow)])
    if len(pairs) <= MIN_POINTS:
        return flow
    homography, inliers = cv2.findHomography(pairs[:, 1], pairs[:, 0], cv2.RANSAC, 1.0)
    if homography is None or inliers.sum() <= MIN_INLIERS:
        return flow
    warped_back = cv2.warpPerspective(
        after,
        homography,
        after.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return flow_of(before, warped_back)


def matched_points(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Points with the same ORB features in two frames: float32 ``[n, 2 (before, after), 2]``."""
    import cv2

    detector = cv2.ORB_create(MAX_FEATURES)
    points_before, features_before = detector.detectAndCompute(before, None)
    points_after, features_after = detector.detectAndCompute(after, None)
    if features_before is None or features_after is None:
        return NO_POINTS
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    pairs = [
        (points_before[match.queryIdx].pt, points_after[match.trainIdx].pt)
        for match in matcher.match(features_before, features_after)
    ]
    return np.array(pairs, np.float32).reshape(-1, 2, 2)


def followed_points(before: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Corners, and where the flow moves them: float32 ``[n, 2 (before, after), 2]``."""
    import cv2

    corners = cv2.goodFeaturesToTrack(before, MAX_FEATURES, 0.001, 3)
    if corners is None:
        return NO_POINTS
    corners = corners[:, 0]
    x, y = corners.astype(int).T
    return np.stack([corners, corners + flow[y, x]], axis=1)
