"""A runner makes the passes of one service, one after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from gitopperd.work.asked import Asked
from gitopperd.work.board import Board
from gitopperd.work.delays import back_off, next_look
from gitopperd.work.follower import Follower
from gitopperd.work.threads import Threads
from libgitopper import Outcome, Peer, Reconciler, Service, Status, StepError, Verb

__all__ = ["Runner"]

RECHECK_SECONDS = 60.0
"""The end of a wait is a time of the wall clock, which may be set, or go on while the host is suspended: so
it is looked at at least this often."""
RESYNC = "resync"
"""What asks for a look at the host, in the history."""
SHORTEST_WAIT_SECONDS = 5.0
"""For a wait whose end is past already, and that goes on all the same."""


class Runner:
    """Makes a pass whenever it is kicked; kicks that come during a pass make one more.

    After a pass that failed, and where trying the same again can help, it makes the next one by
    itself, later and later: a long poll interval is no reason to leave a service broken. So it does
    when the time has come for which a commit had to wait; and now and then to compare the service with
    what is on the host.
    """

    def __init__(
        self,
        *,
        service: Service,
        follower: Follower,
        reconciler: Reconciler,
        threads: Threads,
        board: Board,
        peers: Callable[[], Sequence[Peer]],
        on_change: Callable[[], None],
        now: Callable[[], datetime],
        remember: Callable[[Sequence[Status]], None],
        observe_seconds: Callable[[float], None],
        rng: random.Random,
    ) -> None:
        """`peers` are those that the service comes after; `on_change` is told that others may go on now."""
        self.service = service
        self.follower = follower
        self.passes = 0
        self.first_pass = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while no pass runs and none was asked for."""
        self.idle.set()
        self._tip: str | None = None
        self._in_order = False
        self._retired = False
        self._restoring: asyncio.Task[None] | None = None
        self._expected = False
        self._reconciler = reconciler
        self._threads = threads
        self._board = board
        self._peers = peers
        self._on_change = on_change
        self._now = now
        self._remember = remember
        self._observe_seconds = observe_seconds
        self._rng = rng
        self._kicked = asyncio.Event()
        self._wants = Asked()
        self._asked = ""
        self._failures = 0
        self._held_until: datetime | None = None
        self._stands: object = None

    def kick(self, asked: str) -> None:
        """Make a pass as soon as the one that runs, if any, is done; `asked` is who or what wants it."""
        self._wants.add(asked)
        self._kicked.set()
        self.idle.clear()

    def rests(self) -> bool:
        """Tell whether a poll is no reason for a pass: the last one left nothing undone, at this very tip.

        A service that is not in order is looked at after each poll: whatever it waits for, or is wrong
        with it, may be over.
        """
        return self._in_order and self._tip == self.follower.tip(self.service.source.branch)

    def expect(self) -> None:
        """Have the next poll make a pass, whatever it brings: somebody asked for this very service."""
        self._expected = True

    def may_advance(self) -> bool:
        """Tell whether news that don't touch the service need no pass: all was well at another tip."""
        moved = self._tip != self.follower.tip(self.service.source.branch)
        return self._in_order and moved and not self._expected and self.idle.is_set()

    def advanced(self, outcome: Outcome, tip: str | None, passes: int) -> None:
        """Note what came of following to `tip` without a pass, where none was made since, or is now.

        Nor where the config went on meanwhile: the board has no place for the service any more, or another
        runner has it.
        """
        if self.idle.is_set() and self.passes == passes and not self._retired:
            self._tip = tip
            self._note(outcome)

    @property
    def retired(self) -> bool:
        """True when its settings are past."""
        return self._retired

    def retire(self) -> None:
        """Begin no pass any more, not even one that waits for its turn in a thread already."""
        self._retired = True

    def restore(self) -> asyncio.Task[None]:
        """Begin to bring back, from this disk alone, what the service had; `run` waits for its end."""
        self._restoring = asyncio.create_task(self._restore())
        return self._restoring

    async def _restore(self) -> None:
        outcome = await self._threads.work(self._reconciler.restore, self.service)
        if not self._retired:
            self._board.settle(outcome)

    async def run(self) -> None:
        """Make passes until cancelled."""
        if self._restoring is not None:
            await self._restoring
        while True:
            await self._due()
            self._kicked.clear()
            # Who asked for a pass that failed has asked for its repetitions, too.
            await self.pass_once(self._wants.take() or self._asked)
            if not self._kicked.is_set():
                self.idle.set()

    async def _due(self) -> None:
        """Wait until a pass is wanted or due, or what a commit waited for has come."""
        clock = asyncio.get_running_loop().time
        again = clock() + self._patience()
        while not self._kicked.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._next_look(again)):
                    await self._kicked.wait()
            if clock() >= again:
                if not self._failures:
                    self._wants.add(RESYNC)
                return
            if self._held_until is not None and self._now() >= self._held_until:
                self._wants.add("end of its wait")
                return

    def _patience(self) -> float:
        """Seconds until a pass is made though nobody asks: sooner where the last one failed."""
        if not self._failures:
            return next_look(resync_seconds=self.service.resync_seconds, rng=self._rng)
        interval = self.service.interval_seconds
        return back_off(interval_seconds=interval, failures=self._failures, rng=self._rng)

    def _next_look(self, again: float) -> float:
        """When to look whether a pass is due, by the event loop's clock; at `again` it is."""
        if self._held_until is None:
            return again
        seconds = max((self._held_until - self._now()).total_seconds(), 0.0)
        return min(again, asyncio.get_running_loop().time() + min(seconds, RECHECK_SECONDS))

    async def pass_once(self, asked: str) -> None:
        """Make one pass, for `asked`, and put its outcome on the board."""
        started, self._asked = asyncio.get_running_loop().time(), asked
        self._expected = False
        self._tip, self._in_order = self.follower.tip(self.service.source.branch), False
        outcome = await self._threads.work(
            self._reconciler.reconcile,
            self.service,
            self.follower.store,
            peers=self._peers(),
            asked=asked,
            still=lambda: not self._retired,
        )
        self._observe_seconds(asyncio.get_running_loop().time() - started)
        self.passes += 1
        self._note(outcome)
        self.first_pass.set()

    def _note(self, outcome: Outcome) -> None:
        self._failures = self._failures + 1 if _can_get_better(outcome) else 0
        self._in_order = _in_order(outcome)
        self._held_until = self._end_of_wait(outcome)
        if status := self._board.settle(outcome):
            self._remember([status])
        self._tell(outcome)

    def _end_of_wait(self, outcome: Outcome) -> datetime | None:
        """Return when to look again for what had to wait; None where nothing had, or nobody knows."""
        plan = outcome.plan
        if plan is None or plan.verb is not Verb.WAIT or plan.until is None:
            return None
        return max(plan.until, self._now() + timedelta(seconds=SHORTEST_WAIT_SECONDS))

    def _tell(self, outcome: Outcome) -> None:
        """Let those that come after it go on, where something changed: else they could go in circles."""
        stands = (outcome.deployed, outcome.intent, outcome.error is None, self._tip)
        if stands != self._stands:
            self._stands = stands
            self._on_change()


def _can_get_better(outcome: Outcome) -> bool:
    error = outcome.error
    return error is not None and not (isinstance(error, StepError) and not error.retryable)


def _in_order(outcome: Outcome) -> bool:
    """Tell whether the service is as it should be, and no news are kept waiting."""
    plan = outcome.plan
    if outcome.error is not None or outcome.drift is not None or plan is None:
        return False
    return not (plan.verb is Verb.WAIT and plan.note)
