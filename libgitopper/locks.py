"""A lock for each name."""

from __future__ import annotations

import threading

__all__ = ["NamedLocks"]


class NamedLocks:
    """Hands out one lock for each name; as many as there are names, which are few."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, name: str) -> threading.Lock:
        """Return the lock of `name`: always the same one."""
        with self._guard:
            return self._locks.setdefault(name, threading.Lock())
