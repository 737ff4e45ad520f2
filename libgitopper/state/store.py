"""The state store. A method that changes something returns when the change is on disk."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from libgitopper.errors import StateError
from libgitopper.model import Attempt, Deployed, Intent, IntentKind, State, Status
from libgitopper.state import codec
from libgitopper.state.schema import migrate

__all__ = ["StateStore"]

BUSY_SECONDS = 5.0


class StateStore:
    """Intent, deployed and history of every service; one SQLite file in WAL mode.

    Safe to use from several threads. Every method raises `StateError` when the file can't be
    read or written (a full disk, say); what it held before still holds.
    """

    def __init__(self, path: Path) -> None:
        """Open the store at `path`; make it, with its directory, where there is none.

        Raises:
            StateError: it can't be opened, is no state file, or a newer gitopper wrote it.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            # Autocommit: transactions are begun by name below, and by nobody else.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as exc:
            raise StateError(f"{path}: the state can't be opened: {exc}") from exc
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # FULL: an acknowledged freeze is on disk, not in the page cache.
            self._connection.execute("PRAGMA synchronous = FULL")
            migrate(self._connection, str(path))
        except sqlite3.Error as exc:
            self._connection.close()
            raise StateError(f"{path}: the state can't be read: {exc}") from exc
        except StateError:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> StateStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def intent(self, service: str) -> Intent:
        """Return what the operator wants; to track, where nobody ever asked for anything."""
        row = self._one("SELECT kind, revision, since FROM intent WHERE service = ?", service)
        if row is None:
            return Intent()
        since = datetime.fromisoformat(row[2]) if row[2] else None
        return Intent(kind=IntentKind(row[0]), revision=row[1], since=since)

    def set_intent(self, service: str, intent: Intent) -> None:
        """Persist what the operator wants."""
        since = intent.since.isoformat() if intent.since else None
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO intent VALUES (?, ?, ?, ?)",
                (service, intent.kind.value, intent.revision, since),
            )

    def deployed(self, service: str) -> Deployed | None:
        """Return what was last published and taken by the service."""
        row = self._one("SELECT * FROM deployed WHERE service = ?", service)
        return _deployed(row) if row else None

    def all_deployed(self) -> tuple[Deployed, ...]:
        """Return what is deployed for every service ever deployed and not withdrawn since."""
        return tuple(_deployed(row) for row in self._all("SELECT * FROM deployed"))

    def attempt(self, service: str) -> Attempt | None:
        """Return the release that was about to be published and is not recorded as deployed."""
        row = self._one("SELECT revision, release, content FROM attempt WHERE service = ?", service)
        if row is None:
            return None
        return Attempt(revision=row[0], release=row[1], content=codec.load_content(row[2]))

    def begin(self, service: str, attempt: Attempt) -> None:
        """Persist that `attempt` is about to be published, so that a crash can't lose its reload."""
        content = codec.dump_content(attempt.content)
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?)",
                (service, attempt.revision, attempt.release, content),
            )

    def record(self, deployed: Deployed) -> None:
        """Persist that a release was published and taken: ends the attempt, enters the history."""
        name = deployed.service.name
        with self._write() as connection:
            self._put(connection, deployed)
            connection.execute("DELETE FROM attempt WHERE service = ?", (name,))
            connection.execute(
                "INSERT INTO history (service, revision, release, at) VALUES (?, ?, ?, ?)",
                (name, deployed.revision, deployed.release, deployed.at.isoformat()),
            )

    def advance(self, deployed: Deployed) -> None:
        """Persist that the service is in line with another commit; nothing was published for it."""
        with self._write() as connection:
            self._put(connection, deployed)

    def forget(self, service: str) -> None:
        """Persist that nothing of the service is published any more; intent and history stay."""
        with self._write() as connection:
            connection.execute("DELETE FROM deployed WHERE service = ?", (service,))
            connection.execute("DELETE FROM attempt WHERE service = ?", (service,))
            connection.execute("DELETE FROM shown WHERE service = ?", (service,))

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
        change = datetime.fromisoformat(row[2])
        return Status(service=service, state=State(row[0]), info="", hash=row[1], change=change)

    def show(self, status: Status) -> None:
        """Persist since when a service is in its state, so that a restart does not reset it."""
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO shown VALUES (?, ?, ?, ?)",
                (status.service, status.state.value, status.hash, status.change.isoformat()),
            )

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

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        rows = self._all(query, *values)
        return rows[0] if rows else None

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, self._translated("read"):
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._connection.execute("COMMIT")
            except sqlite3.Error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise StateError(f"{self.path}: the state can't be {verb}: {exc}") from exc


def _deployed(row: tuple[Any, ...]) -> Deployed:
    _, revision, release, content, placement, at, note = row
    return Deployed(
        revision=revision,
        release=release,
        content=codec.load_content(content),
        service=codec.load_service(placement),
        at=datetime.fromisoformat(at),
        note=note,
    )
