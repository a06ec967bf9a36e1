"""Looks through a weight file before torch reads it: what torch would believe without looking.

``torch.load(weights_only=True)`` runs nothing that a file names but for functions of its own, and believes what those are told:
a few bytes ask for a storage of terabytes, a ``bytearray`` of any length, a tensor far larger than its data. Here the
directory of the zip file is read (or the row of pickles that a file was before torch 1.6), and its pickles are walked with
stand-ins for everything: whatever a weight file does not need is refused, and every size is compared with the file.
"""

import math
import mmap
import pickle
import tarfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from functools import partial
from typing import ClassVar

import torch

from ops.checkpoints.zip_members import RefusedCheckpoint, members
from ops.utils.files import open_regular
from ops.utils.text import printable


def foreign_names(path):
    """Names of the classes and functions in a checkpoint file that are no part of weights; nothing of the file is run.

    Raises RefusedCheckpoint for a file that would take more memory than it holds or is damaged, and OSError.
    """
    with open_regular(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _zip_names(data) if data[:4] == b"PK\x03\x04" else _legacy_names(data)
        except RefusedCheckpoint:
            raise
        except Exception:  # a damaged or hostile pickle can raise nearly anything
            raise RefusedCheckpoint("its pickle cannot be read") from None


def _zip_names(data):
    places = members(data)
    folder = next(iter(places)).partition("/")[0]
    if f"{folder}/constants.pkl" in places:
        raise RefusedCheckpoint("a TorchScript archive, which is code; save its state_dict()")
    start, size = places[f"{folder}/data.pkl"]
    walk = _Walk(
        _Reader(data[start : start + size]),
        {name: size for name, (_, size) in places.items()},
        folder,
    )
    walk.load()
    return walk.foreign


def _legacy_names(data):
    """Of the format before torch 1.6: magic number, version, system, content and keys of storages, each a pickle; raw data."""
    try:
        tarfile.TarInfo.frombuf(data[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        pass
    else:  # torch would unpack it before it says so
        raise RefusedCheckpoint("a tar file, as torch wrote it before 2017")
    reader, walks = _Reader(data), []
    for _ in range(5):
        walks.append(_Walk(reader))
        value = walks[-1].load()
        if len(walks) == 1 and value != torch.serialization.MAGIC_NUMBER:
            raise RefusedCheckpoint("neither a zip file nor what torch wrote before 1.6")
    if walks[3].stored > len(data) - reader.at:
        raise RefusedCheckpoint(
            f"its tensors have {walks[3].stored} bytes, the file has {len(data)}"
        )
    return set().union(*(walk.foreign for walk in walks))


class _Reader:
    """Bytes as a file of which no more can be asked than there is."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, size):
        if not 0 <= size <= len(self.data) - self.at:
            raise RefusedCheckpoint("cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def readline(self):  # without an end its length is negative
        return self.read(self.data.find(b"\n", self.at) + 1 - self.at)


class _Storage:
    """Stands for a storage, of which the size is known."""

    def __init__(self, size, itemsize):
        self.size, self.itemsize = size, itemsize


class _Tensor:
    """Stands for a tensor."""


class _Foreign:
    """Stands for what a file names besides, and for what that makes."""


class _Tuple(tuple):
    """A tuple that is a key only if it is flat: the hash of a deeply nested one overflows the C stack."""

    __slots__ = ()

    def __hash__(self):
        if any(isinstance(item, tuple) for item in self):
            raise RefusedCheckpoint("a tuple of tuples is a key")
        return super().__hash__()


_STORAGES = {
    "Float": 4,
    "Double": 8,
    "Half": 2,
    "BFloat16": 2,
    "Byte": 1,
    "Char": 1,
    "Short": 2,
    "Int": 4,
    "Long": 8,
    "Bool": 1,
    "ComplexFloat": 8,
    "ComplexDouble": 16,
}
# Modules of torch whose classes and functions torch itself would call with what the file says.
_TORCH = (
    "torch._",
    "torch.storage",
    "torch.serialization",
    "torch.cuda",
    "torch.sparse",
    "torch.nn.parameter",
    "torch.distributed",
)
# The state of a pickled optimiser is a defaultdict, and torch fills the entries of a plain dict only.
STAND_INS = {"collections.defaultdict": lambda *_: {}}
_FOREIGN_NAMES = 200  # released files have five; torch looks through all of them at every call
_SMALL = 2**16  # bytes, to which a tensor may be larger than its data


class _Walk(pickle._Unpickler):
    """A pickle, walked as torch does it, without torch. ``records`` are the sizes of the members of a zip file, None where the
    data come at the end; afterwards ``foreign`` are the names met and ``stored`` the bytes of all storages."""

    def __init__(self, reader, records=None, folder=None):
        super().__init__(reader, encoding="utf-8")
        self.records, self.folder, self.room = records, folder, len(reader.data)
        self.foreign, self.storages, self.stored = set(), {}, 0
        # What may be called, checked, by the names of what torch calls.
        self.functions = {
            "collections.OrderedDict": partial(self._copy, OrderedDict),
            "collections.Counter": partial(self._copy, Counter),
            "builtins.set": partial(self._copy, set),
            "builtins.bytearray": self._bytes,
            "_codecs.encode": self._bytes,
            "builtins.complex": complex,
            "torch.Size": partial(self._copy, _Tuple),
            "torch.device": lambda *_: _Foreign(),
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": self._parameter,
        }

    def find_class(self, module, name):
        written = f"{module}.{name}"
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full, kind = f"{module}.{name}", name.removesuffix("Storage")
        if full in self.functions:
            return self.functions[full]
        if full == "torch.storage.UntypedStorage" or (
            module == "torch" and name != kind and kind in _STORAGES
        ):
            return _Storage(0, _STORAGES.get(kind, 1))
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch" or module.startswith(_TORCH):
            raise RefusedCheckpoint(f"holds {printable(full)}, which weights do not need")
        self.foreign |= {
            full,
            written,
        }  # torch knows the modules of Python 2 by their new names, but not all
        if len(self.foreign) > _FOREIGN_NAMES:
            raise RefusedCheckpoint(f"names more than {_FOREIGN_NAMES} classes")
        return STAND_INS.get(full, _Foreign)

    def persistent_load(self, pid):
        kind, storage, key, location, numel, *view = pid
        if (kind, type(storage), type(key), type(location), type(numel)) != (
            "storage",
            _Storage,
            str,
            str,
            int,
        ) or numel < 0:
            raise RefusedCheckpoint("names a storage that is none")
        size = numel * storage.itemsize
        self._once(key, (None, storage.itemsize, size))
        if self.records is not None and size > self.records[f"{self.folder}/data/{key}"]:
            raise RefusedCheckpoint(
                f"storage {printable(key)} has {size} bytes, more than the file has of it"
            )
        if view and view[0] is not None:
            key_of_view, offset, count = view[0]
            if type(key_of_view) is not str or not 0 <= offset <= offset + count <= numel:
                raise RefusedCheckpoint(f"storage {printable(key)} has a part that is not in it")
            self._once(key_of_view, (key, offset, count))
            size = count * storage.itemsize
        return _Storage(size, storage.itemsize)

    def _once(self, key, facts):
        """torch reads a storage anew, or takes another, where a file says two things of it."""
        if key not in self.storages and facts[0] is None:
            self.stored += facts[2]
        if self.storages.setdefault(key, facts) != facts:
            raise RefusedCheckpoint(f"says two things of storage {printable(key)}")

    def _tensor(self, storage, offset, size, stride, requires_grad=False, hooks=(), metadata=None):
        if (
            len(size) > 64
            or len(size) != len(stride)
            or hooks
            or metadata
            or any(type(number) is not int or number < 0 for number in (offset, *size, *stride))
        ):
            raise RefusedCheckpoint("holds a tensor of a kind that weights do not need")
        extent = (
            1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            if all(size)
            else 0
        )
        if (offset + extent) * storage.itemsize > storage.size:
            raise RefusedCheckpoint(
                f"holds a tensor {printable(tuple(size))} that is not in its {storage.size} bytes"
            )
        if math.prod(max(1, n) for n in size) * storage.itemsize > max(storage.size, _SMALL):
            raise RefusedCheckpoint(
                f"holds a tensor {printable(tuple(size))} spread out from {storage.size} bytes"
            )
        return _Tensor()

    def _typed_tensor(
        self, storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None
    ):
        return self._tensor(
            _Storage(storage.size, dtype.itemsize),
            offset,
            size,
            stride,
            requires_grad,
            hooks,
            metadata,
        )

    def _parameter(self, tensor, requires_grad, hooks):
        if not isinstance(tensor, _Tensor) or hooks:
            raise RefusedCheckpoint("holds a parameter that is none")
        return tensor

    def _copy(self, kind, content=()):
        """A container made of another: no more in all than the file has values, else it could ask for one a million times."""
        self.room -= len(content)
        if self.room < 0:
            raise RefusedCheckpoint("fills more containers than it has values for")
        return kind(content)

    def _bytes(self, text="", encoding="latin1"):
        if not isinstance(text, str | bytes | bytearray):
            raise RefusedCheckpoint("asks for bytes by their number")
        self.room -= len(text)
        if self.room < 0 or (isinstance(text, str) and encoding not in ("latin1", "latin-1")):
            raise RefusedCheckpoint(f"encodes text as {printable(encoding)}")
        return text.encode("latin1") if isinstance(text, str) else bytes(text)

    def _tuple(self, count):
        items = self.pop_mark() if count is None else [self.stack.pop() for _ in range(count)][::-1]
        self.append(_Tuple(items))

    def _reduce(self):
        arguments, function = self.stack.pop(), self.stack.pop()
        if not callable(function):
            raise RefusedCheckpoint("calls what is no function")
        self.append(_Foreign() if function is _Foreign else function(*arguments))

    def _new(self):
        if self.stack.pop() is None or self.stack.pop() is not _Foreign:
            raise RefusedCheckpoint("makes an object of a kind that weights do not need")
        self.append(_Foreign())

    def _build(self):
        state, made = self.stack.pop(), self.stack[-1]
        if (
            type(made) is OrderedDict
            and type(state) is dict
            and not any(hasattr(made, name) for name in state)
        ):
            return  # "_metadata" of a state dict
        if not isinstance(made, _Foreign):
            raise RefusedCheckpoint("changes an object of a kind that weights do not need")

    def _proto(self):
        if self.read(1)[0] not in (
            2,
            3,
        ):  # others have opcodes that torch does not know, and it warns of each
            raise RefusedCheckpoint("a pickle of another protocol than torch writes")

    # What torch.save writes, and torch's own unpickler knows.
    dispatch: ClassVar = {
        key: pickle._Unpickler.dispatch[key] for key in b"caesuN(]}\x88\x89)\x8fJKMGXUQhjqr\x8a."
    } | {
        pickle.PROTO[0]: _proto,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new,
        pickle.BUILD[0]: _build,
        pickle.TUPLE[0]: partial(_tuple, count=None),
        pickle.TUPLE1[0]: partial(_tuple, count=1),
        pickle.TUPLE2[0]: partial(_tuple, count=2),
        pickle.TUPLE3[0]: partial(_tuple, count=3),
    }
