"""When a pass is made, for whom, and who goes on after it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve

from gitopperd.work import runner as module
from gitopperd.work.board import Board
from gitopperd.work.crew import Crew
from gitopperd.work.threads import Threads
from libgitopper import (
    Content,
    Deployed,
    GitopperError,
    Hooks,
    Intent,
    IntentKind,
    Mapping,
    Outcome,
    Peer,
    Plan,
    Reason,
    Reconciler,
    ReloadError,
    Service,
    Source,
    Store,
    Verb,
    Watch,
    watches,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
Passes = list[tuple[str, str]]


def service(name: str, *after: str) -> Service:
    return Service(
        name=name, source=Source(upstream="https://git.example.net/x", branch="main"),
        mappings=(Mapping(link=name, local=Path(f"/etc/{name}")),), mount=Path("/srv"), after=after,
        interval_seconds=3600,
    )  # fmt: skip


def deployed(of: Service, revision: str) -> Deployed:
    content = Content(revision=revision, entries=())
    return Deployed(revision=revision, release="r", content=content, service=of, at=START)


class Bench:
    """A crew on a reconciler that answers what it is told, with a clock that is set by hand."""

    def __init__(self, *services: Service) -> None:
        self.now = START
        self.passes: Passes = []
        self.peers: list[Sequence[Peer]] = []
        self.outcomes: dict[str, Outcome] = {
            s.name: Outcome(service=s, intent=Intent(), deployed=None) for s in services
        }
        self.board = Board(hooks=Hooks(), now=lambda: self.now)
        self.threads = Threads()
        self.services = services
        self.crew = Crew(
            reconciler=cast("Reconciler", self), threads=self.threads, board=self.board,
            rng=random.Random(1), now=lambda: self.now, remember=lambda status: None,
            observe_seconds=lambda seconds: None,
        )  # fmt: skip

    def poll(self, watch: Watch, *, offline: bool = False) -> Any:
        return type("Store", (), {"tips": {"main": "a" * 40}, "path": Path("/srv")})()

    def reconcile(
        self, service: Service, store: Store | None, *, peers: Sequence[Peer], asked: str, still: object
    ) -> Outcome:
        self.passes.append((service.name, asked))
        self.peers.append(peers)
        return self.outcomes[service.name]

    def waits(self, name: str, until: datetime | None) -> None:
        plan = Plan(verb=Verb.WAIT, reasons=(Reason.HELD,), note="outside of Mon", until=until)
        self.outcomes[name] = evolve(self.outcomes[name], plan=plan)

    def is_at(self, name: str, revision: str, error: GitopperError | None = None) -> None:
        of = self.outcomes[name]
        self.outcomes[name] = evolve(of, deployed=deployed(of.service, revision), plan=None, error=error)

    def run(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            recruits = self.crew.man(watches(self.services, Path("/stores")))
            for runner in recruits.runners:
                self.board.add(self.outcomes[runner.service.name], runner, None)
            task = asyncio.create_task(self.crew.run())
            try:
                await work()
            finally:
                task.cancel()
                await asyncio.wait([task])

        asyncio.run(main())

    async def wait_for(self, *passes: tuple[str, str]) -> None:
        """Wait until exactly these passes were made, in this order for each service."""
        names = {name for name, _ in passes}
        wanted = {name: [asked for who, asked in passes if who == name] for name in names}

        def seen() -> dict[str, list[str]]:
            return {name: [asked for who, asked in self.passes if who == name] for name in names}

        try:
            async with asyncio.timeout(5):
                while seen() != wanted:
                    await asyncio.sleep(0.005)
        except TimeoutError:
            assert seen() == wanted

    async def settle(self, passes: int) -> None:
        """Wait until so many passes were made, and see to it that no more are."""
        async with asyncio.timeout(5):
            while len(self.passes) < passes:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert len(self.passes) == passes, self.passes


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(*services: Service) -> Bench:
        made.append(Bench(*services))
        return made[-1]

    yield bench
    for one in made:
        assert one.threads.close(5)


def test_a_pass_is_told_who_asked_for_it(make: Callable[..., Bench]) -> None:
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
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
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
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(service("web"))
    monkeypatch.setattr(module, "back_off", lambda **_: 0.01)
    bench.is_at("web", "a" * 40, ReloadError("no", retryable=False))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        await bench.settle(1)

    bench.run(work)


def test_a_commit_that_waits_for_a_time_is_looked_at_then(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
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


def test_a_wait_whose_end_is_past_already_does_not_spin(make: Callable[..., Bench]) -> None:
    bench = make(service("web"))
    bench.waits("web", START - timedelta(hours=1))

    async def work() -> None:
        await bench.wait_for(("web", "start"))
        await bench.settle(1)

    bench.run(work)


def test_a_pass_that_waits_for_a_time_is_tried_again_where_it_failed_before_that(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
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
    make: Callable[..., Bench],
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


def test_services_that_wait_for_each_other_do_not_go_in_circles(make: Callable[..., Bench]) -> None:
    bench = make(service("one", "two"), service("two", "one"))

    async def work() -> None:
        await bench.wait_for(("one", "start"), ("one", "after two"), ("two", "start"), ("two", "after one"))
        await bench.settle(4)
        bench.is_at("one", "b" * 40)
        bench.crew.runners["one"].kick("poll")
        await bench.settle(6)

    bench.run(work)


def test_what_a_commit_waits_for_is_shown_while_the_service_tracks(make: Callable[..., Bench]) -> None:
    bench = make(service("web"))
    bench.waits("web", None)

    async def work() -> None:
        await bench.settle(1)
        assert bench.board.waits("web") == "outside of Mon"
        assert bench.board.status("web").info == f"{'a' * 12} waits: outside of Mon"
        bench.board.intend("web", Intent(kind=IntentKind.FREEZE))
        assert bench.board.waits("web") == ""

    bench.run(work)
