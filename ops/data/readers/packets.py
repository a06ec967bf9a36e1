"""What the packets of a video stream hold, seen without decoding them."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream


class _SliceSyntax(NamedTuple):
    """Where a NAL unit says that it holds a slice, and that the slice is the first of a picture."""

    slice_headers: frozenset[int]  # values of the first byte
    header_size: int  # after it comes the slice header, whose first bit is set in the first slice


_SLICE_SYNTAX = {
    "h264": _SliceSyntax(frozenset(byte for byte in range(256) if byte & 31 in (1, 2, 5)), 1),
    "hevc": _SliceSyntax(frozenset(byte for byte in range(256) if byte >> 1 & 63 < 32), 2),
}
# The byte of the avcC or hvcC record that ends in the size of a NAL unit's length, minus 1.
_LENGTH_SIZE_BYTE = {"h264": 4, "hevc": 21}


def picture_test(codec: str, extradata: bytes | None) -> Callable[[av.Packet], bool]:
    """The function that inspects the packets of a stream.

    Args:
        codec: name of the decoder, such as "h264".
        extradata: the decoder's configuration record.

    Returns:
        A function that says of a packet whether it begins a picture that is shown. False for one
        of parameters, messages, a hidden picture or the rest of a picture. A packet that is
        damaged, or of a kind that the function does not know, counts as a picture.
    """
    if codec == "vp9":
        return _is_vp9_picture
    record = extradata or b""
    length_size_byte = _LENGTH_SIZE_BYTE.get(codec)
    if length_size_byte is None or len(record) <= length_size_byte or record[0] != 1:
        return lambda packet: True
    length_size = (record[length_size_byte] & 3) + 1
    return _nal_picture_test(length_size, _SLICE_SYNTAX[codec])


def _nal_picture_test(length_size: int, syntax: _SliceSyntax) -> Callable[[av.Packet], bool]:
    """The function that inspects packets of NAL units that each follow their length."""
    slice_headers, header_size = syntax

    def is_picture(packet: av.Packet) -> bool:
        data = memoryview(packet)
        start = length_size
        last_header = len(data) - header_size - 1
        while start < len(data):
            is_slice = data[start] in slice_headers and start <= last_header
            if is_slice and data[start + header_size] > 127:
                return True
            length = int.from_bytes(data[start - length_size : start], "big")
            if length == 0 or start + length > len(data):
                return True
            start += length + length_size
        is_whole = start == len(data) + length_size
        return not is_whole

    return is_picture


def _is_vp9_picture(packet: av.Packet) -> bool:
    data = memoryview(packet)
    first = data[0]
    is_superframe = data[-1] & 0xE0 == 0xC0
    if is_superframe or first >> 6 != 2:
        return True
    # After the marker and two bits of the profile (and a reserved bit if both are set) come
    # show_existing_frame, frame_type and show_frame.
    is_profile_3 = first & 0x30 == 0x30
    shows_existing_or_new = 0b0101 if is_profile_3 else 0b1010
    return bool(first & shows_existing_or_new)


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
        copy.is_keyframe = packet.is_keyframe
        for placed in orders.filter(copy):
            yield placed.dts, placed.pts
    for placed in orders.filter(None):
        yield placed.dts, placed.pts
