"""What the values of a configuration may be: each function takes a TOML value and returns ours.

None of them coerces: ``"no"`` is no boolean, ``true`` is no number, ``5.0`` is no integer. Each raises
`BadValueError` with the value and the remedy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from libgitopper.config.problems import BadValueError, shown

__all__ = [
    "absolute_path", "argv", "boolean", "duration", "each", "format_duration", "integer", "link",
    "matching", "mount", "one_of", "one_or_more", "parse_duration", "refuse_unprintable", "secret_file",
    "size", "string", "tables",
]  # fmt: skip

T = TypeVar("T")

UNITS_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
UNITS_BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"([0-9]{1,9})(KiB|MiB|GiB|TiB)")
_DURATION = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+)s)?(?:([0-9]+)ms)?")


def string(value: object, example: str) -> str:
    """Return a string; `example` is what the remedy tells to write."""
    if isinstance(value, str):
        return value
    raise BadValueError(f"{shown(value)} is not a string; write {example}")


def refuse_unprintable(text: str) -> None:
    """Refuse control characters, and others that an operator would not see."""
    for character in text:
        if not character.isprintable():
            raise BadValueError(f"{shown(text)} has the character U+{ord(character):04X} in it; remove it")


def boolean(value: object) -> bool:
    """Return a boolean, strictly."""
    if isinstance(value, bool):
        return value
    raise BadValueError(f"{shown(value)} is not a boolean; write true or false, without quotes")


def integer(minimum: int, maximum: int) -> Callable[[object], int]:
    """Return a reader of integers from `minimum` to `maximum`."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        span = f"a whole number from {minimum} to {maximum}"
        raise BadValueError(f"{shown(value)} is not {span}; write one, without quotes")

    return read


