import pytest
import torch

from ops.errors import UserError
from ops.files import atomic_write
from ops.train.run_files import damage, earlier, newest, rotate


def save(folder, value, keep=3):
    with atomic_write(folder / "last.pth") as file:
        torch.save({"value": value}, file)
        rotate(folder, keep)


def values(folder):
    return {path.name: torch.load(path, weights_only=True)["value"] for path in folder.iterdir()}


def test_the_newest_are_kept(tmp_path):
    assert newest(tmp_path) == (None, [])
    for value in range(5):
        save(tmp_path, value)
    assert values(tmp_path) == {"last.pth": 4, "last.1.pth": 3, "last.2.pth": 2}
    assert newest(tmp_path) == (tmp_path / "last.pth", [])
    save(tmp_path, 5, keep=1)
    assert values(tmp_path)["last.pth"] == 5 and values(tmp_path)["last.1.pth"] == 3


TWOS = (2).to_bytes(8, "little") * 20  # a part of the last tensor


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-100],
        lambda data: b"text",
        lambda data: data.replace(TWOS, TWOS[:-1] + b"!"),
    ],
)
def test_damage_is_seen_and_passed_over(tmp_path, change):
    for value in range(3):
        save(tmp_path, torch.full((100,), value))
    path = tmp_path / "last.pth"
    path.write_bytes(change(path.read_bytes()))
    assert damage(path) and damage(earlier(tmp_path, 1)) is None
    found, passed = newest(tmp_path)
    assert (
        found == tmp_path / "last.1.pth"
        and len(passed) == 1
        and passed[0].startswith(f"{path}: damaged (")
    )
    path.unlink()  # a kill between two renames
    assert newest(tmp_path) == (tmp_path / "last.1.pth", [])
    for age in (0, 1, 2):
        earlier(tmp_path, age).write_bytes(b"")
    with pytest.raises(UserError, match="all 3 checkpoints are damaged"):
        newest(tmp_path)
