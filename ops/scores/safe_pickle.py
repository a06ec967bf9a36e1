"""Reading pickles of numpy arrays and plain values from strangers.

A pickle is a program: ``pickle.load`` runs whatever it names, and numpy's own ``__setstate__`` methods trust what they
are given. Here the names that numpy writes lead to small stand-ins, every other name is refused, and lengths are
checked against the file before anything is allocated.
"""

import io
import math
import mmap
import os
import pickle
import re
from typing import BinaryIO

import numpy as np

from ops.utils.text import printable


class RefusedPickle(Exception):
    """Why a pickle is not read: one line, without the name of the file."""


class PickledArray:
    """A numpy array, or scalar (shape ``()``), as a pickle describes it: nothing is checked before its methods are used."""

    __slots__ = ("dtype", "fortran", "raw", "shape")

    def __init__(self, shape=None, dtype=None, raw=None, fortran=False):
        self.shape, self.dtype, self.raw, self.fortran = shape, dtype, raw, fortran

    def __setstate__(self, state):
        self.shape, self.dtype, self.fortran, self.raw = state[
            -4:
        ]  # (version, shape, dtype, Fortran order, data)

    def size(self) -> int:
        """The number of values that ``shape`` speaks of. Raises ``RefusedPickle`` without a shape or a type."""
        shape = self.shape
        sizes = (
            isinstance(shape, tuple)
            and len(shape) <= 64
            and all(type(n) is int and 0 <= n < 2**63 for n in shape)
        )
        if not sizes or not isinstance(self.dtype, _DType):
            raise RefusedPickle("holds an array without shape, type or data")
        return math.prod(shape)

    def objects(self) -> list:
        """The values of an array of objects, in C order. Raises ``RefusedPickle`` when they do not fill ``shape``."""
        size = self.size()
        if (
            not self.dtype.numpy.hasobject
            or not isinstance(self.raw, list)
            or len(self.raw) != size
        ):
            raise RefusedPickle(
                f"holds no objects that fill an array of shape {printable(self.shape)}"
            )
        return self.raw

    def array(self) -> np.ndarray:
        """The numbers in their ``shape``. Raises ``RefusedPickle`` when they do not fill it."""
        try:
            return self.values().reshape(self.shape, order="F" if self.fortran else "C")
        except ValueError:  # more axes than numpy has, or an empty array of absurd sizes
            raise RefusedPickle(f"holds an array of shape {printable(self.shape)}") from None

    def values(self) -> np.ndarray:
        """The numbers, 1-D, in the order of the file. Raises ``RefusedPickle`` when they do not fill ``shape``."""
        size, raw = self.size(), self.raw
        if self.dtype.numpy.hasobject or not isinstance(raw, bytes | bytearray | str):
            raise RefusedPickle("holds an array without numbers")
        if isinstance(raw, str):  # so protocols 0 to 2 write bytes
            try:
                raw = raw.encode("latin1")
            except UnicodeEncodeError:
                raise RefusedPickle("holds an array whose data are not bytes") from None
        if len(raw) != size * self.dtype.numpy.itemsize:
            raise RefusedPickle(
                f"holds an array of shape {printable(self.shape)} with {len(raw)} bytes of data"
            )
        return np.frombuffer(raw, self.dtype.numpy)


class _DType:
    """Stands for a numpy dtype; numbers only: no object, void or string arrays."""

    __slots__ = ("numpy",)

    def __init__(self, code, *_):
        if not isinstance(code, str) or not re.fullmatch("[fiu][248]|[iu]1", code):
            raise RefusedPickle(
                f"holds an array of type {printable(code)}, not of numbers, and was not loaded"
            )
        self.numpy = np.dtype(code)

    def __setstate__(self, state):
        self.numpy = self.numpy.newbyteorder(state[1])


class _AnyDType(_DType):
    """Stands for a numpy dtype of numbers or objects."""

    __slots__ = ()

    def __init__(self, code, *rest):
        if isinstance(code, str) and code in ("O", "O4", "O8"):
            self.numpy = np.dtype(object)
        else:
            super().__init__(code, *rest)


