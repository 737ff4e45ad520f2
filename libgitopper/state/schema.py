"""The schema of the state file, and the way from each older version to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from libgitopper.errors import StateError

__all__ = ["VERSION", "migrate", "version_of"]

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
        service   TEXT PRIMARY KEY,
        revision  TEXT NOT NULL,
        release   TEXT NOT NULL,
        content   TEXT NOT NULL,
        placement TEXT NOT NULL
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
    # 2: why, until when and for whom a service is frozen; and the audit trail.
    """
    ALTER TABLE intent ADD COLUMN reason TEXT NOT NULL DEFAULT '';
    ALTER TABLE intent ADD COLUMN until TEXT;
    ALTER TABLE intent ADD COLUMN asked_by TEXT NOT NULL DEFAULT '';
    CREATE TABLE audit (
        id      INTEGER PRIMARY KEY,
        at      TEXT NOT NULL,
        who     TEXT NOT NULL,
        action  TEXT NOT NULL,
        service TEXT,
        origin  TEXT NOT NULL,
        status  INTEGER NOT NULL,
        reason  TEXT NOT NULL,
        refused INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_service ON audit (service, id);
    CREATE INDEX audit_by_kind ON audit (refused, id);
    """,
    # 3: what was accepted, what was rejected, each deploy, and drift.
    """
    CREATE TABLE accepted (
        service  TEXT NOT NULL,
        upstream TEXT NOT NULL,
        branch   TEXT NOT NULL,
        revision TEXT NOT NULL,
        PRIMARY KEY (service, upstream, branch)
    ) STRICT;
    CREATE TABLE rejection (
        service     TEXT NOT NULL,
        release     TEXT NOT NULL,
        revision    TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        step        TEXT NOT NULL,
        reason      TEXT NOT NULL,
        at          TEXT NOT NULL,
        PRIMARY KEY (service, release)
    ) STRICT;
    CREATE TABLE deploy (
        id          INTEGER PRIMARY KEY,
        service     TEXT NOT NULL,
        at          TEXT NOT NULL,
        before      TEXT,
        after       TEXT NOT NULL,
        release     TEXT NOT NULL,
        asked       TEXT NOT NULL,
        why         TEXT NOT NULL,
        files       TEXT NOT NULL,
        files_total INTEGER NOT NULL,
        seconds     TEXT NOT NULL,
        result      TEXT NOT NULL,
        error       TEXT NOT NULL,
        tries       INTEGER NOT NULL,
        last        TEXT
    ) STRICT;
    CREATE INDEX deploy_by_service ON deploy (service, id);
    CREATE TABLE drift (
        id       INTEGER PRIMARY KEY,
        service  TEXT NOT NULL,
        release  TEXT NOT NULL,
        revision TEXT NOT NULL,
        at       TEXT NOT NULL,
        changes  TEXT NOT NULL,
        patch    BLOB NOT NULL,
        complete INTEGER NOT NULL,
        healed   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX drift_by_service ON drift (service, id);
    """,
)

VERSION = len(MIGRATIONS)
"""The version that this program writes, kept in SQLite's `user_version`."""


def version_of(connection: sqlite3.Connection, origin: str, known: int = VERSION) -> int:
    """Return the version of the file; 0 for an empty one. Writes nothing.

    Raises:
        StateError: a newer program wrote it: its version is above `known`.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise StateError(
            f"{origin}: written by a newer gitopper (schema {version}, this program knows {known});"
            " run that version, or name another --state-dir"
        )
    return version


def migrate(connection: sqlite3.Connection, origin: str, steps: Sequence[str] = MIGRATIONS) -> None:
    """Bring the file to the version that the last of `steps` makes, each in a transaction of its own.

    Raises:
        StateError: a newer program wrote it; it is left as it is.
    """
    while version_of(connection, origin, len(steps)) < len(steps):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Asked again, now that nobody else writes: another process may have been faster.
            version = version_of(connection, origin, len(steps))
            for step in steps[version : version + 1]:
                # Not `executescript`: it would commit halfway.
                for statement in step.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
