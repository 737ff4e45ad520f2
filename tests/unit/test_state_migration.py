"""A state file that an older program wrote goes on as it was, at the newest schema."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libgitopper import AuditEntry, Intent, IntentKind, State, StateError, StateStore, Status
from libgitopper.state import schema

DATA = Path(__file__).parent / "data"
THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
ENTRY = AuditEntry(at=THEN, who="ops", action="freeze", service="web", origin="192.0.2.1", status=200)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as the first version left it, every table filled."""
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.executescript((DATA / "state-1.sql").read_text())
    connection.close()
    return path


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(number)


def shape(path: Path) -> list[tuple[str, ...]]:
    """Each column of each table, with its type and whether it may be null; and each index."""
    connection = sqlite3.connect(path)
    found = connection.execute(
        'SELECT m.name, c.name, c.type, c."notnull", c.pk, m.type FROM sqlite_master m'
        " JOIN pragma_table_info(m.name) c ORDER BY 1, 2"
    ).fetchall()
    connection.close()
    return found


def test_the_file_of_the_first_version_is_one(old: Path) -> None:
    assert version(old) == 1


def test_a_file_of_the_first_version_keeps_all_that_it_held(old: Path) -> None:
    with StateStore(old) as store:
        assert store.intent("web") == Intent(kind=IntentKind.FREEZE, since=THEN)
        assert store.intent("db") == Intent(kind=IntentKind.ROLLBACK, revision=B, since=THEN)
        assert store.intent("api") == Intent()
        deployed, attempt = store.deployed("web"), store.attempt("web")
        assert deployed is not None
        assert attempt is not None
        assert (deployed.revision, deployed.release, deployed.at, deployed.note) == (A, "r1", THEN, "n")
        assert (attempt.revision, attempt.release, attempt.service) == (B, "r2", deployed.service)
        assert store.releases("web", 5) == (("r1", A),)
        assert store.shown("web") == Status(service="web", state=State.FREEZE, info="", hash=A, change=THEN)
        assert store.audit(10) == ()
    assert version(old) == schema.VERSION


def test_a_file_that_was_brought_up_takes_what_is_new(old: Path) -> None:
    frozen = Intent(
        kind=IntentKind.FREEZE, since=THEN, reason="upgrade", until=THEN + timedelta(hours=2), by="ops"
    )
    with StateStore(old) as store:
        store.set_intent("web", frozen, ENTRY)
    with StateStore(old) as store:
        assert store.intent("web") == frozen
        assert store.audit(10) == (ENTRY,)


def test_a_file_that_was_brought_up_has_the_shape_of_a_new_one(old: Path, tmp_path: Path) -> None:
    StateStore(old).close()
    StateStore(tmp_path / "new.db").close()
    assert shape(old) == shape(tmp_path / "new.db")


def test_the_first_step_is_as_it_was_when_it_was_released(old: Path, tmp_path: Path) -> None:
    """Files of it are out there: it may not be edited any more, only added to."""
    connection = sqlite3.connect(tmp_path / "first.db", isolation_level=None)
    schema.migrate(connection, "here", schema.MIGRATIONS[:1])
    connection.close()
    assert shape(tmp_path / "first.db") == shape(old)


def test_an_older_program_leaves_a_newer_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateStore(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(StateError, match="newer gitopper"):
        schema.migrate(connection, str(path), schema.MIGRATIONS[:1])
    connection.close()
    assert version(path) == schema.VERSION
