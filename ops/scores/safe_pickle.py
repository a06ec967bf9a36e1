"""Read pickles of numpy arrays and plain values from strangers without running anything.

A pickle is a program: ``pickle.load`` calls whatever it names, and numpy's own ``__setstate__``
methods trust their arguments. Three measures make it data:

* ``_check_opcodes`` walks the opcodes before anything is built, so that no length in the file is
  believed, and refuses those that numpy does not need.
* ``_Unpickler`` admits only the names that numpy writes (and torch, for a tensor of one integer).
* These names lead to stand-ins: an array becomes a :class:`PickledArray`, which checks shape, type
  and size of its data when its values are asked for.
"""

import io
import math
import mmap
import os
import pickle
import pickletools
import re
from typing import BinaryIO

import numpy as np

from ops.utils.text import printable

_REFUSED_OPCODES = {
    # These bypass find_class.
    *("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"),
    # These fill dicts and sets: the hash of a deeply nested tuple overflows the C stack.
    *("DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"),
}
_LATEST_PROTOCOL = 5  # opcodes of a later one would have to be reviewed first
_MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT"}
_LARGEST_MEMO_INDEX = 2**24  # the unpickler allocates as many slots
_FRAME_HEAD = 9  # bytes: the opcode FRAME and the length of the frame
_LARGEST_RANK = 64  # axes of an array of numpy 2
_INT64_BYTES = 8
_REFUSED_TENSOR = "contains a tensor that is not one whole number, and was not loaded"


class RefusedPickle(Exception):
    """Why a pickle is not read: one line, without the name of the file."""


class PickledArray:
    """A numpy array, or scalar (shape ``()``), as a pickle describes it.

    Nothing is checked before one of its methods is called.
    """

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self, shape=None, dtype=None, raw=None, fortran=False):
        self.shape = shape
        self.dtype = dtype
        self.raw = raw
        self.fortran = fortran

    def __setstate__(self, state):
        # (version, shape, dtype, Fortran order, data); old numpy leaves out the version.
        self.shape, self.dtype, self.fortran, self.raw = state[-4:]

    def objects(self) -> list:
        """The values of an array of objects, in C order.

        Raises:
            RefusedPickle: it is an array of numbers, or the values do not fill its shape.
        """
        count = self._count()
        if not self.dtype.numpy.hasobject or not isinstance(self.raw, list):
            raise RefusedPickle("contains an array without objects")
        if len(self.raw) != count:
            raise RefusedPickle(
                f"contains no objects that fill an array of shape {printable(self.shape)}"
            )
        return self.raw

    def values(self) -> np.ndarray:
        """The numbers, 1-D, in the order of the file.

        Raises:
            RefusedPickle: it is an array of objects, or the data do not fill its shape.
        """
        count = self._count()
        raw = self.raw
        if isinstance(raw, str):  # protocols 0 to 2 store bytes as Latin-1 text
            try:
                raw = raw.encode("latin1")
            except UnicodeEncodeError:
                raise RefusedPickle("contains an array whose data are not bytes") from None
        if self.dtype.numpy.hasobject or not isinstance(raw, bytes | bytearray):
            raise RefusedPickle("contains an array without numbers")
        if len(raw) != count * self.dtype.numpy.itemsize:
            raise RefusedPickle(
                f"contains an array of shape {printable(self.shape)} with {len(raw)} bytes of data"
            )
        return np.frombuffer(raw, self.dtype.numpy)

    def array(self) -> np.ndarray:
        """The numbers in their shape; raises ``RefusedPickle`` as ``values``."""
        try:
            return self.values().reshape(self.shape, order="F" if self.fortran else "C")
        except ValueError:  # more axes than numpy has, or an empty array of absurd sizes
            raise RefusedPickle(f"contains an array of shape {printable(self.shape)}") from None

    def _count(self) -> int:
        """The number of values in an array of this shape."""
        if not isinstance(self.dtype, _DType) or not _is_shape(self.shape):
            raise RefusedPickle("contains an array without shape, type or data")
        return math.prod(self.shape)


def _is_shape(shape: object) -> bool:
    if not isinstance(shape, tuple) or len(shape) > _LARGEST_RANK:
        return False
    return all(type(length) is int and 0 <= length < 2**63 for length in shape)


def to_integer(value: object) -> object:
    """A label as a Python integer, if it is one or a numpy integer, 0-d or of one element.

    Other arrays become a text for an error message; other values stay as they are.
    """
    if not isinstance(value, PickledArray):
        return value
    values = value.values()
    if values.size == 1 and values.dtype.kind in "iu":
        return int(values[0])
    return f"array of {values.dtype}"


class _DType:
    """Stands for a numpy dtype of numbers or objects; other types are refused."""

    __slots__ = ("numpy",)

    def __setstate__(self, state):
        self.numpy = self.numpy.newbyteorder(state[1])  # (version, byte order, ...)


