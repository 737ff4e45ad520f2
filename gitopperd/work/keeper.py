"""Keeps since when services are in their states, so that a restart does not reset it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable

from gitopperd.work.threads import Threads
from libgitopper import GitopperError, Status

__all__ = ["Keeper"]

log = logging.getLogger(__name__)


class Keeper:
    """Writes in the background, and what comes meanwhile in one go. Lives on the event loop.

    Nobody waits for it: what a crash loses is a time that is shown, and the next start takes its own.
    """

    def __init__(self, *, threads: Threads, write: Callable[[Collection[Status]], None]) -> None:
        """`write` persists statuses, all or none; it blocks."""
        self._threads = threads
        self._write = write
        self._news: dict[str, Status] = {}
        self._told = asyncio.Event()

    def keep(self, statuses: Iterable[Status]) -> None:
        """Have these written; of a service only the last one counts."""
        for status in statuses:
            self._news[status.service] = status
            self._told.set()

    async def run(self) -> None:
        """Write what there is, until cancelled; then the rest."""
        try:
            while True:
                await self._told.wait()
                self._told.clear()
                news = self._take()
                await self._threads.answer(self._try, news)
        finally:
            self.finish()

    def finish(self) -> None:
        """Write what is left, at once. Blocks, so it is for the end."""
        if self._news:
            self._try(self._take())

    def _take(self) -> tuple[Status, ...]:
        news, self._news = tuple(self._news.values()), {}
        return news

    def _try(self, news: tuple[Status, ...]) -> None:
        try:
            self._write(news)
        except GitopperError as exc:
            names = ", ".join(status.service for status in news)
            log.warning("%s: since when it is in its state could not be kept: %s", names, exc)
