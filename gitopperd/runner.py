"""A runner makes the passes of one service, one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gitopperd.board import Board
from gitopperd.follower import Follower
from gitopperd.threads import Threads
from libgitopper import GitopperError, Outcome, Reconciler, Service, Status

__all__ = ["Runner"]

log = logging.getLogger(__name__)


class Runner:
    """Makes a pass whenever it is kicked; kicks that come during a pass make one more."""

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
        self._kicked = asyncio.Event()

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
            await self._kicked.wait()
            self._kicked.clear()
            await self.pass_once()

    async def pass_once(self) -> None:
        """Make one pass and put its outcome on the board."""
        started = asyncio.get_running_loop().time()
        outcome = await self._threads.work(
            self._reconciler.reconcile, self.service, self.follower.store, still=lambda: not self._retired
        )
        self._observe_seconds(asyncio.get_running_loop().time() - started)
        self.passes += 1
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
