"""ops/scores/npz_file.py: files of TSN (Python 2, numpy 1), the plain form, and invalid files."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ops.scores.npz_file import load_npz, save_npz
from ops.utils.errors import UserError


def videos(count=4, classes=5, crops=2):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=(1 + row % 3, crops, classes)).astype(np.float32) for row in range(count)
    ], [1, 0, 4, 2][:count]


def pairs(scores, labels):
    """Object array [V, 2], which numpy before 1.24 made of a list of (array, label)."""
    rows = np.empty((len(scores), 2), object)
    for row, pair in enumerate(zip(scores, labels, strict=True)):
        rows[row, 0], rows[row, 1] = pair
    return rows


def npy(descr, shape, data, fortran=False):
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path, compression=zipfile.ZIP_STORED, **members):
    """An .npz of raw members; an array is saved as numpy does."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            if not isinstance(content, bytes):
                buffer = io.BytesIO()
                np.save(buffer, np.asarray(content))
                content = buffer.getvalue()
            file.writestr(f"{name}.npy", content)
    return path


def python2_array(array):
    """A numpy 1 array as cPickle of Python 2 writes it, protocol 2: data are 'str' opcodes."""

    def text(value):
        return (
            b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))
        ) + value

    code, order, flags = (
        (b"O8", b"|", 63) if array.dtype == object else (array.dtype.str[1:].encode(), b"<", 0)
    )
    shape = b"(" + b"".join(b"M" + struct.pack("<H", size) for size in array.shape) + b"t"
    if array.dtype == object:
        values = [
            python2_array(v) if isinstance(v, np.ndarray) else b"J" + struct.pack("<i", v)
            for v in array.ravel()
        ]
        data = b"](" + b"".join(values) + b"e"
    else:
        data = text(array.tobytes())
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + text(code)
        + b"K\x00K\x01\x87R(K\x03"
        + text(order)
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
        + bytes([flags])
        + b"tb\x89"
        + data
        + b"tb"
    )


def python2_npz(path, scores, labels):
    payload = b"\x80\x02" + python2_array(pairs(scores, labels)) + b"."
    return archive(path, scores=npy("|O", f"({len(scores)}L, 2L)", payload), labels=labels)


def numpy1_npz(path, scores, labels, compression=zipfile.ZIP_STORED):
    payload = pickle.dumps(pairs(scores, labels), 3).replace(b"cnumpy._core.", b"cnumpy.core.")
    assert b"numpy._core" not in payload
    return archive(path, compression, scores=npy("|O", (len(scores), 2), payload), labels=labels)


def same(loaded, scores, labels, ids=None):
    assert all(
        np.array_equal(a, b) and a.dtype == np.float32
        for a, b in zip(loaded.scores, scores, strict=True)
    )
    assert (
        loaded.labels.tolist() == labels and loaded.labels.dtype == np.int64 and loaded.ids == ids
    )
    return True


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("write", [python2_npz, numpy1_npz])
def test_files_of_tsn(tmp_path, write):
    path = write(tmp_path / "rgb.npz", *videos())
    assert same(load_npz(path), *videos())
    with np.load(path, allow_pickle=True, encoding="latin1") as file:  # it is such a file
        assert all(
            np.array_equal(a, b) for a, b in zip(file["scores"][:, 0], videos()[0], strict=True)
        )


def test_files_of_caffe(tmp_path):
    scores = [np.full((25, 10, 101), row, np.float32) for row in range(3)]
    assert same(load_npz(python2_npz(tmp_path / "x.npz", scores, [5, 0, 100])), scores, [5, 0, 100])


def test_what_this_numpy_saves(tmp_path):
    scores, labels = videos()
    path = tmp_path / "a.npz"
    np.savez(path, scores=pairs(scores, labels), labels=labels)
    assert same(load_npz(path), scores, labels)
    np.savez_compressed(
        path, scores=pairs(scores, map(np.int64, labels))
    )  # labels beside the scores only
    assert same(load_npz(path), scores, labels)
    listed = np.empty(4, object)
    listed[:] = scores
    np.savez(path, scores=listed, labels=np.array(labels, object))  # labels apart only
    assert same(load_npz(path), scores, labels)
    listed[:] = list(zip(scores, labels, strict=True))
    np.savez(path, scores=listed, ids=np.array(list("abcd"), object))
    assert same(load_npz(path), scores, labels, list("abcd"))
    payload = pickle.dumps(list(zip(scores, labels, strict=True)))
    assert same(load_npz(archive(path, scores=npy("|O", (4, 2), payload))), scores, labels)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "u1"])
