"""The crew: a follower for each upstream and a runner for each service, as the config wants them now."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from attrs import frozen

from gitopperd.board import Board
from gitopperd.follower import Follower
from gitopperd.runner import Runner
from gitopperd.threads import Threads
from libgitopper import Reconciler, Service, Status, Watch

__all__ = ["Crew", "Recruits"]


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
        remember: Callable[[Status], None],
        observe_seconds: Callable[[float], None],
    ) -> None:
        self.followers: dict[str, Follower] = {}
        self.runners: dict[str, Runner] = {}
        self._reconciler = reconciler
        self._threads = threads
        self._board = board
        self._rng = rng
        self._remember = remember
        self._observe_seconds = observe_seconds
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[Follower | Runner, asyncio.Task[None]] = {}

    def man(self, watches: Sequence[Watch]) -> Recruits:
        """Dismiss who is not wanted any more, take on who is missing; who stays notices nothing.

        A runner that is dismissed may leave a pass behind; the next pass of its service waits for
        that one, and so does a withdrawal.
        """
        services = {service.name: service for watch in watches for service in watch.services}
        for name, runner in tuple(self.runners.items()):
            if services.get(name) != runner.service:
                self._dismiss(self.runners.pop(name))
        upstreams = {watch.upstream: watch for watch in watches}
        for upstream, follower in tuple(self.followers.items()):
            if upstream not in upstreams or not follower.fits(upstreams[upstream]):
                self._dismiss(self.followers.pop(upstream))
        followers = tuple(self._new_follower(w) for w in watches if w.upstream not in self.followers)
        for watch in watches:
            self.followers[watch.upstream].go_on(watch)
        runners = tuple(self._runner(s) for s in services.values() if s.name not in self.runners)
        for runner in self.runners.values():
            runner.follower = self.followers[runner.service.source.upstream]
        return Recruits(followers=followers, runners=runners)

    def start(self, recruits: Recruits) -> None:
        """Set the new ones to work; those of the time before `run` are started by it."""
        if self._group is None:
            return
        parts: list[Follower | Runner] = [*recruits.runners, *recruits.followers]
        for part in parts:
            self._tasks[part] = self._group.create_task(part.run())
        for runner in recruits.runners:
            if runner.follower.health.polled:  # its follower may have polled long ago
                runner.kick()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            everyone = Recruits(
                followers=tuple(self.followers.values()), runners=tuple(self.runners.values())
            )
            self.start(everyone)
            await asyncio.Event().wait()  # a host without services still answers

    def _dismiss(self, part: Follower | Runner) -> None:
        if task := self._tasks.pop(part, None):
            task.cancel()

    def _polled(self, follower: Follower) -> None:
        if follower.health.error:
            self._board.refresh(follower)  # news in itself; a new tip is shown by what its pass did
        for service in follower.watch.services:
            if service.name in self.runners:
                self.runners[service.name].kick()

    def _new_follower(self, watch: Watch) -> Follower:
        follower = Follower(
            watch=watch,
            reconciler=self._reconciler,
            threads=self._threads,
            on_poll=self._polled,
            rng=self._rng,
        )
        self.followers[watch.upstream] = follower
        return follower

    def _runner(self, service: Service) -> Runner:
        runner = Runner(
            service=service,
            follower=self.followers[service.source.upstream],
            reconciler=self._reconciler,
            threads=self._threads,
            board=self._board,
            remember=self._remember,
            observe_seconds=self._observe_seconds,
        )
        self.runners[service.name] = runner
        return runner
