"""The members of a zip file as torch writes it, so strictly that no other reader can find others in it.

``zipfile`` and the reader of torch disagree about files that are made for it. Here the end of the file is the end of the zip
file, its directory lies directly before that, and all members are stored as they are and together no larger than the file.
"""

import struct

from ops.utils.text import printable


class RefusedCheckpoint(Exception):
    """Why a weight file is not read: one line, without the name of the file."""


# An entry of the directory, its end, and the two parts of the end in 64 bits (APPNOTE.TXT 4.3.12 to 4.3.16).
_ENTRY, _END = struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_LOCATOR, _END64 = struct.Struct("<4sIQI"), struct.Struct("<4sQ2H2I4Q")


def members(data):
    """Name -> (start, bytes) of each member of a zip file, from its bytes. Raises RefusedCheckpoint, and ``struct.error`` or
    ``UnicodeDecodeError`` for a damaged one."""
    place = len(data) - _END.size
    signature, *_, count, size, start, comment = _END.unpack_from(data, place)
    if signature != b"PK\x05\x06" or comment:
        raise RefusedCheckpoint("no end of a zip file, as if cut short")
    large = data[place - _LOCATOR.size : place - _LOCATOR.size + 4] == b"PK\x06\x07"
    if large:
        place -= _LOCATOR.size + _END64.size
        signature, *_, count, size, start = _END64.unpack_from(data, place)
        if (
            signature != b"PK\x06\x06"
            or _LOCATOR.unpack_from(data, place + _END64.size)[2] != place
        ):
            raise RefusedCheckpoint("a zip file with an end somewhere else")
    if start + size != place:
        raise RefusedCheckpoint("a zip file with a directory somewhere else")
    places, at = {}, start
    while at < place:
        signature, _, _, _, method, *_, packed, size, name, extra, comment, _, _, _, header = (
            _ENTRY.unpack_from(data, at)
        )
        text = data[at + _ENTRY.size : at + _ENTRY.size + name].decode()
        extras = data[at + _ENTRY.size + name : at + _ENTRY.size + name + extra]
        sizes = _large([size, packed, header], extras) if large else [size, packed, header]
        at += _ENTRY.size + name + extra + comment
        local, before = sizes[2], struct.unpack_from("<4s22xHH", data, sizes[2])
        begin = local + 30 + before[1] + before[2]
        if (
            signature != b"PK\x01\x02"
            or before[0] != b"PK\x03\x04"
            or method
            or sizes[0] != sizes[1]
            or begin + sizes[0] > len(data)
            or text.lower() in places
        ):
            raise RefusedCheckpoint(
                f"{printable(text)} in it is compressed, cut short or there twice"
            )
        places[text.lower()] = text, begin, sizes[0]
    if (
        at != place
        or len(places) != count
        or sum(size for _, _, size in places.values()) > len(data)
    ):
        raise RefusedCheckpoint("a zip file with members that are not there")
    return {text: (begin, size) for text, begin, size in places.values()}


def _large(sizes, extras):
    """The sizes of an entry, those that do not fit into 32 bits taken from its extra field 1."""
    while len(extras) >= 4:
        kind, length = struct.unpack_from("<2H", extras)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{length // 8}Q", extras, 4))
            return [next(values) if size == 2**32 - 1 else size for size in sizes]
        extras = extras[4 + length :]
    return sizes
