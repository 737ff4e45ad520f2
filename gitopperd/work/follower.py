"""A follower polls one upstream for all the services that use it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gitopperd.work.asked import Asked
from gitopperd.work.delays import next_delay
from gitopperd.work.threads import Threads
from libgitopper import GitopperError, Reconciler, SourceHealth, Store, Watch
from libgitopper.errors import unforeseen
from libgitopper.reconciler import utc_now

__all__ = ["Follower"]

log = logging.getLogger(__name__)


class Follower:
    """Polls one upstream, at its interval or when poked, and tells `on_poll` who asked, after each poll.

    Nobody asks for a poll by interval; it tells the empty string then.

    It never waits for what its services do with the news, nor for another follower.
    """

    def __init__(
        self,
        *,
        watch: Watch,
        reconciler: Reconciler,
        threads: Threads,
        on_poll: Callable[[Follower, str], Awaitable[None]],
        rng: random.Random,
        asked: str = "start",
    ) -> None:
        """`asked` is what asks for the first poll."""
        self.watch = watch
        self.health = SourceHealth()
        self.former_error: str | None = None
        """Why the poll before the last one failed; None where it went well."""
        self.store: Store | None = None
        self._reconciler = reconciler
        self._threads = threads
        self._on_poll = on_poll
        self._rng = rng
        self._asked = Asked(asked)
        self._poked = False
        self._woken = asyncio.Event()
        self._polled_branches: frozenset[str] = frozenset()
        self._failures = 0
        self._polls = 0

    def fits(self, watch: Watch) -> bool:
        """Tell whether this follower can go on with `watch`: the same store, by the same credentials."""
        ours = self.watch
        return (ours.upstream, ours.credentials, ours.stores) == (
            watch.upstream,
            watch.credentials,
            watch.stores,
        )

    def go_on(self, watch: Watch) -> None:
        """Follow for the services of `watch` from now on; poll at once where it has other branches.

        Another interval counts from the last poll.
        """
        before, self.watch = self.watch, watch
        if not watch.branches <= before.branches:
            self.poke("config")
        elif watch.interval_seconds != before.interval_seconds:
            self._woken.set()

    def health_of(self, branch: str) -> SourceHealth:
        """Return how the last poll went for `branch`; one that it did not ask for is not polled yet."""
        if self.health.error is None and branch not in self._polled_branches:
            return SourceHealth(last_success=self.health.last_success)
        return self.health

    def tip(self, branch: str) -> str | None:
        """Return the tip of `branch` as far as it is known."""
        return self.store.tips.get(branch) if self.store else None

    def poke(self, asked: str) -> None:
        """Poll now, however long the next poll is away; several pokes make one poll.

        `asked` is who or what wants it, as ``pull by alice``.
        """
        self._asked.add(asked)
        self._poked = True
        self._woken.set()

    async def open(self) -> None:
        """Open the store as the last run left it, so that a rollback works before the first poll."""
        try:
            self.store = await self._threads.poll(self._reconciler.poll, self.watch, offline=True)
        except GitopperError as exc:
            log.debug("%s: nothing stored yet: %s", self.watch.upstream, exc)
        except Exception:
            # Whatever is wrong with it, the services get their files back, and the poll tells.
            log.exception("%s: what is stored of it can't be opened", self.watch.upstream)

    async def poll(self) -> None:
        """Poll once; what goes wrong is in `health` afterwards, never raised."""
        self._poked = False
        watch, asked = self.watch, self._asked.take()
        self.former_error = self.health.error
        try:
            self.store = await self._threads.poll(self._reconciler.poll, watch)
        except GitopperError as exc:
            self._failed(str(exc))
        except Exception as exc:
            log.exception("%s: the poll failed in a way that nobody foresaw", self.watch.upstream)
            self._failed(unforeseen(exc))
        else:
            self._failures = 0
            self._polled_branches = watch.branches
            self.health = SourceHealth(polled=True, last_success=utc_now())
        self._polls += 1
        await self._on_poll(self, asked)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self.poll()
            await self._pause()

    async def _pause(self) -> None:
        """Wait until the next poll is due, or wanted."""
        last_poll = asyncio.get_running_loop().time()
        while not self._poked:
            self._woken.clear()
            delay = next_delay(
                interval_seconds=self.watch.interval_seconds,
                polls=self._polls,
                failures=self._failures,
                rng=self._rng,
            )
            try:
                async with asyncio.timeout_at(last_poll + delay):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _failed(self, error: str) -> None:
        self._failures += 1
        self.health = SourceHealth(polled=True, error=error, last_success=self.health.last_success)
