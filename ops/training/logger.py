"""The logs of a run: ``log.txt`` for people, ``log.jsonl`` for programs, TensorBoard, trackers."""

import contextlib
import json
import math
import time
from io import BytesIO
from pathlib import Path

from tqdm import tqdm

from ops.training.run_dir import remove_training
from ops.training.trackers import Trackers
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

    As a context it turns an error that follows from the removal of the folder into a ``UserError``.

    Raises:
        UserError: another run uses the folder.
    """

    def __init__(self, folder, is_main, epochs=0, *, overwrite=False):
        self.is_main = is_main
        self.folder = folder
        self.writer = self.text = self.lines = self.trackers = None
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

    def start_trackers(self, names, run_ids, **run):
        """Also log scalars and images to trackers.

        Args:
            names: keys of ``ops.training.trackers.TRACKERS``.
            run_ids: those of the run that is continued, as ``run_ids`` returned them.
            **run: ``project``, ``name`` and ``config`` of ``Trackers``.
        """
        if self.writer:
            self.trackers = Trackers(names, run_ids=run_ids, warn=self.info, **run)

    @property
    def run_ids(self):
        """Name of a tracker -> id of this run in it."""
        return self.trackers.run_ids if self.trackers else {}

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
        """Write scalars to TensorBoard and the trackers.

        Args:
            step: number of optimizer steps.
            **values: name -> number. ``__`` becomes a path (``loss__train`` -> ``loss/train``).
        """
        if not self.writer:
            return
        from tensorboardX.summary import scalar

        named = {key.replace("__", "/"): value for key, value in values.items()}
        self._write_events(step, [scalar(name, value) for name, value in named.items()])
        if self.trackers:
            self.trackers.log_scalars(step, named)

    def log_image(self, step, name, image):
        """Write an image to TensorBoard and the trackers.

        Args:
            step: number of optimizer steps.
            name: of the image.
            image: a PIL image, RGB.
        """
        if not self.writer:
            return
        from tensorboardX.proto.summary_pb2 import Summary

        png = BytesIO()
        image.save(png, "PNG")
        content = Summary.Image(
            width=image.width,
            height=image.height,
            colorspace=len(image.getbands()),
            encoded_image_string=png.getvalue(),
        )
        self._write_events(step, [Summary(value=[Summary.Value(tag=name, image=content)])])
        if self.trackers:
            self.trackers.log_image(step, name, image)

    def _write_events(self, step, summaries):
        from tensorboardX.proto.event_pb2 import Event

        with _named(self.events):
            for summary in summaries:
                self.writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            self.writer.flush()

    def close(self, failed=False):
        """Flush and close the files, end the trackers, and unlock the folder.

        Args:
            failed: whether an exception ends the run.
        """
        if self.trackers:
            self.trackers.close(failed)
        for file in (self.text, self.lines, self.writer):
            if file:
                with contextlib.suppress(OSError):  # of a full disk, which was reported before
                    file.close()
        self._lock.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close(failed=kind is not None)
        # Open logs can be written all the same. The next new file, such as a checkpoint, cannot.
        if isinstance(error, OSError) and self._is_folder_removed():
            raise UserError(
                f"{self.folder}: removed while the training was writing there; put it back and "
                "continue with --resume auto, or start the training again"
            ) from None

    def _is_folder_removed(self):
        return self.is_main and self.folder is not None and not Path(self.folder).exists()


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
