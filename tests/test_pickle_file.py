"""ops/scores/pickle_file.py: the original's score file, both ways."""

import io
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch
from helpers.launch import launch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.data.labels import as_array
from ops.scores.pickle_file import load_scores, save_scores, score_path
from ops.utils.errors import UserError


def random_scores(videos=7, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(videos, classes)).astype(np.float32), rng.integers(0, classes, videos)


def write(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def refusal(path):
    """The message for a file that must be refused: one line that names the file."""
    with pytest.raises(UserError) as caught:
        load_scores(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_round_trip_and_pickle_load(tmp_path):
    logits, labels = random_scores()
    path = score_path(tmp_path / "made" / "here", 9, 2)
    assert path.name == "9_crop2.pkl"
    save_scores(path, logits, labels)
    loaded = load_scores(path)
    assert loaded[0].dtype == np.float32 and loaded[1].dtype == np.int64
    assert np.array_equal(loaded[0], logits) and np.array_equal(loaded[1], labels)
    rows = pickle.loads(path.read_bytes())  # TDN pkl_to_results.py
    assert type(rows) is list and all(type(row) is list and type(row[1]) is int for row in rows)
    assert all(row[0].shape == (1, 5) and row[0].dtype == np.float32 for row in rows)
    assert np.array_equal(np.concatenate([row[0] for row in rows]), logits)
    assert [row[1] for row in rows] == labels.tolist()
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("videos", [1, 7, 3000])  # 3000 videos are many frames of the pickle
def test_file_has_names_of_numpy_1_and_2(tmp_path, videos):
    save_scores(tmp_path / "0_crop0.pkl", *random_scores(videos))
    data = (tmp_path / "0_crop0.pkl").read_bytes()
    assert b"numpy._core" not in data and data.count(b"numpy.core.multiarray") == 1
    assert data[:2] == b"\x80\x04"
    pickletools.dis(data, out=io.StringIO())  # the stream is consistent
    assert len(pickle._loads(data)) == videos  # Python's own unpickler checks the lengths of frames


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "0_crop0.pkl"
    save_scores(path, *random_scores())
    before = path.read_bytes()

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_scores(path, *random_scores(seed=1))
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "logits, labels, error",
    [
        (np.zeros((2, 3)), np.zeros(2, int), ValueError),
        (np.zeros((2, 1, 3), np.float32), np.zeros(2, int), ValueError),
        (np.zeros((2, 3), np.float32), np.zeros(3, int), ValueError),
        (np.zeros((2, 3), np.float32), np.zeros(2), ValueError),
        (np.zeros((2, 3), np.float32), np.array([0, 3]), ValueError),
        (np.zeros((2, 3), np.float32), np.array([0, -1]), ValueError),
        (np.zeros((0, 3), np.float32), np.zeros(0, int), ValueError),
        (np.array([[0, 0], [0, np.nan]], np.float32), np.zeros(2, int), UserError),
    ],
)
def test_invalid_scores_raise_and_nothing_is_written(tmp_path, logits, labels, error):
    with pytest.raises(error):
        save_scores(tmp_path / "0_crop0.pkl", logits, labels)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "kind",
    [
        int,
        np.int64,
        np.int32,
        np.uint8,
        lambda label: np.array(label),
        lambda label: np.array([label]),
    ],
    ids=["int", "int64", "int32", "uint8", "0-d", "1-element"],
)
def test_label_types_of_the_original(tmp_path, kind, protocol):
    logits, labels = random_scores()
    rows = [[score[None], kind(label)] for score, label in zip(logits, labels, strict=True)]
    loaded = load_scores(write(tmp_path / "a.pkl", rows, protocol))
    assert np.array_equal(loaded[0], logits) and loaded[1].tolist() == labels.tolist()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4"])
def test_other_number_types_tuples_and_flat_scores(tmp_path, dtype):
    logits = np.arange(6, dtype=dtype).reshape(2, 3)
    rows = [(logits[0], 1), (logits[1:], 2)]
    loaded, labels = load_scores(write(tmp_path / "a.pkl", rows))
    assert (
        loaded.dtype == np.float32
        and loaded.tolist() == [[0, 1, 2], [3, 4, 5]]
        and labels.tolist() == [1, 2]
    )


def test_file_of_numpy_1(tmp_path):
    logits, labels = random_scores()
    data = pickle.dumps([[s[None], label] for s, label in zip(logits, labels, strict=True)], 3)
    path = tmp_path / "0_crop0.pkl"
    path.write_bytes(data.replace(b"cnumpy._core.", b"cnumpy.core."))
    assert b"numpy._core" not in path.read_bytes()
    assert np.array_equal(load_scores(path)[0], logits)


