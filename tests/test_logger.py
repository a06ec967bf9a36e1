import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from ops.training.logger import RunLog
from ops.utils.errors import UserError
from ops.utils.files import atomic_write


def read_values(folder):
    """The (step, value) of all event files, whose records are length, crc, data, crc."""
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("events*")))
    found = []
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, value) for value in event.summary.value]
        data = data[12 + length + 4 :]
    return found


def read_events(folder):
    """The (tag, step, number) of all event files."""
    return [(value.tag, step, round(value.simple_value, 4)) for step, value in read_values(folder)]


def test_logs_are_written_and_appended_to(tmp_path, capsys):
    for epoch in (1, 2):
        with RunLog(tmp_path, is_main=True, epochs=epoch - 1) as log:
            log.info(f"epoch {epoch}")
            log.log_metrics(epoch=epoch, loss=0.5)
            log.log_scalars(epoch, val__top1=10.0 * epoch)
    assert capsys.readouterr().out == "epoch 1\nepoch 2\n"
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log.txt").read_text().splitlines()] == [
        "epoch 1",
        "epoch 2",
    ]
    assert [
        json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ] == [1, 2]
    assert ("val/top1", 2, 20.0) in read_events(tmp_path / "tensorboard")


def test_images_are_written(tmp_path):
    image = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    with RunLog(tmp_path, is_main=True) as log:
        log.log_image(7, "val/confusion", image)
    ((step, value),) = read_values(tmp_path / "tensorboard")
    assert (step, value.tag, value.image.height, value.image.width) == (7, "val/confusion", 4, 5)
    written = Image.open(io.BytesIO(value.image.encoded_image_string))
    assert np.array_equal(np.asarray(written), np.asarray(image))


def test_lines_of_repeated_epochs_are_removed(tmp_path):
    rows = ['{"epoch": 1}\n', '{"epoch": 2}\n', '{"epoch": 3}\n', '{"epo']
    (tmp_path / "log.jsonl").write_text("".join(rows))
    with RunLog(tmp_path, is_main=True, epochs=2) as log:
        log.log_metrics(epoch=3, loss=1.0)
    assert (
        tmp_path / "log.jsonl"
    ).read_text() == '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3, "loss": 1.0}\n'


def test_other_processes_write_nothing(tmp_path, capsys):
    with RunLog(tmp_path, is_main=False) as log:
        log.info("hello")
        log.log_metrics(epoch=1)
        log.log_scalars(1, a=1.0)
        log.log_image(1, "a", None)
        log.start_trackers(["wandb"], {}, project="a", name="b", config={})
        assert log.run_ids == {}
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_control_characters_are_escaped(tmp_path, capsys):
    with RunLog(tmp_path, is_main=True) as log:
        log.info("warning: v\x1b]0;x\x07\x9b\u202e\udcff 视频: unreadable")
    escaped = r"warning: v\x1b]0;x\x07\x9b\u202e\udcff 视频: unreadable"
    assert capsys.readouterr().out == escaped + "\n"
    assert (tmp_path / "log.txt").read_text("utf-8").split(" ", 2)[2] == escaped + "\n"


def test_a_full_disk_stops_the_run_with_the_name_of_the_file(tmp_path):
    """No thread writes the events: its error would be lost, and the run would wait for it."""
    resource = pytest.importorskip("resource")
    with RunLog(tmp_path, is_main=True) as log:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            with pytest.raises(OSError) as error:
                for step in range(100):
                    log.log_scalars(step, loss=1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(tmp_path / "tensorboard")


def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path):
    folder = tmp_path / "run"
    with (
        pytest.raises(UserError, match=r"/run: .*--resume auto"),
        RunLog(folder, is_main=True) as log,
    ):
        shutil.rmtree(folder)
        log.info("the open log accepts this")
        with atomic_write(folder / "last.pth"):
            pass


def test_another_file_that_is_missing_is_not_blamed_on_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError), RunLog(tmp_path, is_main=True):
        open(tmp_path / "data" / "video.mp4").close()
