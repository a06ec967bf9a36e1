"""Decode image files, the frames of a folder, also damaged and hostile ones."""

import os
import warnings
from io import BytesIO

import numpy as np
from PIL import Image, TiffImagePlugin

from ops.data.readers.base import UnreadableVideo, check_aspect_ratio
from ops.utils.files import read_regular

# Formats that PIL may open. EPS, for instance, is not among them: PIL lets another program draw it.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
_JPEG_START = b"\xff\xd8"
_WEBP_START = b"RIFF"
_MAX_FILE_BYTES = 2**28

# An image may have this many pixels (nearly 4K) however small its file is ...
_ALWAYS_ALLOWED_PIXELS = 2**23
# ... and beyond that this many per byte: a plain JPEG of one color has 64.
_MAX_PIXELS_PER_BYTE = 100

# Formats whose mode I holds 16 unsigned bits: PGM, and PNG before Pillow 11. In TIFF, mode I holds
# 32 bits or signed values.
_GRAY16_AS_I = ("PNG", "PPM")
_UNKNOWN_RANGE = {"I": "integers of 32 bits or with a sign", "F": "floating-point numbers"}


def decode_image(
    folder: str, name: str, mode: str = "RGB", data: bytes | None = None
) -> np.ndarray:
    """Decode an image as PIL's ``convert(mode)`` does; of 16-bit gray, keep the upper 8 bits.

    JPEG is decoded by simplejpeg, with the pixels of PIL in two thirds of the time, and everything
    else by PIL.

    Args:
        folder, name: the file.
        mode: "RGB" or "L" (gray).
        data: the content of the file; None: read it.

    Returns:
        uint8 ``[H, W, 3]`` for "RGB", ``[H, W]`` for "L".

    Raises:
        UnreadableVideo: the file cannot be read or decoded. The message names it.
    """
    if data is None:
        data = _read(folder, name)
    if data.startswith(_JPEG_START):
        image = _decode_jpeg(folder, name, mode, data)
        if image is not None:
            return image
    return _decode_with_pil(folder, name, mode, data)


def _read(folder: str, name: str) -> bytes:
    try:
        return read_regular(os.path.join(folder, name), _MAX_FILE_BYTES)
    except OSError as error:
        raise UnreadableVideo(folder, f"{name}: {error.strerror}") from None


def _decode_jpeg(folder: str, name: str, mode: str, data: bytes) -> np.ndarray | None:
    """Decode a JPEG with simplejpeg; None if PIL must do it (CMYK) or report the damage."""
    import simplejpeg  # here, as every decoder: where nothing is decoded it need not be installed

    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(folder, name, width, height, data)
        if mode == "RGB":
            return simplejpeg.decode_jpeg(data, "RGB")
        if color_space == "Gray":  # the luma of a color JPEG differs from PIL's convert("L")
            return simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
    except ValueError:
        pass
    return None


def _decode_with_pil(folder: str, name: str, mode: str, data: bytes) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            # PIL warns of damage. Such an image is decoded or refused all the same.
            warnings.simplefilter("ignore")
            if data.startswith(_WEBP_START):  # PIL allocates its pixels when it is opened
                _check_size(folder, name, *webp_size(data), data)
            image = Image.open(BytesIO(data), formats=_FORMATS)
            _check_size(folder, name, *image.size, data)
            return _to_array(image, mode, folder, name)
    except UnreadableVideo:
        raise
    except Exception as error:  # PIL's plugins raise much more than OSError for damaged files
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnreadableVideo(folder, f"{name}: {reason}") from None


def _check_size(folder: str, name: str, width: int, height: int, data: bytes) -> None:
    """Refuse an image that its file cannot contain.

    Otherwise a damaged header of 65,000 x 65,000 pixels would be believed, and memory for them
    allocated, before decoding fails.
    """
    max_pixels = max(_ALWAYS_ALLOWED_PIXELS, _MAX_PIXELS_PER_BYTE * len(data))
    if width * height > max_pixels:
        raise UnreadableVideo(
            folder, f"{name}: {len(data)} bytes cannot be an image of {width}x{height}"
        )
    check_aspect_ratio(folder, width, height, name)


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file, of each of its three kinds (RFC 9649, 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width = 1 + bits % 2**14
        height = 1 + (bits >> 14) % 2**14
    else:
        width = int.from_bytes(data[26:28], "little") % 2**14
        height = int.from_bytes(data[28:30], "little") % 2**14
    return width, height


def _to_array(image: Image.Image, mode: str, folder: str, name: str) -> np.ndarray:
    """The pixels of an image, of 16-bit gray the upper 8 bits.

    PIL itself clips larger values at 255, so that all but the darkest grays become white.
    """
    is_gray16 = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in _GRAY16_AS_I
    )
    if is_gray16:
        gray = (np.asarray(image) >> (_bits_per_sample(image) - 8)).astype(np.uint8)
        if mode == "L":
            return gray
        return np.repeat(gray[..., np.newaxis], 3, axis=2)
    if image.mode in _UNKNOWN_RANGE:
        raise UnreadableVideo(
            folder,
            f"{name}: its pixels are {_UNKNOWN_RANGE[image.mode]}; save it with 8 or 16 unsigned "
            f"bits",
        )
    return np.asarray(image.convert(mode))


def _bits_per_sample(image: Image.Image) -> int:
    """The bits of 16-bit gray that are used: a TIFF may have 12 of them."""
    if image.format != "TIFF":
        return 16
    return image.tag_v2[TiffImagePlugin.BITSPERSAMPLE][0]
