"""Collecting what is wrong with a configuration, and showing values without their secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TypeAlias

from libgitopper.errors import ConfigProblem

__all__ = ["BadValueError", "Location", "Problems", "redacted", "shown", "text_of"]

Location: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: ``("services", 0, "interval")``; empty for the whole."""

SHOWN_CHARACTERS = 80
HUGE = 10**18
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+")


class BadValueError(ValueError):
    """A value that can't be used; `details` pairs a location below the value with what to say of it."""

    def __init__(self, message: str = "", *, details: Iterable[tuple[Location, str]] = ()) -> None:
        self.details = tuple(details) or (((), message),)
        super().__init__("; ".join(text for _, text in self.details))


class Problems:
    """Every mistake found so far, each said once."""

    def __init__(self) -> None:
        # A dict keeps the order: services that share a bad default say the same of the same place.
        self._found: dict[tuple[Location, str], None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, where: Location, message: str) -> None:
        """Note that what stands at `where` is wrong; `message` has the value and the remedy."""
        self._found[where, message] = None

    def add_bad(self, where: Location, bad: BadValueError) -> None:
        """Note every detail of a value that could not be used."""
        for below, message in bad.details:
            self.add(where + below, message)

    def raise_bad(self) -> None:
        """Raise `BadValueError` with all that was found, if anything was: for what is a value of a key."""
        if self._found:
            raise BadValueError(details=self._found)

    def in_file_order(self, document: object) -> tuple[ConfigProblem, ...]:
        """Return the problems in the order in which `document` writes what they are about."""
        found = sorted(self._found, key=lambda problem: _position(document, problem[0]))
        return tuple(ConfigProblem(path=text_of(where), message=text) for where, text in found)


def _position(document: object, where: Location) -> tuple[int, ...]:
    """Return a sort key: the rank of each step of `where`; what is not written comes last."""
    position: list[int] = []
    for step in where:
        if isinstance(document, dict):
            position.append(list(document).index(step) if step in document else len(document))
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int):
            position.append(step)
            document = document[step] if step < len(document) else None
        else:
            position.append(0)
    return tuple(position)


def text_of(where: Location) -> str:
    """Return a location as an operator reads it: ``services[0].dirs[1].link``."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE_KEY.fullmatch(step) else _quoted(step)
            text += f".{name}" if text else name
    return text


def shown(value: object) -> str:
    """Return a TOML value for a message: one short line, without passwords and control characters."""
    if isinstance(value, str):
        return _quoted(redacted(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python refuses to print integers of more than 4300 digits.
        return str(value) if -HUGE < value < HUGE else "a huge number"
    if isinstance(value, float):
        return str(value)
    # What a list or a table holds is not shown: it may be long, and it may be a secret.
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return "a date or time"


def redacted(text: str) -> str:
    """Return `text` without what may be a password: all before the last ``@`` of a URL, and any query.

    It rather hides too much: a URL that is not well formed has no clear end of the password.
    """
    scheme = match.group() if (match := _SCHEME.match(text)) else ""
    head, at, tail = text.rpartition("@")
    if "://" in text and re.search(r"[?#]", text):
        return f"{scheme}…" if at else re.split(r"[?#]", text)[0] + "…"
    return f"{scheme}…@{tail}" if at and ":" in head else text


def _quoted(text: str) -> str:
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 1] + "…"
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)
