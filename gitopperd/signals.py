"""SIGTERM and SIGINT end the daemon, SIGHUP reloads its configuration: whenever they come.

asyncio's handlers come and go with its loop. What a signal does by itself would end a daemon that is about
to start, or cut short what is waited for at its end.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from types import FrameType

__all__ = ["Hangups", "ignore_signals", "until_signalled"]

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGINT)


class Hangups:
    """SIGHUP, from before the event loop runs. For the main thread."""

    def __init__(self) -> None:
        self._came = False

    def hold(self) -> None:
        """Only note those that come from now on, and those that came while the program was loaded."""
        signal.signal(signal.SIGHUP, self._note)
        self.let()

    @staticmethod
    def let() -> None:
        """Let SIGHUP through, which is blocked while the program is loaded."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    @staticmethod
    def block() -> None:
        """Leave those that come from now on to the program that takes the place of this one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def hand_on(self, reload: Callable[[], None]) -> None:
        """Call `reload`, on the running event loop, for each from now on, and once for those of before."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        if self._came:
            reload()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True


async def until_signalled(
    main: Coroutine[object, object, int], *, on_end: Callable[[], None], ended: int
) -> int:
    """Run `main` to its end, or until the first SIGTERM or SIGINT; a second one changes nothing.

    Returns what `main` returns; where it was signalled, `ended`, after a call of `on_end`.
    """
    task = asyncio.ensure_future(main)

    def end(number: signal.Signals) -> None:
        if not task.done() and not task.cancelling():
            log.info("%s: stopping", number.name)
            on_end()
            task.cancel()

    for number in ENDING:
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await task
    except asyncio.CancelledError:
        return ended


def ignore_signals() -> None:
    """Let no signal do anything any more; the loop took its handlers with it."""
    for number in (*ENDING, signal.SIGHUP):
        # Not SIG_IGN, which programs would inherit that a pass still starts.
        signal.signal(number, lambda _number, _frame: None)
