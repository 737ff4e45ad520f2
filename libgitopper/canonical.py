"""A text for a value that stays the same from version to version."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from attrs import fields, has

__all__ = ["canonical"]


def canonical(value: object, names: Collection[str]) -> str:
    """Return a text for those fields of `value`, an attrs object, that are in `names`.

    A field with its default is left out, at every depth: one that a later version adds changes nothing
    until somebody sets it.
    """
    return json.dumps(
        {name: said for name, said in _fields(value).items() if name in names}, sort_keys=True
    )


def _fields(value: Any) -> dict[str, object]:
    given = ((one, getattr(value, one.name)) for one in fields(type(value)))
    return {one.name: _said(found) for one, found in given if found != one.default}


def _said(value: object) -> object:
    if has(type(value)):
        return _fields(value)
    if isinstance(value, tuple):
        return [_said(one) for one in value]
    return value if isinstance(value, bool | int | float | None) else str(value)
