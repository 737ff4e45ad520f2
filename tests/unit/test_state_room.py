"""What the state takes on the disk is bounded, is given back, and is nobody else's to read."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import DriftRecord, StateStore
from libgitopper.state import file, history
from tests.support.kept import ATTEMPT, DEPLOYED, DRIFT, FREEZE

MIB = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def drift(number: int, size_bytes: int, service: str = "web") -> DriftRecord:
    return evolve(DRIFT, service=service, patch=b"%08d" % number * (size_bytes // 8))


def numbers(store: StateStore, service: str = "web") -> list[int]:
    return [int(record.patch[:8]) for record in store.drifts(service)]


def test_drift_of_a_service_is_kept_up_to_a_sum_of_bytes_the_newest_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEPT_DRIFT_BYTES", 100_000)
    with StateStore(path) as store:
        store.keep_drift(drift(0, 80, "db"))
        for number in range(8):
            assert store.keep_drift(drift(number, 30_000))
        assert numbers(store) == [7, 6, 5]
        store.keep_drift(drift(8, 80))
        assert numbers(store) == [8, 7, 6, 5]
        store.keep_drift(drift(9, 80_000))
        assert numbers(store) == [9, 8]
        store.keep_drift(drift(10, 200_000))
        assert numbers(store) == [10], "the newest stays, whatever it is"
        store.keep_drift(drift(11, 80))
        assert numbers(store) == [11]
        assert numbers(store, "db") == [0], "what others have is theirs"


def test_what_changed_counts_as_the_patch_does(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEPT_DRIFT_BYTES", 10_000)
    with StateStore(path) as store:
        for number in range(3):
            store.keep_drift(evolve(drift(number, 8), changes=DRIFT.changes * 100))
        assert numbers(store) == [2]


def test_the_longest_patches_at_each_pass_take_no_more_than_the_sum_and_one_of_them(path: Path) -> None:
    with StateStore(path) as store:
        for number in range(6):
            store.keep_drift(drift(number, 16 * MIB))
            taken = sum(entry.stat().st_size for entry in path.parent.iterdir())
            assert taken < history.KEPT_DRIFT_BYTES + 3 * 16 * MIB
        store.set_intent("web", FREEZE)
        assert path.with_name("state.db-wal").stat().st_size <= file.JOURNAL_BYTES


def test_room_is_given_back_to_the_disk(path: Path) -> None:
    with StateStore(path) as store:
        store.keep_drift(drift(0, 16 * MIB))
        store.keep_drift(drift(1, 15 * MIB))
        for number in range(2, 30):
            store.keep_drift(drift(number, 80))
    assert path.stat().st_size < MIB


def test_a_file_of_a_version_that_gave_nothing_back_learns_to(path: Path) -> None:
    StateStore(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA journal_mode = DELETE")
        old.execute("PRAGMA auto_vacuum = NONE")
        old.execute("VACUUM")
        for number in range(20):
            old.execute(
                "INSERT INTO drift (service, release, revision, at, changes, patch, complete, healed)"
                " VALUES ('web', 'r', 'a', '2026-01-01T00:00:00+00:00', '[]', ?, 1, 0)",
                (b"%08d" % number * (MIB // 2),),
            )
    assert path.stat().st_size > 80 * MIB
    with StateStore(path) as store:
        store.record(DEPLOYED)
        assert numbers(store) == list(reversed(range(20))), "what an older version wrote is read"
        store.keep_drift(drift(20, 80))
        assert numbers(store) == [20, 19, 18, 17, 16, 15, 14, 13]
        deployed = store.deployed("web")
        assert deployed is not None
        assert deployed.release == DEPLOYED.release
    assert path.stat().st_size < 34 * MIB
    with StateStore(path) as store:
        for number in range(21, 50):
            store.keep_drift(drift(number, 80))
        deployed = store.deployed("web")
        assert deployed is not None
        assert deployed.release == DEPLOYED.release
    assert path.stat().st_size < MIB


def modes(path: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_mode & 0o777 for entry in path.parent.iterdir()}


def test_nobody_else_can_read_the_files_whatever_directory_they_are_in(path: Path) -> None:
    path.parent.chmod(0o755)
    former = os.umask(0)
    try:
        with StateStore(path) as store:
            store.set_intent("web", FREEZE)
            there = modes(path)
    finally:
        os.umask(former)
    assert there == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}
    # A journal stays, empty: on a disk that is full by then, the next start could make none.
    assert modes(path) == {"state.db": 0o600, "state.db-wal": 0o600}


def test_files_that_others_could_read_are_closed_to_them(path: Path) -> None:
    child = os.fork()
    if child == 0:
        store = StateStore(path)
        store.set_intent("web", FREEZE)
        os._exit(0)  # as if it were killed: the files beside it stay
    assert os.waitpid(child, 0)[1] == 0
    for entry in path.parent.iterdir():
        entry.chmod(0o644)
    assert len(modes(path)) == 3
    with StateStore(path) as store:
        assert set(modes(path).values()) == {0o600}
        assert store.intent("web") == FREEZE


def test_of_the_files_those_that_are_there_are_closed_to_others(path: Path) -> None:
    path.touch(mode=0o644)
    path.with_name("state.db-shm").touch(mode=0o644)
    file._make_private(path)
    assert modes(path) == {"state.db": 0o600, "state.db-shm": 0o600}


def test_files_that_can_not_be_closed_to_others_are_told_and_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: Path, mode: int) -> None:
        raise PermissionError(1, "not yours", str(file))

    with StateStore(path) as store:
        store.set_intent("web", FREEZE)
    monkeypatch.setattr(Path, "chmod", refuse)
    with StateStore(path):
        assert not caplog.messages, "what is private is left alone"
    os.chmod(path, 0o644)  # noqa: PTH101 - the other one refuses
    with StateStore(path) as store:
        assert store.intent("web") == FREEZE
    assert caplog.messages == [f"{path}: others may read it: [Errno 1] not yours: '{path}'"]


def test_a_store_whose_directory_is_gone_can_be_closed(path: Path) -> None:
    store = StateStore(path)
    shutil.rmtree(path.parent)
    store.close()


def test_room_is_given_back_page_by_page_and_not_by_writing_all_anew(path: Path) -> None:
    done: list[str] = []
    with StateStore(path) as store:
        store._connection.set_trace_callback(done.append)
        store.keep_drift(DRIFT)
    assert "PRAGMA incremental_vacuum" in done
    assert "VACUUM" not in done


def test_a_program_that_comes_and_goes_leaves_the_journal_of_who_stays(path: Path) -> None:
    """Who is the last one takes it away; one that has dropped its locks is not seen any more."""
    with StateStore(path) as store:
        StateStore(path).close()
        store.set_intent("web", FREEZE)
        journal = path.with_name("state.db-wal")
        before = journal.stat()
        assert before.st_size > 0
        script = (
            f"import sqlite3; sqlite3.connect({str(path)!r}).execute('SELECT * FROM intent').fetchall()"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
        assert (journal.stat().st_ino, journal.stat().st_size) == (before.st_ino, before.st_size)


def test_room_that_can_not_be_given_back_now_is_no_reason_against_keeping(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    with StateStore(path) as store:
        monkeypatch.setattr(file, "_gives_back", fail)
        assert store.keep_drift(DRIFT)
        assert store.drifts("web") == (DRIFT,)


def test_where_sqlite_can_not_share_the_file_it_is_opened_alone_and_that_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateStore(path) as store:
        store.set_intent("web", FREEZE)
    path.with_name("state.db-shm").symlink_to("gone/shm")  # as on a full disk, it can't be made
    with StateStore(path) as store:
        assert store.intent("web") == FREEZE
        store.begin("web", ATTEMPT)
        assert store.attempt("web") is not None
    (told,) = caplog.messages
    assert told.startswith(f"{path}: unable to open database file; see that there is space")


def test_a_file_is_not_opened_beside_sqlite_which_would_drop_the_locks_of_this_process(path: Path) -> None:
    with StateStore(path) as store, store._write():
        StateStore(path).close()
        script = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        other = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
        assert "database is locked" in other.stderr
