"""The schema of the state file, and the way from each older version to the next."""

from __future__ import annotations

import sqlite3

from libgitopper.errors import StateError

__all__ = ["VERSION", "migrate"]

MIGRATIONS: tuple[str, ...] = (
    # 1: the first.
    """
    CREATE TABLE intent (
        service  TEXT PRIMARY KEY,
        kind     TEXT NOT NULL,
        revision TEXT,
        since    TEXT
    ) STRICT;
    CREATE TABLE deployed (
        service   TEXT PRIMARY KEY,
        revision  TEXT NOT NULL,
        release   TEXT NOT NULL,
        content   TEXT NOT NULL,
        placement TEXT NOT NULL,
        at        TEXT NOT NULL,
        note      TEXT NOT NULL
    ) STRICT;
    CREATE TABLE attempt (
        service  TEXT PRIMARY KEY,
        revision TEXT NOT NULL,
        release  TEXT NOT NULL,
        content  TEXT NOT NULL
    ) STRICT;
    CREATE TABLE history (
        id       INTEGER PRIMARY KEY,
        service  TEXT NOT NULL,
        revision TEXT NOT NULL,
        release  TEXT NOT NULL,
        at       TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_by_service ON history (service, id);
    CREATE TABLE shown (
        service TEXT PRIMARY KEY,
        state   TEXT NOT NULL,
        hash    TEXT NOT NULL,
        change  TEXT NOT NULL
    ) STRICT;
    """,
)

VERSION = len(MIGRATIONS)
"""The version that this program writes, kept in SQLite's `user_version`."""


def migrate(connection: sqlite3.Connection, origin: str) -> None:
    """Bring the file to `VERSION`, one step at a time, each in a transaction of its own.

    Raises:
        StateError: a newer program wrote it; it is left as it is.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StateError(
            f"{origin}: written by a newer gitopper (schema {version}, this program knows {VERSION});"
            " run that version, or name another --state-dir"
        )
    for number, step in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{step}\nPRAGMA user_version = {number};\nCOMMIT;")
