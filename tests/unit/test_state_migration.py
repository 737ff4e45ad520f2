"""A state file that an older program wrote goes on as it was, at the newest schema."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libgitopper import AuditEntry, Intent, IntentKind, State, StateError, StateStore, Status
from libgitopper.state import schema
from tests.support.kept import DEPLOY, DRIFT, REJECTION, SERVICE

DATA = Path(__file__).parent / "data"
THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
ENTRY = AuditEntry(at=THEN, who="ops", action="freeze", service="web", origin="192.0.2.1", status=200)


def restored(path: Path, version: int) -> Path:
    """Make the file that a program with that version of the schema left, every table filled."""
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"state-{version}.sql").read_text())
    connection.close()
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return restored(tmp_path / "state.db", 1)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return restored(tmp_path / "second.db", 2)


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


def test_a_file_that_was_brought_up_has_the_shape_of_a_new_one(
    old: Path, second: Path, tmp_path: Path
) -> None:
    for path in (old, second, tmp_path / "new.db"):
        StateStore(path).close()
    assert shape(old) == shape(second) == shape(tmp_path / "new.db")


def test_the_file_of_the_second_version_is_one(second: Path) -> None:
    assert version(second) == 2


def test_a_file_of_the_second_version_keeps_all_that_it_held(second: Path) -> None:
    with StateStore(second) as store:
        assert store.intent("web") == Intent(
            kind=IntentKind.FREEZE, since=THEN, reason="upgrade", until=THEN + timedelta(hours=2), by="ops"
        )
        assert store.intent("db") == Intent(kind=IntentKind.ROLLBACK, revision=B, since=THEN)
        deployed, attempt = store.deployed("web"), store.attempt("web")
        assert deployed is not None
        assert attempt is not None
        assert (deployed.revision, deployed.release, deployed.content.generation) == (A, "r1", 0)
        assert (attempt.revision, attempt.release, attempt.service) == (B, "r2", deployed.service)
        assert store.releases("web", 5) == (("r1", A),)
        assert store.shown("web") == Status(service="web", state=State.FREEZE, info="", hash=A, change=THEN)
        assert [entry.status for entry in store.audit(10)] == [401, 200]
        assert store.audit(10)[1] == ENTRY
        assert (store.deploys("web"), store.drifts("web")) == ((), ())
        assert store.accepted("web", deployed.service.source) is None
        assert store.pardon("web") == 0
    assert version(second) == schema.VERSION


def test_a_file_of_the_second_version_takes_verdicts_deploys_and_drift(second: Path) -> None:
    with StateStore(second) as store:
        store.reject(REJECTION)
        store.accept("web", SERVICE.source, B)
        store.add_deploy(DEPLOY)
        store.keep_drift(DRIFT)
    with StateStore(second) as store:
        assert store.rejection("web", REJECTION.release, REJECTION.fingerprint) == REJECTION
        assert store.accepted("web", SERVICE.source) == B
        assert store.deploys("web") == (DEPLOY,)
        assert store.drifts("web") == (DRIFT,)


@pytest.mark.parametrize("number", [1, 2])
def test_the_steps_are_as_they_were_when_they_were_released(number: int, tmp_path: Path) -> None:
    """Files of them are out there: they may not be edited any more, only added to."""
    connection = sqlite3.connect(tmp_path / "now.db", isolation_level=None)
    schema.migrate(connection, "here", schema.MIGRATIONS[:number])
    connection.close()
    assert shape(tmp_path / "now.db") == shape(restored(tmp_path / "then.db", number))


def test_a_step_that_fails_leaves_the_file_at_the_version_before(second: Path) -> None:
    connection = sqlite3.connect(second, isolation_level=None)
    connection.execute("CREATE TABLE rejection (x)")
    connection.close()
    with pytest.raises(StateError, match="rejection already exists"):
        StateStore(second)
    assert version(second) == 2
    assert not [name for name, *_ in shape(second) if name == "accepted"]


def test_an_older_program_leaves_a_newer_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateStore(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(StateError, match=rf"^{path}: .*newer gitopper"):
        schema.migrate(connection, str(path), schema.MIGRATIONS[:1])
    connection.close()
    assert version(path) == schema.VERSION


def test_nor_does_it_lose_what_a_newer_one_that_was_killed_left_beside_the_file(tmp_path: Path) -> None:
    path, left = tmp_path / "state.db", tmp_path / "left/state.db"
    left.parent.mkdir()
    with StateStore(path) as state:
        state.add_audit(ENTRY)
        newer = sqlite3.connect(path, isolation_level=None)
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        newer.execute("CREATE TABLE of_the_future (what TEXT)")
        newer.execute("INSERT INTO of_the_future VALUES ('kept')")
        for name in ("state.db", "state.db-wal"):
            (left.parent / name).write_bytes((tmp_path / name).read_bytes())
        newer.close()
    assert left.with_name("state.db-wal").stat().st_size > 0
    with pytest.raises(StateError, match="newer gitopper"):
        StateStore(left)
    connection = sqlite3.connect(left)
    assert connection.execute("SELECT what FROM of_the_future").fetchall() == [("kept",)]
    connection.close()
    assert version(left) == schema.VERSION + 1
