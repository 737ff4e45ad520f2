"""The state store. A method that changes something returns when the change is on disk."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from libgitopper.errors import StateError
from libgitopper.model import Attempt, Deployed, Intent, IntentKind, State, Status
from libgitopper.state import codec
from libgitopper.state.schema import migrate, version_of

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
            raise _opening(path, exc) from exc
        try:
            # First of all: a file of a newer program is left exactly as it is.
            version_of(self._connection, str(path))
            _into_wal(self._connection)
            # FULL: an acknowledged freeze is on disk, not in the page cache.
            self._connection.execute("PRAGMA synchronous = FULL")
            migrate(self._connection, str(path))
        except sqlite3.Error as exc:
            self._connection.close()
            raise _opening(path, exc) from exc
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
        with self._translated("read"):
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
        with self._translated("read"):
            return _deployed(row) if row else None

    def all_deployed(self) -> tuple[Deployed, ...]:
        """Return what is deployed for every service ever deployed and not withdrawn since."""
        rows = self._all("SELECT * FROM deployed ORDER BY service")
        with self._translated("read"):
            return tuple(_deployed(row) for row in rows)

    def attempt(self, service: str) -> Attempt | None:
        """Return the release that was about to be published and is not recorded as deployed."""
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
        with self._translated("read"):
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
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back already after some errors, as a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError) as exc:  # the latter: a row that is damaged
            raise StateError(f"{self.path}: the state can't be {verb}: {exc}") from exc


def _into_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. SQLite waits for no other program here, however long its timeout: so we do."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _opening(path: Path, exc: Exception) -> StateError:
    """The error of a file that can't be opened, with what an operator can do about it."""
    if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError):
        remedy = "restore it, or move it away to start anew: freezes and rollbacks are then forgotten"
    else:
        remedy = (
            "see that its directory is there and writable, has space, and is not used by another gitopperd"
        )
    return StateError(f"{path}: the state can't be opened: {exc}; {remedy}")


def _attempt(row: tuple[Any, ...]) -> Attempt:
    _, revision, release, content, placement = row
    return Attempt(
        revision=revision,
        release=release,
        content=codec.load_content(content),
        service=codec.load_service(placement),
    )


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
