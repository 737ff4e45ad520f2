"""State files that are shared, broken, on a full disk, or of another version of the program."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import (
    Intent,
    State,
    StateError,
    StateStore,
    Status,
)
from libgitopper.state import file as module
from libgitopper.state import schema
from tests.support.kept import ATTEMPT, DEPLOYED, FREEZE, SERVICE, THEN, A


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "down" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with StateStore(path) as store:
        yield store


def database(path: Path, *statements: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path.read_bytes()


def test_a_second_program_may_open_the_file_and_write(path: Path, store: StateStore) -> None:
    with StateStore(path) as other:
        other.set_intent("web", FREEZE)
        store.set_intent("webapp", FREEZE)
        assert other.intent("webapp") == store.intent("web") == FREEZE


def test_a_new_file_may_be_opened_by_several_at_once(path: Path) -> None:
    barrier, errors = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        try:
            StateStore(path).close()
        except StateError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


@pytest.mark.parametrize("hold", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_new_file_that_another_program_holds_is_a_clear_error(
    path: Path, hold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    database(path, "CREATE TABLE x (y)")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"BEGIN {hold}")
    with pytest.raises(StateError, match=r"database is locked; see that .*another gitopperd"):
        StateStore(path)
    other.close()
    StateStore(path).close()


def test_a_new_file_that_another_program_holds_for_a_moment_is_waited_for(path: Path) -> None:
    database(path, "CREATE TABLE x (y)")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.2, other.rollback)
    timer.start()
    StateStore(path).close()
    timer.join()
    other.close()


def test_a_file_that_is_locked_for_too_long_is_a_clear_error(path: Path, store: StateStore) -> None:
    store._connection.execute("PRAGMA busy_timeout = 50")
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="database is locked"):
            store.set_intent("web", FREEZE)
        other.rollback()
    other.close()
    store.set_intent("web", FREEZE)
    assert store.intent("web") == FREEZE


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_file_of_a_newer_program_is_refused_and_left_as_it_is(path: Path, journal: str) -> None:
    before = database(
        path,
        f"PRAGMA journal_mode = {journal}",
        "CREATE TABLE new (x)",
        f"PRAGMA user_version = {schema.VERSION + 1}",
    )
    with pytest.raises(StateError) as refused:
        StateStore(path)
    known = schema.VERSION
    assert str(refused.value) == (
        f"{path}: written by a newer gitopper (schema {known + 1}, this program knows {known});"
        " run that version, or name another --state-dir"
    )
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_a_remedy_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database, but long enough to be taken for one " * 100)
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"state\.db: .*not a database; restore it, or move it away"):
        StateStore(path)
    assert path.read_bytes() == before


def test_a_file_that_was_cut_off_is_an_error_and_not_an_empty_store(path: Path) -> None:
    with StateStore(path) as store:
        for number in range(50):
            store.record(evolve(DEPLOYED, service=evolve(SERVICE, name=f"s{number}")))
    path.write_bytes(path.read_bytes()[:-8192])
    with pytest.raises(StateError, match="malformed"), StateStore(path) as store:
        store.all_deployed()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE intent SET kind = 'nonsense'",
        "UPDATE intent SET since = 'yesterday'",
        "UPDATE deployed SET content = '{'",
        "UPDATE deployed SET content = '{}'",
        "UPDATE deployed SET placement = '[]'",
        "UPDATE deployed SET at = ''",
        "UPDATE attempt SET content = 'null'",
        "UPDATE attempt SET placement = '{}'",
        "UPDATE shown SET state = 'GREAT'",
        "UPDATE shown SET change = '?'",
    ],
)
def test_a_row_that_is_damaged_is_an_error_of_the_store(store: StateStore, damage: str) -> None:
    store.set_intent("web", FREEZE)
    store.record(DEPLOYED)
    store.begin("web", ATTEMPT)
    store.show([Status(service="web", state=State.OK, info="", hash=A, change=THEN)])
    store._connection.execute(damage)
    reads = {
        "intent": store.intent,
        "deployed": store.deployed,
        "attempt": store.attempt,
        "shown": store.shown,
    }
    table = damage.split()[1]
    with pytest.raises(StateError, match=r"state\.db: the state can't be read: "):
        reads[table]("web")
    if table in {"deployed", "attempt"}:
        with pytest.raises(StateError, match="can't be read"):
            (store.all_deployed if table == "deployed" else store.all_attempts)()


def test_a_table_that_is_gone_is_an_error_of_the_store(path: Path, store: StateStore) -> None:
    store._connection.execute("DROP TABLE intent")
    with pytest.raises(StateError) as failed:
        store.intent("web")
    assert str(failed.value) == f"{path}: the state can't be read: no such table: intent"


def test_a_directory_in_the_files_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StateError, match=r"can't be opened.*writable"):
        StateStore(path)


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").touch()
    path = tmp_path / "deep" / "state.db"
    with pytest.raises(StateError) as refused:
        StateStore(path)
    assert str(refused.value).startswith(f"{path}: the state can't be opened: [Errno")
    assert "writable" in str(refused.value)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    where = tmp_path / "tmpfs"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(where)], check=True)
    yield where
    subprocess.run(["umount", str(where)], check=True)


def fill(directory: Path) -> Path:
    """Fill the file system to the last byte."""
    full = directory / "full"
    with full.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 512)
            except OSError:
                return full


@pytest.mark.root
def test_a_full_disk_is_an_error_and_what_was_there_before_still_is(tmpfs: Path) -> None:
    with StateStore(tmpfs / "state.db") as store:
        store.set_intent("web", FREEZE)
        full = fill(tmpfs)
        failed = []
        for number in range(300):
            try:
                store.record(evolve(DEPLOYED, service=evolve(SERVICE, name=f"s{number}")))
            except StateError as exc:
                failed.append(str(exc))
                assert store.deployed(f"s{number}") is None, "an error, and yet it was written"
                assert store.releases(f"s{number}", 1) == ()
        assert failed
        assert all("state.db: the state can't be written: " in text for text in failed)
        assert store.intent("web") == FREEZE
        full.unlink()
        store.set_intent("web", Intent())
        assert store.intent("web") == Intent()
    with StateStore(tmpfs / "state.db") as store:
        assert store.intent("web") == Intent()


@pytest.mark.root
def test_a_file_system_that_turned_read_only_can_still_be_read(tmpfs: Path) -> None:
    with StateStore(tmpfs / "state.db") as store:
        store.set_intent("web", FREEZE)
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    with pytest.raises(StateError, match="writable"):
        StateStore(tmpfs / "state.db")
    subprocess.run(["mount", "-o", "remount,rw", str(tmpfs)], check=True)
    with StateStore(tmpfs / "state.db") as store:
        assert store.intent("web") == FREEZE


def test_an_empty_file_is_brought_to_the_newest_schema(path: Path) -> None:
    database(path)
    with StateStore(path) as store:
        (version,) = store._connection.execute("PRAGMA user_version").fetchone()
    assert version == schema.VERSION


def test_an_older_file_is_brought_up_step_by_step_and_keeps_its_rows(path: Path) -> None:
    with StateStore(path) as store:
        store.set_intent("web", FREEZE)
    steps = (
        *schema.MIGRATIONS,
        "ALTER TABLE intent ADD COLUMN who TEXT",
        "UPDATE intent SET who = 'ops'; SELECT 1",
    )
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, "here", steps)
    rows = connection.execute("SELECT service, kind, who FROM intent").fetchall()
    assert rows == [("web", "freeze", "ops")]
    assert schema.version_of(connection, "here", len(steps)) == len(steps)
    schema.migrate(connection, "here", steps)
    connection.close()


def test_a_step_that_fails_leaves_the_version_before_it_whole(path: Path) -> None:
    database(path)
    connection = sqlite3.connect(path, isolation_level=None)
    steps = (*schema.MIGRATIONS, "CREATE TABLE half (x); CREATE TABLE intent (y)")
    with pytest.raises(sqlite3.OperationalError, match="intent already exists"):
        schema.migrate(connection, "here", steps)
    assert schema.version_of(connection, "here") == len(schema.MIGRATIONS)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    assert not connection.in_transaction
    connection.close()
