"""What the packets of a video stream hold, seen without decoding them."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream


class Content(Enum):
    """What a packet gives when it is decoded."""

    PICTURE = "one picture, or an error"
    NOTHING = "parameters, messages or a hidden picture: no frame"
    PART = "a part of a picture that another packet begins"


class _SliceSyntax(NamedTuple):
    """Where a NAL unit says that it holds a slice, and that the slice is the first of a picture."""

    type_shift: int
    type_mask: int
    slice_types: frozenset[int]
    header_size: int  # after it comes the slice header, whose first bit is set in the first slice


_SLICE_SYNTAX = {
    "h264": _SliceSyntax(0, 31, frozenset((1, 2, 5)), 1),
    "hevc": _SliceSyntax(1, 63, frozenset(range(32)), 2),
}
# The byte of the avcC or hvcC record that ends in the size of a NAL unit's length, minus 1.
_LENGTH_SIZE_BYTE = {"h264": 4, "hevc": 21}


def content_reader(codec: str, extradata: bytes | None) -> Callable[[av.Packet], Content]:
    """The function that inspects the packets of a stream.

    Args:
        codec: name of the decoder, such as "h264".
        extradata: the decoder's configuration record.

    Returns:
        A function from a packet to its content. A packet that is damaged, or of a kind that it
        does not know, counts as a picture.
    """
    if codec == "vp9":
        return _vp9_content
    record = extradata or b""
    length_size_byte = _LENGTH_SIZE_BYTE.get(codec)
    if length_size_byte is None or len(record) <= length_size_byte or record[0] != 1:
        return lambda packet: Content.PICTURE
    length_size = (record[length_size_byte] & 3) + 1
    return partial(_nal_content, length_size=length_size, syntax=_SLICE_SYNTAX[codec])


def _nal_content(packet: av.Packet, length_size: int, syntax: _SliceSyntax) -> Content:
    """The content of NAL units that each follow their length."""
    data = memoryview(packet)
    content = Content.NOTHING
    start = length_size
    while start + syntax.header_size < len(data):
        if data[start] >> syntax.type_shift & syntax.type_mask in syntax.slice_types:
            if data[start + syntax.header_size] & 0x80:
                return Content.PICTURE
            content = Content.PART
        length = int.from_bytes(data[start - length_size : start], "big")
        if length == 0 or start + length > len(data):
            return Content.PICTURE
        start += length + length_size
    return content


def _vp9_content(packet: av.Packet) -> Content:
    data = memoryview(packet)
    first = data[0]
    is_superframe = data[-1] & 0xE0 == 0xC0
    if is_superframe or first >> 6 != 2:
        return Content.PICTURE
    # After the marker and two bits of the profile (and a reserved bit if both are set) come
    # show_existing_frame, frame_type and show_frame.
    is_profile_3 = first & 0x30 == 0x30
    shows_existing_or_new = 0b0101 if is_profile_3 else 0b1010
    return Content.PICTURE if first & shows_existing_or_new else Content.NOTHING


def shown_in_order(
    packets: Iterable[av.Packet], compared: Container[int], stream: VideoStream
) -> bool:
    """Whether pictures of H.264 or HEVC are shown in the order in which they are decoded.

    Args:
        packets: consecutive packets, the first one a key. Some tens of them after the last one
            of interest make it surer that a picture shown early is found.
        compared: numbers of the packets, from 0, to compare with the packet before them.
        stream: the stream that they are of.

    Returns:
        False if a compared picture is shown before the one that is decoded before it. Pictures
        after damage do not count.
    """
    before = -1
    with suppress(av.FFmpegError):
        for number, place in _places(packets, stream):
            if place is None:
                continue
            if number in compared and place < before:
                return False
            before = place
    return True


def _places(packets: Iterable[av.Packet], stream: VideoStream) -> Iterator[tuple[int, int | None]]:
    """Number of each packet, and the place of its picture by its picture order count, if known."""
    orders = BitStreamFilterContext("dts2pts", stream)
    for number, packet in enumerate(packets):
        copy = av.Packet(bytes(packet))
        copy.dts = number
        copy.time_base = packet.time_base
        copy.is_keyframe = packet.is_keyframe
        for placed in orders.filter(copy):
            yield placed.dts, placed.pts
    for placed in orders.filter(None):
        yield placed.dts, placed.pts
