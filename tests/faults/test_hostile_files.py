"""Thousands of damaged checkpoints and scores for each parser: read, or refused in one line."""

import contextlib
import io
import json
import pickle
import struct
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
import torch
from helpers.hostile import (
    NUMBERS,
    as_json,
    damaged,
    fuzz,
    opcodes,
    reading,
    reprogrammed,
    write_new,
)
from helpers.score_dirs import describe

from ops.checkpoints.torch_file import read_checkpoint
from ops.scores.metadata import check_same, read_metadata
from ops.scores.npz_file import load_npz, save_npz
from ops.scores.pickle_file import load_scores, save_scores
from ops.scores.safe_pickle import PickledArray, RefusedPickle, safe_loads
from ops.testing.journal import Journal, JournalWriter
from ops.training.run_dir import damage
from ops.utils.errors import UserError
from ops.utils.text import printable

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path):
    """A file to write the cases to; its folder is all that a parser may touch."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "case"


# Checkpoints.

CONTENT = {
    "format": 1,
    "state_dict": {
        "a.weight": torch.ones(2, 3),
        "b": torch.zeros(4, dtype=torch.int64),
        "c": torch.ones(3).half(),
    },
    "epoch": 3,
    "recipe": {"lr": 0.1, "names": ["a", "b"], "shape": (1, 2), "none": None, "yes": True},
    "seen": {1, 2},
    "raw": b"ab",
    "array": np.float64(2),
    "size": torch.Size([2, 3]),
}
NAMES = [
    b"c" + name.replace(".", "\n", 1).encode() + b"\n"
    for name in (
        "os.system",
        "__builtin__.bytearray",
        "__builtin__.eval",
        "__builtin__.set",
        "_codecs.encode",
        "torch.Tensor",
        "torch.Size",
        "torch.FloatTensor",
        "torch.FloatStorage",
        "torch.device",
        "torch.float64",
        "collections.OrderedDict",
        "collections.Counter",
        "collections.defaultdict",
        "some.Thing",
    )
]
NAMES += [
    b"ctorch._utils\n" + name + b"\n"
    for name in (
        b"_rebuild_tensor_v2",
        b"_rebuild_tensor",
        b"_rebuild_parameter",
        b"_rebuild_qtensor",
        b"_rebuild_tensor_v3",
        b"_rebuild_sparse_tensor",
    )
]


def checkpoint(legacy):
    file = io.BytesIO()
    torch.save(CONTENT, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(parts, draw):
    """A checkpoint of changed opcodes, or with members of other names, sizes or kinds."""
    file = io.BytesIO()
    kind = draw.randrange(8)
    with zipfile.ZipFile(
        file, "w", zipfile.ZIP_DEFLATED if kind == 0 else zipfile.ZIP_STORED
    ) as archive:
        for name, data in parts.items():
            if name.endswith("data.pkl") and kind != 1:
                data = reprogrammed(draw, opcodes(data), NAMES)
            elif kind == 2 and draw.random() < 0.3:
                data = damaged(draw, data)
            elif kind == 3 and draw.random() < 0.2:
                name = draw.choice(
                    (
                        "archive/data/0",
                        "x/data/0",
                        "archive/constants.pkl",
                        "archive",
                        "../x",
                        "archive/../x",
                    )
                )
            if name not in archive.namelist() and (kind != 4 or draw.random() < 0.9):
                archive.writestr(name, data)
    data = file.getvalue()
    return damaged(draw, data, 1) if kind == 5 else data


def fuzz_checkpoints(name, make, place):
    """torch may reserve memory for a storage before it finds that the file is too short."""
    read = reading(place, read_checkpoint)
    fuzz(name, make, read, place.parent, share=0.1, kinds=10, peak="VmHWM")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoints(place):
    whole = checkpoint(False)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}

    def make(draw):
        return damaged(draw, whole) if draw.random() < 0.3 else zipped(parts, draw)

    fuzz_checkpoints("checkpoints", make, place)


def test_checkpoints_before_torch_1_6(place):
    whole = checkpoint(True)
    head = whole.rindex(b"e.") + 2  # the keys of the storages are the last pickle
    parts = opcodes(whole[:head])

    def make(draw):
        return (
            damaged(draw, whole)
            if draw.random() < 0.3
            else reprogrammed(draw, parts, NAMES) + whole[head:]
        )

    fuzz_checkpoints("old checkpoints", make, place)


def test_checkpoints_of_a_run(place):
    whole = checkpoint(False)
    path = place.with_name("last.pth")

    def read(data):
        write_new(path, data)
        problem = damage(path)
        assert problem is None or (problem and "\n" not in problem)
        if problem is not None:
            raise UserError(problem)

    path.touch()
    fuzz("damage", partial(damaged, data=whole, times=1), read, place.parent, share=0.005, kinds=4)


# Scores.


def arrays_of(value):
    """Everything that is done with an unpickled value."""
    if isinstance(value, PickledArray):
        for read in (value.objects, value.array):
            with contextlib.suppress(RefusedPickle):
                read()
    elif isinstance(value, list | tuple):
        for item in value[:10]:
            arrays_of(item) if isinstance(item, PickledArray) else printable(item)


PICKLES = [
    pickle.dumps(
        [[np.arange(4, dtype=np.float32)[None], label] for label in (0, np.int64(1), [1, 2])],
        protocol,
    )
    for protocol in range(5)
] + [pickle.dumps(np.array([np.zeros((1, 1, 2), np.float32), 1], object), 2)]


def test_pickles(place):
    programs = [opcodes(data) for data in PICKLES]

    def make(draw):
        return (
            damaged(draw, draw.choice(PICKLES))
            if draw.random() < 0.3
            else reprogrammed(draw, draw.choice(programs))
        )

    def read(data):
        try:
            arrays_of(safe_loads(data))
        except RefusedPickle as refused:
            raise UserError(str(refused)) from None

    fuzz("pickles", make, read, place.parent, share=0.1, kinds=8)


def test_score_files(place):
    save_scores(place, np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), np.array([0, 3, 1]))
    files = [place.read_bytes()]
    save_scores(
        place, np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), np.eye(3, 4, dtype=bool)
    )
    files += [place.read_bytes(), *PICKLES[:5]]
    programs = [opcodes(data) for data in files]

    def make(draw):
        return (
            damaged(draw, draw.choice(files), 2)
            if draw.random() < 0.4
            else reprogrammed(draw, draw.choice(programs))
        )

    def read(path):
        logits, labels = load_scores(path)
        assert logits.dtype == np.float32 and logits.ndim == 2 and labels.dtype in (np.int64, bool)

    fuzz("score files", make, reading(place, read), place.parent, share=0.03, kinds=10)


def test_npz(place):
    save_npz(place, np.ones((2, 1, 3, 4), np.float32), np.array([0, 3]), ["a", "é"])
    rows = np.empty((2, 2), object)
    rows[:, 0], rows[:, 1] = [np.ones((1, 1, 4)), np.ones((2, 1, 4))], [0, 3]
    members = []
    for data in (
        place.read_bytes(),
        _npz(scores=rows, labels=np.array([0, 3])),
        _npz(scores=np.ones((2, 1, 1, 4), "u1"), labels=[0, 1]),
    ):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members.append({name: archive.read(name) for name in archive.namelist()})

    def make(draw):
        file, kind = io.BytesIO(), draw.randrange(4)
        with zipfile.ZipFile(file, "w", draw.choice((0, 0, 8))) as archive:
            for name, data in draw.choice(members).items():
                end = data.index(b"\n") + 1
                if kind == 0:
                    data = damaged(draw, data[:end], 2) + data[end:]
                elif kind == 1:
                    pickled = data[end : end + 1] == b"\x80"
                    data = data[:end] + (
                        reprogrammed(draw, opcodes(data[end:]))
                        if pickled
                        else damaged(draw, data[end:], 1)
                    )
                elif kind == 2 and draw.random() < 0.5:
                    data = next(iter(draw.choice(members).values()))
                archive.writestr(name, data)
        return damaged(draw, file.getvalue(), 2) if kind == 3 else file.getvalue()

    fuzz("npz", make, reading(place, load_npz), place.parent, share=0.05, kinds=15)


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_score_folders(place):
    trees = []
    several = {"failures": 1, "class_names": list("abcdefgh"), "clips": [0, 1]}
    for labels, options in (([3, 0], {}), (np.eye(2, 8, dtype=bool), several)):
        describe(place.parent, labels, ["a b", "é/1"], **options)
        trees.append(json.loads((place.parent / "scores.json").read_text()))
    same = read_metadata(place.parent)

    def read(path):
        metadata = read_metadata(path.parent)
        assert len(metadata.ids) == len(metadata.labels) and metadata.read >= 0
        check_same(path, metadata, same, clips=True)

    def make(draw):
        return as_json(draw, draw.choice(trees))

    fuzz(
        "scores.json",
        make,
        reading(place.with_name("scores.json"), read),
        place.parent,
        share=0.02,
        kinds=15,
    )


def test_score_logs(place):
    with JournalWriter(place.parent, 0) as log:
        for row in range(4):
            log.add(row, np.arange(6, dtype=np.float32)) if row else log.fail(row, "No such file")
    whole = log.path.read_bytes()
    head = struct.Struct("<4sqI")

    def make(draw):
        if draw.random() < 0.3:
            return damaged(draw, whole)
        data = b""
        for _ in range(draw.randint(1, 4)):
            content = draw.choice(
                (bytes(24), b"text", draw.randbytes(draw.randrange(40)), b"\xff\n\r\0")
            )
            row = draw.choice((0, 1, 2, 3, 3, draw.choice(NUMBERS[:11])))
            size = len(content) if draw.random() < 0.9 else draw.choice(NUMBERS[:9]) % 2**32
            first = head.pack(draw.choice((b"SCOR", b"FAIL", b"FAIL", b"NONE")), row, size)
            data += first + struct.pack("<I", zlib.crc32(content, zlib.crc32(first))) + content
        return data

    def read(path):
        finished = Journal(path.parent, 4, 6)
        for row in set(range(4)) - set(finished.missing().tolist()):
            logits = finished.logits(row)
            assert logits is None or logits.shape == (6,)
            assert "\n" not in finished.failures.get(row, "")

    fuzz("score logs", make, reading(log.path, read), place.parent, share=0.2, kinds=2)
