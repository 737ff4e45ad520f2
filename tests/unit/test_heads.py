"""Operators wait for no disk and no other service; HEADs that were moved for nothing are taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from attrs import evolve

from libgitopper import CheckoutError, Hold, Intent, IntentKind, Outcome, Service
from libgitopper import advancing as module
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost

PATIENCE_SECONDS = 20.0


class Pause:
    """Holds whoever comes by, until the block ends."""

    def __init__(self) -> None:
        self.reached, self._go = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.reached.set()
        assert self._go.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Pause:
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()


class Aside(threading.Thread):
    """A call in a thread, and what it returned."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.returned: object = None
        self.start()

    def run(self) -> None:
        self.returned = self._call()

    def ended(self) -> object:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        return self.returned


def head(service: Service, host: SimulatedHost) -> str:
    deployed = host.state.deployed(service.name)
    assert deployed is not None
    return (deployed.release_path / ".head").read_text()


def following(host: SimulatedHost, *services: Service) -> Callable[[], tuple[Outcome, ...]]:
    store = host.fetch(services[0])
    assert store is not None
    store.path.mkdir(parents=True, exist_ok=True)
    return lambda: host.reconciler.advance(services, store, still=lambda _: True)


def names(outcomes: object) -> list[str]:
    assert isinstance(outcomes, tuple)
    return [outcome.service.name for outcome in outcomes]


@pytest.fixture
def pair(host: SimulatedHost) -> tuple[Service, Service]:
    web, db = host.service(), host.service("db", no_rewind=True)
    host.upstream.commit({"web/a": "1", "db/a": "1"})
    for one in (web, db):
        assert host.pass_(one).error is None
    return web, db


def test_a_freeze_does_not_wait_for_the_sync_of_those_that_follow_together(
    host: SimulatedHost, pair: tuple[Service, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    web, db = pair
    before = host.tip
    after = host.upstream.commit({"elsewhere": "2"})
    pause = Pause()
    monkeypatch.setattr(module, "sync_filesystem", pause)
    follow = Aside(following(host, web, db))
    with pause:
        assert pause.reached.wait(PATIENCE_SECONDS)
        Aside(lambda: host.freeze(web)).ended()
    assert names(follow.ended()) == ["db"]
    host.assert_in_line(db, after)
    assert head(web, host) == after
    host.pass_(web)
    host.assert_in_line(web, before)


def test_a_freeze_does_not_wait_for_the_disk_of_a_pass_that_advances(host: SimulatedHost) -> None:
    web = host.service()
    before = host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    pause = Pause()
    host.script.on("checkout web", pause, when="after")
    following = Aside(lambda: host.pass_(web))
    with pause:
        assert pause.reached.wait(PATIENCE_SECONDS)
        Aside(lambda: host.freeze(web)).ended()
    following.ended()
    assert host.script.count("advance web") == 0
    host.assert_in_line(web, before)


def test_a_rollback_does_not_wait_for_what_is_verified_for_another_service(
    host: SimulatedHost, pair: tuple[Service, Service]
) -> None:
    web, db = pair
    before = host.tip
    host.upstream.commit({"web/a": "2"})
    host.pass_(web)
    after = host.upstream.commit({"elsewhere": "3"})
    pause = Pause()
    host.script.on("verify db", pause)
    follow = Aside(following(host, web, db))
    with pause:
        assert pause.reached.wait(PATIENCE_SECONDS)
        host.roll_back(web, before)
        Aside(lambda: host.pass_(web)).ended()
        host.assert_in_line(web, before)
    assert names(follow.ended()) == ["db"]
    host.assert_in_line(web, before)
    host.assert_in_line(db, after)


@pytest.mark.parametrize("way", ["frozen", "held"])
def test_a_process_that_ended_before_the_record_leaves_no_head_at_a_commit_that_is_not_on_record(
    host: SimulatedHost, way: str
) -> None:
    web = host.service()
    before = host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    host.script.on("advance web", Crash())
    with pytest.raises(Crash):
        host.pass_(web)
    host.restart()
    if way == "frozen":
        host.freeze(web)
    else:
        host.guards.held = Hold(reason="outside of office hours")
        host.upstream.commit({"web/conf": "3"})
    host.pass_(web)
    host.assert_in_line(web, before)


def test_a_head_that_can_not_be_taken_back_is_no_failure_and_is_tried_again(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    web = host.service()
    before = host.deploy(web)
    host.restart()
    host.script.on("checkout web", CheckoutError("the disk is full"))
    assert host.pass_(web).error is None
    assert "HEAD of its release may name another commit: the disk is full" in caplog.text
    host.script.clear()
    for _ in range(3):
        host.pass_(web)
    assert host.script.count("checkout web") == 1
    host.assert_in_line(web, before)


def test_no_head_is_looked_for_in_the_store_of_another_upstream(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.restart()
    host.reconciler.want("web", Intent(kind=IntentKind.FREEZE))
    moved = evolve(web, source=evolve(web.source, upstream="simulated://elsewhere"))
    host.pass_(moved)
    assert host.script.count("checkout web") == 0
