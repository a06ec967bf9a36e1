"""Predictions as a file for a test server, in the csv of TSM's test_models.py."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.utils.errors import UserError
from ops.utils.files import atomic_write

# The test server of this dataset takes labels; those of others take a class name.
_LABEL_DATASET = "somethingv2"
_LABELS = 5


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    scores: np.ndarray,
    *,
    class_names: Sequence[str] | None,
    dataset: str | None,
    failed: np.ndarray | None = None,
) -> str | None:
    """Write one line per video, atomically: ``id;p1;p2;p3;p4;p5`` or ``id;class name``.

    A video that could not be read has no prediction: its line is the id and empty fields.

    Args:
        path: the file; its folder is created if it does not exist.
        ids: one id per video.
        scores: floats ``[V, classes]``; p1 to p5 are the labels of the best five classes (of equal
            scores the lower label first; fewer if there are fewer classes).
        class_names: in label order; not needed for ``somethingv2``.
        dataset: name of the dataset. ``somethingv2`` gets labels, others get class names.
        failed: bool ``[V]``, the videos that could not be read; None: all were read.

    Returns:
        A warning with the number of empty predictions, None if there are none.

    Raises:
        UserError: before anything is written, if class names are needed and their number is wrong,
            if ids or names contain ``;`` or a line break, or for a duplicate id; and if the file
            cannot be written.
        ValueError: the numbers of ids, scores and ``failed`` differ.
    """
    scores = np.asarray(scores)
    if failed is None:
        failed = np.zeros(len(ids), bool)
    failed = np.asarray(failed, bool)
    if scores.ndim != 2 or len(ids) != len(scores) or failed.shape != (len(ids),):
        raise ValueError(f"scores {scores.shape}, {len(ids)} ids and failed {failed.shape}")
    _check_texts(path, "id", ids)
    if len(set(ids)) < len(ids):
        duplicate = Counter(ids).most_common(1)[0][0]
        raise UserError(
            f"{path}: the id {duplicate} is listed twice; remove one from the list and test again"
        )
    best = np.argsort(-scores, axis=1, kind="stable")
    if dataset == _LABEL_DATASET:
        answers = [";".join(map(str, labels)) for labels in best[:, :_LABELS].tolist()]
        no_answer = ";" * (min(_LABELS, scores.shape[1]) - 1)
    else:
        _check_class_names(path, class_names, scores.shape[1])
        answers = [class_names[label] for label in best[:, 0]]
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


def _check_class_names(path: str | Path, class_names: Sequence[str] | None, num_class: int) -> None:
    if class_names is None:
        raise UserError(
            f"{path}: class names are needed (only {_LABEL_DATASET} is submitted as labels): "
            "--class_names"
        )
    if len(class_names) != num_class:
        raise UserError(
            f"{path}: {len(class_names)} class names, but the scores are of {num_class} classes"
        )
    _check_texts(path, "class name", class_names)


def _check_texts(path: str | Path, kind: str, texts: Sequence[str]) -> None:
    for text in texts:
        if not text or re.search("[;\n\r]", text):
            raise UserError(
                f"{path}: the {kind} {text!r} is empty, or contains ';' or a line break"
            )
