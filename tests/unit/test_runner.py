"""When a pass is made, for whom, and who goes on after it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from attrs import evolve

from gitopperd.work import runner as module
from libgitopper import Intent, IntentKind, ReloadError, State
from tests.support.bench import START, MakeBench, make, service

__all__ = ["make"]


def test_a_pass_is_told_who_asked_for_it(make: MakeBench) -> None:
    bench = make(service("web"))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        bench.crew.runners["web"].kick("retry by alice")
        bench.crew.runners["web"].kick("unfreeze by bob")
        await bench.wait_for(("web", "start"), ("web", "retry by alice, unfreeze by bob"))
        bench.crew.runners["web"].follower.poke("webhook github")
        await bench.settle(3)
        assert bench.passes[-1] == ("web", "webhook github")

    bench.run(work)


def test_what_is_tried_again_by_itself_stays_with_who_asked_first(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(service("web"))
    monkeypatch.setattr(module, "back_off", lambda **_: 0.02)

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        bench.is_at("web", "a" * 40, ReloadError("the unit is unknown"))
        bench.crew.runners["web"].kick("pull by alice")
        async with asyncio.timeout(5):
            while len(bench.passes) < 4:
                await asyncio.sleep(0.005)
        assert {asked for _, asked in bench.passes[1:]} == {"pull by alice"}

    bench.run(work)


def test_what_can_not_get_better_by_itself_is_not_tried_again(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(service("web"))
    monkeypatch.setattr(module, "back_off", lambda **_: 0.01)
    bench.is_at("web", "a" * 40, ReloadError("no", retryable=False))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        await bench.settle(1)

    bench.run(work)


def test_a_commit_that_waits_for_a_time_is_looked_at_then(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(service("web"))
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.02)
    bench.waits("web", START + timedelta(hours=1))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        await bench.settle(1)
        bench.is_at("web", "b" * 40)
        bench.now = START + timedelta(hours=2)  # as a clock that is set: nobody slept so long
        await bench.wait_for(("web", "start"), ("web", "end of its wait"))
        await bench.settle(2)

    bench.run(work)


def test_a_wait_whose_end_is_past_already_does_not_spin(make: MakeBench) -> None:
    bench = make(service("web"))
    bench.waits("web", START - timedelta(hours=1))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        await bench.settle(1)

    bench.run(work)


def test_a_pass_that_waits_for_a_time_is_tried_again_where_it_failed_before_that(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(service("web"))
    monkeypatch.setattr(module, "back_off", lambda **_: 0.02)
    bench.waits("web", START + timedelta(hours=1))
    bench.outcomes["web"] = evolve(bench.outcomes["web"], error=ReloadError("no"))

    async def work() -> None:
        async with asyncio.timeout(5):
            while len(bench.passes) < 3:
                await asyncio.sleep(0.005)

    bench.run(work)


def test_what_comes_after_a_service_goes_on_when_that_has_changed_and_only_then(
    make: MakeBench,
) -> None:
    bench = make(service("db"), service("web", "db"), service("other"))

    async def work() -> None:
        # The first passes: web's own, and one because db was not known before.
        await bench.wait_for(("db", "start"), ("other", "start"), ("web", "start"), ("web", "after db"))
        bench.crew.runners["db"].kick("poll")
        await bench.settle(5)
        assert bench.passes[4:] == [("db", "poll")], "nothing changed"
        bench.is_at("db", "b" * 40)
        bench.crew.runners["db"].kick("poll")
        await bench.settle(7)
        assert bench.passes[5:] == [("db", "poll"), ("web", "after db")]
        [peer] = bench.peers[-1]
        assert peer.service.name == "db"
        assert peer.store is bench.crew.runners["db"].follower.store
        bench.outcomes["db"] = evolve(bench.outcomes["db"], error=ReloadError("no", retryable=False))
        bench.crew.runners["db"].kick("poll")
        await bench.settle(9)
        assert bench.passes[7:] == [("db", "poll"), ("web", "after db")]

    bench.run(work)


def test_services_that_wait_for_each_other_do_not_go_in_circles(make: MakeBench) -> None:
    bench = make(service("one", "two"), service("two", "one"))

    async def work() -> None:
        await bench.wait_for(("one", "start"), ("one", "after two"), ("two", "start"), ("two", "after one"))
        await bench.settle(4)
        bench.is_at("one", "b" * 40)
        bench.crew.runners["one"].kick("poll")
        await bench.settle(6)

    bench.run(work)


def test_what_a_commit_waits_for_is_shown_while_the_service_tracks(make: MakeBench) -> None:
    bench = make(service("web"))
    bench.waits("web", None)

    async def work() -> None:
        await bench.settle(1)
        assert bench.board.waits("web") == "outside of Mon"
        assert bench.board.status("web").info == f"{'a' * 12} waits: outside of Mon"
        bench.board.intend("web", Intent(kind=IntentKind.FREEZE))
        assert bench.board.waits("web") == ""

    bench.run(work)


def test_a_rollback_has_not_failed_before_it_was_tried(make: MakeBench) -> None:
    bench = make(service("web"))
    bench.is_at("web", "a" * 40, ReloadError("no", retryable=False))

    async def work() -> None:
        await bench.settle(1)
        bench.board.intend("web", Intent(kind=IntentKind.FREEZE))
        assert bench.board.status("web").state is State.BROKEN, "a freeze mends nothing"
        bench.board.intend("web", Intent(kind=IntentKind.ROLLBACK, revision="b" * 40))
        status = bench.board.status("web")
        assert (status.state, status.info) == (State.ROLLBACK, f"to {'b' * 40}")

    bench.run(work)