class _Global:
    """A function that a pickle may name: it can be called, and nothing else."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)

    def __setstate__(self, state):
        # Without this method BUILD would set attributes of an object that outlives the file.
        raise RefusedPickle("changes a function and was not loaded")


def _encode(text, encoding):
    if encoding != "latin1":
        raise RefusedPickle(f"encodes text as {printable(encoding)} and was not loaded")
    return text  # encoded in PickledArray.values, when it is used: a file could ask for it a million times


def _frombuffer(raw, dtype, shape, order):
    return PickledArray(shape, dtype, raw, order == "F")


_GLOBALS = {
    ("numpy", "ndarray"): _Global(lambda *_: PickledArray()),
    ("numpy", "dtype"): _Global(_DType),
    ("_codecs", "encode"): _Global(_encode),
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1, numpy 2
    _GLOBALS[f"{_core}.multiarray", "_reconstruct"] = _Global(lambda *_: PickledArray())
    _GLOBALS[f"{_core}.multiarray", "scalar"] = _Global(
        lambda dtype, raw: PickledArray((), dtype, raw)
    )
    _GLOBALS[f"{_core}.numeric", "_frombuffer"] = _Global(_frombuffer)


class _Unpickler(pickle.Unpickler):
    admitted = _GLOBALS

    def find_class(self, module, name):
        if (module, name) in self.admitted:
            return self.admitted[module, name]
        kind = "torch objects" if module.split(".")[0] == "torch" else "code"
        raise RefusedPickle(
            f"holds {kind} ({printable(f'{module}.{name}')}) and was not loaded; only numpy arrays are"
        )


_TORCH_NUMBER = 8  # bytes of an int64


def _torch_storage(data):
    """The bytes of the one whole number in a storage of torch's format before zip files.

    The numbers are at the end, after their count; nothing else of the bytes is read. tsn-pytorch
    saves the label of each video so.
    """
    data = (
        data.encode("latin1") if isinstance(data, str) else data
    )  # so protocols 0 to 2 write bytes
    count = int.from_bytes(data[-2 * _TORCH_NUMBER : -_TORCH_NUMBER], "little")
    if b"LongStorage" not in data or count != 1:
        raise RefusedPickle("holds a tensor that is not one whole number, and was not loaded")
    return data[-_TORCH_NUMBER:]


def _torch_tensor(storage, offset, size, *_):
    """A tensor of one whole number, the only kind that is admitted."""
    if not isinstance(storage, bytes) or offset != 0 or size not in ((), (1,)):
        raise RefusedPickle("holds a tensor that is not one whole number, and was not loaded")
    return PickledArray((), _DType("i8"), storage)


class _ObjectUnpickler(_Unpickler):
    admitted = _GLOBALS | {
        ("numpy", "dtype"): _Global(_AnyDType),
        ("torch._utils", "_rebuild_tensor_v2"): _Global(_torch_tensor),
        ("torch.storage", "_load_from_bytes"): _Global(_torch_storage),
        ("collections", "OrderedDict"): _Global(lambda: None),  # a tensor's hooks, always empty
    }


# The opcodes (pickletools) whose argument has a fixed size or ends at a newline. Left out are persistent ids and the
# extension registry, which go past find_class, and what fills dicts and sets: the hash of a deeply nested tuple
# overflows the C stack. A memo index (p, r) makes the unpickler allocate as many slots: at most 2**24 are believed.
_OPCODES = re.compile(
    rb"(?:[(012NRabelot)}\]\x81\x85-\x89\x8f\x92-\x94]|[Khq\x80].|M..|[Jj]....|r...\x00|G.{8}"
    rb"|[ci][^\n]*\n[^\n]*\n|[FILSV][^\n]*\n|[gp][0-9]{1,7}\n){1,256}",
    re.DOTALL,
)
# The opcodes followed by a length and as many bytes: the size of that length.
_LENGTH_BYTES = {
    **dict.fromkeys(b"CU\x8a\x8c", 1),
    **dict.fromkeys(b"BTX\x8b", 4),
    **dict.fromkeys(b"\x8d\x8e\x96", 8),
}


def _check_opcodes(data: bytes | mmap.mmap) -> None:
    """Walk the opcodes without running them: all known, every length inside the file, the first STOP its last byte.

    No opcode crosses the end of a frame: CPython's reader drops what is left of the frame there and so would read
    other opcodes than those checked here.
    """
    at = frame_end = 0
    while data[at : at + 1] not in (b".", b""):
        if data[at] == pickle.FRAME[0] and at >= frame_end:
            at += 9
            frame_end = at + int.from_bytes(data[at - 8 : at], "little")
            if frame_end > len(data):
                raise RefusedPickle("is truncated")
            continue
        start, end = at, frame_end if at < frame_end else len(data)
        if run := _OPCODES.match(data, at, end):
            at = run.end()
        elif size := _LENGTH_BYTES.get(data[at]):
            at += 1 + size + int.from_bytes(data[at + 1 : at + 1 + size], "little")
        if at == start or at > end < len(data):
            raise RefusedPickle(f"is not a pickle of arrays, or is damaged (byte {start})")
    if at >= len(data):
        raise RefusedPickle("is truncated" if data else "is empty")
    if at < len(data) - 1:
        raise RefusedPickle(f"has {len(data) - 1 - at} bytes after its end")


def safe_loads(data: bytes, objects: bool = False) -> object:
    """The value pickled in ``data`` by any protocol, Python 2 or 3, numpy 1 or 2; arrays become ``PickledArray``.

    Admits None, bool, int, float, str, bytes, list, tuple, numpy arrays and numpy scalars of numbers and, with
    ``objects``, numpy arrays of such values. Nothing that the pickle names is run, and no length in it is believed.
    Raises ``RefusedPickle`` for everything else.
    """
    _check_opcodes(data)
    return _load(io.BytesIO(data), _ObjectUnpickler if objects else _Unpickler)


def safe_load(file: BinaryIO) -> object:
    """As ``safe_loads``, of a file that is open at its start: its bytes are looked at through a map, not read at once.

    Raises ``RefusedPickle``, and ``OSError`` for what cannot be mapped.
    """
    if os.fstat(file.fileno()).st_size == 0:
        raise RefusedPickle("is empty")
    _check_opcodes(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _load(file, _Unpickler)


def _load(file: BinaryIO, unpickler: type[_Unpickler]) -> object:
    try:
        return unpickler(file, encoding="latin1").load()
    except RefusedPickle:
        raise
    except Exception as error:  # a hostile or damaged pickle can raise nearly anything
        raise RefusedPickle(
            f"is not a pickle of arrays, or is damaged ({type(error).__name__})"
        ) from None