def test_number_types_and_fortran_order(tmp_path, dtype):
    scores = [np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(dtype))] * 2
    for rows in (pairs([scores[0], scores[0].copy("F")], [0, 1]), np.asfortranarray(scores)):
        np.savez(tmp_path / "a.npz", scores=rows, labels=[0, 1])
        assert same(load_npz(tmp_path / "a.npz"), scores, [0, 1])


def test_the_plain_form(tmp_path):
    scores = np.random.default_rng(0).normal(size=(3, 2, 1, 5)).astype(np.float32)
    ids = ["a b", "é" * 300, " c"]
    path = tmp_path / "made" / "a.npz"
    save_npz(path, scores, np.array([1, 0, 4], np.uint8), ids)
    assert same(load_npz(path), scores, [1, 0, 4], ids) and os.listdir(path.parent) == ["a.npz"]
    with np.load(path) as file:  # without allow_pickle
        assert (
            np.array_equal(file["scores"][:, 0], scores)  # what TSN's eval_scores.py takes
            and file["labels"].tolist() == [1, 0, 4]
            and file["ids"].tolist() == ids
        )
    save_npz(path, scores, np.array([1, 0, 4]))
    assert same(load_npz(path), scores, [1, 0, 4])
    np.savez(path, scores=scores, labels=[1, 0, 4], ids=np.array([b"a", b"b", "é".encode()]))
    assert load_npz(path).ids == ["a", "b", "é"]


def test_files_of_tsn_pytorch_have_labels_that_are_tensors(tmp_path):
    """Its DataLoader gives each label as a tensor, and its np.savez keeps it beside the scores."""
    scores = [np.random.default_rng(row).normal(size=(25, 1, 5)).astype("f4") for row in range(3)]
    labels = [batch[0] for batch in DataLoader(torch.tensor([3, 0, 4]), batch_size=1)]
    rows = np.array(list(zip(scores, labels, strict=True)), object)
    tensors = np.empty(3, object)
    tensors[:] = labels
    for number, members in enumerate(
        ({"labels": labels}, {}, {"labels": tensors}, {"labels": np.array([3, 0, 4])})
    ):
        np.savez(tmp_path / f"{number}.npz", scores=rows, **members)
        assert same(load_npz(tmp_path / f"{number}.npz"), scores, [3, 0, 4])
    several = np.array([(scores[0], torch.tensor([1, 2])[1])], object)
    np.savez(tmp_path / "x.npz", scores=several)
    with pytest.raises(UserError, match="not one whole number"):
        load_npz(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "scores, labels, ids, error",
    [
        (np.zeros((2, 1, 1, 3)), [0, 1], None, ValueError),
        (np.zeros((2, 1, 3), "f4"), [0, 1], None, ValueError),
        (np.zeros((0, 1, 1, 3), "f4"), [], None, ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0], None, ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0, 3], None, ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0, -1], None, ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0, 1.0], None, ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0, 1], ["a"], ValueError),
        (np.zeros((2, 1, 1, 3), "f4"), [0, 1], ["a", "b\t"], UserError),
        (np.full((2, 1, 1, 3), np.inf, "f4"), [0, 1], None, UserError),
    ],
)
def test_invalid_scores_raise_and_nothing_is_written(tmp_path, scores, labels, ids, error):
    with pytest.raises(error):
        save_npz(tmp_path / "a.npz", scores, labels, ids)
    assert os.listdir(tmp_path) == []


