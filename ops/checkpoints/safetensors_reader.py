"""Read ``.safetensors`` files: eight bytes of length, a JSON header, and the tensors' bytes one after the other.

The format is that of https://github.com/huggingface/safetensors. The header comes from a stranger: every size in it is
compared with the file before anything is allocated.
"""

import json
import math
from pathlib import Path

import torch

from ops.utils.text import printable

LENGTH_BYTES = 8
LARGEST_HEADER = 100 * 2**20  # the limit of the format's own library
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class InvalidSafetensors(ValueError):
    """A file that contradicts the format; the message is one line."""


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these bytes (nine or more) is of this format: its header is a JSON object."""
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        return False
    return 2 <= int.from_bytes(start[:LENGTH_BYTES], "little") <= LARGEST_HEADER


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name.

    Args:
        path: a regular file.

    Returns:
        Name -> tensor, in memory of their own.

    Raises:
        InvalidSafetensors: the header is not valid, or does not describe exactly the bytes that follow.
        OSError: the file cannot be read.
    """
    data = bytearray(Path(path).read_bytes())
    header_length = int.from_bytes(data[:LENGTH_BYTES], "little")
    start = LENGTH_BYTES + header_length
    if header_length > LARGEST_HEADER or start > len(data):
        raise InvalidSafetensors("cut short")
    header = _parse_header(bytes(data[LENGTH_BYTES:start]))
    places = {}
    for name, entry in header.items():
        if name != "__metadata__":
            places[name] = _place(name, entry)
    _check_coverage(places, len(data) - start)
    tensors = {}
    for name, (dtype, shape, first, last) in places.items():
        if first == last:
            tensors[name] = torch.empty(shape, dtype=dtype)
            continue
        # A copy: the offset of a tensor need not be a multiple of its element size.
        own = bytearray(data[start + first : start + last])
        tensors[name] = torch.frombuffer(own, dtype=dtype).reshape(shape)
    return tensors


def _parse_header(text):
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique_keys)
    except RecursionError:
        raise InvalidSafetensors("its header is nested too deeply") from None
    except ValueError as error:
        raise InvalidSafetensors(
            f"its header is not valid JSON ({printable(str(error))})"
        ) from None
    if not isinstance(header, dict):
        raise InvalidSafetensors("its header is not a JSON object")
    return header


def _unique_keys(pairs):
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice")
    return entries


def _place(name, entry):
    """(dtype, shape, first byte, end) of one header entry."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise InvalidSafetensors(f"tensor {printable(name)}: not dtype, shape and data_offsets")
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InvalidSafetensors(
            f"tensor {printable(name)}: dtype {printable(str(dtype))} is unknown here"
        )
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise InvalidSafetensors(f"tensor {printable(name)}: its shape or offsets are no sizes")
    first, last = offsets
    if last - first != math.prod(shape) * DTYPES[dtype].itemsize:
        raise InvalidSafetensors(f"tensor {printable(name)}: its shape does not fit its data")
    return DTYPES[dtype], shape, first, last


def _are_sizes(values):
    # A tensor of torch has at most 64 dimensions; bool is an int to Python, not to JSON.
    if not isinstance(values, list) or len(values) > 64:
        return False
    return all(type(value) is int and 0 <= value < 2**62 for value in values)


def _check_coverage(places, available):
    """The tensors cover the data without a hole or an overlap, so that they take no more memory than the file."""
    end = 0
    for _, _, first, last in sorted(places.values(), key=lambda place: place[2:]):
        if first != end:
            raise InvalidSafetensors("its tensors overlap or leave holes")
        end = last
    if end != available:
        raise InvalidSafetensors(f"its tensors have {end} bytes, the file has {available}")
