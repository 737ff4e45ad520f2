"""The audit trail in the state store: complete for what was done, bounded for what was refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import AuditEntry, StateError, StateStore
from libgitopper.state import audit as module

THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
DONE = AuditEntry(
    at=THEN, who="ops", action="freeze", service="web", origin="unix uid 0 pid 1", status=200, reason="why"
)
REFUSED = AuditEntry(
    at=THEN, who="", action="freeze", service="web", origin="192.0.2.1", status=401, reason="no token"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[StateStore]:
    with StateStore(path) as store:
        yield store


def test_entries_are_told_newest_first_and_survive(path: Path) -> None:
    nobody_s = evolve(DONE, action="reload-config", service=None)
    with StateStore(path) as store:
        for entry in (DONE, REFUSED, nobody_s):
            store.add_audit(entry)
    with StateStore(path) as store:
        assert store.audit(10) == (nobody_s, REFUSED, DONE)
        assert store.audit(2) == (nobody_s, REFUSED)


def test_those_of_one_service_can_be_asked_for(store: StateStore) -> None:
    for name in ("web", "webapp", "web"):
        store.add_audit(evolve(DONE, service=name))
    store.add_audit(evolve(DONE, service=None))
    assert [entry.service for entry in store.audit(10, "web")] == ["web", "web"]
    assert len(store.audit(1, "web")) == 1
    assert store.audit(10, "we") == ()


def test_what_was_begun_and_never_ended_says_so(path: Path) -> None:
    begun = evolve(DONE, status=0, reason="")
    with StateStore(path) as store:
        store.begin_audit(begun)
        number = store.begin_audit(begun)
        store.end_audit(number, 404, "no such hash")
    with StateStore(path) as store:
        assert store.audit(10) == (evolve(begun, status=404, reason="no such hash"), begun)


def test_only_what_was_not_even_tried_is_a_refusal() -> None:
    refused = [
        status
        for status in (0, 200, 202, 400, 401, 403, 404, 500, 503)
        if evolve(DONE, status=status).refused
    ]
    assert refused == [401, 403]


def test_a_flood_of_refusals_keeps_its_bound_and_washes_nothing_away(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_REFUSALS", 5)
    store.add_audit(DONE)
    for number in range(20):
        store.add_audit(evolve(REFUSED, at=THEN + timedelta(seconds=number)))
    entries = store.audit(100)
    assert [(entry.at - THEN).seconds for entry in entries[:-1]] == [19, 18, 17, 16, 15]
    assert entries[-1] == DONE


def test_operations_keep_their_bound_too_and_the_newest_stay(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_OPERATIONS", 3)
    store.add_audit(REFUSED)
    numbers = [store.begin_audit(evolve(DONE, status=0, reason="")) for _ in range(10)]
    store.end_audit(numbers[-1], 200, "last")
    entries = store.audit(100)
    assert [entry.reason for entry in entries] == ["last", "", "", REFUSED.reason]


def test_an_entry_that_is_damaged_is_an_error_of_the_store(store: StateStore) -> None:
    store.add_audit(DONE)
    store._connection.execute("UPDATE audit SET at = 'yesterday'")
    with pytest.raises(StateError, match="can't be read"):
        store.audit(10)