def parse_duration(text: str) -> float:
    """Return the seconds of a duration as ``30s``, ``5m``, ``1h30m`` or ``500ms``.

    Raises:
        BadValueError: it is none (a `ValueError`).
    """
    match = _DURATION.fullmatch(text)
    if not text or not match or len(text) > 32:
        raise BadValueError(f'{shown(text)} is not a duration; write "30s" or "5m"')
    amounts = (int(amount or 0) for amount in match.groups())
    return math.fsum(n * unit for n, unit in zip(amounts, UNITS_SECONDS.values(), strict=True))


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` reads it, to the millisecond; `seconds` is not negative."""
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} s is no duration")
    rest = round(seconds * 1000)
    text = ""
    for unit, unit_milliseconds in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        amount, rest = divmod(rest, unit_milliseconds)
        text += f"{amount}{unit}" if amount else ""
    return text or "0s"


def duration(minimum: str, maximum: str) -> Callable[[object], float]:
    """Return a reader of durations between two others; what is read is in seconds."""
    low, high = parse_duration(minimum), parse_duration(maximum)

    def read(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise BadValueError(f'{shown(value)} has no unit; write "30s" or "5m", with quotes')
        seconds = parse_duration(string(value, '"30s" or "5m"'))
        if not low <= seconds <= high:
            short = "short" if seconds < low else "long"
            raise BadValueError(f'{shown(value)} is too {short}; write "{minimum}" to "{maximum}"')
        return seconds

    return read


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise BadValueError(f'{shown(text)} is not a size; write "100MiB" or "2GiB"')
    return int(match[1]) * UNITS_BYTES[match[2]]


def size(minimum: str, maximum: str) -> Callable[[object], int]:
    """Return a reader of sizes between two others; what is read is in bytes."""
    low, high = _parse_size(minimum), _parse_size(maximum)

    def read(value: object) -> int:
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise BadValueError(f'{shown(value)} has no unit; write "100MiB" or "2GiB", with quotes')
        bytes_ = _parse_size(string(value, '"100MiB" or "2GiB"'))
        if not low <= bytes_ <= high:
            much = "little" if bytes_ < low else "much"
            raise BadValueError(f'{shown(value)} is too {much}; write "{minimum}" to "{maximum}"')
        return bytes_

    return read


def matching(pattern: str, what: str, remedy: str) -> Callable[[object], str]:
    """Return a reader of strings that match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def read(value: object) -> str:
        if compiled.fullmatch(text := string(value, remedy)):
            return text
        raise BadValueError(f"{shown(text)} is not {what}; write {remedy}")

    return read


def each(read: Callable[[object], T], values: list[object]) -> tuple[T, ...]:
    """Read every item of a list, and tell of every bad one."""
    items: list[T] = []
    details: list[tuple[tuple[str | int, ...], str]] = []
    for index, value in enumerate(values):
        try:
            items.append(read(value))
        except BadValueError as bad:
            details += [((index, *below), message) for below, message in bad.details]
    if details:
        raise BadValueError(details=details)
    return tuple(items)


def one_or_more(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Return a reader of one value, or of a list of them, which can be empty."""
    return lambda value: each(read, value) if isinstance(value, list) else (read(value),)


def one_of(known: Sequence[str]) -> Callable[[object], str]:
    """Return a reader of one of a few words."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in known:
            return value
        *rest, last = (f'"{word}"' for word in known)
        raise BadValueError(f"{shown(value)} is not known; write {', '.join(rest)} or {last}")

    return read


def tables(value: object) -> list[object]:
    """Return a list of tables, not looked into; it has at least one."""
    if isinstance(value, list) and value:
        return value
    what = "the list is empty" if isinstance(value, list) else f"{shown(value)} is not a list of tables"
    raise BadValueError(f'{what}; write [{{ local = "/etc/nginx", link = "nginx/etc" }}]')


def argv(example: str) -> Callable[[object], tuple[str, ...]]:
    """Return a reader of a command and its arguments. They are never shown: arguments can be secrets."""
    remedy = f"write a list of strings, as {example}; no shell reads it"

    def argument(item: object) -> str:
        if not isinstance(item, str):
            raise BadValueError(
                "this is not a string (not shown: it may be a secret); write a string, in quotes"
            )
        if "\0" in item:
            raise BadValueError("no argument of a command can hold the character U+0000; remove it")
        return item

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not value[0]:
            raise BadValueError(f"this names no command; {remedy}")
        return each(argument, value)

    return read


def absolute_path(value: object) -> Path:
    """Return an absolute path other than ``/``, without ``..``, doubled and trailing slashes dropped."""
    text = string(value, 'an absolute path, as "/etc/nginx"')
    refuse_unprintable(text)
    if not text.startswith("/"):
        hint = " (~ is not expanded)" if text.startswith("~") else ""
        raise BadValueError(f'{shown(text)} is not an absolute path{hint}; begin it with "/"')
    if ".." in text.split("/"):
        raise BadValueError(f'{shown(text)} has ".." in it; write the path that it leads to')
    path = Path("/" + text.strip("/"))
    if path == Path("/"):
        raise BadValueError(f'{shown(text)} is the root directory; name one below it, as "/etc/nginx"')
    return path


def mount(value: object) -> Path:
    """Return the directory for releases: not one of those that gitopper makes in another."""
    path = absolute_path(value)
    if ".gitopper" in path.parts:
        raise BadValueError(
            f"{shown(value)} is inside a .gitopper, which is no place for another mount;"
            " write the directory around it"
        )
    return path


def secret_file(value: object) -> Path:
    """Return the absolute path of a file. A bad value is not shown: it is often the secret itself."""
    try:
        return absolute_path(value)
    except BadValueError:
        message = "this is not the absolute path of a file (not shown: it may be a secret)"
        remedy = 'put the secret into a file, and write its path, as "/etc/gitopper/secret"'
        raise BadValueError(f"{message}; {remedy}") from None


def link(value: object) -> str:
    """Return a path in the repository: relative, without ``.``, ``..``, ``.git`` and empty parts."""
    text = string(value, 'a path in the repository, as "nginx/etc"')
    refuse_unprintable(text)
    if text.startswith("/"):
        raise BadValueError(f"{shown(text)} is absolute; write the path from the top of the repository")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadValueError(f'{shown(text)} has ".." in it; write the path from the top of the repository')
    if any(part.lower() == ".git" for part in parts):
        raise BadValueError(f'{shown(text)} has ".git" in it; git keeps no such path, name another')
    if not parts:
        raise BadValueError(f'{shown(text)} names the whole repository; name a path in it, as "nginx/etc"')
    return "/".join(parts)
