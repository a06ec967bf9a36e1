"""Parts of messages that several commands print."""

import sys
from collections.abc import Sequence


def first_names(names: Sequence[str], most: int = 5) -> str:
    """The first names of a sequence, joined by commas, and ``...`` where there are more."""
    text = ", ".join(names[:most])
    return f"{text}, ..." if len(names) > most else text


def note(text: str) -> None:
    """Print a line about the run beside the results, to standard error; nothing if it is empty."""
    if text:
        print(text, file=sys.stderr)
