import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.testing.journal import Journal, JournalWriter
from ops.utils.errors import UserError


def fill(folder, number=0, rows=(4, 0, 2), values=6):
    """A log of these rows, the logits of row r being r, r + 1, ...; row 2 could not be read."""
    with JournalWriter(folder, number) as log:
        for row in rows:
            if row == 2:
                log.fail(row, "No such file: é")
            else:
                log.add(row, np.arange(row, row + values, dtype=np.float32).reshape(2, -1))
    return folder / f"{number}.log"


def test_round_trip(tmp_path):
    fill(tmp_path)
    fill(tmp_path, 10, (1,))
    JournalWriter(tmp_path, 11).close()  # of a process that had nothing to do
    done = Journal(tmp_path, 6, 6)
    assert done.missing().tolist() == [3, 5] and done.failures == {2: "No such file: é"}
    assert (
        sorted(path.name for path in tmp_path.iterdir()) == ["0.log", "10.log"]
        and done.next_number == 11
    )
    for row in (0, 1, 4):
        assert done.logits(row).tolist() == list(range(row, row + 6))
    assert done.logits(2) is None
    with pytest.raises(UserError, match=r"10\.log: cannot be written \(File exists\)"):
        JournalWriter(tmp_path, 10)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 150))
def test_truncated_log(tmp_path, cut):
    """A log cut at any length: the records before the cut are kept, and nothing else."""
    (tmp_path / "0.log").unlink(missing_ok=True)
    data = fill(tmp_path).read_bytes()
    assert len(data) == 20 + 24 + 20 + 24 + 20 + 16
    folder = tmp_path / str(cut)
    folder.mkdir(exist_ok=True)
    (folder / "0.log").write_bytes(data[:cut])
    done = Journal(folder, 6, 6)
    kept = [row for row, end in ((4, 44), (0, 88), (2, 124)) if cut >= end]
    assert done.missing().tolist() == [row for row in range(6) if row not in kept]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 123), value=st.integers(1, 255), garbage=st.binary(max_size=40))
def test_damaged_log(tmp_path, place, value, garbage):
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / "0.log").unlink(missing_ok=True)
    data = bytearray(fill(folder).read_bytes())
    data[place] ^= value
    (folder / "0.log").write_bytes(data + garbage)
    done = Journal(folder, 6, 6)
    kept = [row for row, end in ((4, 44), (0, 88), (2, 124)) if place >= end]
    assert set(kept) == set(range(6)) - set(done.missing().tolist())


def test_logs_of_another_test_raise(tmp_path):
    fill(tmp_path)
    for videos, values in ((4, 6), (6, 7)):
        with pytest.raises(UserError, match=r"0\.log: "):
            Journal(tmp_path, videos, values)


def test_full_disk(tmp_path, monkeypatch):
    """A disk that is full after half a record: one error, and earlier records are kept."""
    with JournalWriter(tmp_path, 0) as log:
        log.add(0, np.ones(6, np.float32))
        write, room = os.write, [30]

        def small(file, data):
            if not room[0]:
                raise OSError(28, "No space left on device")
            done = write(file, data[: room[0]])
            room[0] -= done
            return done

        monkeypatch.setattr(os, "write", small)
        with pytest.raises(
            UserError, match=r"No space left on device.*start the same command again"
        ):
            log.add(1, np.ones(6, np.float32))
        monkeypatch.undo()
    assert Journal(tmp_path, 2, 6).missing().tolist() == [1]
