"""What the packets of a video stream contain, inspected without decoding them."""

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

import av
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream


class _SliceSyntax(NamedTuple):
    """How to find the first slice of a picture in the NAL units of a codec.

    Attributes:
        slice_headers: values of the first byte of a unit that contains a slice.
        header_size: bytes before the slice header, whose first bit is set in the first slice.
    """

    slice_headers: frozenset[int]
    header_size: int


_SLICE_SYNTAX = {
    # H.264: the type is in the lowest 5 bits; 1, 2 and 5 are slices.
    "h264": _SliceSyntax(frozenset(byte for byte in range(256) if byte & 31 in (1, 2, 5)), 1),
    # HEVC: the type is in bits 1 to 6; all types below 32 are slices.
    "hevc": _SliceSyntax(frozenset(byte for byte in range(256) if byte >> 1 & 63 < 32), 2),
}
# The byte of the avcC or hvcC record whose lowest two bits are the size of the length before each
# NAL unit, minus 1.
_LENGTH_SIZE_BYTE = {"h264": 4, "hevc": 21}


def picture_test(codec: str, extradata: bytes | None) -> Callable[[av.Packet], bool]:
    """Return the function that inspects the packets of a stream.

    Args:
        codec: name of the decoder, such as "h264".
        extradata: the decoder's configuration record.

    Returns:
        A function of a packet: True if it begins a picture that is displayed; False if it holds
        parameters, messages, a hidden picture or the rest of a picture. A packet that is damaged
        or of an unknown kind counts as a picture.
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
    """`picture_test` for packets of NAL units, each preceded by its length."""
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
    if is_profile_3:
        shows_existing_or_new = 0b0101
    else:
        shows_existing_or_new = 0b1010
    return bool(first & shows_existing_or_new)


def is_in_display_order(
    packets: Iterable[av.Packet], compared: Container[int], stream: VideoStream
) -> bool:
    """Whether pictures of H.264 or HEVC are displayed in the order in which they are decoded.

    Args:
        packets: consecutive packets, the first one a key. With some more of them after the last
            compared one, a picture that is displayed early is found more reliably.
        compared: numbers of the packets, from 0, to compare with the packet before them.
        stream: the stream of the packets.

    Returns:
        False if a compared picture is displayed before the one that is decoded before it. Pictures
        after damage do not count.
    """
    previous = -1
    with suppress(av.FFmpegError):
        for number, order in _display_orders(packets, stream):
            if order is None:
                continue
            if number in compared and order < previous:
                return False
            previous = order
    return True


def _display_orders(
    packets: Iterable[av.Packet], stream: VideoStream
) -> Iterator[tuple[int, int | None]]:
    """The number of each packet, and the place of its picture in display order if known.

    FFmpeg's filter computes it from the picture order count of the slice headers.
    """
    reorder = BitStreamFilterContext("dts2pts", stream)
    for number, packet in enumerate(packets):
        copy = av.Packet(bytes(packet))
        copy.dts = number
        copy.is_keyframe = packet.is_keyframe
        for placed in reorder.filter(copy):
            yield placed.dts, placed.pts
    for placed in reorder.filter(None):
        yield placed.dts, placed.pts
