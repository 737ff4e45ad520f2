"""What a part of the proof found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

__all__ = ["Row", "render"]


@define(kw_only=True)
class Row:
    """One line of the table."""

    name: str
    points: int = 0
    promises: int = 0
    failures: list[str] = field(factory=list)
    """What was broken, and how to see it again."""


def render(rows: Sequence[Row]) -> str:
    """Return the table, with every failure below it."""
    width = max([len(row.name) for row in rows] + [len("total")])
    total = Row(
        name="total",
        points=sum(row.points for row in rows),
        promises=sum(row.promises for row in rows),
        failures=[failure for row in rows for failure in row.failures],
    )
    lines = [f"{'':{width}}  points tried  promises checked  failures"]
    lines += [
        f"{row.name:{width}}  {row.points:12}  {row.promises:16}  {len(row.failures):8}"
        for row in (*rows, total)
    ]
    return "\n".join([*lines, *total.failures])
