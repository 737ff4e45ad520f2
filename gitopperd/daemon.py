"""The daemon at work: followers poll, runners make passes, operators look and steer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime

from gitopperd.board import Board
from gitopperd.crew import Crew, Recruits
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
    watches,
)

__all__ = ["Daemon", "UnknownService"]

log = logging.getLogger(__name__)


class UnknownService(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """This host runs no service of that name; `known` are those that it runs."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"this host runs no service {name!r}; it runs: {', '.join(self.known) or 'none'}")


class Daemon:
    """The moving parts of one host, and what an operator may do with them. Lives on the event loop."""

    def __init__(
        self,
        *,
        config: Config,
        hooks: Hooks,
        state: StateStore,
        threads: Threads,
        now: Callable[[], datetime],
        rng: random.Random,
        observe_seconds: Callable[[float], None],
    ) -> None:
        self._config = config
        self._state = state
        self._reconciler = Reconciler(hooks=hooks, state=state, now=now)
        self._threads = threads
        self._restored = False
        self._applying = asyncio.Lock()
        self.board = Board(hooks=hooks, now=now)
        self._crew = Crew(
            reconciler=self._reconciler,
            threads=self._threads,
            board=self.board,
            rng=rng,
            remember=state.show,
            observe_seconds=observe_seconds,
        )
        self._man(config)

    async def restore(self) -> None:
        """Bring back, from this disk alone, what every service had; withdraw what the config dropped.

        It comes before the first poll, so a host that boots with the upstream gone has its files.
        """
        await self._restore(Recruits(followers=self.followers, runners=self._runners))
        await self._withdraw_orphans()
        self._restored = True

    async def run(self) -> None:
        """Poll and make passes until cancelled."""
        await self._crew.run()

    async def once(self) -> None:
        """Poll every upstream once and make one pass of every service."""

        async def attend(follower: Follower) -> None:
            await follower.poll()
            passes = (self._runner(s.name).pass_once() for s in follower.watch.services)
            await asyncio.gather(*passes)

        await asyncio.gather(*(attend(follower) for follower in self.followers))

    async def apply(self, config: Config) -> None:
        """Go over to another configuration: what came, went or changed is handled, one by one.

        A service whose settings are the same notices nothing: no unmount, no reload, no lost state.
        """
        async with self._applying:
            self._config = config
            recruits = self._man(config)
            # First, so that what came can take the paths of what went.
            await self._withdraw_orphans()
            await self._restore(recruits)
            self._crew.start(recruits)

    @property
    def followers(self) -> tuple[Follower, ...]:
        """One for each upstream."""
        return tuple(self._crew.followers.values())

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
        passes = (f"first pass of {r.service.name}" for r in self._runners if not r.passes)
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

    def _man(self, config: Config) -> Recruits:
        recruits = self._crew.man(watches(config.services, config.stores))
        self.board.keep({runner.service.name for runner in self._runners})
        for runner in recruits.runners:
            self._put_up(runner)
        return recruits

    def _put_up(self, runner: Runner) -> None:
        name = runner.service.name
        try:
            shown = self._state.shown(name)
        except GitopperError as exc:
            log.warning("%s: since when it is in its state is not known: %s", name, exc)
            shown = None
        self.board.add(self._reconciler.known(runner.service), runner, shown)

    async def _restore(self, recruits: Recruits) -> None:
        async def restore(runner: Runner) -> None:
            self.board.settle(await self._threads.work(self._reconciler.restore, runner.service))

        async with asyncio.TaskGroup() as group:
            for follower in recruits.followers:
                group.create_task(follower.open())
            for runner in recruits.runners:
                group.create_task(restore(runner))

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

    @property
    def _runners(self) -> tuple[Runner, ...]:
        return tuple(self._crew.runners.values())

    def _runner(self, name: str) -> Runner:
        if name in self._crew.runners:
            return self._crew.runners[name]
        raise UnknownService(name, self._crew.runners)
