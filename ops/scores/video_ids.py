"""The ids of scored videos: which can be written, and the join of two sources of scores by id."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ops.utils.errors import UserError


def check_ids(source: str | Path, ids: Sequence[str]) -> None:
    """Raises ``UserError``, which names ``source`` and the row, for an id that is empty or that a line of text cannot hold."""
    for row, video in enumerate(ids, 1):
        if not video or re.search("[\t\n\r\0\ud800-\udfff]", video):
            reason = "holds a tab, a line break or a byte that is no text" if video else "is empty"
            raise UserError(f"{source}: row {row}: the id {video!r} {reason}; rename the video")


def order_of(first: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]]) -> np.ndarray:
    """The rows of ``other`` in the order of ``first``, each ``(name, ids)``: int64 ``[V]``.

    Raises ``UserError`` when an id comes twice in one of them, or is not in both.
    """
    rows = [_rows(*first), _rows(*other)]
    lost = [
        [video for video in ids if video not in found]
        for ids, found in zip(rows, reversed(rows), strict=True)
    ]
    texts = [
        f"{len(absent)} of {len(ids)} videos of {there} are not in {here} ({_some(absent)})"
        for absent, ids, there, here in zip(
            lost, rows, (first[0], other[0]), (other[0], first[0]), strict=True
        )
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
