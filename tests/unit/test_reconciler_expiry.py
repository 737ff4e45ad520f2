"""A freeze with an end: it holds until then, and not a pass longer."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from libgitopper import Intent, IntentKind, StateError
from tests.support.simulatedhost import SimulatedHost

START = datetime(2026, 1, 1, tzinfo=UTC)
FREEZE = Intent(kind=IntentKind.FREEZE, reason="upgrade", by="ops")


def until(seconds: int) -> Intent:
    """A freeze until so long after the start of the simulated clock, which ticks at each look."""
    return evolve(FREEZE, until=START + timedelta(seconds=seconds))


@pytest.mark.parametrize(("seconds", "expired"), [(-1, False), (0, True), (1, True)])
def test_an_intent_is_over_from_its_end_on(seconds: int, expired: bool) -> None:
    assert until(0).expired(START + timedelta(seconds=seconds)) is expired


def test_an_intent_without_an_end_is_never_over() -> None:
    assert not FREEZE.expired(datetime.max.replace(tzinfo=UTC))


def test_a_pass_after_the_end_of_a_freeze_tracks_again(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.reconciler.want("web", until(1000))
    newest = host.upstream.commit({"web/conf": "2"})
    outcome = host.pass_(web)
    assert outcome.intent.kind is IntentKind.FREEZE
    host.assert_in_line(web, first)
    host._seconds = 1000
    outcome = host.pass_(web)
    assert outcome.intent.kind is IntentKind.TRACK
    host.assert_in_line(web, newest)


def test_a_freeze_that_ended_while_nothing_ran_is_over_at_the_next_start(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.reconciler.want("web", until(1000))
    newest = host.upstream.commit({"web/conf": "2"})
    host._seconds = 5000
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, newest)


def test_the_end_is_told_and_audited_once(host: SimulatedHost) -> None:
    host.reconciler.want("web", until(5))
    host._seconds = 5
    for _ in range(3):
        assert host.reconciler.thaw("web").kind is IntentKind.TRACK
    entries = host.state.audit(10)
    assert [(entry.action, entry.service, entry.status) for entry in entries] == [("expiry", "web", 200)]
    assert host.state.intent("web").since == entries[0].at
    thawed = [event for event in host.observer.events if event.details.get("intent") == "track"]
    assert [event.details["reason"] for event in thawed] == ["the time of this freeze is over"]


def test_a_thaw_before_the_end_changes_nothing(host: SimulatedHost) -> None:
    stands = host.reconciler.want("web", until(1000))
    assert host.reconciler.thaw("web") == stands
    assert host.state.intent("web") == stands
    assert host.reconciler.thaw("other") == Intent()
    assert host.state.audit(10) == ()


def test_a_freeze_that_was_renewed_meanwhile_is_not_thawed(host: SimulatedHost) -> None:
    """The thaw and the renewal race for the gate: whoever is last, the renewed freeze stands."""
    for _ in range(20):
        host._seconds = 0
        host.reconciler.want("web", until(5))
        host._seconds = 5
        thaw = threading.Thread(target=host.reconciler.thaw, args=("web",))
        thaw.start()
        host.reconciler.want("web", until(10_000))
        thaw.join()
        assert host.state.intent("web").until == until(10_000).until


def test_an_end_that_can_not_be_written_leaves_the_freeze_and_no_entry(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands = host.reconciler.want("web", until(5))
    host._seconds = 5
    host.state._connection.execute("DROP TABLE audit")
    with pytest.raises(StateError, match="can't be written"):
        host.reconciler.thaw("web")
    assert host.state.intent("web") == stands


def test_observers_are_told_who_froze_it_until_when_and_why(host: SimulatedHost) -> None:
    host.reconciler.want("web", until(60))
    assert host.observer.events[-1].details == {
        "intent": "freeze",
        "revision": None,
        "reason": "upgrade",
        "until": "2026-01-01T00:01:00+00:00",
        "by": "ops",
    }
