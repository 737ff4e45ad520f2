"""The state store: what was acknowledged is there, whatever happens next."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libgitopper import (
    Attempt,
    Content,
    Credentials,
    Deployed,
    Intent,
    IntentKind,
    Mapping,
    Service,
    Source,
    State,
    StateError,
    StateStore,
    Status,
    TreeEntry,
)
from libgitopper.state import codec, schema
from libgitopper.state import store as module

THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
SERVICE = Service(
    name="web",
    source=Source(
        upstream="https://example.net/r",
        branch="main",
        credentials=Credentials(
            userinfo="me:hunter2", file=Path("/etc/secret-file"), ssh_key=Path("/etc/secret-key")
        ),
    ),
    mappings=(
        Mapping(link="web/größe", local=Path("/etc/web dir")),
        Mapping(link="cert.pem", local=Path("/etc/cert.pem"), file=True),
    ),
    mount=Path("/mount"),
    user="nobody",
    publish="symlink",
    readonly=True,
    command=("reload", "--token", "hunter3"),
)
CONTENT = Content(
    revision=A,
    entries=(
        TreeEntry(link="web/größe", id="1" * 40, mode=0o040000),
        TreeEntry(link="cert.pem", id="2" * 40, mode=0o100644),
    ),
)
DEPLOYED = Deployed(revision=A, release="r1", content=CONTENT, service=SERVICE, at=THEN, note="a note")
ATTEMPT = Attempt(revision=B, release="r2", content=evolve(CONTENT, revision=B), service=SERVICE)
FREEZE = Intent(kind=IntentKind.FREEZE, since=THEN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with StateStore(path) as store:
        yield store


def as_kept(service: Service) -> Service:
    """A service as the store gives it back: enough to withdraw it."""
    return Service(
        name=service.name,
        source=Source(upstream=service.source.upstream, branch=service.source.branch),
        mappings=service.mappings,
        mount=service.mount,
        user=service.user,
        publish=service.publish,
        readonly=service.readonly,
    )


# --- what survives -----------------------------------------------------------------------


def test_a_new_store_knows_nothing(store: StateStore) -> None:
    assert store.intent("web") == Intent()
    assert (store.deployed("web"), store.attempt("web"), store.shown("web")) == (None, None, None)
    assert (store.all_deployed(), store.all_attempts(), store.releases("web", 5)) == ((), (), ())


def test_everything_survives_to_be_opened_again(path: Path) -> None:
    status = Status(service="web", state=State.FREEZE, info="gone", hash=A, change=THEN)
    with StateStore(path) as store:
        store.set_intent("web", FREEZE)
        store.record(DEPLOYED)
        store.begin("web", ATTEMPT)
        store.show(status)
    with StateStore(path) as store:
        assert store.intent("web") == FREEZE
        assert store.deployed("web") == evolve(DEPLOYED, service=as_kept(SERVICE))
        assert store.all_deployed() == (store.deployed("web"),)
        assert store.attempt("web") == evolve(ATTEMPT, service=as_kept(SERVICE))
        assert store.all_attempts() == (store.attempt("web"),)
        assert store.shown("web") == evolve(status, info="")
        assert store.releases("web", 5) == (("r1", A),)
        kept = store.deployed("web")
        assert kept is not None
        assert kept.service.placement == SERVICE.placement, "else a restart would deploy anew"


@pytest.mark.parametrize(
    "intent", [Intent(), FREEZE, Intent(kind=IntentKind.ROLLBACK, revision=A, since=THEN)]
)
def test_every_intent_comes_back_as_it_was(store: StateStore, intent: Intent) -> None:
    store.set_intent("web", FREEZE)
    store.set_intent("web", intent)
    assert store.intent("web") == intent
    assert store.intent("webapp") == Intent()


def test_to_record_ends_the_attempt_and_to_advance_does_not(store: StateStore) -> None:
    store.begin("web", ATTEMPT)
    store.advance(DEPLOYED)
    assert store.attempt("web") is not None
    assert store.releases("web", 5) == ()
    store.record(DEPLOYED)
    assert store.attempt("web") is None


def test_releases_are_told_newest_first_each_once_with_its_last_revision(store: StateStore) -> None:
    for revision, release in ((A, "r1"), (B, "r2"), ("c" * 40, "r3"), ("d" * 40, "r1")):
        store.record(evolve(DEPLOYED, revision=revision, release=release))
    store.record(evolve(DEPLOYED, release="other", service=evolve(SERVICE, name="webapp")))
    assert store.releases("web", 9) == (("r1", "d" * 40), ("r3", "c" * 40), ("r2", B))
    assert store.releases("web", 2) == (("r1", "d" * 40), ("r3", "c" * 40))


def test_to_forget_keeps_the_intent_and_the_history(store: StateStore) -> None:
    store.record(DEPLOYED)
    store.begin("web", ATTEMPT)
    store.set_intent("web", FREEZE)
    store.show(Status(service="web", state=State.OK, info="", hash=A, change=THEN))
    store.forget("web")
    assert (store.deployed("web"), store.attempt("web"), store.shown("web")) == (None, None, None)
    assert store.intent("web") == FREEZE
    assert store.releases("web", 5) == (("r1", A),)


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
PATHS = TEXTS.filter(lambda text: "\0" not in text).map(lambda text: Path("/") / text.lstrip("/"))


@given(
    service=st.builds(
        Service,
        name=TEXTS,
        source=st.builds(Source, upstream=TEXTS, branch=TEXTS),
        mappings=st.lists(st.builds(Mapping, link=TEXTS, local=PATHS, file=st.booleans())).map(tuple),
        mount=PATHS,
        user=st.none() | TEXTS,
        publish=TEXTS,
        readonly=st.booleans(),
    ),
    content=st.builds(
        Content,
        revision=TEXTS,
        entries=st.lists(st.builds(TreeEntry, link=TEXTS, id=TEXTS, mode=st.integers(0, 0o777777))).map(
            tuple
        ),
    ),
)
def test_what_is_encoded_is_decoded_to_the_same(service: Service, content: Content) -> None:
    assert codec.load_content(codec.dump_content(content)) == content
    assert codec.load_service(codec.dump_service(service)) == service


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(name=TEXTS, note=TEXTS)
def test_any_name_and_note_is_kept_verbatim(store: StateStore, name: str, note: str) -> None:
    service = evolve(SERVICE, name=name)
    store.record(evolve(DEPLOYED, service=service, note=note))
    kept = store.deployed(name)
    assert kept is not None
    assert (kept.service.name, kept.note) == (name, note)


def test_a_time_keeps_its_instant(store: StateStore) -> None:
    store.set_intent("web", evolve(FREEZE, since=THEN + timedelta(microseconds=1)))
    assert store.intent("web").since == THEN + timedelta(microseconds=1)


def test_credentials_are_not_written(path: Path) -> None:
    with StateStore(path) as store:
        store.record(DEPLOYED)
        store.begin("web", ATTEMPT)
        written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    written += path.read_bytes()
    assert b"example.net" in written
    for secret in (b"hunter2", b"hunter3", b"secret-file", b"secret-key"):
        assert secret not in written


def test_others_can_not_look_into_a_directory_that_the_store_makes(path: Path, store: StateStore) -> None:
    assert path.parent.stat().st_mode & 0o007 == 0


# --- what was acknowledged ---------------------------------------------------------------


def test_an_acknowledged_intent_is_seen_by_another_connection_at_once(
    path: Path, store: StateStore
) -> None:
    store.set_intent("web", FREEZE)
    with StateStore(path) as other:
        assert other.intent("web") == FREEZE


CHILD = """
import os, signal, sys
from pathlib import Path
from libgitopper import Intent, IntentKind, StateStore
store = StateStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    store.set_intent(f"s{number}", Intent(kind=IntentKind.FREEZE))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("writes", [1, 50])
def test_an_acknowledged_intent_survives_a_kill_right_after(path: Path, writes: int) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(writes)],
        check=False, env=os.environ | {"PYTHONPATH": str(root)}, timeout=60,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL
    with StateStore(path) as store:
        kinds = {store.intent(f"s{number}").kind for number in range(writes)}
    assert kinds == {IntentKind.FREEZE}


