"""Image files against PIL, and what cannot be an image."""

import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from ops.data.readers.base import UnreadableVideo
from ops.data.readers.images import decode_image, webp_size

LEVELS = np.linspace(0, 65535, 48 * 80).astype(np.uint16).reshape(48, 80)


def write_tiff12(path, values):
    """A TIFF of 12 bits a pixel, from uint16 ``[H, W]`` of at most 4095, W even."""
    pairs = values.reshape(-1, 2).astype(int)
    data = bytearray()
    for first, second in pairs:
        data += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    data += bytes(len(data) % 2)
    tags = {256: values.shape[1], 257: values.shape[0], 258: 12, 259: 1, 262: 1, 273: 8}
    tags |= {277: 1, 278: values.shape[0], 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))


@pytest.mark.parametrize("kind", ["gray.png", "gray.tif", "big.tif", "gray.pgm", "bits12.tif"])
def test_gray_of_16_bits_is_its_upper_8(tmp_path, kind):
    truth = LEVELS >> 8
    if kind == "bits12.tif":
        write_tiff12(tmp_path / kind, LEVELS >> 4)
    elif kind == "big.tif":
        big = Image.frombytes("I;16B", LEVELS.shape[::-1], LEVELS.astype(">u2").tobytes())
        big.save(tmp_path / kind)
    else:
        Image.fromarray(LEVELS).save(tmp_path / kind)
    np.testing.assert_array_equal(decode_image(str(tmp_path), kind, "L"), truth)
    image = decode_image(str(tmp_path), kind)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.stack([truth] * 3, axis=-1))


@pytest.mark.parametrize("values, named", [(np.float32, "floating-point"), (np.int32, "32 bits")])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_without_a_known_range_are_refused(tmp_path, values, named, mode):
    Image.fromarray(LEVELS.astype(values)).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableVideo, match=f"a.tif: .*{named}"):
        decode_image(str(tmp_path), "a.tif", mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_every_other_mode_is_converted_as_pil_does(tmp_path, mode, suffix):
    image = Image.fromarray((LEVELS >> 8).astype(np.uint8)).convert("RGB").convert(mode)
    try:
        image.save(tmp_path / f"a.{suffix}")
    except OSError:
        pytest.skip(f"{suffix} has no mode {mode}")
    truth = np.asarray(image.convert("RGB"))
    assert truth.min() < 10 and truth.max() > 245
    np.testing.assert_array_equal(decode_image(str(tmp_path), f"a.{suffix}"), truth)


@pytest.mark.parametrize("size", [(2**20, 1), (1, 2**20)])
@pytest.mark.parametrize("kind", ["a.png", "a.tif", "a.gif"])
def test_an_image_of_extreme_shape_is_refused(tmp_path, size, kind):
    if kind == "a.gif":
        size = tuple(min(side, 65535) for side in size)
    Image.new("L", size).save(tmp_path / kind)
    with pytest.raises(UnreadableVideo, match=f"{kind}: .*{size[0]}x{size[1]}"):
        decode_image(str(tmp_path), kind)


def test_a_long_image_is_read(tmp_path):
    Image.new("L", (3200, 32)).save(tmp_path / "a.png")
    assert decode_image(str(tmp_path), "a.png").shape == (32, 3200, 3)


@pytest.mark.parametrize("options", [{"quality": 70}, {"lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (2000, 3000)])
def test_every_kind_of_webp(tmp_path, size, mode, options):
    """Their sizes stand in three forms; a transparent image of the lossy form has the third."""
    color = (9, 99, 199, 99)[: len(mode)]
    Image.new(mode, size, color).save(tmp_path / "a.webp", **options)
    data = (tmp_path / "a.webp").read_bytes()
    assert webp_size(data) == size and data[12:16] in (b"VP8 ", b"VP8L", b"VP8X")
    assert decode_image(str(tmp_path), "a.webp").shape == (size[1], size[0], 3)


def test_an_image_larger_than_its_file_can_hold(tmp_path):
    """A frame of 4K of one color is read, and the same file with a header that lies is not."""
    data = bytearray(simplejpeg.encode_jpeg(np.zeros((2160, 3840, 3), np.uint8), quality=10))
    assert decode_image("f", "a.jpg", data=bytes(data)).shape == (2160, 3840, 3)
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 2] = (65_500).to_bytes(2, "big")
    with pytest.raises(
        UnreadableVideo, match=rf"a.jpg: {len(data)} bytes cannot be an image of 3840x65500"
    ):
        decode_image("f", "a.jpg", data=bytes(data))
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableVideo, match=r"bytes cannot be an image of 9000x9000"):
        decode_image(str(tmp_path), "a.png", "L")
