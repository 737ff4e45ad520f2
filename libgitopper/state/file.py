"""The file that the state is in: opened once, read and written in transactions, its errors translated."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from libgitopper.errors import StateError
from libgitopper.state.schema import migrate, version_of

__all__ = ["StateFile"]

BUSY_SECONDS = 5.0


class StateFile:
    """One SQLite file in WAL mode, at the newest schema. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`; make it, with its directory, where there is none.

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

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
