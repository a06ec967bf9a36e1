"""Decoded video frames as RGB pixels."""

import re

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# Planar formats of more than 8 bits per sample; the first group is the name of the 8-bit format.
_DEEP_FORMAT = re.compile(r"(yuv4[0-9]{2}p|gray)(9|1[0-9])(le|be)")


def prepare(frame: av.VideoFrame, reformatter: VideoReformatter) -> av.VideoFrame:
    """Prepare a frame so that FFmpeg converts all videos to RGB in the same way.

    * More than 8 bits per sample are reduced to 8 first. FFmpeg's conversion to RGB repeats the
      chroma samples of 8-bit YUV, but interpolates those of deeper formats, which moves colored
      edges.
    * The interlaced flag is removed, so that a frame is converted as a whole. With the flag,
      FFmpeg 8 converts the two fields separately, unlike its own command-line tool and unlike PyAV
      before 17.
    """
    if frame.interlaced_frame:
        frame = _without_flags(frame)
    deep = _DEEP_FORMAT.fullmatch(frame.format.name)
    if deep is None:
        return frame
    return reformatter.reformat(frame, format=deep[1], threads=1)


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Convert a frame to RGB.

    Returns:
        uint8 ``[H, W, 3]`` before rotation and mirroring; a view of memory that FFmpeg owns.
    """
    rgb = reformatter.reformat(prepare(frame, reformatter), format="rgb24", threads=1)
    plane = rgb.planes[0]
    lines = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
    return lines[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)


def _without_flags(frame: av.VideoFrame) -> av.VideoFrame:
    """A copy of the frame that keeps its color space, but not its flags."""
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    copy.colorspace = frame.colorspace
    copy.color_range = frame.color_range
    for source, target in zip(frame.planes, copy.planes, strict=True):
        width = min(source.line_size, target.line_size)
        source_lines = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
        target_lines = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
        target_lines[:, :width] = source_lines[:, :width]
    return copy
