"""The ids of scored videos: check them, and match two sources of scores by id."""

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ops.utils.errors import UserError

_NAMED_IDS = 3  # at most, in a message about missing videos
# A tab, a line break, NUL, or a surrogate, which stands for a byte that is not UTF-8.
_INVALID = re.compile("[\t\n\r\0\ud800-\udfff]")


def check_ids(source: str | Path, ids: Sequence[str]) -> None:
    """Check that each id can be written as a field of a line of text.

    Raises:
        UserError: an id is empty or has an invalid character; it names ``source`` and the row.
    """
    for row, video in enumerate(ids, 1):
        if not video:
            raise UserError(f"{source}: row {row}: the id {video!r} is empty; rename the video")
        if _INVALID.search(video):
            raise UserError(
                f"{source}: row {row}: the id {video!r} contains a tab, a line break or a byte "
                "that is not text; rename the video"
            )


def order_of(first: tuple[str, Sequence[str]], second: tuple[str, Sequence[str]]) -> np.ndarray:
    """Find the rows of the second source in the order of the first.

    Args:
        first: name and ids of the first source.
        second: name and ids of the second source.

    Returns:
        Row numbers of the second source, int64 ``[V]``.

    Raises:
        UserError: an id occurs twice in one source, or is not in both.
    """
    first_name, first_ids = first
    second_name, second_ids = second
    first_rows = _rows(first_name, first_ids)
    second_rows = _rows(second_name, second_ids)
    problems = [
        *_missing(first_name, first_rows, second_name, second_rows),
        *_missing(second_name, second_rows, first_name, first_rows),
    ]
    if problems:
        raise UserError(f"{'; '.join(problems)}; test both on the same list")
    return np.array([second_rows[video] for video in first_ids], np.int64)


def _rows(name: str, ids: Sequence[str]) -> dict[str, int]:
    rows = {}
    for row, video in enumerate(ids):
        if video in rows:
            raise UserError(
                f"{name}: the id {video} is in rows {rows[video] + 1} and {row + 1}, so its scores "
                "cannot be joined; remove one from the list and test again"
            )
        rows[video] = row
    return rows


def _missing(
    name: str, rows: dict[str, int], other_name: str, other_rows: dict[str, int]
) -> list[str]:
    """A message about the videos that the other source lacks, or none."""
    missing = [video for video in rows if video not in other_rows]
    if not missing:
        return []
    names = list(islice(missing, _NAMED_IDS))
    if len(missing) > _NAMED_IDS:
        names.append("...")
    count = f"{len(missing)} of {len(rows)} videos"
    return [f"{count} of {name} are not in {other_name} ({', '.join(names)})"]
