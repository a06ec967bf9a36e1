"""Videos kept as folders of images, one file a frame."""

import os
import re
import warnings
from collections.abc import Set
from io import BytesIO

import numpy as np
import simplejpeg
from PIL import Image, TiffImagePlugin

from ops.data.readers.base import Reader, UnreadableVideo, check_aspect_ratio
from ops.data.readers.shard_paths import Stored
from ops.data.readers.templates import file_namer, from_zero
from ops.utils.errors import UserError
from ops.utils.files import read_regular

# What PIL may take a file for: not EPS, for instance, of which it lets another program draw the picture.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_PIXELS = 2**23  # a picture of 4K has that many, and may be small
_MOST_BYTES = 2**28  # of a picture's file
# Where mode I holds 16 unsigned bits: PGM, and PNG before Pillow 11. In TIFF it holds 32 bits, or a sign.
_GREY16_AS_I = ("PNG", "PPM")
_NO_RANGE = {"I": "integers of 32 bits or with a sign", "F": "floating-point numbers"}


def count_frames(
    folder: str | os.PathLike,
    image_tmpl: str,
    modality: str = "RGB",
    there: Set[str] | None = None,
) -> int:
    """The number of frames in `folder`, files named by `image_tmpl` with no gap.

    The templates are explained in ops/data/readers/templates.py. `there` are the files in the folder,
    in place of asking the disk.

    Raises UnreadableVideo naming the first absent file where a later one is there, or where its
    twin is (x and y of a flow), where a file of number 0 shows that the names count from 0 and the
    template does not, and if `folder` cannot be listed; UserError for a template that does not name
    the frames of this modality. Files that do not fit the template do not matter.
    """
    folder = os.fspath(folder)
    names_of = file_namer(image_tmpl, folder, modality)
    if there is None:
        parents = {os.path.dirname(name) for name in names_of(1)}
        try:
            there = {
                os.path.join(parent, name)
                for parent in parents
                for name in os.listdir(os.path.join(folder, parent))
            }
        except OSError as error:
            raise UnreadableVideo(folder, error.strerror) from None
    number = 0
    while there.issuperset(names_of(number + 1)):
        number += 1
    zero_template = from_zero(image_tmpl)
    if number and zero_template != image_tmpl and there.issuperset(names_of(0)):
        raise UnreadableVideo(
            folder,
            f"{names_of(0)[0]} is there: frames count from 0; give the template {zero_template}",
        )
    for name in sorted(there):
        for digits in re.findall(
            "(?<![0-9])[0-9]{1,255}(?![0-9])", name
        ):  # names of a shard set may be of any length
            later = max(int(digits), number + 1)  # or, where names count from 0, the one after it
            if int(digits) >= number and name in (*names_of(later), *names_of(later + 1)):
                absent = next(name for name in names_of(number + 1) if name not in there)
                raise UnreadableVideo(folder, f"{absent} is missing, but {name} is there")
    return number


