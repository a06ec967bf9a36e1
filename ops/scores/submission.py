"""Predictions as a file for a test server, in the csv of TSM's test_models.py."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.utils.errors import UserError
from ops.utils.files import atomic_write


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    scores: np.ndarray,
    *,
    class_names: Sequence[str] | None,
    dataset: str | None,
    failed: np.ndarray | None = None,
) -> str | None:
    """Write one line per video, atomically: ``id;p1;p2;p3;p4;p5`` for ``somethingv2``, else ``id;class name``.

    A video that could not be read has no prediction: its line is the id and empty fields.

    Args:
        path: the file; its folder is created if it does not exist.
        ids: one id per video.
        scores: floats ``[V, classes]``; p1 to p5 are the labels of the best five classes (of equal scores the lower
            label first; fewer where there are fewer classes).
        class_names: in label order; not needed for ``somethingv2``.
        dataset: the name of the dataset, which decides the format.
        failed: bool ``[V]``, the videos that could not be read; None: all were read.

    Returns:
        A warning that says how many predictions are empty, None if all are there.

    Raises:
        UserError: before anything is written, when names are needed and there is not one for each class, for ids and
            names that hold ``;`` or a line break, for a duplicate id, and for a file that cannot be written.
        ValueError: when ``ids`` or ``failed`` are not as many as the scores.
    """
    scores = np.asarray(scores)
    failed = np.zeros(len(ids), bool) if failed is None else np.asarray(failed, bool)
    if scores.ndim != 2 or len(ids) != len(scores) or failed.shape != (len(ids),):
        raise ValueError(f"scores {scores.shape}, {len(ids)} ids and failed {failed.shape}")
    _check_texts(path, "id", ids)
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise UserError(
            f"{path}: the id {twice} comes twice; remove one from the list and test again"
        )
    best = np.argsort(-scores, axis=1, kind="stable")
    if dataset == "somethingv2":
        answers = [";".join(map(str, row)) for row in best[:, :5].tolist()]
        no_answer = ";" * (min(5, scores.shape[1]) - 1)
    else:
        names = _names(path, class_names, scores.shape[1])
        answers = [names[label] for label in best[:, 0]]
        no_answer = ""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as file:
            for video, answer, unread in zip(ids, answers, failed, strict=True):
                file.write(f"{video};{no_answer if unread else answer}\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    count = int(failed.sum())
    if not count:
        return None
    predictions = "1 prediction is" if count == 1 else f"{count} predictions are"
    return f"{path}: {count} of {len(ids)} videos could not be read, so {predictions} left empty"


def _names(path: str | Path, class_names: Sequence[str] | None, classes: int) -> Sequence[str]:
    if class_names is None:
        raise UserError(
            f"{path}: needs the names of the classes (only somethingv2 is submitted as labels): --class_names"
        )
    if len(class_names) != classes:
        raise UserError(
            f"{path}: {len(class_names)} class names, but the scores are of {classes} classes"
        )
    _check_texts(path, "class name", class_names)
    return class_names


def _check_texts(path: str | Path, kind: str, texts: Sequence[str]) -> None:
    for text in texts:
        if not text or re.search("[;\n\r]", text):
            raise UserError(
                f"{path}: the {kind} {text!r} does not fit in a line with ';' between its parts"
            )
