"""The daemon at work: followers poll, runners make passes, operators look and steer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime

from gitopperd.board import Board
from gitopperd.follower import Follower
from gitopperd.runner import Runner
from gitopperd.threads import Threads
from libgitopper import (
    Config,
    GitopperError,
    Hooks,
    Intent,
    IntentKind,
    Reconciler,
    Service,
    StateStore,
    Status,
    Watch,
    watches,
)

__all__ = ["Daemon", "UnknownService"]

log = logging.getLogger(__name__)


class UnknownService(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """This host runs no service of that name."""


class Daemon:
    """The moving parts of one host, and what an operator may do with them. Lives on the event loop."""

    def __init__(
        self,
        *,
        config: Config,
        hooks: Hooks,
        state: StateStore,
        now: Callable[[], datetime],
        rng: random.Random,
        observe_seconds: Callable[[float], None],
    ) -> None:
        self._config = config
        self._state = state
        self._reconciler = Reconciler(hooks=hooks, state=state, now=now)
        self._rng = rng
        self._observe_seconds = observe_seconds
        self._restored = False
        groups = watches(config.services, config.stores)
        self._threads = Threads(len(groups))
        self.board = Board(hooks=hooks, now=now)
        self.followers = tuple(self._new_follower(watch) for watch in groups)
        self._runners = {
            service.name: self._new_runner(service, follower)
            for follower in self.followers
            for service in follower.watch.services
        }
        for runner in self._runners.values():
            self._put_up(runner)

    async def restore(self) -> None:
        """Bring back, from this disk alone, what every service had; withdraw what the config dropped.

        It comes before the first poll, so a host that boots with the upstream gone has its files.
        """
        async with asyncio.TaskGroup() as group:
            for follower in self.followers:
                group.create_task(follower.open())
            for runner in self._runners.values():
                group.create_task(self._restore(runner))
        await self._withdraw_orphans()
        self._restored = True

    async def run(self) -> None:
        """Poll and make passes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for runner in self._runners.values():
                group.create_task(runner.run())
            for follower in self.followers:
                group.create_task(follower.run())
            await asyncio.Event().wait()  # a host without services still answers

    async def once(self) -> None:
        """Poll every upstream once and make one pass of every service."""

        async def attend(follower: Follower) -> None:
            await follower.poll()
            passes = (self._runners[s.name].pass_once() for s in follower.watch.services)
            await asyncio.gather(*passes)

        await asyncio.gather(*(attend(follower) for follower in self.followers))

    def close(self, grace_seconds: float) -> bool:
        """Let passes that run end for so long; return whether every thread has ended.

        A pass that is cut off later is repeated at the next start: its attempt is on disk.
        """
        return self._threads.close(grace_seconds)

    @property
    def machines(self) -> tuple[str, ...]:
        """Every machine that the config names."""
        return self._config.machines

    @property
    def waiting(self) -> tuple[str, ...]:
        """What has yet to come about before the first round is complete; empty when ready."""
        if not self._restored:
            return ("what was deployed is being restored",)
        polls = (f"first poll of {f.watch.upstream}" for f in self.followers if not f.health.polled)
        passes = (f"first pass of {r.service.name}" for r in self._runners.values() if not r.passes)
        return (*polls, *passes)

    def service(self, name: str) -> Service:
        """Return the service of that name.

        Raises:
            UnknownService: this host runs none; the text names those that it runs.
        """
        return self._runner(name).service

    def status(self, name: str) -> Status:
        """Return the status of a service.

        Raises:
            UnknownService: this host runs no such service.
        """
        self._runner(name)
        return self.board.status(name)

    async def freeze(self, name: str) -> Status:
        """Stop tracking upstream; the service stays with what it shows."""
        return await self._want(name, Intent(kind=IntentKind.FREEZE))

    async def unfreeze(self, name: str) -> Status:
        """Track upstream again, whatever was asked for before."""
        return await self._want(name, Intent(kind=IntentKind.TRACK))

    async def rollback(self, name: str, prefix: str) -> Status:
        """Pin a service to an older commit.

        Raises:
            UnknownService: this host runs no such service.
            UnknownRevision: `prefix` names no commit that the service may go to.
        """
        runner = self._runner(name)
        store = runner.follower.store
        revision = await self._threads.answer(self._reconciler.resolve, runner.service, prefix, store)
        return await self._want(name, Intent(kind=IntentKind.ROLLBACK, revision=revision))

    def pull(self, name: str) -> Status:
        """Poll the service's upstream now, and make a pass."""
        self._runner(name).follower.poke()
        return self.status(name)

    async def _want(self, name: str, intent: Intent) -> Status:
        runner = self._runner(name)
        stands = await self._threads.answer(self._reconciler.want, name, intent)
        self.board.intend(name, stands)
        runner.kick()
        return self.status(name)

    async def _restore(self, runner: Runner) -> None:
        self.board.settle(await self._threads.work(self._reconciler.restore, runner.service))

    def _put_up(self, runner: Runner) -> None:
        try:
            shown = self._state.shown(runner.service.name)
        except GitopperError as exc:
            log.warning("%s: since when it is in its state is not known: %s", runner.service.name, exc)
            shown = None
        known = self._reconciler.known(runner.service)
        self.board.add(known, runner.follower, shown)

    async def _withdraw_orphans(self) -> None:
        """Withdraw what is deployed for services that the config no longer gives this host."""
        orphans = await self._threads.work(self._reconciler.orphans, self._config.services)
        if orphans and not self._config.services:
            # A wrong host name must not take every service's files away.
            names = ", ".join(deployed.service.name for deployed in orphans)
            log.error(
                "the config has no service for this host, so nothing is withdrawn; still published: %s."
                " Is the host name right? See -h", names
            )  # fmt: skip
            return
        for deployed in orphans:
            try:
                await self._threads.work(self._reconciler.withdraw, deployed)
            except GitopperError as exc:
                log.error("%s: can't be withdrawn: %s", deployed.service.name, exc)  # noqa: TRY400

    def _polled(self, follower: Follower) -> None:
        if follower.health.error:
            self.board.refresh(follower)  # news in itself; a new tip is shown by what its pass did
        for service in follower.watch.services:
            self._runners[service.name].kick()

    def _runner(self, name: str) -> Runner:
        if name in self._runners:
            return self._runners[name]
        known = ", ".join(sorted(self._runners)) or "none"
        raise UnknownService(f"this host runs no service {name!r}; it runs: {known}")

    def _new_follower(self, watch: Watch) -> Follower:
        return Follower(
            watch=watch,
            reconciler=self._reconciler,
            threads=self._threads,
            on_poll=self._polled,
            rng=self._rng,
        )

    def _new_runner(self, service: Service, follower: Follower) -> Runner:
        return Runner(
            service=service,
            follower=follower,
            reconciler=self._reconciler,
            threads=self._threads,
            board=self.board,
            remember=self._state.show,
            observe_seconds=self._observe_seconds,
        )