def _check_pixels(folder: str, name: str, width: int, height: int, data: bytes) -> None:
    """A header of 65,000 x 65,000 pixels would be believed, and so much memory taken, before the picture turns out not to be
    there. A frame of one colour has a byte for 64 pixels at the least as a plain JPEG."""
    if width * height > max(_PIXELS, 100 * len(data)):
        raise UnreadableVideo(
            folder, f"{name}: {len(data)} bytes are no picture of {width}x{height}"
        )
    check_aspect_ratio(folder, width, height, name)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, of each of its three kinds (RFC 9649, sections 2.5 to 2.7)."""
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    return int.from_bytes(data[26:28], "little") % 2**14, int.from_bytes(
        data[28:30], "little"
    ) % 2**14


def _convert(image: Image.Image, mode: str, folder: str, name: str) -> np.ndarray:
    """The pixels of a picture as PIL converts them, and of 16-bit grey the upper 8 bits.

    PIL itself cuts off at 255 what is larger, so that all but the darkest greys become white.

    Args:
        image: in any mode of PIL.
        mode: "RGB" or "L".
        folder, name: of the file, for the message.

    Returns:
        uint8 ``[H, W, 3]`` or ``[H, W]``.

    Raises:
        UnreadableVideo: the values of the pixels have no known range.
    """
    is_grey16 = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in _GREY16_AS_I
    )
    if is_grey16:
        grey = (np.asarray(image) >> (_bits(image) - 8)).astype(np.uint8)
        return grey if mode == "L" else np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode in _NO_RANGE:
        raise UnreadableVideo(
            folder,
            f"{name}: its pixels are {_NO_RANGE[image.mode]}; save it with 8 or 16 unsigned bits",
        )
    return np.asarray(image.convert(mode))


def _bits(image: Image.Image) -> int:
    """The bits of a pixel of a picture of 16-bit grey: a TIFF may have 12 in the place of 16."""
    if image.format != "TIFF":
        return 16
    return image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0]


def decode_image(
    folder: str, name: str, mode: str = "RGB", data: bytes | None = None
) -> np.ndarray:
    """The picture `name` in `folder` as PIL's ``convert(mode)`` gives it: uint8 ``[H, W, 3]`` for "RGB", ``[H, W]`` for
    "L". `data` is the content of the file, in place of reading it. Raises UnreadableVideo that names the file.

    JPEG is decoded by simplejpeg, which gives the pixels of PIL in two thirds of the time, and everything else by PIL.
    """
    if data is None:
        try:
            data = read_regular(os.path.join(folder, name), _MOST_BYTES)
        except OSError as error:
            raise UnreadableVideo(folder, f"{name}: {error.strerror}") from None
    if data.startswith(b"\xff\xd8"):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            _check_pixels(folder, name, width, height, data)
            if mode == "RGB":
                return simplejpeg.decode_jpeg(data, "RGB")
            if colours == "Gray":  # the luma of a colour JPEG is not quite convert("L")
                return simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
        except ValueError:
            pass  # damaged, or a colour space that PIL alone converts (CMYK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of what is damaged: it is read, or refused, all the same
            if data.startswith(b"RIFF"):  # PIL makes room for the picture when it is opened
                _check_pixels(folder, name, *_webp_size(data), data)
            image = Image.open(BytesIO(data), formats=_FORMATS)
            _check_pixels(folder, name, *image.size, data)
            return _convert(image, mode, folder, name)
    except UnreadableVideo:
        raise
    except Exception as error:  # PIL's plugins raise much more than OSError on damaged files
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnreadableVideo(folder, f"{name}: {reason}") from None


class FrameFolder(Reader):
    """`num_frames` images in the folder `path`, or in a shard set (`stored`); frame i is file number i + 1 of the template.

    Nothing is opened before the frames are asked for. Raises UserError for a template that does not name the frames.
    """

    modality = "RGB"

    def __init__(
        self,
        path: str | os.PathLike,
        image_tmpl: str,
        num_frames: int,
        stored: Stored | None = None,
    ) -> None:
        super().__init__(path)
        self._stored = stored
        self._data: dict[str, bytes] = {}
        self.num_frames = num_frames
        self._names_of = file_namer(image_tmpl, self.path, self.modality)

    def close(self) -> None:
        pass

    def __len__(self) -> int:
        return self.num_frames

    def decode(self, wanted: list[int]) -> np.ndarray:
        frames = None
        names_of = [self._names_of(index + 1) for index in wanted]
        if self._stored is not None:  # all at once, since each read may wait for a network
            self._data = self._stored.read([name for names in names_of for name in names])
        for row, names in enumerate(names_of):
            image = self._decode(names)
            if frames is None:
                frames = np.empty((len(wanted), *image.shape), np.uint8)
            self._check_size(names[0], image, frames[0], "other frames are")
            frames[row] = image
        return frames

    def _decode(self, names: tuple[str, ...]) -> np.ndarray:
        return self._image(names[0])

    def _image(self, name: str, mode: str = "RGB") -> np.ndarray:
        return decode_image(self.path, name, mode, self._data.get(name))

    def _check_size(self, name: str, image: np.ndarray, other: np.ndarray, others: str) -> None:
        if image.shape != other.shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, other.shape)]
            raise UnreadableVideo(self.path, f"{name} is {sizes[0]}, {others} {sizes[1]}")


class FlowFolder(FrameFolder):
    """Optical flow as `num_frames` pairs of images in the folder `path`, bytes of which 128 is no motion: uint8
    ``[n, H, W, 2]``, x then y.

    Two grey pictures a frame, or one whose first two channels are x and y, as the template says
    (ops/data/readers/templates.py; TSM ops/dataset.py ``_load_image``).
    """

    modality = "Flow"

    def _decode(self, names: tuple[str, ...]) -> np.ndarray:
        if len(names) == 1:
            image = self._image(names[0])
            if np.array_equal(
                image[..., 0], image[..., 2]
            ):  # the third channel of a flow picture is blank
                raise UserError(
                    f"{os.path.join(self.path, names[0])} is a grey picture, so it cannot hold both x and y; "
                    "give an --image_tmpl with a place for x or y, like flow_{}_{:05d}.jpg"
                )
            return image[..., :2]
        x, y = (self._image(name, "L") for name in names)
        self._check_size(names[1], y, x, f"{names[0]} is")
        return np.stack([x, y], axis=-1)
