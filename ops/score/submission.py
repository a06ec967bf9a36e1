"""Predictions as a file for a test server, in the csv of TSM's test_models.py."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ops.errors import UserError
from ops.files import atomic_write


def write_submission(
    path: str | Path,
    ids: Sequence[str],
    scores: np.ndarray,
    *,
    class_names: Sequence[str] | None,
    dataset: str | None,
) -> None:
    """Write one line a video, atomically: ``id;p1;p2;p3;p4;p5`` for ``somethingv2``, else ``id;class name``.

    ``scores`` floats ``[V, classes]``; p1 to p5 are the labels of the best five classes (of equal scores the lower
    label first; fewer where there are fewer classes). The folder is made if it is not there. Raises ``UserError``,
    before anything is written, when names are needed and there is not one for each class, for ids and names that
    hold ``;`` or a line break, an id that comes twice, and a file that cannot be written; ``ValueError`` when there are
    not as many ids as scores.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or len(ids) != len(scores):
        raise ValueError(f"scores {scores.shape} and {len(ids)} ids")
    _check_texts(path, "id", ids)
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise UserError(
            f"{path}: the id {twice} comes twice; remove one from the list and test again"
        )
    best = np.argsort(-scores, axis=1, kind="stable")
    if dataset == "somethingv2":
        answers = [";".join(map(str, row)) for row in best[:, :5].tolist()]
    else:
        names = _names(path, class_names, scores.shape[1])
        answers = [names[label] for label in best[:, 0]]
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "w") as file:
            file.writelines(
                f"{video};{answer}\n" for video, answer in zip(ids, answers, strict=True)
            )
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


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
