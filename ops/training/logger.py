"""What a run leaves to read: ``log.txt`` for people, ``log.jsonl`` for programs, TensorBoard events for curves."""

import contextlib
import json
import math
import time
from pathlib import Path

from tqdm import tqdm

from ops.training.run_dir import remove_training
from ops.utils.errors import UserError
from ops.utils.files import atomic_write, read_regular
from ops.utils.locks import exclusive_lock
from ops.utils.text import escape_controls


class RunLog:
    """The logs of one run, written by the main process only; elsewhere, and without a folder, every method is silent or prints.

    folder: output directory, which is made, and which no other run can use meanwhile (UserError), or None; is_main: whether
    this process writes. Files are appended to, so a resumed run keeps its history; but what ``log.jsonl`` says of epochs after
    ``epochs``, those done, goes: they will be done again. With ``overwrite`` the files of an earlier training are removed
    first, once no other process is using the folder.
    """

    def __init__(self, folder, is_main, epochs=0, *, overwrite=False):
        self.is_main = is_main
        self.writer = self.text = self.lines = None
        self._lock = contextlib.ExitStack()
        if is_main and folder is not None:
            self._lock.enter_context(exclusive_lock(folder, "training", "--output_dir"))
            try:
                self._open(Path(folder), epochs, overwrite)
            except BaseException:
                self.close()
                raise

    def _open(self, folder, epochs, overwrite):
        from tensorboardX.event_file_writer import EventsWriter  # slow to import

        if overwrite:
            remove_training(folder)
        _drop_epochs(folder / "log.jsonl", epochs)
        self.text = open(folder / "log.txt", "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        self.lines = open(folder / "log.jsonl", "a", buffering=1, encoding="utf-8")  # noqa: SIM115
        # Not SummaryWriter: its thread dies of a full disk, and the run then waits for it for ever.
        self.events = folder / "tensorboard"
        self.events.mkdir(exist_ok=True)
        with _named(self.events):
            self.writer = EventsWriter(str(self.events / "events"))
            self.writer.flush()

    def info(self, message):
        """One line to the screen (above a progress bar) and to ``log.txt``, without control characters of names in it."""
        message = escape_controls(message)
        if self.is_main:
            tqdm.write(message)
        _write(self.text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def log_metrics(self, **values):
        """One JSON object to ``log.jsonl``."""
        _write(self.lines, json.dumps(values) + "\n")

    def log_scalars(self, step, **values):
        """Scalars to TensorBoard; keys with ``__`` become a path (``loss__train`` -> ``loss/train``)."""
        if not self.writer:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with _named(self.events):
            for key, value in values.items():
                summary = scalar(key.replace("__", "/"), value)
                self.writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self.writer.flush()

    def close(self):
        """Flush and close the files; the folder is free for the next run."""
        for file in (self.text, self.lines, self.writer):
            if file:
                with contextlib.suppress(OSError):  # of a full disk; the error before it says so
                    file.close()
        self._lock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def _write(file, text):
    if file:
        with _named(file.name):
            file.write(text)


@contextlib.contextmanager
def _named(path):
    """Context whose OSErrors name the file that is full."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _drop_epochs(path, epochs):
    """Leave the rows of the first epochs, and no broken line that a killed run may have left at the end."""
    try:
        text = read_regular(path).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); remove it, or give another --output_dir"
        ) from None
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and _epoch(line) <= epochs]
    if kept != lines:
        with atomic_write(path, "w") as file:
            file.writelines(kept)


def _epoch(line):
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return math.inf
