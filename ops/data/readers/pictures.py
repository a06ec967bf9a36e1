"""Decoded video frames as RGB pixels."""

import re

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# Planar formats of more than 8 bits per sample, and the part of the name that the one of 8 bits has.
_DEEP_FORMAT = re.compile(r"(yuv4[0-9]{2}p|gray)(9|1[0-9])(le|be)")


def prepare(frame: av.VideoFrame, reformatter: VideoReformatter) -> av.VideoFrame:
    """The frame in the form of which FFmpeg makes the same RGB pixels whatever the video.

    * More than 8 bits become 8 before anything else: to 8 bits of YUV, FFmpeg's conversion to RGB
      repeats chroma samples; of deeper ones it interpolates them, which moves coloured edges.
    * Without its interlaced flag a frame is converted as a whole. With it, FFmpeg 8 converts the
      two fields one by one, unlike its own command-line tool, and unlike PyAV before 17.
    """
    if frame.interlaced_frame:
        frame = _without_flags(frame)
    deep = _DEEP_FORMAT.fullmatch(frame.format.name)
    if deep is None:
        return frame
    return reformatter.reformat(frame, format=deep[1], threads=1)


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 ``[H, W, 3]``, as coded and not as shown; a view of memory that FFmpeg owns."""
    rgb = reformatter.reformat(prepare(frame, reformatter), format="rgb24", threads=1)
    plane = rgb.planes[0]
    lines = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)
    return lines[:, : rgb.width * 3].reshape(rgb.height, rgb.width, 3)


def _without_flags(frame: av.VideoFrame) -> av.VideoFrame:
    copy = av.VideoFrame(frame.width, frame.height, frame.format.name)
    copy.colorspace = frame.colorspace
    copy.color_range = frame.color_range
    for source, target in zip(frame.planes, copy.planes, strict=True):
        width = min(source.line_size, target.line_size)
        source_lines = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)
        target_lines = np.frombuffer(target, np.uint8).reshape(-1, target.line_size)
        target_lines[:, :width] = source_lines[:, :width]
    return copy
