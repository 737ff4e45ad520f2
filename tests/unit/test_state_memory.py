"""What the state remembers of verdicts: which revisions were accepted, which contents rejected."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import StateError, StateStore
from libgitopper.state.memory import KEPT_REJECTIONS
from tests.support.kept import REJECTION, SERVICE, THEN, A, B

SOURCE = SERVICE.source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with StateStore(path) as store:
        # Hundreds of writes, and no machine to fail.
        store._connection.execute("PRAGMA synchronous = OFF")
        yield store


def recall(store: StateStore, release: str = "r2") -> str | None:
    found = store.rejection("web", release, REJECTION.fingerprint)
    return found.reason if found else None


def test_a_new_store_remembers_no_verdict(store: StateStore) -> None:
    assert store.accepted("web", SOURCE) is None
    assert store.rejection("web", "r2", REJECTION.fingerprint) is None
    assert store.pardon("web") == 0


def test_verdicts_survive_to_be_opened_again(path: Path) -> None:
    with StateStore(path) as store:
        store.accept("web", SOURCE, A)
        store.reject(REJECTION)
    with StateStore(path) as store:
        assert store.accepted("web", SOURCE) == A
        assert store.rejection("web", "r2", REJECTION.fingerprint) == REJECTION


def test_what_was_accepted_is_known_for_each_service_and_branch_and_upstream(store: StateStore) -> None:
    store.accept("web", SOURCE, A)
    assert store.accepted("webapp", SOURCE) is None
    assert store.accepted("web", evolve(SOURCE, branch="dev")) is None
    assert store.accepted("web", evolve(SOURCE, upstream="https://example.org/r")) is None
    store.accept("web", evolve(SOURCE, branch="dev"), B)
    store.accept("web", SOURCE, B)
    assert store.accepted("web", SOURCE) == store.accepted("web", evolve(SOURCE, branch="dev")) == B


def test_credentials_are_no_part_of_what_was_accepted(path: Path, store: StateStore) -> None:
    store.accept("web", SOURCE, A)
    store.close()
    assert b"hunter2" not in path.read_bytes()


def test_a_rejection_is_one_of_a_release_with_its_settings(store: StateStore) -> None:
    store.reject(REJECTION)
    assert store.rejection("web", "r2", "0" * 16) is None
    assert store.rejection("web", "r3", REJECTION.fingerprint) is None
    assert store.rejection("webapp", "r2", REJECTION.fingerprint) is None


def test_a_release_has_one_rejection_the_last(store: StateStore) -> None:
    store.reject(REJECTION)
    again = evolve(REJECTION, fingerprint="0" * 16, step="health", reason="ill", revision=A)
    store.reject(again)
    assert store.rejection("web", "r2", REJECTION.fingerprint) is None
    assert store.rejection("web", "r2", "0" * 16) == again
    assert store.pardon("web") == 1


def test_to_pardon_is_for_one_service_and_all_that_was_rejected_for_it(store: StateStore) -> None:
    for release in ("r2", "r3"):
        store.reject(evolve(REJECTION, release=release))
    store.reject(evolve(REJECTION, service="webapp"))
    assert store.pardon("web") == 2
    assert recall(store) is recall(store, "r3") is None
    assert store.rejection("webapp", "r2", REJECTION.fingerprint) is not None


def test_to_pardon_a_revision_is_for_what_that_brought(store: StateStore) -> None:
    store.reject(REJECTION)
    store.reject(evolve(REJECTION, release="r3", revision=A, reason="other"))
    assert store.pardon("web", B) == 1
    assert (recall(store), recall(store, "r3")) == (None, "other")
    assert store.pardon("web", "c" * 40) == 0


def test_so_many_rejections_are_kept_and_the_oldest_go_first(store: StateStore) -> None:
    store.reject(evolve(REJECTION, service="webapp"))
    for number in range(KEPT_REJECTIONS + 3):
        at = THEN + timedelta(seconds=number)
        store.reject(evolve(REJECTION, release=f"r{number}", reason=f"{number}", at=at))
    assert [recall(store, f"r{number}") for number in range(4)] == [None, None, None, "3"]
    assert recall(store, f"r{KEPT_REJECTIONS + 2}") == f"{KEPT_REJECTIONS + 2}"
    assert store.rejection("webapp", "r2", REJECTION.fingerprint) is not None, "another's is not touched"
    assert store.pardon("web") == KEPT_REJECTIONS


def test_the_newest_rejection_is_kept_where_the_clock_was_set_back(store: StateStore) -> None:
    """A verdict that is forgotten at once would be tried for ever."""
    for number in range(KEPT_REJECTIONS):
        store.reject(evolve(REJECTION, release=f"r{number}", at=THEN + timedelta(seconds=number)))
    store.reject(evolve(REJECTION, release="now", at=THEN - timedelta(days=1)))
    assert recall(store, "now") is not None


def test_a_rejection_that_is_damaged_is_told(path: Path, store: StateStore) -> None:
    store.reject(REJECTION)
    other = sqlite3.connect(path)
    other.execute("UPDATE rejection SET at = 'noon'")
    other.commit()
    other.close()
    with pytest.raises(StateError, match="can't be read"):
        store.rejection("web", "r2", REJECTION.fingerprint)


def test_to_forget_a_service_keeps_its_verdicts(store: StateStore) -> None:
    """It may come back: what hurt it then would hurt it again, and history must not go behind."""
    store.reject(REJECTION)
    store.accept("web", SOURCE, A)
    store.forget("web")
    assert recall(store) is not None
    assert store.accepted("web", SOURCE) == A
