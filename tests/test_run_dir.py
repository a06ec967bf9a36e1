import pytest
import torch

from ops.training.run_dir import (
    SaveInterval,
    check_unused,
    checkpoint_path,
    damage,
    latest_checkpoint,
    remove_training,
    rotate_checkpoints,
    training_files,
)
from ops.utils.errors import UserError
from ops.utils.files import atomic_write


def save(folder, value, keep=3):
    with atomic_write(folder / "last.pth") as file:
        torch.save({"value": value}, file)
        rotate_checkpoints(folder, keep)


def values(folder):
    return {path.name: torch.load(path, weights_only=True)["value"] for path in folder.iterdir()}


def test_latest_checkpoints_are_kept(tmp_path):
    assert latest_checkpoint(tmp_path) == (None, [])
    for value in range(5):
        save(tmp_path, value)
    assert values(tmp_path) == {"last.pth": 4, "last.1.pth": 3, "last.2.pth": 2}
    assert latest_checkpoint(tmp_path) == (tmp_path / "last.pth", [])
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
def test_damaged_checkpoints_are_passed_over(tmp_path, change):
    for value in range(3):
        save(tmp_path, torch.full((100,), value))
    path = tmp_path / "last.pth"
    path.write_bytes(change(path.read_bytes()))
    assert damage(path) and damage(checkpoint_path(tmp_path, 1)) is None
    found, passed = latest_checkpoint(tmp_path)
    assert (
        found == tmp_path / "last.1.pth"
        and len(passed) == 1
        and passed[0].startswith(f"{path}: damaged (")
    )
    path.unlink()  # a kill between two renames
    assert latest_checkpoint(tmp_path) == (tmp_path / "last.1.pth", [])
    for age in (0, 1, 2):
        checkpoint_path(tmp_path, age).write_bytes(b"")
    with pytest.raises(UserError, match="all 3 checkpoints are damaged"):
        latest_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["best.pth", "last.pth", "last.2.pth", "log.jsonl"])
def test_a_folder_with_a_training_is_refused(tmp_path, name):
    check_unused(tmp_path / "absent")
    check_unused(tmp_path)
    (tmp_path / name).write_text("content")
    with pytest.raises(UserError, match=r"--resume auto.*--output_dir.*--overwrite") as error:
        check_unused(tmp_path)
    assert str(tmp_path) in str(error.value) and name in str(error.value)


def test_a_run_that_failed_at_its_start_may_be_started_again(tmp_path):
    for name in ("args.json", "log.txt"):
        (tmp_path / name).write_text("content")
    (tmp_path / "log.jsonl").touch()
    check_unused(tmp_path)


def test_only_files_of_the_training_are_removed(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "scores").mkdir()
    files = ["args.json", "args.toml", "best.pth", "last.pth", "last.1.pth", "log.jsonl", "log.txt"]
    kept = ["notes.txt", "scores/0_crop0.pkl", "epoch_10.pth"]
    for name in [*files, *kept, "tensorboard/events.1"]:
        (tmp_path / name).write_text("content")
    assert {path.name for path in training_files(tmp_path)} == {*files, "tensorboard"}
    remove_training(tmp_path)
    left = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted(tmp_path / name for name in kept)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("500", SaveInterval(steps=500)),
        ("15m", SaveInterval(seconds=900)),
        ("0", SaveInterval()),
        ("0m", SaveInterval()),
    ],
)
def test_save_interval_is_parsed(text, interval):
    assert SaveInterval.parse(text) == interval


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5", "15 m", "15h"])
def test_invalid_save_interval_raises(text):
    with pytest.raises(ValueError):
        SaveInterval.parse(text)


def test_save_interval_is_due():
    every_third = SaveInterval(steps=3)
    assert [step for step in range(1, 8) if every_third.is_due(step, 0)] == [3, 6]
    after_a_minute = SaveInterval(seconds=60)
    assert after_a_minute.is_due(1, 61) and not after_a_minute.is_due(3, 59)
    assert not SaveInterval().is_due(3, 10**6)
