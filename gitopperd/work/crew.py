"""The crew: a follower for each upstream and a runner for each service, as the config wants them now."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from gitopperd.work.board import Board
from gitopperd.work.follower import Follower
from gitopperd.work.rounds import Rounds
from gitopperd.work.runner import Runner
from gitopperd.work.threads import Threads
from libgitopper import Peer, Reconciler, Service, Status, Watch

__all__ = ["Crew", "Recruits"]

log = logging.getLogger(__name__)

POLL = "poll"
"""Who asks for a pass after a poll that nobody asked for."""

Key: TypeAlias = tuple[str, Path]
"""What a follower is known by: its upstream, and the directory of its store."""


@frozen(kw_only=True)
class Recruits:
    """Who is new, and has not started."""

    followers: tuple[Follower, ...] = ()
    runners: tuple[Runner, ...] = ()


class Crew:
    """Keeps followers and runners in line with what is to be watched. Lives on the event loop."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        threads: Threads,
        board: Board,
        rng: random.Random,
        now: Callable[[], datetime],
        remember: Callable[[Sequence[Status]], None],
        observe_seconds: Callable[[float], None],
    ) -> None:
        self.followers: dict[Key, Follower] = {}
        self.runners: dict[str, Runner] = {}
        self._reconciler = reconciler
        self._threads = threads
        self._board = board
        self._rng = rng
        self._now = now
        self._remember = remember
        self._observe_seconds = observe_seconds
        self._rounds = Rounds(self._advance)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Follower | Runner, asyncio.Task[None]] = {}
        self._resting: dict[Follower, object] = {}
        """How the board and the tips stood when nobody had anything to do after a poll."""

    def man(self, watches: Sequence[Watch]) -> Recruits:
        """Dismiss who is not wanted any more, take on who is missing; who stays notices nothing.

        A runner that is dismissed may leave a pass behind; the next pass of its service waits for
        that one, and so does a withdrawal. Nothing here waits: no request sees a crew half changed.
        """
        services = {service.name: service for watch in watches for service in watch.services}
        for name, runner in tuple(self.runners.items()):
            if services.get(name) != runner.service:
                self._dismiss(self.runners.pop(name))
        wanted = {_key(watch): watch for watch in watches}
        for key, follower in tuple(self.followers.items()):
            if key not in wanted or not follower.fits(wanted[key]):
                self._dismiss(self.followers.pop(key))
        followers = tuple(self._new_follower(w) for key, w in wanted.items() if key not in self.followers)
        runners = []
        for key, watch in wanted.items():
            follower = self.followers[key]
            follower.go_on(watch)
            for service in watch.services:
                if service.name not in self.runners:
                    runners.append(self._new_runner(service, follower))
                self.runners[service.name].follower = follower
        return Recruits(followers=followers, runners=tuple(runners))

    def start(self, recruits: Recruits, *, restored: bool) -> None:
        """Set the new ones to work; those of the time before `run` are started by it.

        Unless they are `restored` already, each begins with what this disk has for it.
        """
        if self._group is None:
            return
        for runner in recruits.runners:
            self._tasks[runner] = self._group.create_task(_attend(runner, restored=restored))
            if runner.follower.health.polled:  # its follower may have polled long ago
                runner.kick("config")
        for follower in recruits.followers:
            self._tasks[follower] = self._group.create_task(_follow(follower, restored=restored))

    def peers(self, service: Service) -> tuple[Peer, ...]:
        """Return the services that `service` comes after, with the stores of their upstreams."""
        runners = (self.runners[name] for name in service.after if name in self.runners)
        return tuple(Peer(service=runner.service, store=runner.follower.store) for runner in runners)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._rounds.run())
            everyone = Recruits(
                followers=tuple(self.followers.values()), runners=tuple(self.runners.values())
            )
            self.start(everyone, restored=True)
            await asyncio.Event().wait()  # a host without services still answers

    def _dismiss(self, part: Follower | Runner) -> None:
        if isinstance(part, Runner):
            part.retire()
        else:
            self._resting.pop(part, None)
        if task := self._tasks.pop(part, None):
            task.cancel()

    def _changed(self, name: str) -> None:
        """Let those go on that come after `name`."""
        for runner in self.runners.values():
            if name in runner.service.after:
                runner.kick(f"after {name}")

    async def _polled(self, follower: Follower, asked: str) -> None:
        """Have passes made where the poll, or who asked for it, is a reason; first where there is news.

        A poll by interval that moved nothing costs nothing more.
        """
        if follower.health.error != follower.former_error:
            # News in itself; a new tip is shown by what its pass did.
            self._remember(self._board.refresh(follower))
        stands = self._board.version, follower.store and follower.store.tips
        if not asked and self._resting.get(follower) == stands:
            return  # else a thousand services are asked after each poll
        services = (self.runners.get(service.name) for service in follower.watch.services)
        due = [runner for runner in services if runner and (asked or not runner.rests())]
        if not due:
            self._resting[follower] = stands
            return
        first = await self._touched(due, follower)
        then = [runner for runner in due if runner not in first]
        self._rounds.call(first, then, asked or POLL)

    async def _touched(self, runners: Sequence[Runner], follower: Follower) -> Sequence[Runner]:
        """Return those for whom there is more to do than to look: news, or the first pass of all."""
        store = follower.store
        if store is None or len(runners) < 2:
            return runners
        outcomes = [self._board.outcome(runner.service.name) for runner in runners if runner.passes]
        try:
            touched = await self._threads.poll(self._reconciler.touched, outcomes, store)
        except Exception:
            # It is about the order only, and no reason against the passes.
            log.exception("%s: what its news touch can't be told", follower.watch.upstream)
            return runners
        return [runner for runner in runners if not runner.passes or runner.service.name in touched]

    async def _advance(self, runners: Sequence[Runner]) -> Collection[Runner]:
        """Let those of one upstream follow its tip for whom that is all there is to do; return them."""
        follower = runners[0].follower
        store = follower.store
        named = {runner.service.name: runner for runner in runners if runner.follower is follower}
        if store is None:
            return ()
        passes = {name: runner.passes for name, runner in named.items()}
        outcomes = await self._threads.work(
            self._reconciler.advance,
            [runner.service for runner in named.values()],
            store,
            still=lambda service: not named[service.name].retired,
        )
        for outcome in outcomes:
            runner, branch = named[outcome.service.name], outcome.service.source.branch
            runner.advanced(outcome, store.tips.get(branch), passes[outcome.service.name])
        return [named[outcome.service.name] for outcome in outcomes]

    def _new_follower(self, watch: Watch) -> Follower:
        follower = Follower(
            watch=watch,
            reconciler=self._reconciler,
            threads=self._threads,
            on_poll=self._polled,
            rng=self._rng,
            asked="config" if self._group else "start",
        )
        self.followers[_key(watch)] = follower
        return follower

    def _new_runner(self, service: Service, follower: Follower) -> Runner:
        runner = Runner(
            service=service,
            follower=follower,
            reconciler=self._reconciler,
            threads=self._threads,
            board=self._board,
            peers=partial(self.peers, service),
            on_change=partial(self._changed, service.name),
            now=self._now,
            remember=self._remember,
            observe_seconds=self._observe_seconds,
            rng=self._rng,
        )
        self.runners[service.name] = runner
        return runner


def _key(watch: Watch) -> Key:
    return watch.upstream, watch.stores


async def _attend(runner: Runner, *, restored: bool) -> None:
    if not restored:
        runner.restore()
    await runner.run()


async def _follow(follower: Follower, *, restored: bool) -> None:
    if not restored:
        await follower.open()
    await follower.run()
