"""Services that a commit does not touch follow it together; what else is to do is left to their passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from libgitopper import Intent, IntentKind, Outcome, Service, Store, watches
from libgitopper import advancing as module
from libgitopper.errors import StateError
from tests.support.bench import MakeBench, make, service
from tests.support.simulatedhost import SimulatedHost

__all__ = ["make"]

A, B = "a" * 40, "b" * 40


@pytest.fixture
def pair(host: SimulatedHost) -> tuple[Service, Service]:
    web, db = host.service(), host.service("db")
    host.upstream.commit({"web/a": "1", "db/a": "1"})
    for one in (web, db):
        assert host.pass_(one).error is None
    return web, db


def polled(host: SimulatedHost, service: Service) -> Store:
    store = host.fetch(service)
    assert store is not None
    store.path.mkdir(parents=True, exist_ok=True)
    return store


def advance(host: SimulatedHost, *services: Service) -> tuple[Outcome, ...]:
    return host.reconciler.advance(services, polled(host, services[0]), still=lambda _: True)


def names(outcomes: tuple[Outcome, ...]) -> list[str]:
    return [outcome.service.name for outcome in outcomes]


def test_they_follow_with_one_sync_and_one_write_and_the_write_comes_last(
    host: SimulatedHost, pair: tuple[Service, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = host.upstream.commit({"other/a": "2"})
    host.script.clear()
    monkeypatch.setattr(module, "sync_filesystem", lambda path: host.script.before("sync store"))
    outcomes = advance(host, *pair)
    assert names(outcomes) == ["web", "db"]
    steps = [step for step in host.script.log if not step.startswith(("observe", "fetch", "verify"))]
    assert [step.partition(" ")[0] for step in steps] == ["checkout", "checkout", "sync", "advance"]
    assert steps[-1] == "advance web db"
    for outcome in outcomes:
        assert host.state.deployed(outcome.service.name) == outcome.deployed
        host.assert_in_line(outcome.service, revision)
    assert [event.kind for event in host.observer.events[-2:]] == ["advanced", "advanced"]


def test_what_the_commit_touches_is_left_to_its_pass(
    host: SimulatedHost, pair: tuple[Service, Service]
) -> None:
    before = host.state.deployed("web")
    host.upstream.commit({"web/a": "2"})
    assert names(advance(host, *pair)) == ["db"]
    assert host.state.deployed("web") == before


def test_what_is_frozen_unpublished_or_past_stays_as_it_is(
    host: SimulatedHost, pair: tuple[Service, Service]
) -> None:
    web, db = pair
    host.upstream.commit({"other/a": "2"})
    host.reconciler.want("web", Intent(kind=IntentKind.FREEZE))
    host.mounts.reboot()
    assert advance(host, web, db) == ()
    store = polled(host, web)
    assert host.reconciler.advance(pair, store, still=lambda _: False) == ()


def test_where_it_cannot_be_written_nothing_is_on_record_and_the_pass_does_it(
    host: SimulatedHost, pair: tuple[Service, Service]
) -> None:
    web, db = pair
    before = host.state.deployed("web")
    revision = host.upstream.commit({"other/a": "2"})
    host.script.on("advance web db", StateError("disk full"))
    assert advance(host, web, db) == ()
    assert host.state.deployed("web") == before
    assert host.pass_(web).error is None
    host.assert_in_line(web, revision)


def test_who_follows_needs_no_pass_and_who_was_asked_for_gets_one(make: MakeBench) -> None:
    bench = make(service("one"), service("two"), service("three"))
    for name in ("one", "two", "three"):
        bench.is_at(name, A)

    async def work() -> None:
        await bench.settle(3)
        bench.tip, bench.news, bench.follow = B, {"three"}, {"one", "two"}
        for name in ("one", "two", "three"):
            bench.is_at(name, B)
        bench.crew.runners["two"].expect()
        await bench.poll_by_interval("one")
        await bench.settle(5)
        assert bench.passes[3:] == [("three", "poll"), ("two", "poll")]
        assert {status.hash for status in bench.board} == {B}
        await bench.poll_by_interval("one")
        await bench.settle(5)

    bench.run(work)


def test_a_pass_that_was_made_meanwhile_knows_better_than_who_followed(make: MakeBench) -> None:
    bench = make(service("web"))
    bench.is_at("web", A)

    async def work() -> None:
        await bench.settle(1)
        runner = bench.crew.runners["web"]
        late = bench.outcomes["web"]
        bench.is_at("web", B)
        runner.advanced(bench.outcomes["web"], B, runner.passes - 1)
        assert bench.board.status("web").hash == A
        runner.advanced(bench.outcomes["web"], B, runner.passes)
        assert bench.board.status("web").hash == B
        runner.idle.clear()
        runner.advanced(late, A, runner.passes)
        assert bench.board.status("web").hash == B

    bench.run(work)


def test_a_service_that_the_config_drops_while_it_follows_is_gone(make: MakeBench) -> None:
    bench = make(service("web"), service("db"))
    for name in ("web", "db"):
        bench.is_at(name, A)

    async def work() -> None:
        await bench.settle(2)
        runner = bench.crew.runners["web"]
        bench.is_at("web", B)
        bench.crew.man(watches([service("db")], Path("/stores")))
        bench.board.keep({"db"})
        runner.advanced(bench.outcomes["web"], B, runner.passes)
        assert [status.service for status in bench.board] == ["db"]

    bench.run(work)
