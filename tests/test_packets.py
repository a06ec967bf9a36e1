import av
import pytest
from helpers.videos import encode, textured_frames

from ops.data.readers.packets import is_in_display_order, picture_test

AVCC = bytes([1, 100, 0, 31, 0xFF])
HVCC = bytes([1, *[0] * 20, 0xF3])


def units(*bodies, length_size=4):
    return b"".join(len(body).to_bytes(length_size, "big") + body for body in bodies)


# A first byte 0x65 is a slice of an H.264 key picture, 0x41 of another; 6 is a message, 0x67 and
# 0x68 are parameters, 9 and 10 delimiters.
H264 = {
    "key": (units(b"\x65\x88\x80"), True),
    "message and slice": (units(b"\x06\x05\x01\x00\x80", b"\x41\x9a\x00"), True),
    "message": (units(b"\x06\x05\x01\x00\x80"), False),
    "parameters": (units(b"\x67" + b"\x42" * 9, b"\x68\xce\x38\x80"), False),
    "delimiters": (units(b"\x09\xf0", b"\x0a"), False),
    "rest of a picture": (units(b"\x41\x4a\x00"), False),
    "slices in another order": (units(b"\x41\x4a\x00", b"\x41\x9a\x00"), True),
    "cut off": (units(b"\x06\x05\x01\x00\x80")[:-2], True),
    "cut off in a length": (units(b"\x06\x05\x01\x00\x80") + b"\x00\x00", True),
    "one byte": (b"\x00", True),
    "damaged": (b"\xff" * 50, True),
    "length zero": (bytes(50), True),
}
# The type of an HEVC unit is in bits 1 to 6 of its first byte: 0x26 is a key picture, 0x02 another
# one, 0x4e a message.
HEVC = {
    "key": (units(b"\x26\x01\xaf\x00"), True),
    "message and slice": (units(b"\x4e\x01\x05\x01\x80", b"\x02\x01\xd0\x00"), True),
    "message": (units(b"\x4e\x01\x05\x01\x80"), False),
    "rest of a picture": (units(b"\x02\x01\x50\x00"), False),
    "damaged": (b"\xff" * 50, True),
}
VP9 = {
    "shown key": (b"\x82\x49\x83\x42", True),
    "hidden key": (b"\x80\x49\x83\x42", False),
    "shown": (b"\x86\x00\x40\x92", True),
    "hidden": (b"\x84\x00\x40\x92", False),
    "shows an earlier one": (b"\x88", True),
    "profile 3, shown": (b"\xb1\x49\x83\x42", True),
    "profile 3, hidden": (b"\xb0\x49\x83\x42", False),
    "superframe": (b"\x84\x00\x40\xc9\x01\x02\x03\xc9", True),
    "damaged": (b"\xff" * 50, True),
}


@pytest.mark.parametrize("name", H264)
@pytest.mark.parametrize("length_size", [4, 2])
def test_h264_pictures(name, length_size):
    data, expected = H264[name]
    if length_size == 2:
        if "cut" in name or name in ("one byte", "damaged", "length zero"):
            pytest.skip("made for lengths of four bytes")
        data = b"".join(len(body).to_bytes(2, "big") + body for body in split_units(data))
    extradata = AVCC[:4] + bytes([0xFC | length_size - 1])
    assert picture_test("h264", extradata)(av.Packet(data)) == expected


def split_units(data):
    while data:
        length = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + length]
        data = data[4 + length :]


@pytest.mark.parametrize("name", HEVC)
def test_hevc_pictures(name):
    data, expected = HEVC[name]
    assert picture_test("hevc", HVCC)(av.Packet(data)) == expected


@pytest.mark.parametrize("name", VP9)
def test_vp9_pictures(name):
    data, expected = VP9[name]
    assert picture_test("vp9", None)(av.Packet(data)) == expected


@pytest.mark.parametrize(
    ("codec", "extradata"),
    [("h264", None), ("h264", b"\x00\x00\x00\x01\x67"), ("hevc", b"\x01"), ("libdav1d", b"\x81")],
)
def test_unknown_codecs_count_as_pictures(codec, extradata):
    assert picture_test(codec, extradata)(av.Packet(H264["message"][0]))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("bframes", "expected"), [(0, True), (1, False), (3, False)])
def test_the_order_of_pictures(codec, bframes, expected, tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(40), codec=codec, bframes=bframes)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert is_in_display_order(packets, range(1, 12), stream) == expected
        assert is_in_display_order(packets, (), stream)
        assert packets[0].size  # they are copied


def test_pictures_after_damage_do_not_count(tmp_path):
    path = encode(tmp_path / "v.mp4", textured_frames(10))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert is_in_display_order([av.Packet(b"\xff" * 50) for _ in range(5)], range(5), stream)
