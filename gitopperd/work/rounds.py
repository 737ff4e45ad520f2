"""Rounds: what can wait comes behind what can't: those who only follow together, passes in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

from gitopperd.work.runner import Runner

__all__ = ["Rounds"]

AHEAD_SECONDS = 1.0
"""How long a round waits for the passes ahead of it: some wait for minutes, as for a service's health."""
TURN_SECONDS = 0.1
"""How long it waits for a pass of its own before it goes on to the next one."""
TOGETHER = 50
"""How many services follow together: somebody may want something of one of them."""


class Rounds:
    """Kicks runners. Lives on the event loop.

    A commit that touches one service of a hundred moves the tip for all of them. Begun together, the passes
    that only note so would share the processor with the one that somebody waits for.
    """

    def __init__(self, advance: Callable[[Sequence[Runner]], Awaitable[Collection[Runner]]]) -> None:
        """`advance` lets those follow the tip for whom that is all there is to do, and returns who did."""
        self._advance = advance
        self._ahead: set[Runner] = set()
        self._waiting: dict[Runner, list[str]] = {}
        self._called = asyncio.Event()

    def call(self, first: Iterable[Runner], then: Iterable[Runner], asked: str) -> None:
        """Have passes made for `asked`: of `first` at once and together; of `then` in turn, after those."""
        for runner in first:
            self._ahead.add(runner)
            self._kick(runner, [*self._waiting.pop(runner, ()), asked])
        for runner in then:
            self._waiting.setdefault(runner, []).append(asked)
            self._called.set()

    async def run(self) -> None:
        """Make rounds until cancelled."""
        while True:
            await self._called.wait()
            self._called.clear()
            while self._waiting:
                await self._let_ahead()
                if not await self._follow():
                    runner = next(iter(self._waiting))
                    self._kick(runner, self._waiting.pop(runner))
                    await _ended([runner], TURN_SECONDS)

    async def _follow(self) -> bool:
        """Let some follow the tip together; False where nobody is left who may."""
        able = [runner for runner in self._waiting if runner.may_advance()][:TOGETHER]
        done = await self._advance(able) if able else ()
        for runner in done:
            self._waiting.pop(runner, None)
        return bool(done) or not self._waiting

    async def _let_ahead(self) -> None:
        while self._ahead:
            ahead, self._ahead = self._ahead, set()
            await _ended(ahead, AHEAD_SECONDS)

    def _kick(self, runner: Runner, asked: Iterable[str]) -> None:
        for one in asked:
            runner.kick(one)


async def _ended(runners: Iterable[Runner], seconds: float) -> None:
    """Wait until none of them has a pass to make, but no longer than `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for runner in runners:
                await runner.idle.wait()