def test_a_write_is_synced_before_it_returns(store: StateStore) -> None:
    # What a power cut leaves can't be shown here; that SQLite was told to see to it, can.
    (synchronous,) = store._connection.execute("PRAGMA synchronous").fetchone()
    (journal,) = store._connection.execute("PRAGMA journal_mode").fetchone()
    assert (synchronous, journal) == (2, "wal")


def test_a_write_that_fails_halfway_changes_nothing(path: Path, store: StateStore) -> None:
    store.begin("web", ATTEMPT)
    store._connection.execute("DROP TABLE history")
    with pytest.raises(StateError, match=r"state\.db: the state can't be written: no such table: history"):
        store.record(DEPLOYED)
    assert store.attempt("web") is not None
    assert store.deployed("web") is None
    store.set_intent("web", FREEZE)
    assert store.intent("web") == FREEZE, "the store works on"


def test_threads_do_not_get_in_each_others_way(path: Path, store: StateStore) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        service = evolve(SERVICE, name=name)
        try:
            for number in range(25):
                store.begin(name, ATTEMPT)
                store.record(evolve(DEPLOYED, service=service, release=str(number)))
                found = store.deployed(name)
                assert found is not None
                assert found.release == str(number)
                assert store.attempt(name) is None
        except BaseException as exc:  # noqa: BLE001 - handed to the test's own thread
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert len(store.all_deployed()) == 4


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


