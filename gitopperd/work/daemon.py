"""The daemon at work: followers poll, runners make passes, operators look and steer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial

from attrs import frozen

from gitopperd.work.board import Board
from gitopperd.work.crew import Crew, Recruits
from gitopperd.work.follower import Follower
from gitopperd.work.inquiries import Inquiries
from gitopperd.work.keeper import Keeper
from gitopperd.work.orphans import Orphans
from gitopperd.work.runner import Runner
from gitopperd.work.thaw import Thawer
from gitopperd.work.threads import Threads
from libgitopper import (
    Config,
    GitopperError,
    Hooks,
    Inspector,
    Intent,
    IntentKind,
    Outcome,
    Reason,
    Reconciler,
    Service,
    SourceError,
    StateStore,
    Status,
)

__all__ = ["Daemon", "UnknownService"]

log = logging.getLogger(__name__)

ONCE = "once"
ASKING = {IntentKind.TRACK: "unfreeze", IntentKind.FREEZE: "freeze", IntentKind.ROLLBACK: "rollback"}
"""What an operator asks for by an intent, as the history has it."""


class UnknownService(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """This host runs no service of that name; `known` are those that it runs."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"this host runs no service {name!r}; it runs: {', '.join(self.known) or 'none'}")


@frozen(kw_only=True)
class _Known:
    """What is known of a service before anybody has looked at the host."""

    outcome: Outcome
    shown: Status | None


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
        self._reconciler = Reconciler(
            hooks=hooks, state=state, now=now, watching=threads.watching
        )  # fmt: skip
        self._threads = threads
        self._restored = False
        self._applying = asyncio.Lock()
        self._steering: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.board = Board(hooks=hooks, now=now)
        self._keeper = Keeper(threads=threads, write=state.show)
        self._crew = Crew(
            reconciler=self._reconciler,
            threads=self._threads,
            board=self.board,
            rng=rng,
            now=now,
            remember=self._keeper.keep,
            observe_seconds=observe_seconds,
        )
        self.inquiries = Inquiries(
            runner=self._runner,
            peers=self._crew.peers,
            board=self.board,
            inspector=Inspector(hooks=hooks, state=state, reconciler=self._reconciler, now=now),
            state=state,
            threads=threads,
        )
        self._orphans = Orphans(
            reconciler=self._reconciler, threads=threads, config=config, on_gone=self._kick_failed
        )
        self._thawer = Thawer(ends=lambda: self.board.ends, thaw=self._thaw, now=now)
        self._second_round: asyncio.Task[None] | None = None
        self._man(config, self._look_up(config.services))

    async def restore(self, patience_seconds: float | None = None) -> None:
        """Bring back, from this disk alone, what every service had; withdraw what the config dropped.

        It comes before the first poll, so a host that boots with the upstream gone has its files. A service
        that takes longer than `patience_seconds`, as its reload hangs, goes on by itself; its passes come
        after that.
        """
        async with self._applying:
            restoring = {runner.restore(): runner.service.name for runner in self._runners}
            async with asyncio.TaskGroup() as group:
                for follower in self.followers:
                    group.create_task(follower.open())
            if restoring:
                done, late = await asyncio.wait(restoring, timeout=patience_seconds)
                for task in done:
                    task.result()
                for name in sorted(restoring[task] for task in late):
                    log.warning("%s: still being restored; nobody else waits for it any longer", name)
            await self._orphans.clear()
            self._restored = True

    async def run(self) -> None:
        """Poll and make passes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._crew.run())
            group.create_task(self._orphans.run())
            group.create_task(self._thawer.run())
            group.create_task(self._keeper.run())

    async def once(self) -> None:
        """Poll every upstream once and make one pass of every service."""

        async def attend(follower: Follower) -> None:
            await follower.poll()
            passes = (self._runner(s.name).pass_once(ONCE) for s in follower.watch.services)
            await asyncio.gather(*passes)

        await asyncio.gather(*(attend(follower) for follower in self.followers))
        await self._let_followers_follow()
        self._keeper.finish()

    async def _let_followers_follow(self) -> None:
        """Make another pass of what waits for another service, as long as that lets one of them go on."""
        waiting = self._waiting_for_others()
        while waiting:
            await asyncio.gather(*(runner.pass_once(ONCE) for runner in waiting))
            before, waiting = waiting, self._waiting_for_others()
            if len(waiting) >= len(before):
                return

    def _waiting_for_others(self) -> list[Runner]:
        plans = ((runner, self.board.outcome(runner.service.name).plan) for runner in self._runners)
        return [runner for runner, plan in plans if plan is not None and Reason.AFTER in plan.reasons]

    async def apply(self, config: Config) -> str:
        """Go over to another configuration: what came, went or changed is handled, one by one.

        A service whose settings are the same notices nothing: no unmount, no reload, no lost state. Returns
        what an operator should be told of what the config dropped; empty where all of it goes.
        """
        async with self._applying:
            newcomers = [s for s in config.services if s.name not in self._crew.runners]
            known = await self._threads.answer(self._look_up, newcomers)
            self._config = self._orphans.config = config
            recruits = self._man(config, known)
            # First, so that what came can take the paths of what went.
            await self._orphans.clear()
            self._crew.start(recruits, restored=False)
            if self._second_round:
                self._second_round.cancel()
            self._second_round = asyncio.create_task(self._try_again(recruits))
            return self._orphans.spared

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

    async def freeze(
        self, name: str, *, by: str, reason: str = "", until: datetime | None = None
    ) -> Status:
        """Stop tracking upstream; the service stays with what it shows, `until` then if that is given."""
        return await self._want(name, Intent(kind=IntentKind.FREEZE, by=by, reason=reason, until=until))

    async def unfreeze(self, name: str, *, by: str) -> Status:
        """Track upstream again, whatever was asked for before."""
        return await self._want(name, Intent(kind=IntentKind.TRACK, by=by))

    async def rollback(self, name: str, prefix: str, *, by: str) -> Status:
        """Pin a service to an older commit.

        Raises:
            UnknownService: this host runs no such service.
            UnknownRevision: `prefix` names no commit that the service may go to.
        """
        runner = self._runner(name)
        store = runner.follower.store
        # It may look through a long history: nobody's word waits for that, nor does it wait for readers.
        revision = await self._threads.poll(self._reconciler.resolve, runner.service, prefix, store)
        return await self._want(name, Intent(kind=IntentKind.ROLLBACK, revision=revision, by=by))

    def pull(self, name: str, *, by: str) -> Status:
        """Poll the service's upstream now, and make a pass."""
        self._runner(name).expect()
        self._runner(name).follower.poke(f"pull by {by}")
        return self.status(name)

    async def retry(self, name: str, *, by: str) -> Status:
        """Try again what was rejected before; that it may be is on disk when this returns."""
        runner = self._runner(name)
        await self._threads.answer(self._reconciler.retry, name)
        runner.kick(f"retry by {by}")
        runner.follower.poke(f"retry by {by}")  # what failed may have been put right upstream
        return self.status(name)

    async def look(self, name: str) -> Outcome:
        """Poll the service's upstream, make a pass, and return what came of it.

        Raises:
            UnknownService: this host runs no such service.
            SourceError: upstream can't be polled.
        """
        follower = self._runner(name).follower
        await follower.poll()
        if follower.health.error is not None:
            raise SourceError(follower.health.error, service=name)
        await self._runner(name).pass_once("config")
        return self.board.outcome(name)

    async def _want(self, name: str, intent: Intent) -> Status:
        service = self._runner(name).service
        asked = f"{ASKING[intent.kind]} by {intent.by}"
        await self._obey(name, partial(self._commit_to, service, intent), asked)
        self._thawer.poke()
        return self.status(name)

    def _commit_to(self, service: Service, intent: Intent) -> tuple[Intent, Outcome]:
        """Persist an intent; then tell what is known, which a pass under way may just have changed."""
        return self._reconciler.want(service.name, intent), self._reconciler.known(service)

    async def _thaw(self, name: str) -> None:
        await self._obey(name, lambda: (self._reconciler.thaw(name), None), "end of its freeze")

    async def _obey(
        self, name: str, persist: Callable[[], tuple[Intent, Outcome | None]], asked: str
    ) -> None:
        # One after the other, so that what is persisted last is what is shown.
        async with self._steering[name]:
            intent, known = await self._threads.answer(persist)
            runner = self._runner(name)  # by now the service may have another one, or be gone
            self.board.intend(name, intent, known)
            runner.kick(asked)

    def _man(self, config: Config, known: Mapping[str, _Known]) -> Recruits:
        recruits = self._crew.man(config.watches)
        self.board.keep({runner.service.name for runner in self._runners})
        for runner in recruits.runners:
            name = runner.service.name
            if name in known:
                self.board.add(known[name].outcome, runner, known[name].shown)
            else:
                self.board.alter(runner)
        self._thawer.poke()
        return recruits

    def _look_up(self, services: Iterable[Service]) -> dict[str, _Known]:
        """Read what the state has of services. Blocks."""
        return {service.name: self._look_up_one(service) for service in services}

    def _look_up_one(self, service: Service) -> _Known:
        try:
            shown = self._state.shown(service.name)
        except GitopperError as exc:
            log.warning("%s: since when it is in its state is not known: %s", service.name, exc)
            shown = None
        return _Known(outcome=self._reconciler.known(service), shown=shown)

    async def _try_again(self, recruits: Recruits) -> None:
        """Make another pass where the first one failed: its path may have been another recruit's."""
        for runner in recruits.runners:
            await runner.first_pass.wait()
        self._kick_failed()

    def _kick_failed(self) -> None:
        for runner in self._runners:
            if self.board.outcome(runner.service.name).error is not None:
                runner.kick("config")

    @property
    def _runners(self) -> tuple[Runner, ...]:
        return tuple(self._crew.runners.values())

    def _runner(self, name: str) -> Runner:
        if name in self._crew.runners:
            return self._crew.runners[name]
        raise UnknownService(name, self._crew.runners)
