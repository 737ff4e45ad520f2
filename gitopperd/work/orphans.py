"""Orphans: what is still published for services that the config no longer gives this host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gitopperd.work.owed import owing
from gitopperd.work.threads import Threads
from libgitopper import Attempt, Config, Deployed, GitopperError, Reconciler

__all__ = ["Orphans"]

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3.0
"""How long those who come wait for those who go; who goes may wait for a reload that hangs."""
RETRY_SECONDS = 30.0


class Orphans:
    """Withdraws orphans, and tries again until none is left. Lives on the event loop."""

    def __init__(
        self, *, reconciler: Reconciler, threads: Threads, config: Config, on_gone: Callable[[], None]
    ) -> None:
        self._reconciler = reconciler
        self._threads = threads
        self.config = config
        """Set it before the crew is changed: a service that is back is not withdrawn from then on."""
        self.spared = ""
        """Why what is still published is not withdrawn, and what that is; empty where nothing is spared."""
        self._on_gone = on_gone
        self._left = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def clear(self) -> None:
        """Withdraw what the config dropped. What takes longer than `PATIENCE_SECONDS` goes on by itself.

        What is spared is shown again instead: after a boot its paths may show nothing.
        """
        orphans = await self._find()
        settle = self._show if self.spared else self._withdraw
        tasks = [asyncio.create_task(settle(orphan)) for orphan in orphans]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)

    async def run(self) -> None:
        """Try again what could not be withdrawn, until cancelled."""
        while True:
            await self._left.wait()
            await asyncio.sleep(RETRY_SECONDS)
            self._left.clear()
            await self.clear()

    async def _find(self) -> tuple[Deployed | Attempt, ...]:
        services, self.spared = self.config.services, ""
        try:
            orphans = await self._threads.answer(self._reconciler.orphans, services)
        except GitopperError as exc:
            log.error("what the config dropped can't be told: %s", exc)  # noqa: TRY400
            self._left.set()
            return ()
        if orphans and all(service is self.config.own for service in services):
            # A wrong host name must not take every service's files away.
            names = ", ".join(orphan.service.name for orphan in orphans)
            self.spared = (
                "the config has no service for this host, so nothing is withdrawn;"
                f" still published: {names}. Is the host name right? See -h"
            )
            log.error("%s", self.spared)
        return orphans

    async def _show(self, orphan: Deployed | Attempt) -> None:
        await self._threads.work(self._reconciler.restore, owing(orphan))

    async def _withdraw(self, orphan: Deployed | Attempt) -> None:
        name = orphan.service.name
        try:
            gone = await self._threads.work(
                self._reconciler.withdraw, orphan, still=lambda: self._is_gone(name)
            )
        except GitopperError as exc:
            log.error("%s: can't be withdrawn: %s; tried again in %d s", name, exc, RETRY_SECONDS)  # noqa: TRY400
            self._left.set()
        except Exception:
            log.exception("%s: can't be withdrawn; tried again in %d s", name, RETRY_SECONDS)
            self._left.set()
        else:
            if gone:
                self._on_gone()

    def _is_gone(self, name: str) -> bool:
        """Tell whether the config, as it is by now, still lacks the service. Called in a thread."""
        return all(service.name != name for service in self.config.services)
