"""Ends what is frozen until some time when that time has come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from libgitopper import GitopperError

__all__ = ["Thawer"]

log = logging.getLogger(__name__)

RECHECK_SECONDS = 60.0
"""An end is a time of the wall clock, which may be set, or go on while the host is suspended: so it is
looked at at least this often, however far away the next end seems to be."""
RETRY_SECONDS = 10.0


class Thawer:
    """Waits for the next end, on the event loop."""

    def __init__(
        self,
        *,
        ends: Callable[[], Mapping[str, datetime]],
        thaw: Callable[[str], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        """`ends` tells, by service, the ends that are to be waited for; `thaw` makes one of them so."""
        self._ends = ends
        self._thaw = thaw
        self._now = now
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Look again: the ends have changed."""
        self._poked.set()

    async def run(self) -> None:
        """Thaw what is over, until cancelled; what was over at the start comes first."""
        while True:
            self._poked.clear()
            for service in self._over():
                await self._try(service)
            try:
                async with asyncio.timeout(self._delay_seconds()):
                    await self._poked.wait()
            except TimeoutError:
                continue

    def _over(self) -> list[str]:
        now = self._now()
        return [service for service, end in self._ends().items() if end <= now]

    async def _try(self, service: str) -> None:
        try:
            await self._thaw(service)
        except GitopperError as exc:
            log.warning("%s: its freeze is over, and could not be ended; trying again: %s", service, exc)

    def _delay_seconds(self) -> float:
        now = self._now()
        ahead = ((end - now).total_seconds() for end in self._ends().values())
        # One that is over and still there could not be ended just now.
        delays = (seconds if seconds > 0 else RETRY_SECONDS for seconds in ahead)
        return min((RECHECK_SECONDS, *delays))