def good(label=0, classes=3):
    return [np.zeros((1, classes), np.float32), label]


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no list of videos"),
        ((good(),), "no list of videos"),
        (7, "no list of videos"),
        (np.zeros((2, 3)), "no list of videos"),
        ([good(), [1, 2, 3]], "row 2 of 2 is not [array, label]"),
        ([good(), good()[:1]], "row 2 of 2 is not [array, label]"),
        ([[[0.0, 1.0], 0]], "row 1 of 1 is not [array, label]"),
        ([good(), good(classes=4)], "row 2 of 2 has scores of shape (1, 4), not (1, 3)"),
        ([[np.zeros((3, 1), np.float32), 0]], "row 1 of 1 has scores of shape (3, 1), not (1, 3)"),
        ([[np.zeros((2, 3), np.float32), 0]], "row 1 of 1 has scores of shape (2, 3), not (1, 6)"),
        ([[np.float32(1), 0]], "row 1 of 1 has scores of shape (), not (1, 1)"),
        (
            [[np.zeros((1, 0), np.float32), 0]],
            "row 1 of 1 has the label 0, not an integer in [0, 0)",
        ),
        ([good(2), good(3)], "row 2 of 2 has the label 3, not an integer in [0, 3)"),
        ([good(-1)], "row 1 of 1 has the label -1, not an integer in [0, 3)"),
        ([good(np.int64(-1))], "row 1 of 1 has the label -1, not an integer in [0, 3)"),
        ([good(1.0)], "row 1 of 1 has the label 1.0, not an integer in [0, 3)"),
        ([good(True)], "row 1 of 1 has the label True, not an integer in [0, 3)"),
        ([good(None)], "row 1 of 1 has the label None, not an integer in [0, 3)"),
        ([good("1\n")], "row 1 of 1 has the label 1\\n, not an integer in [0, 3)"),
        (
            [good(np.array([1, 2]))],
            "row 1 of 1 has the label array of int64, not an integer in [0, 3)",
        ),
        (
            [good(np.float32(1))],
            "row 1 of 1 has the label array of float32, not an integer in [0, 3)",
        ),
        ([good(10**5000)], "row 1 of 1 has the label <int>, not an integer in [0, 3)"),
        (
            [good(), [np.array([[0, np.nan, 0]], np.float32), 0]],
            "row 2 of 2 has scores that are not finite",
        ),
        ([[np.array([[0, 1e300]]), 0]], "row 1 of 1 has scores that are not finite"),
    ],
)
def test_wrong_structure_names_the_row(tmp_path, rows, message):
    assert refusal(write(tmp_path / "a.pkl", rows)).endswith(message)


def test_code_torch_and_objects_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'made'}",)

    message = refusal(write(tmp_path / "a.pkl", [good(), [Evil(), 0]]))
    assert f"({os.system.__module__}.system)" in message
    assert not (tmp_path / "made").exists()
    scores = torch.zeros(1, 3)
    assert "a tensor that" in refusal(write(tmp_path / "b.pkl", [[scores, 0]]))
    assert "without numbers" in refusal(write(tmp_path / "c.pkl", [[np.array([[{}]]), 0]]))
    torch.save(good(), tmp_path / "d.pkl")
    assert "(byte 0)" in refusal(tmp_path / "d.pkl")
    np.save(tmp_path / "e.npy", np.zeros(3))
    assert "is not a pickle of arrays" in refusal(tmp_path / "e.npy")


def test_missing_empty_truncated_and_garbage(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.pkl")
    assert "Is a directory" in refusal(tmp_path)
    path = write(tmp_path / "a.pkl", [good()] * 2)
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert "is empty" in refusal(path) if end == 0 else "damaged" in refusal(path)
    path.write_bytes(b"hello\n" * 100)
    assert "damaged" in refusal(path)


def test_small_file_with_large_scores_raises(tmp_path):
    rows = [
        [np.zeros((1, 10_000), np.float32), 0]
    ] * 30_000  # one array, 30 000 times: 1.2 GB of scores
    path = write(tmp_path / "a.pkl", rows)
    assert path.stat().st_size < 1e6
    assert "smaller than its scores" in refusal(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), data=st.data())
def test_damaged_files_give_user_errors_only(tmp_path, protocol, data):
    mutated = bytearray(pickle.dumps([good(0), good(np.int64(1)), good(np.array([2]))], protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pkl"
    path.write_bytes(mutated)
    try:
        logits, labels = load_scores(path)
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(logits).all() and logits.ndim == 2 and (labels < logits.shape[1]).all()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sets(st.integers(0, 299), min_size=1), min_size=1, max_size=5))
def test_several_labels_per_video(tmp_path, labels):
    hot = as_array([sorted(own) for own in labels], 300)
    logits = random_scores(len(labels), 300)[0]
    save_scores(tmp_path / "0_crop0.pkl", logits, hot)
    loaded, read = load_scores(tmp_path / "0_crop0.pkl")
    assert np.array_equal(loaded, logits) and np.array_equal(read, hot) and read.dtype == bool
    rows = pickle.loads((tmp_path / "0_crop0.pkl").read_bytes())
    assert [row[1] for row in rows] == [sorted(own) for own in labels]


def test_one_label_and_several_do_not_mix(tmp_path):
    row = np.zeros((1, 5), np.float32)
    assert "one label and rows with several" in refusal(
        write(tmp_path / "a.pkl", [[row, 1], [row, [1, 2]]])
    )
    assert "the label 5" in refusal(write(tmp_path / "a.pkl", [[row, [1, 5]]]))
    assert "6 labels of 5 classes" in refusal(write(tmp_path / "a.pkl", [[row, [1] * 6]]))
    assert "the label" in refusal(write(tmp_path / "a.pkl", [[row, []]]))
    with pytest.raises(ValueError, match="bool"):
        save_scores(tmp_path / "b.pkl", np.zeros((2, 5), np.float32), np.zeros((2, 4), bool))


READ = """
import resource, sys
from ops.scores.pickle_file import load_scores
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
logits, labels = load_scores(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024 / logits.nbytes)
"""


def test_scores_are_in_memory_once_while_they_are_read(tmp_path):
    """Growth of the peak memory of a process that reads 40,000 videos x 400 classes (64 MB)."""
    rng = np.random.default_rng(0)
    save_scores(
        tmp_path / "0_crop0.pkl",
        rng.random((40_000, 400), np.float32),
        rng.integers(0, 400, 40_000),
    )
    run = launch("-c", READ, tmp_path / "0_crop0.pkl")
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1.8
