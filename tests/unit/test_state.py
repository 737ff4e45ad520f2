"""The state store: what was acknowledged is there, whatever happens next."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libgitopper import (
    Content,
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
from libgitopper.state import codec
from tests.support.kept import ATTEMPT, DEPLOYED, FREEZE, SERVICE, THEN, A, B


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
        store.show([status])
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


END_OF_AN_ATTEMPT: list[Callable[[StateStore], object]] = [
    lambda store: store.begin("web", ATTEMPT),
    lambda store: store.record(DEPLOYED),
    lambda store: store.forget("web"),
]


@pytest.mark.parametrize("end", END_OF_AN_ATTEMPT)
def test_what_could_not_be_written_is_owed_until_something_is(
    path: Path, end: Callable[[StateStore], object]
) -> None:
    with StateStore(path) as store:
        unwritten = evolve(ATTEMPT, release="r9")
        store.owe("web", unwritten)
        assert store.attempt("web") == unwritten
        assert store.attempt("db") is None
        end(store)
        now = store.attempt("web")
        assert now is None or now.release == ATTEMPT.release
        store.owe("web", unwritten)
    with StateStore(path) as store:
        assert store.attempt("web") == now, "it is owed by that process alone"


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
    store.show([Status(service="web", state=State.OK, info="", hash=A, change=THEN)])
    store.forget("web")
    assert (store.deployed("web"), store.attempt("web"), store.shown("web")) == (None, None, None)
    assert store.intent("web") == FREEZE
    assert store.releases("web", 5) == (("r1", A),)


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
NAMES = TEXTS.filter(lambda text: not text.startswith(".") and "/" not in text and "\0" not in text)
PATHS = TEXTS.filter(lambda text: "\0" not in text).map(lambda text: Path("/") / text.lstrip("/"))


@given(
    service=st.builds(
        Service,
        name=NAMES,
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
@given(name=NAMES, note=TEXTS)
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


def test_an_error_at_which_sqlite_rolled_back_by_itself_is_told_as_it_is(store: StateStore) -> None:
    def fill_up() -> None:
        with store._write() as connection:
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(StateError, match="disk is full"):
        fill_up()
    store.set_intent("web", FREEZE)
    assert store.intent("web") == FREEZE


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


def test_a_store_that_is_closed_says_so(path: Path) -> None:
    store = StateStore(path)
    store.close()
    store.close()
    with pytest.raises(StateError, match="closed"):
        store.intent("web")
    with pytest.raises(StateError, match="closed"):
        store.set_intent("web", FREEZE)
