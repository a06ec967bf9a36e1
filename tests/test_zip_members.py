"""ops/checkpoints/zip_members.py: the members that every reader finds, or none."""

import io
import struct
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.checkpoints.zip_members import RefusedCheckpoint, members


def stored(content, method=zipfile.ZIP_STORED, comment=b""):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = comment
        for name, data in content.items():
            archive.writestr(name, data)
    return file.getvalue()


def found(data):
    return {name: data[start : start + size] for name, (start, size) in members(data).items()}


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9é/]{1,9}", fullmatch=True), st.binary(max_size=40), min_size=1
    )
)
def test_members_are_those_of_zipfile(content):
    assert found(stored(content)) == content


def test_members_of_a_checkpoint():
    file = io.BytesIO()
    torch.save({"a": torch.arange(3)}, file)
    with zipfile.ZipFile(file) as archive:
        assert found(file.getvalue()) == {name: archive.read(name) for name in archive.namelist()}


def large(size=3, packed=3, header=0, extra=None):
    """A zip file of one member, with 64 bit sizes in its directory, as one beyond 4 GiB has them."""
    extra = struct.pack("<2H3Q", 1, 24, size, packed, header) if extra is None else extra
    body = struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 3, 3, 1, 0) + b"aabc"
    entry = struct.pack(
        "<4s6H3I5H2I",
        b"PK\1\2",
        45,
        45,
        0,
        0,
        0,
        0,
        0,
        *[2**32 - 1] * 2,
        1,
        len(extra),
        0,
        0,
        0,
        0,
        2**32 - 1,
    )
    entry += b"a" + extra
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), len(body))
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(body) + len(entry), 1)
    return (
        body
        + entry
        + end
        + locator
        + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), 2**32 - 1, 0)
    )


def test_sizes_of_64_bits():
    data = large()
    assert found(data) == {"a": b"abc"}
    assert found(
        large(extra=struct.pack("<2H2s", 7, 2, b"xx") + struct.pack("<2H3Q", 1, 24, 3, 3, 0))
    ) == {"a": b"abc"}
    for wrong in (large(2**40, 2**40), large(header=2**40), large(extra=b""), large(4, 3)):
        with pytest.raises((RefusedCheckpoint, struct.error)):
            members(wrong)


WHOLE = stored({"x/a": b"abc", "x/b": b"def"})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (stored({"x/a": b"abc"}, zipfile.ZIP_DEFLATED), "x/a in it is compressed"),
        (stored({"a": b""}, comment=b"hi"), "no end"),
        (WHOLE + b"\0", "no end"),
        (b"MZ" + WHOLE, "a directory somewhere else"),
        (stored({"x/a": b"1", "X/A": b"2"}), "there twice"),
        (WHOLE[:-10] + struct.pack("<2IH", 1, 1, 0), "a directory somewhere else"),
        (WHOLE[:-10] + struct.pack("<2IH", 0, len(WHOLE) - 22, 0), "members that are not there"),
        (large()[:-34] + b"\1" + large()[-33:], "an end somewhere else"),
        (WHOLE.replace(b"PK\3\4", b"PK\3\5"), "cut short"),
        (WHOLE.replace(b"x/b", b"x/a"), "there twice"),
    ],
)
def test_what_readers_would_disagree_about(data, reason):
    with pytest.raises((RefusedCheckpoint, struct.error), match=reason):
        members(data)
