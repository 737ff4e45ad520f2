"""A table of text that fits its terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from gitopperd.ctl.text import Terminal, clip, columns_of, pad

__all__ = ["Column", "lines_of"]

GAP = "  "


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column: its title, how it may give way on a narrow terminal, and the colours of its values."""

    title: str
    least: int | None = None
    """The width it may be cut to, in terminal columns; None: it is never cut."""
    elide: bool = True
    """True: cut as little as will do, and marked with "…". False: cut to `least` at once, unmarked."""
    colours: Mapping[str, str] | None = None
    """Value to colour; a value that is not in it stays plain."""


def lines_of(columns: Sequence[Column], rows: Sequence[Sequence[str]], terminal: Terminal) -> list[str]:
    """Return the title line and one line for each row; `rows` hold text that is safe to print."""
    titles = [column.title for column in columns]
    widths = [max(map(columns_of, cells)) for cells in zip(titles, *rows, strict=True)]
    if terminal.width is not None:
        widths = _narrowed(columns, widths, terminal.width)
    body = [_line(columns, row, widths, colour=terminal.colour) for row in rows]
    return [_line(columns, titles, widths, colour=False), *body]


def _narrowed(columns: Sequence[Column], widths: Sequence[int], limit: int) -> list[int]:
    """Cut columns from the left, as few as will do; what still does not fit, the terminal wraps."""
    narrowed = list(widths)
    for index, column in enumerate(columns):
        excess = sum(narrowed) + len(GAP) * (len(narrowed) - 1) - limit
        if excess <= 0:
            break
        if column.least is not None:
            wanted = narrowed[index] - excess if column.elide else column.least
            narrowed[index] = min(narrowed[index], max(column.least, wanted))
    return narrowed


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    shown = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        text = pad(clip(cell, width, "…" if column.elide else ""), width)
        fg = (column.colours or {}).get(cell) if colour else None
        # Styled after padding: escape sequences take no columns.
        shown.append(click.style(text, fg=fg) if fg else text)
    return GAP.join(shown).rstrip()
