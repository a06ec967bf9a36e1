"""ops/checkpoints/safe_checkpoint.py: what weights need passes, and torch is never left alone with what it would believe."""

import argparse
import collections

import pytest
import torch

from ops.checkpoints.safe_checkpoint import _FOREIGN_NAMES, _Reader, _Walk, foreign_names
from ops.checkpoints.torch_file import read_checkpoint
from ops.checkpoints.zip_members import RefusedCheckpoint

SHARED = torch.arange(12.0)
DTYPES = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
    torch.complex128,
    torch.uint16,
    torch.uint32,
    torch.float8_e4m3fn,
]
CONTENT = {
    "dtypes": [torch.zeros(2, 3).to(dtype) for dtype in DTYPES],
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 512),
    "views": [SHARED[2:5], SHARED.view(3, 4).t(), SHARED[::3], SHARED],
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "plain": [
        None,
        True,
        2**70,
        -1,
        0.5,
        1j,
        "é",
        b"\xff",
        bytearray(b"ab"),
        (1, (2,)),
        {3: {4}},
        set(),
    ],
    "torch": [torch.Size([2, 3]), torch.device("cpu"), torch.float32],
    "counts": collections.Counter("aab"),
    "ordered": collections.OrderedDict(a=1),
    "default": collections.defaultdict(list, {1: [2]}),
    "pairs": {(1, 2): 3},
    "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]).state_dict(),
    "module": torch.nn.Linear(2, 2).state_dict(),
}


def saved(path, content, legacy):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def same(one, other):
    if isinstance(one, torch.Tensor):
        return (
            type(one) is type(other)
            and one.dtype == other.dtype
            and torch.equal(one.double(), other.double())
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return (
        all(map(same, one, other)) and len(one) == len(other)
        if isinstance(one, list | tuple)
        else one == other
    )


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of complex numbers made real, here
def test_what_weights_need(tmp_path, legacy):
    content = {
        **CONTENT,
        "dtypes": CONTENT["dtypes"][: 12 if legacy else None],
    }  # younger types are not in the old format
    path = saved(tmp_path / "m.pth", content, legacy)
    assert foreign_names(path) == {"collections.defaultdict", "builtins.list", "__builtin__.list"}
    loaded = read_checkpoint(path)
    for key in content:
        assert same(loaded[key], content[key]), key
    assert len({view.untyped_storage().data_ptr() for view in loaded["views"]}) == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_names_are_told(tmp_path, legacy):
    path = saved(
        tmp_path / "m.pth", {"args": argparse.Namespace(a=1), "error": ValueError("x")}, legacy
    )
    assert foreign_names(path) >= {"argparse.Namespace", "builtins.ValueError"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        torch.ones(3).expand(10**6, 3),
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
        {((1, 2), 3): 4},
        torch.ones(2, dtype=torch.complex64).conj(),
    ],
)
def test_what_weights_do_not_need(tmp_path, legacy, content):
    with pytest.raises(RefusedCheckpoint) as error:
        foreign_names(saved(tmp_path / "m.pth", {"a": content}, legacy))
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def walked(name):
    module, _, attribute = name.rpartition(".")
    walk = _Walk(_Reader(f"\x80\x02c{module}\n{attribute}\n.".encode("latin1")))
    walk.load()
    return walk.foreign


WEIGHTS_NEED = [
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage.UntypedStorage",
    "torch.FloatStorage",
    "torch.bfloat16",
    "torch.Size",
    "collections.OrderedDict",
]
# torch.load(weights_only=True) calls each of these with arguments from the file, and no weights need them.
TORCH_CALLS = [
    "torch.FloatTensor",
    "torch.tensor",
    "torch.storage._load_from_bytes",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._tensor._rebuild_from_type_v2",
    "torch.nn.parameter.UninitializedParameter",
    "torch.serialization.load",
    "torch.cuda.FloatTensor",
    "torch.distributed.tensor.DTensor",
]


@pytest.mark.parametrize("name", WEIGHTS_NEED)
def test_names_in_weights_pass(name):
    assert walked(name) == set()


@pytest.mark.parametrize("name", TORCH_CALLS)
def test_other_names_of_torch_are_refused(name):
    with pytest.raises(RefusedCheckpoint):
        walked(name)


def test_names_of_other_modules_are_listed():
    assert walked("some.Thing") == {"some.Thing"}
    assert walked("__builtin__.eval") == {"builtins.eval", "__builtin__.eval"}


def test_a_crowd_of_names():
    for number, limit in ((_FOREIGN_NAMES // 2, False), (_FOREIGN_NAMES + 1, True)):
        walk = _Walk(
            _Reader(b"\x80\x02(" + b"".join(b"ca\nb%d\n" % name for name in range(number)) + b"t.")
        )
        if limit:
            with pytest.raises(RefusedCheckpoint, match="names more than"):
                walk.load()
        else:
            assert len(walk.load()) == len(walk.foreign) == number


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\x80\x02(ca\nb\nc",
        b"\x80\x02(ca\nb\ncx",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x02\x8a\xffa.",
        b"\x80\x02G1.",
        b"\x80\x02N",
    ],
)
def test_what_is_cut_short_ends(data):
    with pytest.raises(RefusedCheckpoint, match="cut short"):
        _Walk(_Reader(data)).load()


def test_the_old_way_to_write_a_dictionary():
    """Python 2: the pairs are an argument."""
    data = b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01e](U\x01bK\x02ee\x85R."
    assert _Walk(_Reader(data)).load() == collections.OrderedDict(a=1, b=2)