def test_a_new_file_that_another_program_holds_is_a_clear_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    database(path, "CREATE TABLE x (y)")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(
        StateError, match=r"database is locked; see that .*another gitopperd"
    ):
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


def test_a_store_that_is_closed_says_so(path: Path) -> None:
    store = StateStore(path)
    store.close()
    store.close()
    with pytest.raises(StateError, match="closed"):
        store.intent("web")
    with pytest.raises(StateError, match="closed"):
        store.set_intent("web", FREEZE)


# --- files that can't be used ------------------------------------------------------------


def database(path: Path, *statements: str) -> bytes:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path.read_bytes()


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_file_of_a_newer_program_is_refused_and_left_as_it_is(path: Path, journal: str) -> None:
    before = database(
        path,
        f"PRAGMA journal_mode = {journal}",
        "CREATE TABLE new (x)",
        f"PRAGMA user_version = {schema.VERSION + 1}",
    )
    with pytest.raises(
        StateError, match=rf"schema {schema.VERSION + 1}.*knows {schema.VERSION}.*--state-dir"
    ):
        StateStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_with_a_remedy_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
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
    store.show(Status(service="web", state=State.OK, info="", hash=A, change=THEN))
    store._connection.execute(damage)
    reads = {
        "intent": store.intent,
        "deployed": store.deployed,
        "attempt": store.attempt,
        "shown": store.shown,
    }
    table = damage.split()[1]
    with pytest.raises(StateError, match="can't be read"):
        reads[table]("web")
    if table in {"deployed", "attempt"}:
        with pytest.raises(StateError, match="can't be read"):
            (store.all_deployed if table == "deployed" else store.all_attempts)()


def test_a_directory_in_the_files_place_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StateError, match=r"can't be opened.*writable"):
        StateStore(path)


def test_a_file_in_the_directorys_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep").touch()
    with pytest.raises(StateError, match=r"can't be opened.*writable"):
        StateStore(tmp_path / "deep" / "state.db")


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


# --- migrations --------------------------------------------------------------------------


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
