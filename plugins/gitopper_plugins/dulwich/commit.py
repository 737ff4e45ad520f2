"""Reading a commit object: leniently, since anybody may have written it, and as git reads it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from libgitopper import Commit

__all__ = ["read_commit"]

MOST_WORDS = 500
"""How much of a name or a subject is kept; nobody reads on."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_SECONDS = int((datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH).total_seconds())
_PARENT = re.compile(rb"parent ([0-9a-f]{40})\Z")
_IDENT = re.compile(rb"(?P<name>[^<>]*)<(?P<mail>[^<>]*)> ?(?P<seconds>[0-9]{0,19})")


def read_commit(revision: str, raw: bytes) -> Commit:
    """Read `raw`, the commit object `revision`. What it lacks is empty, and its time then 1970."""
    head, _, message = raw.partition(b"\n\n")
    lines = head.split(b"\n")
    name, _ = _ident(lines, b"author ")
    _, seconds = _ident(lines, b"committer ")
    return Commit(
        revision=revision,
        parents=_parents(lines),
        author=name,
        at=_EPOCH + timedelta(seconds=min(seconds, _LATEST_SECONDS)),
        subject=message.lstrip(b"\n").partition(b"\n")[0].strip().decode(errors="replace")[:MOST_WORDS],
        raw=raw,
    )


def _parents(lines: list[bytes]) -> tuple[str, ...]:
    """Only what stands right behind the tree: a line like that further down is no parent for git."""
    parents = []
    for line in lines[1:]:
        found = _PARENT.match(line)
        if not found:
            break
        parents.append(found[1].decode())
    return tuple(parents)


def _ident(lines: list[bytes], key: bytes) -> tuple[str, int]:
    """Name (or address, where there is none) and time of the first line that starts with `key`."""
    value = next((line.removeprefix(key) for line in lines if line.startswith(key)), b"")
    found = _IDENT.match(value)
    if not found:
        return "", 0
    name = found["name"].strip() or found["mail"].strip()
    return name.decode(errors="replace")[:MOST_WORDS], int(found["seconds"] or 0)
