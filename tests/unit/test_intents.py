"""Intents by themselves: what is persisted, what is told, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libgitopper import AuditEntry, Event, Hooks, Intent, IntentKind, StateStore, hookimpl
from libgitopper.intents import Intents, Superseded

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FREEZE = Intent(kind=IntentKind.FREEZE, reason="upgrade", by="ops", until=NOW + timedelta(hours=1))


class Observer:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        self.events.append(event)


class Bench:
    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.observer = Observer()
        hooks = Hooks()
        hooks.register(self.observer, name="observer")
        self.state = StateStore(directory / "state.db")
        self.intents = Intents(hooks=hooks, state=self.state, now=lambda: self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.state.close()


def test_what_is_wanted_is_told_with_all_that_was_said_of_it(bench: Bench) -> None:
    bench.intents.want("web", FREEZE)
    until = "2026-01-02T04:04:05+00:00"
    details = {"intent": "freeze", "revision": None, "reason": "upgrade", "until": until, "by": "ops"}
    assert bench.observer.events == [Event(kind="intent", service="web", details=details)]


def test_nothing_is_told_that_was_not_said(bench: Bench) -> None:
    bench.intents.want("web", Intent(kind=IntentKind.ROLLBACK, revision="a" * 40))
    [event] = bench.observer.events
    assert event.details == {"intent": "rollback", "revision": "a" * 40}


def test_the_end_of_a_freeze_is_on_record_as_its_own_doing(bench: Bench) -> None:
    bench.intents.want("web", FREEZE)
    bench.now = NOW + timedelta(hours=2)
    stands = bench.intents.thaw("web")
    over = "the time of this freeze is over"
    assert stands == bench.state.intent("web") == Intent(since=bench.now, reason=over)
    assert bench.state.audit(10) == (
        AuditEntry(
            at=bench.now, who="", action="expiry", service="web", origin="itself", status=200, reason=over
        ),
    )
    event = bench.observer.events[-1]
    assert (event.kind, event.service) == ("intent", "web")
    assert event.details == {"intent": "track", "revision": None, "reason": over}


def test_a_plan_is_acted_on_only_while_its_intent_stands(bench: Bench) -> None:
    stands = bench.intents.want("web", FREEZE)
    with bench.intents.gate("web", stands):
        pass
    bench.intents.want("web", Intent())
    with pytest.raises(Superseded), bench.intents.gate("web", stands):
        pytest.fail("acted on a plan whose intent is past")


@pytest.mark.parametrize("change", ["want", "thaw"])
@pytest.mark.parametrize("way", ["gate", "hold"])
def test_nobody_changes_an_intent_while_somebody_acts_on_it(bench: Bench, way: str, change: str) -> None:
    acting: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "gate": lambda: bench.intents.gate("web", bench.state.intent("web")),
        "hold": lambda: bench.intents.hold("web"),
    }
    changing: dict[str, Callable[[str], Intent]] = {
        "want": lambda service: bench.intents.want(service, Intent()),
        "thaw": bench.intents.thaw,
    }
    for service in ("web", "other"):
        bench.intents.want(service, FREEZE)
    bench.now = NOW + timedelta(hours=2)
    changed = threading.Event()

    def act() -> None:
        changing[change]("web")
        changed.set()

    thread = threading.Thread(target=act)
    with acting[way]():
        thread.start()
        assert not changed.wait(0.1)
        changing[change]("other")  # each service has a gate of its own
        assert bench.state.intent("other").kind is IntentKind.TRACK
        assert bench.state.intent("web").kind is IntentKind.FREEZE
    assert changed.wait(10)
    thread.join()
    assert bench.state.intent("web").kind is IntentKind.TRACK
