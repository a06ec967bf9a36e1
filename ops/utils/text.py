"""Text for messages: values made safe for a terminal and a log, numbers with their nouns."""

import io
import re
import reprlib
import sys
import unicodedata
from typing import Any, TextIO

_LONGEST = 100  # characters of a value in a message
_PLAIN = "\n\t -~"
_NOT_PLAIN = re.compile(f"[^{_PLAIN}]")
# Control, format (bidirectional overrides, zero-width characters), lone surrogates, separators of
# lines and paragraphs. Letters of any script, also unassigned and private ones, stay.
_ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# tqdm moves the cursor with these.
_PROGRESS_MOVE = re.compile(r"(?:\n|\x1b\[A)*")


def printable(value: object) -> str:
    """A value from a file, short and printable on one line, for a message."""
    if isinstance(value, str):
        return repr(value[:_LONGEST])[1:-1]
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python converts
        return f"<{type(value).__name__}>"


def escape_controls(text: str) -> str:
    r"""The text with control and format characters written as escapes, ``\x1b`` or ``\u202e``.

    Such characters of a file's name or of a video's id could otherwise clear the screen, forge
    lines, or reverse the text. Line feeds and tabs stay.
    """
    return _NOT_PLAIN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character) not in _ESCAPED_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")


class EscapingStream:
    """A text stream that escapes control characters; all other attributes are the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if _PROGRESS_MOVE.fullmatch(text):
            self._stream.write(text)
        elif text.startswith("\r"):  # a progress bar is drawn over the one before it
            self._stream.write("\r" + escape_controls(text[1:]))
        else:
            self._stream.write(escape_controls(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def protect_output() -> None:
    """Make standard output and standard error safe for any text, for the rest of this process.

    Control characters are escaped, and so is what the encoding of the stream cannot represent
    (Chinese class names where ``PYTHONIOENCODING=latin-1``), in place of a UnicodeEncodeError.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, EscapingStream):
            continue
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, EscapingStream(stream))


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 video``, ``12 videos``.

    Args:
        count: any integer.
        singular: the noun for exactly one.
        plural: the noun for any other number; None: the singular with an ``s``.
    """
    if count == 1:
        return f"1 {singular}"
    return f"{count} {plural or singular + 's'}"
