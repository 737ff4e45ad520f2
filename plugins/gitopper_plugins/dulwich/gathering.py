"""One request for the file contents that many ask for at the same time.

At the first start each service of an upstream lacks its files. Asked for one service at a time, that is as
many requests, and as many packs to look into afterwards.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Hashable, Iterator

from attrs import define, field
from dulwich.objects import ObjectID

from libgitopper import GitopperError

__all__ = ["Gathering"]

Bring = Callable[[Collection[ObjectID]], None]


@define(eq=False)
class _Request:
    """What is going to be asked for together."""

    wants: dict[ObjectID, None] = field(factory=dict)
    askers: int = 0
    done: threading.Event = field(factory=threading.Event)
    good: bool = False


@define(eq=False)
class Gathering:
    """Gathers, while one request is under way, what the next one is to ask for. One for each store."""

    _lock: threading.Lock = field(factory=threading.Lock)
    _turns: dict[Hashable, threading.Lock] = field(factory=dict)
    _next: dict[Hashable, _Request] = field(factory=dict)

    def bring(
        self, wants: Collection[ObjectID], bring: Bring, *, alike: Hashable, timeout_seconds: float
    ) -> None:
        """Have `bring` called with `wants`, and with what others want who may be asked for together.

        Args:
            wants: what the caller needs; it is there when this returns.
            bring: makes the request. It is called by one of those who wait, for all of them.
            alike: who may be served by one request; those with other credentials or limits are not.
            timeout_seconds: how long to wait for others before asking alone.

        Raises:
            GitopperError: what `bring` raised for `wants` alone: nobody fails for what another one wants.
        """
        with self._lock:
            request = self._next.get(alike)
            leads = request is None
            request = self._next.setdefault(alike, _Request())
            request.wants.update(dict.fromkeys(wants))
            request.askers += 1
            turn = self._turns.setdefault(alike, threading.Lock())
        if leads:
            with self._taking(turn, alike, request, timeout_seconds):
                if request.askers == 1:
                    bring(wants)
                    return
                with contextlib.suppress(GitopperError):
                    bring(tuple(request.wants))
                    request.good = True
        else:
            request.done.wait(2 * timeout_seconds)
        if not request.good:
            bring(wants)

    @contextlib.contextmanager
    def _taking(
        self, turn: threading.Lock, alike: Hashable, request: _Request, timeout_seconds: float
    ) -> Iterator[None]:
        """Wait for the request before, while more join this one; then let nobody join it any more."""
        taken = turn.acquire(timeout=timeout_seconds)
        try:
            with self._lock:
                del self._next[alike]
            yield
        finally:
            request.done.set()
            if taken:
                turn.release()
