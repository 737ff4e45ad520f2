"""What a part of the proof found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["Row", "render"]


@frozen(kw_only=True)
class Row:
    """One line of the table."""

    part: str
    case: str
    points: int
    """How many points were tried."""
    promises: int
    """How many promises were checked."""
    failures: Sequence[str] = ()
    """What was broken, and how to see it again."""


def render(rows: Sequence[Row]) -> str:
    """Return the table, with every failure below it."""
    failures = [failure for row in rows for failure in row.failures]
    cells = [("part", "case", "points tried", "promises checked", "failures")]
    cells += [
        (row.part, row.case, str(row.points), str(row.promises), str(len(row.failures))) for row in rows
    ]
    points, promises = sum(row.points for row in rows), sum(row.promises for row in rows)
    cells.append(("total", "", str(points), str(promises), str(len(failures))))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = []
    for part, case, *numbers in cells:
        words = [part.ljust(widths[0]), case.ljust(widths[1])]
        words += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        lines.append("  ".join(words))
    return "\n".join([*lines, *failures])
