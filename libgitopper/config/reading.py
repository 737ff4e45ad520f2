"""The declarative reader: a `Key` says what may be written, `read_table` says what is wrong with what is.

Values keep their place: a rule between two keys can name the line that an operator has to change, be
it in the service or in the defaults that it inherits.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from attrs import frozen

from libgitopper.config.problems import BadValueError, Location, Problems, shown

__all__ = ["Found", "Key", "Layers", "Table", "read_table"]

T = TypeVar("T")


@frozen(kw_only=True, eq=False)
class Key(Generic[T]):
    """One key of a table: what it is called, and what it may hold."""

    name: str
    kind: str
    """What its values are, in the words of the reference page."""
    parse: Callable[[object], T]
    """Takes the TOML value; raises `BadValueError`."""
    default: object = None
    """What it holds where it is not written, as an operator would write it; None where that depends."""
    example: str = ""
    """What to write where it is missing, for keys that must be there; empty for the others."""

    @property
    def default_value(self) -> T:
        """The default, read."""
        return self.parse(self.default)


@frozen(kw_only=True)
class Found(Generic[T]):
    """A value, and where it is written."""

    value: T
    where: Location


@frozen(kw_only=True)
class Table:
    """One TOML table as it was read; a key that is written and bad has no value."""

    where: Location
    written: frozenset[str] = frozenset()
    values: Mapping[str, object] = {}

    def get(self, key: Key[T]) -> T | None:
        """Return the value of `key`; None where it is not written, or bad."""
        return cast("T | None", self.values.get(key.name))

    def writes(self, key: Key[Any]) -> bool:
        """Tell whether `key` is written here, good or bad."""
        return key.name in self.written

    def at(self, key: Key[Any]) -> Location:
        """Return where `key` is written, or would be."""
        return (*self.where, key.name)


@frozen
class Layers:
    """Tables in which a key is looked for, the most specific first."""

    tables: tuple[Table, ...]

    def find(self, key: Key[T]) -> Found[T] | None:
        """Return the most specific value of `key`; None where none is written, or that one is bad."""
        for table in self.tables:
            if table.writes(key):
                value = table.get(key)
                return None if value is None else Found(value=value, where=table.at(key))
        return None

    def value(self, key: Key[T]) -> T:
        """Return the most specific value of `key`, else its default."""
        found = self.find(key)
        return found.value if found else key.default_value

    def writes(self, key: Key[Any]) -> bool:
        """Tell whether any of the tables has `key`, good or bad."""
        return any(table.writes(key) for table in self.tables)


def read_table(
    raw: object,
    keys: Sequence[Key[Any]],
    where: Location,
    problems: Problems,
    *,
    homes: Mapping[str, str] | None = None,
) -> Table | None:
    """Read a table with `keys`, noting all that is wrong; None when `raw` is no table at all.

    Args:
        raw: what TOML gave for it.
        keys: the keys it may have.
        where: its place.
        problems: takes what is wrong.
        homes: name of a key -> the tables that it belongs to, for keys written in the wrong one.
    """
    if not isinstance(raw, dict):
        problems.add(where, f"{shown(raw)} is not a table; write it as name = value pairs")
        return None
    known = {key.name: key for key in keys}
    values: dict[str, object] = {}
    for name, value in raw.items():
        if name not in known:
            problems.add((*where, name), _unknown(name, known, homes or {}))
            continue
        try:
            values[name] = known[name].parse(value)
        except BadValueError as bad:
            problems.add_bad((*where, name), bad)
    for key in keys:
        if key.example and key.name not in raw:
            problems.add((*where, key.name), f"this key is missing; write {key.example}")
    return Table(where=where, written=frozenset(raw), values=values)


def _unknown(name: str, known: Iterable[str], homes: Mapping[str, str]) -> str:
    if name in homes:
        return f"this key does not belong here; move it to {homes[name]}"
    spelling = name[:64].lower().replace("-", "_")
    if close := difflib.get_close_matches(spelling, known, n=1):
        return f'unknown key; did you mean "{close[0]}"?'
    return f"unknown key; remove it, or write one of: {', '.join(known)}"
