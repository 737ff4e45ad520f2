"""Rounds: passes that can wait are made one after the other, behind those that can't."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from gitopperd.work.runner import Runner

__all__ = ["Rounds"]

AHEAD_SECONDS = 1.0
"""How long a round waits for the passes ahead of it: some wait for minutes, as for a service's health."""
TURN_SECONDS = 0.1
"""How long it waits for a pass of its own before it goes on to the next one."""


class Rounds:
    """Kicks runners. Lives on the event loop.

    A commit that touches one service of a hundred moves the tip for all of them. Begun together, the passes
    that only note so would share the processor with the one that somebody waits for.
    """

    def __init__(self) -> None:
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
                runner = next(iter(self._waiting), None)
                if runner is not None:
                    self._kick(runner, self._waiting.pop(runner))
                    await _ended([runner], TURN_SECONDS)

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
