"""What values refuse to be made of, or mend: the mistake shows where it is made, not where it does harm."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import Attribute

__all__ = ["has_zone", "is_absolute", "is_one_line", "is_texts", "is_tuple_of", "names_a_file", "writable"]


def writable(text: str) -> str:
    """Return `text` so that it can be written anywhere.

    Bytes of a file name that are no UTF-8 (lone surrogates, see `os.fsdecode`) are escaped.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is to be shown to an operator, and must be a str")
    return text.encode(errors="backslashreplace").decode()


def has_zone(value: object, attribute: Attribute[datetime | None], given: datetime | None) -> None:
    """Refuse a time that does not tell of which zone it is.

    Raises:
        ValueError: it is such a time; as ``datetime.now()``, where ``datetime.now(UTC)`` is meant.
    """
    if given is not None and given.tzinfo is None:
        name = f"{type(value).__name__}.{attribute.name}"
        raise ValueError(f"{name} is {given!r}, which has no time zone; as datetime.now(UTC)")


def is_texts(value: object, attribute: Attribute[tuple[str, ...]], given: object) -> None:
    """Refuse what is no tuple of texts.

    Raises:
        TypeError: it is something else, as a single text, each letter of which would count.
    """
    if not isinstance(given, tuple) or not all(isinstance(text, str) for text in given):
        name = f"{type(value).__name__}.{attribute.name}"
        raise TypeError(f"{name} is {given!r}, and must be a tuple of str; as ('web*',)")


def is_tuple_of(kind: type) -> Callable[[object, Attribute[Any], object], None]:
    """Return what refuses all but a tuple of `kind`.

    A list would differ from the tuple that is kept of it, at each look, and be followed as a change.
    """

    def check(value: object, attribute: Attribute[Any], given: object) -> None:
        if not isinstance(given, tuple) or not all(isinstance(one, kind) for one in given):
            name = f"{type(value).__name__}.{attribute.name}"
            raise TypeError(f"{name} is {given!r}, and must be a tuple of {kind.__name__}")

    return check


def is_one_line(value: object, attribute: Attribute[str], given: object) -> None:
    """Refuse what can't be shown in a log as it is.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, or has control characters or line breaks.
    """
    name = f"{type(value).__name__}.{attribute.name}"
    if not isinstance(given, str):
        raise TypeError(f"{name} is {given!r}, and must be a str")
    if not given or not given.isprintable():
        raise ValueError(f"{name} is {given!r}, and must be one line of printable text")


def is_absolute(value: object, attribute: Attribute[Path], given: object) -> None:
    """Refuse what is no absolute path: where else it led would depend on who asks.

    Raises:
        TypeError: it is no `Path`.
        ValueError: it is a relative one.
    """
    name = f"{type(value).__name__}.{attribute.name}"
    if not isinstance(given, Path):
        raise TypeError(f"{name} is {given!r}, and must be a pathlib.Path")
    if not given.is_absolute():
        raise ValueError(f"{name} is {str(given)!r}, and must be absolute; as Path.absolute() makes it")


def names_a_file(value: object, attribute: Attribute[str], given: object) -> None:
    """Refuse what can't be the name of a file, or would be a hidden one.

    Raises:
        TypeError: it is no text.
        ValueError: it is empty, begins with a dot, or has a slash.
    """
    name = f"{type(value).__name__}.{attribute.name}"
    if not isinstance(given, str):
        raise TypeError(f"{name} is {given!r}, and must be a str")
    if not given or given.startswith(".") or "/" in given or "\0" in given:
        raise ValueError(f"{name} is {given!r}, and must do as the name of a file; as 'nginx' or 'app@1'")
