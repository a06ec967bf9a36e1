"""Videos kept as folders of images, one file a frame, numbered from 1."""

import os
import re
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image

from ops.data.reader_base import Reader, UnreadableVideo
from ops.errors import UserError


def _file_name(image_tmpl: str, number: int) -> str:
    try:
        name = image_tmpl.format(number)
    except (IndexError, KeyError, ValueError):
        name = image_tmpl
    if name == image_tmpl:
        raise UserError(f"image template {image_tmpl!r} needs one place for the frame number, such as img_{{:05d}}.jpg")
    return name


def count_frames(folder: str | os.PathLike, image_tmpl: str) -> int:
    """The number of frames in `folder`, files ``image_tmpl.format(1)``, ``(2)``, ... with no gap.

    Raises UnreadableVideo naming the first absent file where a later one is there, and if `folder` cannot be listed;
    UserError for a template without a place for the number. Files that do not fit the template do not matter.
    """
    folder = os.fspath(folder)
    parent = os.path.dirname(_file_name(image_tmpl, 1))
    image_tmpl = os.path.basename(image_tmpl)
    try:
        names = set(os.listdir(os.path.join(folder, parent)))
    except OSError as error:
        raise UnreadableVideo(folder, error.strerror) from None
    number = 0
    while _file_name(image_tmpl, number + 1) in names:
        names.remove(_file_name(image_tmpl, number + 1))
        number += 1
    for name in sorted(names):
        for digits in re.findall("[0-9]+", name):
            if int(digits) > number and _file_name(image_tmpl, int(digits)) == name:
                raise UnreadableVideo(folder, f"{_file_name(image_tmpl, number + 1)} is missing, but {name} is there")
    return number


class FrameFolder(Reader):
    """`num_frames` images in the folder `path`; frame i is the file ``image_tmpl.format(i + 1)``.

    JPEG is decoded by simplejpeg, which gives the pixels of PIL in two thirds of the time, and everything else by PIL
    as RGB. Nothing is opened before the frames are asked for.
    """

    def __init__(self, path: str | os.PathLike, image_tmpl: str, num_frames: int) -> None:
        super().__init__(path)
        self.image_tmpl = image_tmpl
        self.num_frames = num_frames

    def close(self) -> None:
        pass

    def __len__(self) -> int:
        return self.num_frames

    def _read(self, wanted: list[int]) -> np.ndarray:
        frames = None
        for row, index in enumerate(wanted):
            name = _file_name(self.image_tmpl, index + 1)
            image = self._decode(name)
            if frames is None:
                frames = np.empty((len(wanted), *image.shape), np.uint8)
            if image.shape != frames.shape[1:]:
                sizes = [f"{width}x{height}" for height, width, _ in (image.shape, frames.shape[1:])]
                raise UnreadableVideo(self.path, f"{name} is {sizes[0]}, other frames are {sizes[1]}")
            frames[row] = image
        return frames

    def _decode(self, name: str) -> np.ndarray:
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                data = file.read()
        except OSError as error:
            raise UnreadableVideo(self.path, f"{name}: {error.strerror}") from None
        if data.startswith(b"\xff\xd8"):
            try:
                return simplejpeg.decode_jpeg(data, "RGB")
            except ValueError:
                pass  # damaged, or a colour space that PIL alone converts (CMYK)
        try:
            return np.asarray(Image.open(BytesIO(data)).convert("RGB"))
        except Exception as error:  # PIL's plugins raise much more than OSError on damaged files
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UnreadableVideo(self.path, f"{name}: {reason}") from None
