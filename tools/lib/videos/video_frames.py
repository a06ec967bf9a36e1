"""Frames of videos in order, their sizes, and picture files: for the commands that write frames."""

import os
from collections.abc import Iterator

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter
from PIL import Image

from lib.videos.video_jobs import Job, atomic_folder
from ops.data.readers.base import UnreadableVideo
from ops.data.readers.frame_folder import count_frames
from ops.data.readers.images import decode_image
from ops.data.readers.orientation import orientation_of
from ops.data.readers.pyav import PyAVReader
from ops.data.readers.rgb import prepare, to_rgb
from ops.data.readers.templates import file_namer
from ops.utils.errors import UserError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
# frames per second of a file that does not contain its rate


def scaled(size: str, width: int, height: int, step: int = 1) -> tuple[int, int]:
    """The size of a picture after scaling.

    Args:
        size: "0" keeps the size; "256" scales to a short side of at most 256 pixels and keeps the
            shape; "340x256" is the new width and height.
        width: of the picture.
        height: of the picture.
        step: the result is rounded to multiples of it.

    Returns:
        Width and height.
    """
    short_side = min(width, height)
    if "x" in size:
        width, height = map(int, size.split("x"))
    elif 0 < int(size) < short_side:
        width = int(width * int(size) / short_side + 0.5)
        height = int(height * int(size) / short_side + 0.5)
    return _rounded(width, step), _rounded(height, step)


def _rounded(side: int, step: int) -> int:
    return max(1, round(side / step)) * step


def coded_size(frame: av.VideoFrame, size: str, step: int = 1) -> tuple[int, int]:
    """The size to scale a frame to before it is rotated, so that it has ``size`` when displayed.

    Args:
        frame: as decoded.
        size: see ``scaled``.
        step: see ``scaled``.

    Returns:
        Width and height.
    """
    if not is_quarter_turned(frame):
        return scaled(size, frame.width, frame.height, step)
    height, width = scaled(size, frame.height, frame.width, step)
    return width, height


def is_quarter_turned(frame: av.VideoFrame) -> bool:
    """Whether a frame is displayed rotated by 90 degrees, to the left or to the right."""
    return orientation_of(frame).transposed


class FrameStream(PyAVReader):
    """The frames of a video in order, each decoded once and none kept, as images of a size.

    Iterating over it gives displayed frames, uint8 ``[H, W, 3]``, scaled bicubically by FFmpeg.
    """

    def __init__(self, path: str | os.PathLike, size: str = "0") -> None:
        """Open a video.

        Args:
            path: the file.
            size: of the displayed frames, see ``scaled``.

        Raises:
            UnreadableVideo: not a video, or none of its frames can be decoded.
        """
        super().__init__(path)
        self._size = size
        self._resizer = VideoReformatter()

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._displayed, self.frames())

    def _displayed(self, frame: av.VideoFrame) -> np.ndarray:
        width, height = coded_size(frame, self._size)
        if (width, height) == (frame.width, frame.height):
            return orientation_of(frame).apply(to_rgb(frame, self._resizer))
        small = self._resizer.reformat(
            prepare(frame, self._resizer),
            width,
            height,
            "rgb24",
            interpolation="BICUBIC",
            threads=1,
        )
        return orientation_of(frame).apply(small.to_ndarray())


def folder_frames(folder: str, image_tmpl: str, size: str) -> Iterator[np.ndarray]:
    """The frames of a folder of pictures in order, uint8 ``[H, W, 3]``, scaled bicubically.

    Args:
        folder: its path.
        image_tmpl: file names in it.
        size: see ``scaled``.

    Raises:
        UnreadableVideo: there are no frames, one cannot be decoded or has another size.
    """
    names_of = file_namer(image_tmpl, folder)
    first_shape = None
    for number in range(1, count_frames(folder, image_tmpl) + 1):
        (name,) = names_of(number)
        image = decode_image(folder, name)
        first_shape = first_shape or image.shape
        if image.shape != first_shape:
            raise UnreadableVideo(folder, f"{name} differs in size from the frames before it")
        height, width, _ = image.shape
        new_size = scaled(size, width, height)
        if new_size != (width, height):
            image = np.asarray(Image.fromarray(image).resize(new_size, Image.Resampling.BICUBIC))
        yield image


def check_picture_names(image_tmpl: str, quality: int) -> None:
    """Raises UserError for names or a quality that ``write_picture`` cannot write."""
    is_path = os.path.basename(image_tmpl) != image_tmpl
    if is_path or not image_tmpl.lower().endswith(PICTURE_SUFFIXES):
        raise UserError(
            f"{image_tmpl!r} does not name pictures; give a name that ends in one of "
            f"{', '.join(PICTURE_SUFFIXES)}"
        )
    if not 1 <= quality <= 100:
        raise UserError(f"--quality {quality} is not in 1 to 100; give a number like 92")


def write_picture(path: str, image: np.ndarray, quality: int, chroma: str = "420") -> None:
    """Write a picture as PNG or JPEG, depending on its suffix.

    simplejpeg writes a 340x256 frame in 0.78 of the time of PIL and 0.97 of that of OpenCV.

    Args:
        path: the file.
        image: uint8 ``[H, W, 3]`` (RGB) or ``[H, W]``.
        quality: of JPEG, 1 to 100.
        chroma: chroma subsampling of JPEG.
    """
    image = np.ascontiguousarray(image)
    if path.lower().endswith(".png"):
        Image.fromarray(image).save(path, compress_level=1)
        return
    if image.ndim == 2:
        data = simplejpeg.encode_jpeg(image[..., None], quality, "GRAY", "Gray")
    else:
        data = simplejpeg.encode_jpeg(image, quality, "RGB", chroma)
    with open(path, "wb") as file:
        file.write(data)


def extract_frames(job: Job, *, image_tmpl: str, start: int, size: str, quality: int) -> None:
    """Write all frames of a video to a folder, or nothing.

    Args:
        job: the video and the folder.
        image_tmpl: names of the pictures.
        start: number of the first frame.
        size: of the pictures, see ``scaled``.
        quality: of JPEG, 1 to 100.
    """
    names_of = file_namer(image_tmpl, job.target)
    with FrameStream(job.source, size) as stream, atomic_folder(job.target) as folder:
        for number, image in enumerate(stream, start):
            write_picture(os.path.join(folder, *names_of(number)), image, quality)
