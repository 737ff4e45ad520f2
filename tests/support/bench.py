"""A crew at work on a reconciler that is made up, with a clock that is set by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve

from gitopperd.work.board import Board
from gitopperd.work.crew import Crew
from gitopperd.work.threads import Threads
from libgitopper import (
    Content,
    Deployed,
    GitopperError,
    Hooks,
    Intent,
    Mapping,
    Outcome,
    Peer,
    Plan,
    Reason,
    Reconciler,
    Service,
    Source,
    SourceError,
    Status,
    Store,
    Verb,
    Watch,
    watches,
)

__all__ = ["START", "Bench", "MakeBench", "deployed", "make", "service"]

START = datetime(2026, 1, 1, tzinfo=UTC)
Passes = list[tuple[str, str]]
MakeBench = Callable[..., "Bench"]


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
        self.remembered: list[Status] = []
        self.tip = "a" * 40
        self.unreachable = False
        self.news: set[str] = set()
        """The services whose files the tip changes."""
        self.follow: set[str] = set()
        """The services for which it is enough to follow the tip."""
        self.outcomes: dict[str, Outcome] = {
            s.name: Outcome(service=s, intent=Intent(), deployed=None) for s in services
        }
        self.board = Board(hooks=Hooks(), now=lambda: self.now)
        self.threads = Threads()
        self.services = services
        self.crew = Crew(
            reconciler=cast("Reconciler", self), threads=self.threads, board=self.board,
            rng=random.Random(1), now=lambda: self.now, remember=self.remembered.extend,
            observe_seconds=lambda seconds: None,
        )  # fmt: skip

    def poll(self, watch: Watch, *, offline: bool = False) -> Any:
        if self.unreachable:
            raise SourceError("nobody answers")
        return type("Store", (), {"tips": {"main": self.tip}, "path": Path("/srv")})()

    def touched(self, outcomes: Iterable[Outcome], store: Store) -> set[str]:
        return self.news & {outcome.service.name for outcome in outcomes}

    def advance(
        self, services: Iterable[Service], store: Store, *, still: Callable[[Service], bool]
    ) -> tuple[Outcome, ...]:
        """Those in `follow` follow."""
        return tuple(self.outcomes[s.name] for s in services if s.name in self.follow and still(s))

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
        plan = None if error else Plan(verb=Verb.KEEP, reasons=(Reason.IN_LINE,))
        self.outcomes[name] = evolve(of, deployed=deployed(of.service, revision), plan=plan, error=error)

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

    async def poll_by_interval(self, name: str) -> None:
        """Poll the upstream of a service as if its interval were over."""
        await self.crew.runners[name].follower.poll()

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
