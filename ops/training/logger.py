"""The logs of a run: ``log.txt`` for people, ``log.jsonl`` for programs, TensorBoard events."""

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
    """The logs of one run, which only the main process writes.

    Files are appended to, so a resumed run keeps its history.

    Args:
        folder: output directory, which is created and locked; None: lines are printed only.
        is_main: whether this process writes.
        epochs: number of epochs that are done. Lines of ``log.jsonl`` about later ones are removed:
            these epochs will be done again.
        overwrite: remove the files of another training first.

    Raises:
        UserError: another run uses the folder.
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
        # Not SummaryWriter: its thread ends on a full disk, and the run then waits for it for ever.
        self.events = folder / "tensorboard"
        self.events.mkdir(exist_ok=True)
        with _named(self.events):
            self.writer = EventsWriter(str(self.events / "events"))
            self.writer.flush()

    def info(self, message):
        """Write a line to the screen, above the progress bar, and to ``log.txt``.

        Control characters, which names of files may contain, are escaped.
        """
        message = escape_controls(message)
        if self.is_main:
            tqdm.write(message)
        _write(self.text, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def log_metrics(self, **values):
        """Write one JSON object to ``log.jsonl``."""
        _write(self.lines, json.dumps(values) + "\n")

    def log_scalars(self, step, **values):
        """Write scalars to TensorBoard.

        Args:
            step: number of optimizer steps.
            **values: name -> number. ``__`` becomes a path (``loss__train`` -> ``loss/train``).
        """
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
        """Flush and close the files, and unlock the folder."""
        for file in (self.text, self.lines, self.writer):
            if file:
                with contextlib.suppress(OSError):  # of a full disk, which was reported before
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
    """Context whose OSErrors name the file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _drop_epochs(path, epochs):
    """Remove lines of later epochs, and a broken last line that a killed run may have left."""
    try:
        text = read_regular(path).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); remove it, or choose another --output_dir"
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
