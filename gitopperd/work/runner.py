"""A runner makes the passes of one service, one after the other."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from gitopperd.work.board import Board
from gitopperd.work.delays import back_off
from gitopperd.work.follower import Follower
from gitopperd.work.threads import Threads
from libgitopper import GitopperError, Outcome, Reconciler, Service, Status, StepError

__all__ = ["Runner"]

log = logging.getLogger(__name__)


class Runner:
    """Makes a pass whenever it is kicked; kicks that come during a pass make one more.

    After a pass that failed, and where trying the same again can help, it makes the next one by
    itself, later and later: a long poll interval is no reason to leave a service broken.
    """

    def __init__(
        self,
        *,
        service: Service,
        follower: Follower,
        reconciler: Reconciler,
        threads: Threads,
        board: Board,
        remember: Callable[[Status], None],
        observe_seconds: Callable[[float], None],
        rng: random.Random,
    ) -> None:
        self.service = service
        self.follower = follower
        self.passes = 0
        self.first_pass = asyncio.Event()
        self._retired = False
        self._reconciler = reconciler
        self._threads = threads
        self._board = board
        self._remember = remember
        self._observe_seconds = observe_seconds
        self._rng = rng
        self._kicked = asyncio.Event()
        self._failures = 0

    def kick(self) -> None:
        """Make a pass as soon as the one that runs, if any, is done."""
        self._kicked.set()

    def retire(self) -> None:
        """Begin no pass any more, not even one that waits for its turn in a thread already."""
        self._retired = True

    async def restore(self) -> None:
        """Bring back, from this disk alone, what the service had."""
        self._board.settle(await self._threads.work(self._reconciler.restore, self.service))

    async def run(self) -> None:
        """Make passes until cancelled."""
        while True:
            await self._due()
            self._kicked.clear()
            await self.pass_once()

    async def _due(self) -> None:
        delay = None
        if self._failures:
            interval = self.service.interval_seconds
            delay = back_off(interval_seconds=interval, failures=self._failures, rng=self._rng)
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._kicked.wait()

    async def pass_once(self) -> None:
        """Make one pass and put its outcome on the board."""
        started = asyncio.get_running_loop().time()
        outcome = await self._threads.work(
            self._reconciler.reconcile, self.service, self.follower.store, still=lambda: not self._retired
        )
        self._observe_seconds(asyncio.get_running_loop().time() - started)
        self.passes += 1
        self._failures = self._failures + 1 if _can_get_better(outcome) else 0
        await self._settle(outcome)
        self.first_pass.set()

    async def _settle(self, outcome: Outcome) -> None:
        status = self._board.settle(outcome)
        if status is None:
            return
        try:
            await self._threads.work(self._remember, status)
        except GitopperError as exc:
            log.warning("%s: since when it is in its state could not be kept: %s", status.service, exc)


def _can_get_better(outcome: Outcome) -> bool:
    error = outcome.error
    return error is not None and not (isinstance(error, StepError) and not error.retryable)
