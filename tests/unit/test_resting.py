"""A service that is in order is left alone until something moves, or its next look is due."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import evolve

from gitopperd.work import runner as module
from gitopperd.work.delays import next_look
from libgitopper import (
    CheckoutError,
    Content,
    Drift,
    Plan,
    Reason,
    ReloadError,
    Service,
    State,
    Store,
    TreeEntry,
    Verb,
)
from libgitopper.deciding import is_touched
from libgitopper.repository import ChangeKind, FileChange
from tests.support.bench import Bench, MakeBench, deployed, make, service

__all__ = ["make"]

A, B = "a" * 40, "b" * 40


def settled(make: MakeBench, *names: str) -> Bench:
    bench = make(*(service(name) for name in names))
    for name in names:
        bench.is_at(name, A)
    return bench


def test_a_poll_that_moved_nothing_makes_no_pass(make: MakeBench) -> None:
    bench = settled(make, "web", "db")

    async def work() -> None:
        await bench.settle(2)
        await bench.poll_by_interval("web")
        await bench.poll_by_interval("web")
        await bench.settle(2)

    bench.run(work)


def test_services_that_rest_are_not_even_asked_while_nothing_moves(
    make: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, asked = settled(make, "web", "db"), []

    def rests(runner: module.Runner, _rests: Callable[[module.Runner], bool] = module.Runner.rests) -> bool:
        asked.append(runner.service.name)
        return _rests(runner)

    async def work() -> None:
        await bench.settle(2)
        monkeypatch.setattr(module.Runner, "rests", rests)
        for _ in range(3):
            await bench.poll_by_interval("web")
        assert asked == ["web", "db"]
        # A pass may have left something undone.
        bench.crew.runners["web"].kick("resync")
        await bench.settle(3)
        await bench.poll_by_interval("web")
        assert asked == ["web", "db"] * 2

    bench.run(work)


def test_a_tip_that_moved_makes_a_pass_of_each_service_and_first_of_those_that_it_touches(
    make: MakeBench,
) -> None:
    bench = settled(make, "one", "two", "three")

    async def work() -> None:
        await bench.settle(3)
        bench.tip, bench.news = B, {"three"}
        for name in ("one", "two", "three"):
            bench.is_at(name, B)
        await bench.poll_by_interval("one")
        await bench.settle(6)
        assert bench.passes[3:] == [("three", "poll"), ("one", "poll"), ("two", "poll")]
        await bench.poll_by_interval("one")
        await bench.settle(6)

    bench.run(work)


def test_who_asks_gets_a_pass_though_nothing_moved(make: MakeBench) -> None:
    bench = settled(make, "web", "db")

    async def work() -> None:
        await bench.settle(2)
        bench.crew.runners["web"].follower.poke("webhook github")
        await bench.settle(4)
        assert sorted(bench.passes[2:]) == [("db", "webhook github"), ("web", "webhook github")]

    bench.run(work)


def test_an_outage_is_shown_and_so_is_its_end_without_a_pass(make: MakeBench) -> None:
    bench = settled(make, "web")

    async def work() -> None:
        await bench.settle(1)
        assert bench.board.status("web").state is State.OK
        since = bench.now = bench.now.replace(hour=1)
        bench.unreachable = True
        await bench.poll_by_interval("web")
        assert (bench.board.status("web").state, bench.board.status("web").change) == (State.DIFF, since)
        bench.unreachable, bench.now = False, since.replace(hour=2)
        await bench.poll_by_interval("web")
        assert bench.board.status("web").state is State.OK
        assert bench.board.status("web").change == bench.now
        assert [status.state for status in bench.remembered] == [State.OK, State.DIFF, State.OK]
        await bench.settle(1)

    bench.run(work)


DRIFT = Drift(changes=(FileChange(path="web/conf", kind=ChangeKind.EDITED),))


@pytest.mark.parametrize(
    "more",
    [
        {"error": ReloadError("no", retryable=False), "plan": None},
        {"plan": Plan(verb=Verb.WAIT, reasons=(Reason.HELD,), note="for its turn")},
        {"drift": DRIFT},
    ],
    ids=["failed", "waits", "drifted"],
)
def test_what_is_not_in_order_is_looked_at_after_each_poll(
    make: MakeBench,
    more: dict[str, Any],
) -> None:
    bench = settled(make, "web")
    bench.outcomes["web"] = evolve(bench.outcomes["web"], **more)

    async def work() -> None:
        await bench.settle(1)
        await bench.poll_by_interval("web")
        await bench.settle(2)
        bench.outcomes["web"] = evolve(bench.outcomes["web"], error=None, drift=None)
        bench.is_at("web", A)
        await bench.poll_by_interval("web")
        await bench.settle(3)
        await bench.poll_by_interval("web")
        await bench.settle(3)

    bench.run(work)


def test_the_host_is_looked_at_now_and_then_though_nothing_moved(
    make: MakeBench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = settled(make, "web")
    monkeypatch.setattr(module, "next_look", lambda **_: 0.02)

    async def work() -> None:
        async with asyncio.timeout(5):
            while len(bench.passes) < 3:
                await asyncio.sleep(0.005)
        # On a busy machine the first look is due before the first pass has begun, and goes along with it.
        assert bench.passes[0] in {("web", "start"), ("web", "start, resync")}
        assert bench.passes[1:3] == [("web", "resync"), ("web", "resync")]

    bench.run(work)


def test_a_pass_that_hangs_holds_up_a_round_for_a_moment_only(make: MakeBench) -> None:
    bench = settled(make, "one", "two")

    async def work() -> None:
        await bench.settle(2)
        bench.crew.runners["one"].idle.clear()  # as long as it likes
        bench.crew.runners["two"].follower.poke("webhook")
        await bench.settle(4)

    bench.run(work)


def test_a_thousand_services_do_not_look_at_once() -> None:
    rng = random.Random(1)
    seconds: Counter[int] = Counter()
    for _ in range(1000):
        at = 0.0
        while (at := at + next_look(resync_seconds=600, rng=rng)) < 4 * 3600:
            seconds[int(at // 10)] += 1
    # From the second look on; a pass of all of them, as for a new tip, begins this anew.
    late = [seconds[ten] for ten in range(180, 1440)]
    assert max(late) < 3 * sum(late) / len(late)
    assert max(seconds.values()) < 100, "ten seconds never see more than a tenth of them"


def test_a_look_is_never_later_than_the_config_asks_for() -> None:
    rng = random.Random(2)
    assert all(300 <= next_look(resync_seconds=600, rng=rng) <= 600 for _ in range(1000))


def test_what_news_touch_is_what_differs_at_the_tip_or_is_not_known() -> None:
    web = service("web")
    there = deployed(web, A)

    def contents(revision: str, of: Service) -> Content:
        if revision == "c" * 40:
            raise CheckoutError("web is not in it")
        entry = TreeEntry(link="web", id="f" * 40, mode=0o040000)
        return Content(revision=revision, entries=(entry,) if revision == B else ())

    def store_at(tip: str | None) -> Store:
        tips = {"main": tip} if tip else {}
        return cast("Store", SimpleNamespace(tips=tips, content=contents))

    assert not is_touched(web, store_at(A), there), "nothing moved"
    assert not is_touched(web, store_at("d" * 40), there), "the same files"
    assert is_touched(web, store_at(B), there), "other files"
    assert is_touched(web, store_at("c" * 40), there), "a pass tells what is wrong"
    assert is_touched(web, store_at(None), there), "no branch"
    assert is_touched(web, store_at(A), None), "the first deploy"