# The stand-ins are functions: NEWOBJ makes no instance of a function, and BUILD sets no attributes
# of one, because a dict for it cannot be filled.


def _dtype(code, *_):
    if not isinstance(code, str) or not re.fullmatch("[fiu][248]|[iu]1|O[48]?", code):
        raise RefusedPickle(
            f"contains an array of type {printable(code)}, not of numbers, and was not loaded"
        )
    made = _DType()
    made.numpy = np.dtype(object if code.startswith("O") else code)
    return made


def _ndarray(*_):
    return PickledArray()


def _scalar(dtype, raw):
    return PickledArray((), dtype, raw)


def _frombuffer(raw, dtype, shape, order):
    return PickledArray(shape, dtype, raw, order == "F")


def _encode(text, encoding):
    if encoding != "latin1":
        raise RefusedPickle(f"encodes text as {printable(encoding)} and was not loaded")
    return text  # PickledArray.values encodes it once; a file could ask for that a million times


def _torch_storage(data):
    """The bytes of the one integer in a tensor of torch's format before zip files.

    The values are at the end, after their count; nothing else of the bytes is read. tsn-pytorch
    saves the label of each video as such a tensor.
    """
    if isinstance(data, str):  # protocols 0 to 2 store bytes as Latin-1 text
        data = data.encode("latin1")
    count = int.from_bytes(data[-2 * _INT64_BYTES : -_INT64_BYTES], "little")
    if b"LongStorage" not in data or count != 1:
        raise RefusedPickle(_REFUSED_TENSOR)
    return data[-_INT64_BYTES:]


def _torch_tensor(storage, offset, size, *_):
    if not isinstance(storage, bytes) or offset != 0 or size not in ((), (1,)):
        raise RefusedPickle(_REFUSED_TENSOR)
    return PickledArray((), _dtype("i8"), storage)


def _no_hooks():
    """Stands for the OrderedDict of a tensor's hooks, which is always empty."""


_GLOBALS = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("torch.storage", "_load_from_bytes"): _torch_storage,
    ("torch._utils", "_rebuild_tensor_v2"): _torch_tensor,
    ("collections", "OrderedDict"): _no_hooks,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1, numpy 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _ndarray
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _scalar
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in _GLOBALS:
            return _GLOBALS[module, name]
        kind = "torch objects" if module.split(".")[0] == "torch" else "code"
        raise RefusedPickle(
            f"contains {kind} ({printable(f'{module}.{name}')}) and was not loaded; "
            "only numpy arrays are"
        )


def _check_opcodes(stream: io.BytesIO | mmap.mmap) -> None:
    """Walk the opcodes without running them. The stream must end with the first STOP."""
    previous = frame_end = 0
    for opcode, argument, at in pickletools.genops(stream):
        # CPython skips what is left of a frame if an opcode crosses its end. It would then read
        # other opcodes than those checked here.
        refused = previous < frame_end < at
        if opcode.name in _REFUSED_OPCODES or opcode.proto > _LATEST_PROTOCOL:
            refused = True
        elif opcode.name in _MEMO_OPCODES:
            refused |= argument >= _LARGEST_MEMO_INDEX
        elif opcode.name == "FRAME":
            refused |= at < frame_end
            frame_end = at + _FRAME_HEAD + argument
        if refused:
            raise RefusedPickle(f"is not a pickle of arrays, or is damaged (byte {at})")
        previous = at
    end = stream.tell()
    if end < frame_end:
        raise RefusedPickle("is truncated")
    stream.seek(0, os.SEEK_END)
    if end < stream.tell():
        raise RefusedPickle(f"has {stream.tell() - end} bytes after its end")


def safe_loads(data: bytes) -> object:
    """The value of a pickle of any protocol, written by Python 2 or 3 with numpy 1 or 2.

    Args:
        data: the pickle. It may contain None, booleans, numbers, texts, bytes, lists, tuples, and
            numpy arrays and scalars of numbers or of such values.

    Returns:
        The value; arrays and numpy scalars are ``PickledArray``.

    Raises:
        RefusedPickle: it contains anything else.
    """
    if not data:
        raise RefusedPickle("is empty")
    return _load(io.BytesIO(data), io.BytesIO(data))


def safe_load(file: BinaryIO) -> object:
    """As ``safe_loads``, of a file that is open at its start.

    The opcodes are checked through a memory map, so that the file is in memory once.

    Raises:
        RefusedPickle: as ``safe_loads``.
        OSError: the file cannot be read.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise RefusedPickle("is empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return _load(stream, file)


def _load(stream: io.BytesIO | mmap.mmap, file: BinaryIO) -> object:
    try:
        _check_opcodes(stream)
        return _Unpickler(file, encoding="latin1").load()
    except RefusedPickle:
        raise
    except Exception as error:  # a hostile or damaged pickle can raise nearly anything
        raise RefusedPickle(
            f"is not a pickle of arrays, or is damaged or truncated ({type(error).__name__})"
        ) from None
