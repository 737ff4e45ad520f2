"""The difference of two texts as hunks of a patch, in bounded time.

Myers' greedy algorithm (An O(ND) Difference Algorithm and Its Variations, 1986): the shortest script
of lines to remove and to add. Its cost grows with the lines and with the square of the edits, so it has a
budget; texts that have little in common become one hunk, which is as good to read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from attrs import frozen

__all__ = ["hunks"]

CONTEXT_LINES = 3
MAX_LINES = 1_000_000
MAX_EDITS = 500
MAX_STEPS = 1_000_000
"""How many lines may be compared while searching; about a tenth of a second."""
_NO_NEWLINE = b"\n\\ No newline at end of file\n"


@frozen
class _Replaced:
    """Lines of the one text that stand where those of the other were; either may be none."""

    old: int
    old_end: int
    new: int
    new_end: int


def hunks(before: bytes, after: bytes) -> Iterator[bytes] | None:
    """The hunks that make `after` of `before`, as in a unified diff.

    None where there are more than `MAX_LINES`: more than anybody reads, and than a second is enough for.
    """
    if before.count(b"\n") + after.count(b"\n") > MAX_LINES:
        return None
    old, new = _lines(before), _lines(after)
    return (_hunk(old, new, group) for group in _groups(_replaced(old, new)))


def _lines(text: bytes) -> list[bytes]:
    # Not splitlines: that splits at carriage returns, too.
    return io.BytesIO(text).readlines()


def _replaced(old: Sequence[bytes], new: Sequence[bytes]) -> list[_Replaced]:
    head = _equal(old, new)
    most = min(len(old), len(new)) - head
    tail = min(most, _equal(old[: -most - 1 : -1], new[: -most - 1 : -1]))
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    edits = _shortest(middle_old, middle_new)
    if edits is None:
        edits = [_Replaced(0, len(middle_old), 0, len(middle_new))]
    return [_Replaced(e.old + head, e.old_end + head, e.new + head, e.new_end + head) for e in edits]


def _equal(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """How many lines are equal from the start."""
    for at, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return at
    return min(len(one), len(other))


def _shortest(old: Sequence[bytes], new: Sequence[bytes]) -> list[_Replaced] | None:
    """The shortest script, in order; None when it is not found within the budget.

    `reach[diagonal]` is how far into `old` one gets on the diagonal (lines of `old` taken, less lines of
    `new` taken) with so many edits; `trail` keeps it for each number of edits, to find the way back.
    """
    goal = len(old) - len(new)
    reach = {1: 0}
    trail: list[dict[int, int]] = []
    steps = 0
    for edits in range(min(MAX_EDITS, len(old) + len(new)) + 1):
        trail.append(reach)
        reach = {}
        for diagonal in range(-edits, edits + 1, 2):
            start = _arrive(trail[-1], diagonal, edits)
            reach[diagonal] = end = _slide(old, new, start, start - diagonal)
            if diagonal == goal and end >= len(old):
                return _way_back(trail, len(old), goal)
            steps += end - start + 1
        if steps > MAX_STEPS:
            return None
    return None


def _arrive(reach: dict[int, int], diagonal: int, edits: int) -> int:
    """How far one gets on `diagonal` by one edit more: from the neighbour that got further."""
    if _by_adding(reach, diagonal, edits):
        return reach[diagonal + 1]
    return reach[diagonal - 1] + 1


def _by_adding(reach: dict[int, int], diagonal: int, edits: int) -> bool:
    return diagonal == -edits or (diagonal != edits and reach[diagonal - 1] < reach[diagonal + 1])


def _slide(old: Sequence[bytes], new: Sequence[bytes], x: int, y: int) -> int:
    while x < len(old) and y < len(new) and old[x] == new[y]:
        x += 1
        y += 1
    return x


def _way_back(trail: list[dict[int, int]], x: int, diagonal: int) -> list[_Replaced]:
    """The edits that led to `x` on `diagonal`; neighbours are joined."""
    found: list[_Replaced] = []
    for edits in range(len(trail) - 1, 0, -1):
        adding = _by_adding(trail[edits], diagonal, edits)
        diagonal += 1 if adding else -1
        x = trail[edits][diagonal]
        y = x - diagonal
        edit = _Replaced(x, x, y, y + 1) if adding else _Replaced(x, x + 1, y, y)
        if found and (edit.old_end, edit.new_end) == (found[-1].old, found[-1].new):
            edit = _Replaced(edit.old, found[-1].old_end, edit.new, found.pop().new_end)
        found.append(edit)
    return found[::-1]


def _groups(edits: list[_Replaced]) -> Iterator[list[_Replaced]]:
    """Edits whose contexts touch are shown in one hunk."""
    group: list[_Replaced] = []
    for edit in edits:
        if group and edit.old - group[-1].old_end > 2 * CONTEXT_LINES:
            yield group
            group = []
        group.append(edit)
    if group:
        yield group


def _hunk(old: Sequence[bytes], new: Sequence[bytes], group: list[_Replaced]) -> bytes:
    first, last = group[0], group[-1]
    lead = min(CONTEXT_LINES, first.old)
    end = min(last.old_end + CONTEXT_LINES, len(old))
    new_end = last.new_end + end - last.old_end
    parts = [b"@@ -", _range(first.old - lead, end), b" +", _range(first.new - lead, new_end), b" @@\n"]
    at = first.old - lead
    for edit in group:
        parts += _marked(b" ", old[at : edit.old])
        parts += _marked(b"-", old[edit.old : edit.old_end])
        parts += _marked(b"+", new[edit.new : edit.new_end])
        at = edit.old_end
    return b"".join(parts + _marked(b" ", old[at:end]))


def _range(start: int, end: int) -> bytes:
    """As in POSIX's diff: lines count from 1; of no lines, the one before is named."""
    count = end - start
    return b"%d" % (start + 1) if count == 1 else b"%d,%d" % (start + 1 if count else start, count)


def _marked(mark: bytes, lines: Sequence[bytes]) -> list[bytes]:
    marked = [mark + line for line in lines]
    if marked and not marked[-1].endswith(b"\n"):
        marked[-1] += _NO_NEWLINE
    return marked
