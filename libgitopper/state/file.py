"""The file that the state is in: opened once, read and written in transactions, its errors translated."""

from __future__ import annotations

import contextlib
import logging
import os
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

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0
JOURNAL_BYTES = 4 * 1024 * 1024
"""What the journal is cut to after a write that needed more; SQLite begins it anew at about so much."""
MODE = 0o600
"""Of the file, and so of those that SQLite has beside it: drift is in there, with all that it shows."""


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
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
            _make_private(path)
            self._connection = _opened(path)
        except (OSError, sqlite3.Error) as exc:
            raise _opening(path, exc) from exc

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
            # SQLite takes its journal away. On a disk that is full by then, the next start could make none.
            with contextlib.suppress(OSError):
                os.close(os.open(_beside(self.path, "wal"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, MODE))

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

    def _give_back(self) -> None:
        """Give the room that nothing is in any more back to the disk; where that fails, it is used again.

        A file of a version that could not is written anew for it, once.
        """
        with self._lock, contextlib.suppress(sqlite3.Error):
            able = _gives_back(self._connection)
            # As a script: it is stepped to its end, where `execute` would free one page and stop.
            self._connection.executescript("PRAGMA incremental_vacuum" if able else "VACUUM")

    @contextlib.contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError) as exc:  # the latter: a row that is damaged
            raise StateError(f"{self.path}: the state can't be {verb}: {exc}") from exc


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}-{kind}")


def _make_private(path: Path) -> None:
    """See to it that nobody else can read the state, whatever directory it is in, or who made it.

    By their names: to open the file here and close it again would drop the locks of who has it open.
    """
    for file in (path, _beside(path, "wal"), _beside(path, "shm")):
        try:
            if file.stat().st_mode & 0o777 != MODE:
                file.chmod(MODE)
        except FileNotFoundError:
            continue
        except OSError as exc:
            log.warning("%s: others may read it: %s", file, exc)


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connected(path, alone=False)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise
        connection = _connected(path, alone=True)
        log.warning("%s: %s; see that there is space: it can be read, and written when there is", path, exc)
        return connection


def _connected(path: Path, *, alone: bool) -> sqlite3.Connection:
    """Return a connection in WAL mode, at the newest schema.

    `alone`, it lets no other connection in. Then SQLite needs no -shm file, which takes room even to read.
    """
    # Autocommit: transactions are begun by name, by `_write` and `migrate`, and by nobody else.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if alone:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # First of all: a file of a newer program is left exactly as it is.
        version_of(connection, str(path))
        if not _gives_back(connection):
            # Takes effect in a file that is new; for another it says how `VACUUM` is to write it.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _into_wal(connection)
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
        # FULL: an acknowledged freeze is on disk, not in the page cache.
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _gives_back(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA auto_vacuum").fetchone()[0])


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
