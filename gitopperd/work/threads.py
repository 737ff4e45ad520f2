"""The one crossing from asyncio into threads: hooks block, the event loop must not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from gitopperd.work.places import Places
from libgitopper.answering import contained

__all__ = ["Threads"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

POLLS = 256
"""Polls side by side: one for each upstream of any host that was ever seen."""
PASSES = 32
"""Passes side by side: they compete for one disk, and one interpreter."""
WATCHED = 224
"""Passes more that do nothing but watch whether their service stays healthy, which takes minutes."""
ANSWERS = 4
"""Writes of intent side by side: they never wait behind a pass or a poll."""
IDENTITIES = 8
"""Askers that one auth plugin recognises side by side."""
INQUIRIES = 4
"""Diffs and explanations side by side: they read much, and may wait for the network."""
NO_THREAD_SECONDS = 1.0
"""How long to wait until a thread is asked for again, where the host had none to give."""


class Threads:
    """Pools, so that nothing waits for a thread that something slower holds.

    Threads are made when first needed. A poll can hang for its whole timeout, so each upstream
    has a thread of its own at hand.
    """

    def __init__(self) -> None:
        self._polls = ThreadPoolExecutor(POLLS, thread_name_prefix="poll")
        self._passes = ThreadPoolExecutor(PASSES + WATCHED, thread_name_prefix="pass")
        self._places = Places(PASSES)
        self._answers = ThreadPoolExecutor(ANSWERS, thread_name_prefix="answer")
        self._inquiries = ThreadPoolExecutor(INQUIRIES, thread_name_prefix="inquire")
        self._identities: dict[str, ThreadPoolExecutor] = {}
        self._running: set[Future[Any]] = set()
        self._polling: set[Future[Any]] = set()

    async def poll(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what may wait for the network, or look through a long history."""
        return await self._run(self._polls, call, *args, **kwargs)

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a pass: it may wait for a disk or a service manager.

        It has one of the places until it ends, also where nobody waits for it any more.
        """
        asked = self._places.ask()
        try:
            await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            if not asked.cancel():  # it was given meanwhile
                self._places.free()
            raise
        return await self._run(self._passes, call, *args, **kwargs)

    def watching(self) -> AbstractContextManager[None]:
        """Return what a pass enters, in its thread, while it only watches and shall hold up no other."""
        return self._places.left()

    async def answer(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what a client waits for: short reads and writes."""
        return await self._run(self._answers, call, *args, **kwargs)

    async def identify(self, plugin: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an auth plugin: what a client waits for, and what a third party wrote.

        Each has a pool of its own: one that hangs holds up those who get as far as it, and nobody else.
        """
        if plugin not in self._identities:
            self._identities[plugin] = ThreadPoolExecutor(
                IDENTITIES, thread_name_prefix=f"identify {plugin}"
            )
        return await self._run(self._identities[plugin], call, *args, **kwargs)

    async def inquire(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what a client waits for and what takes its time: it reads, and changes nothing."""
        return await self._run(self._inquiries, call, *args, **kwargs)

    def close(self, grace_seconds: float) -> bool:
        """Take no more work, and wait so long for passes and answers that run.

        Returns whether every thread has ended. A poll, an inquiry and an auth plugin are not waited
        for: they hold nothing that the next start does not clear.
        """
        pools = (self._polls, self._passes, self._answers, self._inquiries)
        for pool in (*pools, *self._identities.values()):
            pool.shutdown(wait=False, cancel_futures=True)
        for future in (*self._running, *self._polling):
            future.cancel()  # those that had not begun
        wait(set(self._running), timeout=grace_seconds)
        return not self._running and not self._polling

    async def _run(
        self, pool: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        job = _Job(partial(call, *args, **kwargs))
        running = self._running if pool in (self._passes, self._answers) else self._polling
        running.add(job.future)
        job.future.add_done_callback(running.discard)
        if pool is self._passes:
            job.future.add_done_callback(lambda _: self._places.free())
        waiting = asyncio.wrap_future(job.future)
        try:
            while not job.future.cancelled() and not _submitted(pool, job):
                # What was handed over stands in the queue: a thread that is there already may take it.
                if (await asyncio.wait([waiting], timeout=NO_THREAD_SECONDS))[0]:
                    break
            return await waiting
        finally:
            waiting.cancel()


class _Job(Generic[T]):
    """A call that is made once, however often it is handed over."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._call = call
        self._taken = threading.Lock()

    def __call__(self) -> None:
        if not self._taken.acquire(blocking=False) or not self.future.set_running_or_notify_cancel():
            return
        try:
            with contained():  # else it would end who waits for it, or leave them waiting
                found = self._call()
        except Exception as exc:  # noqa: BLE001 - whoever waits for it gets it
            self.future.set_exception(exc)
        else:
            self.future.set_result(found)


def _submitted(pool: ThreadPoolExecutor, job: _Job[T]) -> bool:
    """Hand over `job`; False where the host has no more threads to give, which is told."""
    try:
        pool.submit(job)
    except RuntimeError as exc:
        if "new thread" not in str(exc):
            raise
        log.warning("waiting for a thread: %s; see the limits of processes (TasksMax=)", exc)
        return False
    return True
