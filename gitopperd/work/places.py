"""Places for those who compete for one disk and one processor. Who only waits leaves its place."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

__all__ = ["Places"]


class Places:
    """So many places, given in the order in which they are asked for. Safe to use from any thread."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._free = number
        """Below zero, while more are back than there are places."""
        self._asked: deque[Future[None]] = deque()

    def ask(self) -> Future[None]:
        """Ask for a place: it is there once the future has its result. One that is cancelled gets none."""
        asked: Future[None] = Future()
        with self._lock:
            self._asked.append(asked)
        self._give()
        return asked

    def free(self) -> None:
        """Give a place back."""
        with self._lock:
            self._free += 1
        self._give()

    @contextmanager
    def left(self) -> Iterator[None]:
        """Let others have the place of whoever enters, until it is back.

        It does not wait for one then: what it has begun is to come to its end, and those who began one
        after the other come back so, too. Who asks anew waits until all who are back have a place.
        """
        self.free()
        try:
            yield
        finally:
            with self._lock:
                self._free -= 1

    def _give(self) -> None:
        while (asked := self._next()) is not None:
            asked.set_result(None)

    def _next(self) -> Future[None] | None:
        """Return the next one that asked, if there is a place for it, which is taken then."""
        with self._lock:
            while self._free > 0 and self._asked:
                asked = self._asked.popleft()
                if asked.set_running_or_notify_cancel():
                    self._free -= 1
                    return asked
        return None
