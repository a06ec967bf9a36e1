"""The ids of scored videos: ``videos.txt`` beside score files, and the join of two sources of scores by id."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ops.errors import UserError
from ops.files import atomic_write

FILE_NAME = "videos.txt"


def check_ids(source: str | Path, ids: Sequence[str]) -> None:
    """Raises ``UserError``, which names ``source`` and the row, for an id that is empty or that a line of text cannot hold."""
    for row, video in enumerate(ids, 1):
        if not video or re.search("[\t\n\r\0\ud800-\udfff]", video):
            reason = "holds a tab, a line break or a byte that is no text" if video else "is empty"
            raise UserError(f"{source}: row {row}: the id {video!r} {reason}; rename the video")


def save_videos(directory: str | Path, ids: Sequence[str], labels: Sequence[int]) -> None:
    """Write ``videos.txt`` of a score directory, atomically: ``id<TAB>label`` for each row of its score files, in order.

    The folder is made if it is not there. Raises ``UserError`` as ``check_ids`` does and ``ValueError`` when there is
    not one label for each id.
    """
    if len(ids) != len(labels):
        raise ValueError(f"{len(ids)} ids and {len(labels)} labels")
    path = Path(directory) / FILE_NAME
    check_ids(path, ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "w") as file:
        file.writelines(f"{video}\t{int(label)}\n" for video, label in zip(ids, labels, strict=True))


def load_videos(directory: str | Path) -> tuple[list[str], np.ndarray] | None:
    """(ids, labels int64 ``[V]``) of ``videos.txt``, in row order, or None where there is no such file.

    Ids are kept as they are, blanks included. A byte order mark, Windows line ends, blanks around a label and empty
    lines at the end are let pass. Raises ``UserError``, with ``file:line``, for everything else.
    """
    path = Path(directory) / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    ids, labels = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").split(b"\n"), 1):
        try:
            text = line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError:
            raise UserError(f"{path}:{number}: is not UTF-8 text") from None
        match = re.fullmatch("([^\t\r\0]+)\t *([0-9]{1,9}) *", text)
        if not match:
            raise UserError(f"{path}:{number}: {text[:100]!r} is not an id, a tab and a label")
        ids.append(match[1])
        labels.append(int(match[2]))
    return ids, np.array(labels, np.int64)


def check_labels(directory: str | Path, listed: np.ndarray, scored: np.ndarray) -> None:
    """Raises ``UserError`` when the labels of ``videos.txt`` are not those ``[V]`` of the score files beside it."""
    path = Path(directory) / FILE_NAME
    if len(listed) != len(scored):
        raise UserError(f"{path}: {len(listed)} videos, but the score files beside it have {len(scored)}")
    if (rows := np.flatnonzero(listed != scored)).size:
        row = rows[0]
        raise UserError(f"{path}:{row + 1}: label {listed[row]}, but {scored[row]} in the score files beside it")


def order_of(first: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]]) -> np.ndarray:
    """The rows of ``other`` in the order of ``first``, each ``(name, ids)``: int64 ``[V]``.

    Raises ``UserError`` when an id comes twice in one of them, or is not in both.
    """
    rows = [_rows(*first), _rows(*other)]
    lost = [[video for video in ids if video not in found] for ids, found in zip(rows, reversed(rows), strict=True)]
    texts = [
        f"{len(absent)} of {len(ids)} videos of {there} are not in {here} ({_some(absent)})"
        for absent, ids, there, here in zip(lost, rows, (first[0], other[0]), (other[0], first[0]), strict=True)
        if absent
    ]
    if texts:
        raise UserError(f"{'; '.join(texts)}; test both on the same list")
    return np.array([rows[1][video] for video in first[1]], np.int64)


def _rows(name: str, ids: Sequence[str]) -> dict[str, int]:
    rows = {}
    for row, video in enumerate(ids):
        if rows.setdefault(video, row) != row:
            raise UserError(
                f"{name}: the id {video} is in rows {rows[video] + 1} and {row + 1}, so that its scores cannot be joined; "
                f"remove one from the list and test again"
            )
    return rows


def _some(names: Sequence[str]) -> str:
    return ", ".join(islice(names, 3)) + ", ..." * (len(names) > 3)