def refusal(path):
    with pytest.raises(UserError) as caught:
        load_npz(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message.removeprefix(f"{path}: ")


GOOD = np.zeros((1, 1, 3), np.float32)
PLAIN = np.zeros((2, 1, 1, 3), np.float32)


@pytest.mark.parametrize(
    "members, message",
    [
        ({"labels": [0]}, "no scores"),
        ({"scores": PLAIN}, "has 0 labels for 2 videos"),
        ({"scores": PLAIN, "labels": [0]}, "has 1 labels for 2 videos"),
        (
            {"scores": PLAIN[0], "labels": [0]},
            "has scores float32 (1, 1, 3), not numbers [videos, frames, crops, classes]",
        ),
        (
            {"scores": PLAIN[:0], "labels": np.zeros(0, int)},
            "has scores float32 (0, 1, 1, 3), not numbers",
        ),
        ({"scores": np.array(["a"]), "labels": [0]}, "has scores <U1 (1,), not numbers"),
        (
            {"scores": PLAIN, "labels": [0, 3]},
            "row 2 of 2 has the label 3, not an integer in [0, 3)",
        ),
        (
            {"scores": PLAIN, "labels": [0, -1]},
            "row 2 of 2 has the label -1, not an integer in [0, 3)",
        ),
        ({"scores": PLAIN, "labels": [0.0, 1]}, "has labels float64 (2,), not integers [videos]"),
        (
            {"scores": PLAIN, "labels": np.array([0, "1"], object)},
            "row 2 of 2 has the label 1, not an integer",
        ),
        ({"scores": PLAIN, "labels": [[0], [1]]}, "has labels int64 (2, 1), not integers [videos]"),
        ({"scores": PLAIN * np.nan, "labels": [0, 1]}, "row 1 of 2 has scores that are not finite"),
        (
            {"scores": np.full((1, 1, 1, 3), 1e300), "labels": [0]},
            "row 1 of 1 has scores that are not finite",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": np.array(["a"])},
            "has ids that are not 2 texts",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": np.array([1, 2])},
            "has ids that are not 2 texts",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": np.array(["a", 2], object)},
            "has ids that are not 2 texts",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": np.array(["a", ""])},
            "row 2: the id '' is empty",
        ),
        (
            {"scores": pairs([GOOD, GOOD * 1], [0, 1]), "labels": [0, 2]},
            "row 2 of 2 has the label 2 in labels, but 1 beside",
        ),
        ({"scores": pairs([GOOD, GOOD * 1], [0, 1]), "labels": [0]}, "has 1 labels for 2 videos"),
        (
            {"scores": pairs([GOOD, GOOD * 1], [0, None])},
            "row 2 of 2 has the label None, not an integer",
        ),
        (
            {"scores": pairs([GOOD, GOOD * 1], [0, 1.0])},
            "row 2 of 2 has the label 1.0, not an integer",
        ),
        (
            {"scores": pairs([GOOD, GOOD[0]], [0, 1])},
            "row 2 of 2 has scores of shape (1, 3), not [frames, crops, 3]",
        ),
        (
            {"scores": pairs([GOOD, GOOD[..., :2]], [0, 1])},
            "row 2 of 2 has scores of shape (1, 1, 2), not [frames, crops, 3]",
        ),
        (
            {"scores": pairs([GOOD[:0]], [0])},
            "row 1 of 1 has scores of shape (0, 1, 3)",
        ),
        ({"scores": pairs(["a"], [0])}, "row 1 of 1 of its scores is not (array, label)"),
        (
            {"scores": np.array([[1, 2, 3]], object)},
            "(array, label)",
        ),
        ({"scores": np.empty((0, 2), object)}, "scores of no video"),
        ({"scores": pairs([GOOD, GOOD], [0, 1])}, "row 2 of 2 has the scores of another row"),
        ({"scores": pairs([np.array([[[{}]]])], [0])}, "an array without numbers"),
        (
            {"scores": pairs([torch.zeros(1, 1, 3)], [0])},
            "a tensor that is not one whole number",
        ),
        (
            {"scores": pairs([torch.device("cpu")], [0])},
            "(torch.device)",
        ),
        (
            {"scores": npy("|O", (10**9, 2), pickle.dumps(pairs([GOOD], [0])))},
            "scores.npy has the shape (1000000000, 2) in its",
        ),
        ({"scores": npy("|O", (1, 2), pickle.dumps(pairs([GOOD], [0]))[:-9])}, "truncated"),
        (
            {"scores": npy("<f4", (10**9, 1, 1, 3), b"")},
            "scores.npy has 0 bytes of float32, which do not fill the shape (10000",
        ),
        (
            {"scores": npy("<f4", (-1, 1, 1, 3), b"\0" * 12)},
            "scores.npy has 12 bytes of float32, which do not fill the shape (-1",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": npy("<U0", (10**9,), b"")},
            "ids.npy has 0 bytes of <U0, which do not fill",
        ),
        (
            {"scores": PLAIN, "labels": [0, 1], "ids": npy("<U1", (10**9, 0), b"")},
            "has ids that are not 2 texts",
        ),
        ({"scores": b"\x93NUMPY\x03\x00"}, "is not an .npz file, or is damaged (KeyError)"),
        ({"scores": b""}, "is not an .npz file, or is damaged (ValueError)"),
        (
            {"scores": b"\x93NUMPY\x02\x00\xff\xff\xff\xff"},
            "is not an .npz file, or is damaged (ValueError)",
        ),
        ({"scores": npy("<f4", "(" * 5000, b"")}, "is not an .npz file, or is damaged ("),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_content(tmp_path, members, message):
    assert message in refusal(archive(tmp_path / "a.npz", **members))


def test_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    for rows in (pairs([Evil()], [0]), pairs([GOOD], [Evil()])):
        np.savez(tmp_path / "a.npz", scores=rows)
        assert f"({os.mkdir.__module__}.mkdir)" in refusal(tmp_path / "a.npz")
        assert not (tmp_path / "made").exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)[
        "scores"
    ]  # the test could fail: numpy does run it
    assert (tmp_path / "made").exists()


def test_missing_file_and_other_files(tmp_path):
    assert refusal(tmp_path / "none.npz") == "cannot be read (No such file or directory)"
    (tmp_path / "a.npz").write_bytes(b"hello")
    assert refusal(tmp_path / "a.npz") == "is not an .npz file, or is damaged (BadZipFile)"
    np.save(tmp_path / "b.npy", PLAIN)
    assert "is not an .npz file" in refusal(tmp_path / "b.npy")


def peak(path):
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_zip_bombs_and_invalid_lengths_take_no_memory(tmp_path):
    path = tmp_path / "a.npz"
    bomb = npy("<f4", (25, 1000, 1, 1000), b"\0" * 10**8)
    archive(path, zipfile.ZIP_DEFLATED, scores=bomb, labels=[0] * 25)
    assert path.stat().st_size < 10**6
    assert peak(path) < 4 * 2**20 and "100000128 bytes" in refusal(path)
    # The same file with a smaller size in its directory: only so much is unpacked.
    content = path.read_bytes()
    assert content.count(struct.pack("<I", len(bomb))) == 2
    path.write_bytes(content.replace(struct.pack("<I", len(bomb)), struct.pack("<I", 2**20)))
    assert peak(path) < 8 * 2**20
    # A stored member that claims more than there is.
    content = archive(path, scores=npy("<f4", (2, 1, 1, 3), b"\0" * 24), labels=[0, 1]).read_bytes()
    path.write_bytes(
        content.replace(struct.pack("<II", 152, 152), struct.pack("<II", 6 * 10**7, 6 * 10**7))
    )
    assert peak(path) < 4 * 2**20
    archive(path, zipfile.ZIP_LZMA, scores=PLAIN)
    assert refusal(path) == "scores.npy is compressed by a method that numpy does not use"
    # An array asked for again and again, in the form whose data are copied when they are used.
    array = np.zeros((1000, 10, 10), np.float32)
    again = (
        b"\x80\x02](" + python2_array(array) + b"q\x01K\x00\x86" + b"h\x01K\x00\x86" * 3000 + b"e."
    )
    assert peak(archive(path, scores=npy("|O", (3001, 2), again))) < 8 * 2**20


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from((python2_npz, numpy1_npz)), st.booleans(), st.data())
def test_damaged_files_give_user_errors_only(tmp_path, write, inside, data):
    path = write(tmp_path / "a.npz", *videos(2, 3, 1))
    with zipfile.ZipFile(path) as file:
        mutated = bytearray(file.read("scores.npy") if inside else path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    if inside:  # with a check sum that is right
        archive(path, scores=bytes(mutated), labels=[1, 0])
    else:
        path.write_bytes(mutated)
    try:
        loaded = load_npz(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and str(error).isprintable()
        assert "MemoryError" not in str(error)
    else:
        assert len(loaded.scores) == len(loaded.labels) and all(
            np.isfinite(score).all() for score in loaded.scores
        )
