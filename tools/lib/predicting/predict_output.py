"""Where predictions go: the terminal, JSON lines, a table."""

import contextlib
import csv
import sys
from collections.abc import Iterator
from typing import IO

from ops.predict import Prediction
from ops.utils.errors import UserError

STDOUT = "-"


class PredictionWriter:
    """Writes each prediction as it comes; an interrupted run leaves whole lines.

    Args:
        k: number of classes of a video.
        threshold: only classes of at least this probability.
        json: an open file for JSON lines, or None.
        table: an open file for CSV, or None.
        text: whether to print the classes.
    """

    def __init__(
        self,
        k: int,
        threshold: float,
        json: IO[str] | None = None,
        table: IO[str] | None = None,
        text: bool = True,
    ) -> None:
        self._k = k
        self._threshold = threshold
        self._json = json
        self._table = csv.writer(table) if table else None
        self._text = text
        if self._table:
            self._table.writerow(("path", "rank", "label", "name", "probability", "error"))

    def write(self, result: Prediction) -> None:
        if self._json:
            self._json.write(result.to_json(self._k, self._threshold) + "\n")
        if self._table:
            self._write_rows(result)
        if self._text:
            print(text_of(result, self._k, self._threshold), flush=True)

    def _write_rows(self, result: Prediction) -> None:
        if result.error:
            self._table.writerow((result.path, "", "", "", "", result.error))
        for rank, label in enumerate(result.best_labels(self._k, self._threshold), 1):
            name = result.class_names[label] if result.class_names else ""
            probability = f"{result.probabilities[label]:.6f}"
            self._table.writerow((result.path, rank, label, name, probability, ""))


def text_of(result: Prediction, k: int, threshold: float) -> str:
    """The video and its classes, one per line."""
    if result.error:
        return f"{result.path}\n    error: {result.error}"
    lines = [result.path]
    lines += [f"    {100 * p:5.1f} %  {name}" for name, p in result.top(k, threshold)]
    if len(lines) == 1:
        lines.append(f"    no class with a probability of {threshold:g} or more")
    return "\n".join(lines)


@contextlib.contextmanager
def open_lines(path: str | None) -> Iterator[IO[str] | None]:
    """A text file that is on the disk line by line, ``-`` for standard output; None for None.

    Raises:
        UserError: it cannot be written.
    """
    if path is None:
        yield None
        return
    if path == STDOUT:
        yield sys.stdout
        return
    with _create(path) as file:
        yield file


def _create(path: str) -> IO[str]:
    try:
        return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="", buffering=1)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
