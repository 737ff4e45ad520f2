"""Texts that leave the daemon: whatever a terminal would not show as itself is written as an escape.

They hold names, subjects and contents from repositories, and what programs printed. A control character in
them could rewrite an operator's screen, and a mark that turns the direction of writing make one name look
like another.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["as_json", "visible"]


def visible(text: str, keep: str = "") -> str:
    r"""Return `text` with an escape for whatever is not printable; ESC becomes ``\x1b``. `keep` stays."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escape(char) for char in text)


def as_json(value: Any, default: Any = None) -> str:
    """Return `value` as JSON on one line, in UTF-8, with JSON's own escapes for what is not printable."""
    text = json.dumps(value, ensure_ascii=False, default=default)
    if text.isprintable():
        return text
    # Only its strings can have such characters, and there an escape means the same character.
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
