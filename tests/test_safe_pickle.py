"""ops/scores/safe_pickle.py: pickles of numpy are read, others are refused; no code runs."""

import contextlib
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.scores import safe_pickle
from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_loads
from ops.utils.text import printable

DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">f4", ">i8")


def dtype_of(code):
    """A dtype as a pickle describes it."""
    return safe_loads(pickle.dumps(np.dtype(code), 2))


class Call:
    """Pickles as a call of ``function``, which plain ``pickle.load`` would make."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_and_scalars_of_every_number_type_and_protocol(dtype, protocol):
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    loaded, scalar = safe_loads(pickle.dumps([array, array[1, 2]], protocol))
    assert loaded.shape == (2, 3) and loaded.values().tolist() == array.ravel().tolist()
    assert loaded.values().dtype == array.dtype
    assert scalar.shape == () and scalar.values().tolist() == [5]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values(protocol):
    value = [None, True, -3, 2**70, 0.5, "a\u00e9\n", (1, (2, 3), ()), [[]]]
    assert safe_loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("old, new", [("numpy._core", "numpy.core"), ("numpy.core", "numpy._core")])
def test_module_names_of_numpy_1_and_2(old, new):
    # Protocol 2 and 3 have no frames and no length before a name, so it can be exchanged.
    for protocol in (2, 3):
        data = pickle.dumps([np.arange(3.0), np.int64(7)], protocol).replace(
            b"c" + old.encode(), b"c" + new.encode()
        )
        array, scalar = safe_loads(data)
        assert array.values().tolist() == [0, 1, 2] and scalar.values().tolist() == [7]


def test_python_2_strings_are_data():
    # (dtype, raw) as Python 2 writes them: 'str' opcodes.
    data = b"\x80\x02cnumpy.core.multiarray\nscalar\n"
    data += b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R"
    data += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data += b"U\x08\x05\x00\x00\x00\x00\x00\x00\x80\x86R."
    assert safe_loads(data).values().tolist() == [5 - 2**63]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "function, arguments, name",
    [
        (os.system, ("touch {}",), f"{os.system.__module__}.system"),
        (eval, ("open({!r}, 'w')",), "builtins.eval"),
        (os.mkdir, ("{}",), f"{os.mkdir.__module__}.mkdir"),
        (np.save, ("{}", 1), "numpy.save"),
        (getattr, (b"", "join"), "builtins.getattr"),
    ],
)
def test_code_is_not_run(tmp_path, function, arguments, name, protocol):
    target = tmp_path / "made.npy"
    arguments = [a.format(str(target)) if isinstance(a, str) else a for a in arguments]
    data = pickle.dumps([[np.zeros((1, 3), np.float32), Call(function, *arguments)]], protocol)
    with pytest.raises(RefusedPickle, match="was not loaded") as caught:
        safe_loads(data)
    assert name.rpartition(".")[2] in str(
        caught.value
    )  # protocols 0 to 2 write Python 2's module names
    assert not target.exists()
    if function is os.mkdir:  # the test could fail: plain pickle.loads does run it
        pickle.loads(data)
        assert target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"(S'exit 3'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'exit 3'\no.",  # OBJ
        b"cos\nsystem\n)\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x06exit 3\x85R.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",  # a dotted name
    ],
)
def test_every_way_to_name_a_function_is_refused(data):
    with pytest.raises(RefusedPickle, match=r"\((os.system|numpy.ndarray.dumps)\)"):
        safe_loads(data)


def test_torch_tensors_are_named():
    with pytest.raises(RefusedPickle, match="a tensor that is not one whole number"):
        safe_loads(pickle.dumps([torch.zeros(1, 3), 0]))


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a"]),
        np.zeros(2, "V4"),
        np.zeros(2, "datetime64[s]"),
        np.zeros(2, "c8"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(array):
    with pytest.raises(RefusedPickle, match=r"contains an array of type .*, not of numbers"):
        safe_loads(pickle.dumps(array))
    with pytest.raises(RefusedPickle):  # a structured type brings a dict of fields
        safe_loads(pickle.dumps(np.zeros(2, "f4,i4")))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_objects(protocol):
    rows = np.empty((2, 2), object)
    rows[:, 0], rows[:, 1] = (
        [np.arange(6.0).reshape(1, 2, 3), np.ones((1, 1, 1), ">f4")],
        [3, np.int64(4)],
    )
    data = pickle.dumps(rows, protocol)
    loaded = safe_loads(data)
    first, label, second, other = loaded.objects()
    assert loaded.shape == (2, 2) and label == 3 and other.values().tolist() == [4]
    assert first.array().tolist() == rows[0, 0].tolist() and second.array().tolist() == [[[1]]]
    with pytest.raises(RefusedPickle, match="without numbers"):
        loaded.values()
    with pytest.raises(RefusedPickle, match="objects"):
        first.objects()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_fortran_order(protocol):
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    assert np.array_equal(safe_loads(pickle.dumps(array, protocol)).array(), array)
    rows = np.empty((2, 3), object, order="F")
    rows[:] = np.arange(6).reshape(2, 3)
    assert safe_loads(pickle.dumps(rows, protocol)).objects() == [0, 1, 2, 3, 4, 5]


def test_invalid_arrays_of_objects_raise():
    for shape, values in (
        ((3,), [1]),
        ((10**12,), []),
        ((1,), b"12345678"),
        ((2,), None),
        ([1], [1]),
    ):
        array = PickledArray(shape, dtype_of("O8"), values)
        for method in (array.objects, array.values, array.array):
            with pytest.raises(RefusedPickle):
                method()
    for shape in ((0, 2**62, 2**62), (1,) * 64 + (0,)):
        with pytest.raises(RefusedPickle):
            PickledArray(shape, dtype_of("f4"), b"").array()
    with pytest.raises(RefusedPickle, match="contains code"):
        safe_loads(pickle.dumps(np.array([Call(os.system, "exit 3")], object)))


GLOBALS = [
    (f"{core}.{module}", name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
] + [
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("collections", "OrderedDict"),
]


@pytest.mark.parametrize("name", GLOBALS, ids=".".join)
def test_stand_ins_cannot_be_changed_by_a_file(name):
    program = b"\x80\x02c" + "\n".join(name).encode() + b"\n"
    safe_loads(program + b".")  # the name itself is admitted
    for state in (b"N}\x86", b"}", b"]", b"N", b"K\x01", b")"):
        with contextlib.suppress(RefusedPickle):
            safe_loads(program + state + b"b.")
    for make in (b")\x81", b")}\x92"):  # NEWOBJ, NEWOBJ_EX
        with pytest.raises(RefusedPickle):
            safe_loads(program + make + b".")
    for fill in (b"N}S'a'\nNs\x86b", b"}S'a'\nNsb"):
        with pytest.raises(RefusedPickle):
            safe_loads(program + fill + b".")
    array = safe_loads(pickle.dumps(np.arange(3.0), 2))
    assert array.values().tolist() == [0, 1, 2]


def test_codec_other_than_latin1_is_refused():
    with pytest.raises(RefusedPickle, match="encodes text as zip"):
        safe_loads(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.")


@pytest.mark.parametrize(
    "state",
    [
        ((3,), "raw too short", b"\0" * 8),
        ((3,), "raw too long", b"\0" * 16),
        ((-1, -3), "negative", b"\0" * 12),
        ((10**9, [1]), "a list in the shape", b"\0" * 12),
        ([3], "not a tuple", b"\0" * 12),
        ((2**70,), "too many", b"\0" * 12),
        ((10**5000,), "too many digits to print", b"\0" * 12),
        ((1,) * 65, "too many axes", b"\0" * 4),
        ((3,), "no bytes", None),
        ((3,), "not latin1", "\u20ac" * 12),
    ],
    ids=lambda state: state[1],
)
def test_invalid_arrays_raise(state):
    shape, _, raw = state
    array = PickledArray(shape, dtype_of("f4"), raw)
    with pytest.raises(RefusedPickle):
        array.values()


def test_array_without_its_state_is_refused():
    with pytest.raises(RefusedPickle, match="without shape"):
        safe_loads(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R.").values()


HUGE = 2**62
BOMBS = {
    "memo index": b"\x80\x02]r" + struct.pack("<I", 2**25) + b".",  # half a gigabyte of slots
    "largest memo index": b"\x80\x02]r\xff\xff\xff\xff.",
    "memo index in text": b"]p33554432\n.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**36) + b"ab.",
    "bytes of half the world": b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"ab.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**36) + b"ab.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**36) + b"ab.",
    "short bytes": b"\x80\x04B" + struct.pack("<I", 2**31) + b"ab.",
    "long": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"ab.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"K\x01.",
    "digits": b"I" + b"9" * 10**5 + b"\n.",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_invalid_lengths_take_no_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(RefusedPickle):
            safe_loads(data)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "wrap", [b"\x85", b"]" + b"a", b"h\x01h\x02"], ids=["tuple", "list", "scalar"]
)
def test_deep_nesting_neither_crashes_nor_recurses(wrap):
    deep = 300_000
    if wrap == b"\x85":
        data = b"\x80\x04)" + wrap * deep + b"."
    elif wrap == b"]a":
        data = b"\x80\x04" + b"]" * deep + b"a" * (deep - 1) + b"."
    else:  # scalar(previous, previous)
        data = (
            b"\x80\x02cnumpy.core.multiarray\nscalar\nq\x010N"
            + b"q\x02h\x01h\x02h\x02\x86R" * deep
            + b"."
        )
    printable(safe_loads(data))


def test_frames_end_between_opcodes():
    def framed(size, rest):
        return b"\x80\x05\x95" + struct.pack("<Q", size) + rest

    assert safe_loads(framed(3, b"K\x01.")) == 1
    assert safe_loads(framed(2, b"K\x01" + b"\x95" + struct.pack("<Q", 1) + b".")) == 1
    # CPython skips the cut opcode: it would read the integer here as 2**62 bytes to come.
    cut = framed(1, b"J\x96\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x40.")
    nested = framed(11, b"\x95" + struct.pack("<Q", 2) + b"K\x01.")
    sized = framed(9, b"\x96" + struct.pack("<Q", 1) + b"a.")
    for data in (cut, nested, sized, framed(1, b"K\x01."), framed(4, b"K\x01.")):
        with pytest.raises(RefusedPickle):
            safe_loads(data)


def test_deep_tuple_as_a_key_is_refused():
    # hash() of this tuple overflows the C stack and kills the process.
    for fill in (b"Ns.", b"K\x01u.", b"\x90."):
        with pytest.raises(RefusedPickle):
            safe_loads(b"\x80\x04}()" + b"\x85" * 10**6 + fill)


def test_truncated_at_every_byte_and_with_bytes_after_the_end():
    data = pickle.dumps([[np.zeros((1, 3), np.float32), 1]] * 2, 4)
    for end in range(len(data)):
        with pytest.raises(RefusedPickle):
            safe_loads(data[:end])
    with pytest.raises(RefusedPickle, match="has 3 bytes after its end"):
        safe_loads(data + b"abc")
    with pytest.raises(RefusedPickle, match="is empty"):
        safe_loads(b"")


def test_refused_opcodes():
    # A new opcode of a new Python has to be looked at before it is admitted.
    arguments = {
        None: b"",
        "uint1": b"\0",
        "uint2": b"\0" * 2,
        "int4": b"\0" * 4,
        "uint4": b"\0" * 4,
        "uint8": b"\x01" + b"\0" * 7,
        "float8": b"\0" * 8,
        "stringnl_noescape_pair": b"a\nb\n",
        "stringnl": b"'a'\n",
        "unicodestringnl": b"a\n",
        "decimalnl_short": b"1\n",
        "decimalnl_long": b"1L\n",
        "floatnl": b"1.0\n",
        "stringnl_noescape": b"1\n",
    }
    for name in ("bytes1", "string1", "unicodestring1", "long1"):
        arguments[name] = b"\x01a"
    for name in ("bytes4", "string4", "unicodestring4", "long4"):
        arguments[name] = b"\x01\0\0\0a"
    for name in ("bytes8", "unicodestring8", "bytearray8"):
        arguments[name] = b"\x01" + b"\0" * 7 + b"a"
    refused = set()
    for op in pickletools.opcodes:
        argument = arguments[op.arg.name if op.arg else None]
        if op.name == "STOP":
            continue
        try:
            safe_loads(op.code.encode("latin1") + argument + b".")
        except RefusedPickle as error:
            if "(byte 0)" in str(error):
                refused.add(op.name)
    assert refused == {
        "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER",
        "SETITEM", "SETITEMS", "DICT", "ADDITEMS", "FROZENSET",
    }  # fmt: skip


class File(io.BytesIO):
    """Fails if the unpickler reads past the end, which the check of the opcodes prevents."""

    def read(self, size=-1):
        data = super().read(size)
        assert len(data) == size
        return data

    def readinto(self, buffer):
        size = super().readinto(buffer)
        assert size == len(buffer)
        return size

    def readline(self):
        line = super().readline()
        assert line.endswith(b"\n")
        return line


def only_refusals(data: bytes) -> None:
    kinds = iter((io.BytesIO, File))  # for the check of the opcodes, and for the unpickler
    with mock.patch.object(safe_pickle.io, "BytesIO", lambda data: next(kinds)(data)):
        try:
            value = safe_loads(data)
        except RefusedPickle as refused:
            assert "\n" not in str(refused) and str(refused).isprintable()
            assert "AssertionError" not in str(refused) and "MemoryError" not in str(refused)
            return
    printable(value)
    if isinstance(value, PickledArray):
        for method in (value.objects, value.array):
            with contextlib.suppress(RefusedPickle):
                method()


VALID = [
    pickle.dumps(
        [
            [np.arange(4, dtype=np.float32)[None], label]
            for label in (0, np.int64(1), np.array([2]))
        ],
        protocol,
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]
VALID += [
    pickle.dumps(np.array([np.zeros((1, 1, 2), np.float32), 1], object), protocol)
    for protocol in (2, 3, 4)
]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data):
    only_refusals(data)
    only_refusals(b"\x80\x04" + data + b".")


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(VALID), st.data())
def test_mutated_pickles(valid, data):
    mutated = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(("set", "insert", "delete", "copy")))
        if kind == "set":
            mutated[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif kind == "delete":
            del mutated[at : at + data.draw(st.integers(1, 8))]
            mutated = mutated or bytearray(b".")
        else:
            mutated[at:at] = mutated[at : at + data.draw(st.integers(1, 40))]
    only_refusals(bytes(mutated))


OPCODES = st.sampled_from(
    [bytes([code]) for code in b"(012NRabelot)}]\x81\x85\x86\x87\x88\x89\x8f\x92\x93\x94"]
    + [
        b"K\x01",
        b"h\x00",
        b"q\x00",
        b"U\x02f4",
        b"U\x02O8",
        b"C\x04abcd",
        b"\x8c\x06latin1",
        b"I3\n",
        b"cnumpy\ndtype\n",
        b"J\xff\xff\xff\xff",
    ]
    + [b"c" + "\n".join(name).encode() + b"\n" for name in GLOBALS]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(OPCODES, max_size=40))
def test_programs_of_admitted_opcodes(program):
    # Programs that pass the opcode check: the stand-ins get what no pickler would send them.
    only_refusals(b"".join(program) + b".")
