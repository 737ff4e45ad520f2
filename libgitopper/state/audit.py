"""The audit trail: who asked for what, from where, and how it was answered."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Any

from attrs import frozen

from libgitopper.state.file import StateFile

__all__ = ["AuditEntry", "AuditTrail"]

KEPT_OPERATIONS = 10_000
KEPT_REFUSALS = 2_000
"""How many entries of each kind stay. They are counted apart, so that no flood of refusals washes
away what was really done."""

REFUSALS = frozenset({401, 403})
UNFINISHED = 0


@frozen(kw_only=True)
class AuditEntry:
    """Something that somebody asked for."""

    at: datetime
    """When it was asked for; UTC."""
    who: str
    """Name of the identity; empty where nobody was recognised."""
    action: str
    """As ``freeze``; ``expiry`` where a freeze ended by itself."""
    service: str | None
    origin: str
    """Where from, as an IP address or ``unix uid 0 pid 123``."""
    status: int = UNFINISHED
    """HTTP status of the answer; 0 while there is none. Where it stays 0, the process ended before it
    answered: what was asked for may have been done, or not."""
    reason: str = ""
    """Why it was refused or failed; or what there is to know of what was done. One line."""

    @property
    def refused(self) -> bool:
        """True where nothing was tried, as the asker was not known, or not allowed."""
        return self.status in REFUSALS or (not self.who and self.status >= 400)


class AuditTrail(StateFile):
    """The part of the state store that remembers who asked for what."""

    def begin_audit(self, entry: AuditEntry) -> int:
        """Persist that something is about to be done; return the number to `end_audit` it by.

        Written first: whatever is done has its entry, also where we are killed in the middle.
        """
        with self._write() as connection:
            return self._enter(connection, entry)

    def end_audit(self, number: int, status: int, reason: str) -> None:
        """Persist how it was answered."""
        with self._write() as connection:
            connection.execute(
                "UPDATE audit SET status = ?, reason = ? WHERE id = ?", (status, reason, number)
            )

    def add_audit(self, *entries: AuditEntry) -> None:
        """Persist what is over already, all or nothing."""
        with self._write() as connection:
            for entry in entries:
                self._enter(connection, entry)

    def audit(self, limit: int, service: str | None = None) -> tuple[AuditEntry, ...]:
        """Return the last `limit` entries, newest first; with `service`, those of that service."""
        which, values = ("WHERE service = ?", (service, limit)) if service else ("", (limit,))
        rows = self._all(
            "SELECT at, who, action, service, origin, status, reason"  # noqa: S608 - `which` is ours
            f" FROM audit {which} ORDER BY id DESC LIMIT ?",
            *values,
        )
        with self._translated("read"):
            return tuple(_entry(row) for row in rows)

    def _enter(self, connection: sqlite3.Connection, entry: AuditEntry) -> int:
        cursor = connection.execute(
            "INSERT INTO audit (at, who, action, service, origin, status, reason, refused)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.at.isoformat(),
                entry.who,
                entry.action,
                entry.service,
                entry.origin,
                entry.status,
                entry.reason,
                entry.refused,
            ),
        )
        kept = KEPT_REFUSALS if entry.refused else KEPT_OPERATIONS
        connection.execute(
            "DELETE FROM audit WHERE refused = ?1 AND id <="
            " (SELECT id FROM audit WHERE refused = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (entry.refused, kept),
        )
        return cursor.lastrowid or 0


def _entry(row: tuple[Any, ...]) -> AuditEntry:
    at, who, action, service, origin, status, reason = row
    return AuditEntry(
        at=datetime.fromisoformat(at),
        who=who,
        action=action,
        service=service,
        origin=origin,
        status=status,
        reason=reason,
    )
