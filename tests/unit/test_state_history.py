"""What the state remembers of deploys, of drift, and of the releases that there were."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import Deploy, Deployed, Result, StateError, StateStore
from libgitopper.state.history import KEPT_DEPLOYS, KEPT_DRIFTS
from libgitopper.state.store import KEPT_RELEASES
from tests.support.kept import CONTENT, DEPLOY, DEPLOYED, DRIFT, SERVICE, THEN, A, B

DONE = evolve(DEPLOY, result=Result.DEPLOYED, error="")
LATER = THEN + timedelta(minutes=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with StateStore(path) as store:
        # Hundreds of writes, and no machine to fail.
        store._connection.execute("PRAGMA synchronous = OFF")
        yield store


def count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    (number,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(number)


def test_a_new_store_knows_of_nothing_that_happened(store: StateStore) -> None:
    assert (store.deploys("web"), store.drifts("web")) == ((), ())


def test_a_deploy_and_drift_survive_to_be_opened_again(path: Path) -> None:
    with StateStore(path) as store:
        store.add_deploy(DEPLOY)
        assert store.keep_drift(DRIFT)
    with StateStore(path) as store:
        assert store.deploys("web") == (DEPLOY,)
        assert list(store.deploys("web")[0].seconds) == ["verify", "checkout", "reload"], "in their order"
        assert store.drifts("web") == (DRIFT,)
        assert store.deploys("webapp") == ()
        assert store.drifts("webapp") == ()


def test_tries_and_patches_come_back_with_all_that_is_known_of_them(store: StateStore) -> None:
    tried, whole = evolve(DEPLOY, tries=3, last=LATER), evolve(DRIFT, complete=True)
    store.add_deploy(tried)
    store.keep_drift(whole)
    assert (store.deploys("web"), store.drifts("web")) == ((tried,), (whole,))


def test_a_deploy_is_recorded_with_what_it_brought_or_not_at_all(path: Path, store: StateStore) -> None:
    store.record(DEPLOYED, DONE)
    assert (store.deployed("web") is not None, store.deploys("web")) == (True, (DONE,))
    other = sqlite3.connect(path)
    other.execute("DROP TABLE deploy")
    other.commit()
    other.close()
    with pytest.raises(StateError):
        store.record(evolve(DEPLOYED, revision=B, release="r9"), DONE)
    deployed = store.deployed("web")
    assert deployed is not None
    assert deployed.revision == A
    assert store.releases("web", 9) == (("r1", A),)


def test_what_is_restored_is_no_deploy(store: StateStore) -> None:
    store.record(DEPLOYED)
    assert store.deploys("web") == ()


def test_tries_that_fail_in_the_same_way_are_one_with_their_number(store: StateStore) -> None:
    store.add_deploy(DEPLOY)
    for minutes in (1, 2, 3):
        store.add_deploy(
            evolve(DEPLOY, at=THEN + timedelta(minutes=minutes), seconds={"verify": float(minutes)})
        )
    (entry,) = store.deploys("web")
    assert (entry.at, entry.last, entry.tries) == (THEN, THEN + timedelta(minutes=3), 4)
    assert entry.seconds == {"verify": 3.0}
    assert evolve(entry, last=None, tries=1, seconds=DEPLOY.seconds) == DEPLOY


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(evolve(DEPLOY, error="exit code 2"), id="error"),
        pytest.param(evolve(DEPLOY, after=A), id="revision"),
        pytest.param(evolve(DEPLOY, release="r3"), id="release"),
        pytest.param(evolve(DEPLOY, result=Result.TAKEN_BACK), id="result"),
        pytest.param(DONE, id="success"),
    ],
)
def test_what_differs_is_an_entry_of_its_own(store: StateStore, other: Deploy) -> None:
    store.add_deploy(DEPLOY)
    store.add_deploy(other)
    store.add_deploy(DEPLOY)
    assert store.deploys("web") == (DEPLOY, other, DEPLOY)


def test_tries_are_one_whatever_asks_and_those_of_an_operator_are_their_own(store: StateStore) -> None:
    for asked in ("poll", "config", "", "start", "retry by alice", "poll", "retry by bob", "retry by bob"):
        store.add_deploy(evolve(DEPLOY, asked=asked))
    assert [(entry.asked, entry.tries) for entry in store.deploys("web")] == [
        ("retry by bob", 2), ("retry by alice", 2), ("poll", 4),
    ]  # fmt: skip


def test_deploys_that_went_well_are_never_one(store: StateStore) -> None:
    store.add_deploy(DONE)
    store.add_deploy(DONE)
    assert len(store.deploys("web")) == 2


def test_tries_of_another_service_in_between_do_not_count(store: StateStore) -> None:
    store.add_deploy(DEPLOY)
    store.add_deploy(evolve(DEPLOY, service="webapp"))
    store.add_deploy(evolve(DEPLOY, at=LATER))
    assert [(entry.tries, entry.last) for entry in store.deploys("web")] == [(2, LATER)]
    assert [entry.tries for entry in store.deploys("webapp")] == [1]


def test_deploys_are_told_newest_first_and_as_many_as_are_asked_for(store: StateStore) -> None:
    for number in range(5):
        store.add_deploy(evolve(DONE, why=f"{number}"))
    assert [entry.why for entry in store.deploys("web", 2)] == ["4", "3"]


def test_so_many_deploys_of_each_service_are_kept_and_the_oldest_go_first(
    path: Path, store: StateStore
) -> None:
    store.add_deploy(evolve(DONE, service="webapp"))
    for number in range(KEPT_DEPLOYS + 5):
        store.add_deploy(evolve(DONE, why=f"{number}"))
    kept = store.deploys("web", 1000)
    assert KEPT_DEPLOYS == len(kept) == 200
    assert (kept[0].why, kept[-1].why) == (f"{KEPT_DEPLOYS + 4}", "5")
    assert len(store.deploys("webapp")) == 1
    assert count(path, "deploy") == KEPT_DEPLOYS + 1


def test_drift_is_kept_once_for_each_form(store: StateStore) -> None:
    other = evolve(DRIFT, patch=b"other", at=LATER)
    assert [store.keep_drift(what) for what in (DRIFT, evolve(DRIFT, at=LATER), other, DRIFT)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert store.drifts("web") == (DRIFT, other, DRIFT)
    assert store.drifts("web", 1) == (DRIFT,)


def test_the_same_drift_of_another_release_is_kept(store: StateStore) -> None:
    store.keep_drift(DRIFT)
    assert store.keep_drift(evolve(DRIFT, release="r9"))


def test_so_much_drift_of_each_service_is_kept_and_the_oldest_goes_first(store: StateStore) -> None:
    store.keep_drift(evolve(DRIFT, service="webapp"))
    for number in range(KEPT_DRIFTS + 3):
        store.keep_drift(evolve(DRIFT, patch=b"%d" % number))
    kept = store.drifts("web", 1000)
    assert [record.patch for record in kept] == [b"%d" % n for n in range(KEPT_DRIFTS + 2, 2, -1)]
    assert len(store.drifts("webapp")) == 1


def fresh(generation: int) -> Deployed:
    content = evolve(CONTENT, generation=generation)
    return evolve(DEPLOYED, release=f"fresh{generation}", content=content)


def test_a_fresh_release_in_the_place_of_one_that_had_drifted_heals_the_drift(store: StateStore) -> None:
    store.record(DEPLOYED)
    store.keep_drift(DRIFT)
    store.record(fresh(1), evolve(DONE, result=Result.HEALED))
    assert [record.healed for record in store.drifts("web")] == [True]
    assert store.releases("web", 5) == (("fresh1", A),), "what had drifted is nothing to go back to"
    assert store.keep_drift(evolve(DRIFT, release="fresh1"))
    store.record(fresh(2))
    assert [record.healed for record in store.drifts("web")] == [True, True]


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(evolve(DEPLOYED, release="r2", content=evolve(CONTENT, entries=())), id="new content"),
        pytest.param(DEPLOYED, id="the same again"),
        pytest.param(evolve(DEPLOYED, release="r2", service=evolve(SERVICE, user="x")), id="another owner"),
    ],
)
def test_what_is_no_fresh_release_heals_nothing(store: StateStore, then: Deployed) -> None:
    store.record(DEPLOYED)
    store.keep_drift(DRIFT)
    store.record(then)
    assert [record.healed for record in store.drifts("web")] == [False]
    assert ("r1", A) in store.releases("web", 5)


def test_a_generation_survives_to_be_opened_again(path: Path) -> None:
    with StateStore(path) as store:
        store.record(fresh(3))
    with StateStore(path) as store:
        deployed = store.deployed("web")
        assert deployed is not None
        assert deployed.content.generation == 3


def test_releases_are_remembered_within_bounds_and_none_is_lost_that_is_to_be_kept(
    path: Path, store: StateStore
) -> None:
    for number in range(KEPT_RELEASES + 20):
        store.record(evolve(DEPLOYED, release=f"r{number}"))
        store.record(evolve(DEPLOYED, release=f"r{number}"))  # as a restore does
    assert count(path, "history") == KEPT_RELEASES
    newest = [release for release, _ in store.releases("web", 100)]
    assert newest == [f"r{number}" for number in range(KEPT_RELEASES + 19, KEPT_RELEASES - 81, -1)]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("deploy", "result", "odd"), ("deploy", "files", "[[1]]"), ("drift", "at", "noon")],
)
def test_what_is_damaged_is_told(
    path: Path, store: StateStore, table: str, column: str, value: str
) -> None:
    store.add_deploy(DEPLOY)
    store.keep_drift(DRIFT)
    other = sqlite3.connect(path)
    other.execute(f"UPDATE {table} SET {column} = ?", (value,))
    other.commit()
    other.close()
    with pytest.raises(StateError, match="can't be read"):
        store.deploys("web") if table == "deploy" else store.drifts("web")


def test_to_forget_a_service_keeps_what_happened_to_it(store: StateStore) -> None:
    store.record(DEPLOYED, DONE)
    store.keep_drift(DRIFT)
    store.forget("web")
    assert (store.deploys("web"), store.drifts("web")) == ((DONE,), (DRIFT,))
