"""What a start finds on a host, as one word: the same for hosts that no daemon would treat differently.

A daemon that starts knows nothing but what is on the disk, what is mounted, and what upstream says. So of
hosts that were left alike by different faults, one tells what becomes of all of them. Left out is what a
daemon tells and never decides by: names that are made up, times of day, how long something took, and the
words for what went wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["digest"]

_MADE_UP = re.compile(r"(scratch-|\.new-|\.packed-refs-|\.HEAD-|\.web\.|tmp)[0-9a-z_]+")
_TOLD = frozenset(
    {
        "at", "last", "since", "change", "seconds", "reason", "why", "error", "files", "files_total",
        "changes", "patch",
    }
)  # fmt: skip
"""Columns of the state."""


def digest(home: Path, *beside: object) -> str:
    """Return the word for the host at `home`, and what there is `beside` the disk."""
    parts = [*_files(str(home)), *_state(home / "state/state.db"), *beside]
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()


def _files(home: str) -> Iterator[object]:
    for at, folders, names in os.walk(home):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = f"{at}/{name}"
            status = os.lstat(path)
            known = _MADE_UP.sub(r"\1", path.removeprefix(home))
            yield known, status.st_mode, status.st_uid, status.st_gid, _content(path, name)


def _content(path: str, name: str) -> object:
    if os.path.islink(path):  # noqa: PTH114 - a hundred times for each fault
        return os.readlink(path)  # noqa: PTH115
    if os.path.isdir(path) or name.startswith("state.db"):  # noqa: PTH112
        return None
    if name.endswith("index"):  # git's own: it holds numbers of inodes, and times
        return os.path.getsize(path)  # noqa: PTH202
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.sha256(file.read()).digest()


def _state(path: Path) -> Iterator[object]:
    """What is in the state; in a copy of it, as to look into it would already mend it."""
    with tempfile.TemporaryDirectory(dir=path.parents[2]) as directory:
        copy = Path(directory) / path.name
        for suffix in ("", "-wal", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
                yield suffix, os.path.getsize(f"{path}{suffix}") > 0  # noqa: PTH202
        if copy.exists():
            with contextlib.closing(sqlite3.connect(copy)) as state:
                try:
                    yield from _rows(state)
                except sqlite3.DatabaseError as exc:
                    yield exc, time.monotonic()  # broken: like no other


def _rows(state: sqlite3.Connection) -> Iterator[object]:
    yield state.execute("PRAGMA user_version").fetchone()
    tables = state.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1").fetchall()
    for (table,) in tables:
        every = state.execute(f"PRAGMA table_info({table})").fetchall()
        columns = ", ".join(name for _, name, *_ in every if name not in _TOLD)
        yield table, state.execute(f"SELECT {columns} FROM {table}").fetchall()
