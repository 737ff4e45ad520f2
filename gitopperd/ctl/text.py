"""Text from afar, made safe to print, and measured in columns of a terminal."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from typing import TextIO

__all__ = ["Terminal", "clip", "columns_of", "pad", "readable", "visible"]


def visible(text: str) -> str:
    r"""Return `text` with whatever a terminal would not show as itself written as an escape.

    An answer comes over a network and holds names from a git repository: a control character in it
    could rewrite the operator's screen, and a mark that turns the direction of writing could make
    one name look like another. ESC becomes the four characters ``\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def readable(value: object) -> str:
    """Return a member of an answer as text: a string as itself, nothing for null, else JSON."""
    if value is None:
        return ""
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def columns_of(text: str) -> int:
    """Return how many columns of a terminal `text` takes; it must have gone through `visible`."""
    if text.isascii():
        return len(text)
    # Only a text that needs it pays for the tables of Unicode.
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def clip(text: str, limit: int, mark: str = "…") -> str:
    """Return `text` cut to `limit` columns; `mark` (one column, or empty) tells that it was cut."""
    if columns_of(text) <= limit:
        return text
    kept, room = "", limit - len(mark)
    for char in text:
        room -= columns_of(char)
        if room < 0:
            break
        kept += char
    return kept + mark


def pad(text: str, columns: int) -> str:
    """Return `text` with spaces after it, up to `columns`."""
    return text + " " * (columns - columns_of(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Terminal:
    """What standard output can show."""

    width: int | None = None
    """In columns; None where lines may be as long as they like, as in a pipe or a file."""
    colour: bool = False
    hosts: bool = False
    """Say which host a row is of, also where only one has answered."""

    @classmethod
    def of(cls, stream: TextIO) -> Terminal:
        """Tell what `stream` is; NO_COLOR (https://no-color.org) and TERM=dumb are honoured."""
        if not stream.isatty():
            return cls()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(width=shutil.get_terminal_size().columns, colour=not plain)


def _escape(char: str) -> str:
    """Write one character as Python would in a literal, a lone surrogate included."""
    return char.encode("unicode_escape").decode("ascii")
