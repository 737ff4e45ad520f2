"""The state store. A method that changes something returns when the change is on disk."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from libgitopper.model import Attempt, Deployed, Intent, IntentKind, State, Status
from libgitopper.records import Deploy
from libgitopper.state import codec
from libgitopper.state.audit import AuditEntry
from libgitopper.state.memory import Memory

__all__ = ["StateStore"]

KEPT_RELEASES = 200
"""How many releases of a service are remembered; more than any service keeps on disk."""

_service = functools.lru_cache(1024)(codec.load_service)
"""A pass asks several times where its service is shown, and the answer hardly ever changes."""


class StateStore(Memory):
    """Intent, deployed, history, verdicts and audit of every service; one SQLite file in WAL mode.

    Safe to use from several threads. Every method raises `StateError` when the file can't be
    read or written (a full disk, say); what it held before still holds.
    """

    def __init__(self, path: Path) -> None:
        """See `StateFile`."""
        super().__init__(path)
        self._owed: dict[str, Attempt] = {}

    def intent(self, service: str) -> Intent:
        """Return what the operator wants; to track, where nobody ever asked for anything."""
        row = self._one(
            "SELECT kind, revision, since, reason, until, asked_by FROM intent WHERE service = ?", service
        )
        with self._translated("read"):
            return _intent(row) if row else Intent()

    def set_intent(self, service: str, intent: Intent, audit: AuditEntry | None = None) -> None:
        """Persist what the operator wants; with it, in the same transaction, its `audit` entry."""
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO intent (service, kind, revision, since, reason, until, asked_by)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    service,
                    intent.kind.value,
                    intent.revision,
                    _text(intent.since),
                    intent.reason,
                    _text(intent.until),
                    intent.by,
                ),
            )
            if audit is not None:
                self._enter(connection, audit)

    def deployed(self, service: str) -> Deployed | None:
        """Return what was last published and taken by the service."""
        row = self._one("SELECT * FROM deployed WHERE service = ?", service)
        with self._translated("read"):
            return _deployed(row) if row else None

    def all_deployed(self) -> tuple[Deployed, ...]:
        """Return what is deployed for every service ever deployed and not withdrawn since."""
        rows = self._all("SELECT * FROM deployed ORDER BY service")
        with self._translated("read"):
            return tuple(_deployed(row) for row in rows)

    def attempt(self, service: str) -> Attempt | None:
        """Return the release that was about to be published and is not recorded as deployed."""
        if owed := self._owed.get(service):
            return owed
        row = self._one("SELECT * FROM attempt WHERE service = ?", service)
        with self._translated("read"):
            return _attempt(row) if row else None

    def all_attempts(self) -> tuple[Attempt, ...]:
        """Return the attempt of every service that has one."""
        rows = self._all("SELECT * FROM attempt ORDER BY service")
        with self._translated("read"):
            return tuple(_attempt(row) for row in rows)

    def begin(self, service: str, attempt: Attempt) -> None:
        """Persist that `attempt` is about to be published, so that a crash can't lose its reload."""
        content, placement = codec.dump_content(attempt.content), codec.dump_service(attempt.service)
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)",
                (service, attempt.revision, attempt.release, content, placement),
            )
        self._owed.pop(service, None)

    def owe(self, service: str, attempt: Attempt) -> None:
        """Remember `attempt` until the next one, or its end, is on disk, or this process ends.

        It is for what is published although `begin` fails; it persists nothing.
        """
        self._owed[service] = attempt

    def record(self, deployed: Deployed, deploy: Deploy | None = None) -> None:
        """Persist that a release was published and taken: ends the attempt, enters the history.

        With it, in the same transaction, `deploy`: how it came about. Where the release is a fresh one
        in the place of one that had drifted, the drift is healed, and the former is no release to go
        back to: it takes no room from those that are.
        """
        name = deployed.service.name
        with self._write() as connection:
            if drifted := self._drifted(connection, deployed):
                self._heal(connection, name, drifted)
                connection.execute("DELETE FROM history WHERE service = ? AND release = ?", (name, drifted))
            self._put(connection, deployed)
            connection.execute("DELETE FROM attempt WHERE service = ?", (name,))
            connection.execute(
                "INSERT INTO history (service, revision, release, at) VALUES (?, ?, ?, ?)",
                (name, deployed.revision, deployed.release, deployed.at.isoformat()),
            )
            connection.execute(
                "DELETE FROM history WHERE service = ?1 AND id NOT IN (SELECT max(id) FROM history"
                " WHERE service = ?1 GROUP BY release ORDER BY max(id) DESC LIMIT ?2)",
                (name, KEPT_RELEASES),
            )
            if deploy is not None:
                self._enter_deploy(connection, deploy)
        self._owed.pop(name, None)

    def advance(self, *deployed: Deployed) -> None:
        """Persist, all or none, that services are in line with another commit; nothing was published."""
        with self._write() as connection:
            for one in deployed:
                self._put(connection, one)

    def forget(self, service: str) -> None:
        """Persist that nothing of the service is published any more; intent and history stay."""
        with self._write() as connection:
            connection.execute("DELETE FROM deployed WHERE service = ?", (service,))
            connection.execute("DELETE FROM attempt WHERE service = ?", (service,))
            connection.execute("DELETE FROM shown WHERE service = ?", (service,))
        self._owed.pop(service, None)

    def releases(self, service: str, limit: int) -> tuple[tuple[str, str], ...]:
        """Return the last `limit` releases, newest first, each once: (release id, its last revision)."""
        rows = self._all(
            "SELECT release, revision, max(id) AS newest FROM history WHERE service = ?"
            " GROUP BY release ORDER BY newest DESC LIMIT ?",
            service,
            limit,
        )
        return tuple((row[0], row[1]) for row in rows)

    def shown(self, service: str) -> Status | None:
        """Return the last state that was settled on, without its info."""
        row = self._one("SELECT state, hash, change FROM shown WHERE service = ?", service)
        if row is None:
            return None
        with self._translated("read"):
            change = datetime.fromisoformat(row[2])
            return Status(service=service, state=State(row[0]), info="", hash=row[1], change=change)

    def show(self, statuses: Collection[Status]) -> None:
        """Persist since when services are in their states, so that a restart does not reset it."""
        rows = [(one.service, one.state.value, one.hash, one.change.isoformat()) for one in statuses]
        with self._write() as connection:
            connection.executemany("INSERT OR REPLACE INTO shown VALUES (?, ?, ?, ?)", rows)

    def _drifted(self, connection: sqlite3.Connection, fresh: Deployed) -> str | None:
        """Return the release that `fresh` was made in the place of, because its files had drifted."""
        row = connection.execute(
            "SELECT * FROM deployed WHERE service = ?", (fresh.service.name,)
        ).fetchone()
        before = _deployed(row) if row else None
        if before is None or before.content.entries != fresh.content.entries:
            return None
        return before.release if before.content.generation < fresh.content.generation else None

    def _put(self, connection: sqlite3.Connection, deployed: Deployed) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO deployed VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                deployed.service.name,
                deployed.revision,
                deployed.release,
                codec.dump_content(deployed.content),
                codec.dump_service(deployed.service),
                deployed.at.isoformat(),
                deployed.note,
            ),
        )


def _intent(row: tuple[Any, ...]) -> Intent:
    kind, revision, since, reason, until, by = row
    return Intent(
        kind=IntentKind(kind),
        revision=revision,
        since=_time(since),
        reason=reason,
        until=_time(until),
        by=by,
    )


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _attempt(row: tuple[Any, ...]) -> Attempt:
    _, revision, release, content, placement = row
    return Attempt(
        revision=revision,
        release=release,
        content=codec.load_content(content),
        service=_service(placement),
    )


def _deployed(row: tuple[Any, ...]) -> Deployed:
    _, revision, release, content, placement, at, note = row
    return Deployed(
        revision=revision,
        release=release,
        content=codec.load_content(content),
        service=_service(placement),
        at=datetime.fromisoformat(at),
        note=note,
    )
