"""To do something in a process of its own, forked for it, and have the result; one thing or several."""

from __future__ import annotations

import os
import pickle
import select
import traceback
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from attrs import field, frozen

__all__ = ["apart", "apart_in_turns"]

T = TypeVar("T")


def apart(what: Callable[[], T]) -> T:
    """Do `what` in a process of its own; return its result, or raise what it raised, as text."""
    return _Child.begin(what).result()


def apart_in_turns(whats: Sequence[Callable[[], T]], jobs: int) -> list[T]:
    """Do all of `whats`, `jobs` of them at a time; return their results, in the same order."""
    results: dict[int, T] = {}
    running: dict[int, _Child[T]] = {}
    for at, what in enumerate(whats):
        if len(running) >= jobs:
            _collect(running, results)
        running[at] = _Child.begin(what)
    while running:
        _collect(running, results)
    return [results[at] for at in range(len(whats))]


def _collect(running: dict[int, _Child[T]], results: dict[int, T]) -> None:
    """Wait until at least one of those that run is done."""
    ready, _, _ = select.select([child.pipe for child in running.values()], [], [])
    for at in [at for at, child in running.items() if child.pipe in ready]:
        results[at] = running.pop(at).result()


@frozen
class _Child(Generic[T]):
    """A process that does something, and tells how it went."""

    pid: int
    pipe: int = field()
    """Readable once it is done."""

    @classmethod
    def begin(cls, what: Callable[[], T]) -> _Child[T]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                outcome: tuple[bool, object] = (True, what())
            except BaseException:  # noqa: BLE001 - it is raised again, by the other side
                outcome = (False, traceback.format_exc())
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(outcome, pipe)
            os._exit(0)
        os.close(writing)
        return cls(pid, reading)

    def result(self) -> T:
        with os.fdopen(self.pipe, "rb") as pipe:
            told = pipe.read()
        os.waitpid(self.pid, 0)
        assert told, f"process {self.pid} ended without a word"
        good, result = pickle.loads(told)
        assert good, result
        return cast("T", result)
