"""Going over to another configuration while the daemon runs. A bad one is refused; the old one stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen

from gitopperd.notify import Notifier
from gitopperd.work.threads import Threads
from libgitopper import Config, ConfigError, Event, GitopperError, Hooks

__all__ = ["Applier", "Loaded", "Reloading", "tell_loaded", "tell_refused"]

log = logging.getLogger(__name__)

Applier = Callable[[Config], None]
"""Goes over to another configuration; quick, on the event loop. What it raises is a fault of ours."""


@frozen(kw_only=True)
class Loaded:
    """A configuration that is in force."""

    config: Config
    note: str
    """What the operator should know of it, in one line; empty for nothing."""


class Reloading:
    """Loads the configuration again, judges it, and hands a good one to all whom it concerns.

    Lives on the event loop. One reload is done before the next begins.
    """

    def __init__(
        self,
        *,
        load: Callable[[], Config],
        appliers: Sequence[Applier],
        apply_services: Callable[[Config], Awaitable[str]],
        hooks: Hooks,
        threads: Threads,
        notifier: Notifier,
        refresh: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """`load` blocks, and raises `ConfigError`; `refresh`, if it takes more, brings here what to load.

        `appliers` come first, in their order: who lost a right has lost it before a service is touched.
        `apply_services` returns what is to be told of that; empty for nothing.
        """
        self._load = load
        self._refresh = refresh
        self._appliers = appliers
        self._apply_services = apply_services
        self._hooks = hooks
        self._threads = threads
        self._notifier = notifier
        self._one_at_a_time = asyncio.Lock()
        self._asked = asyncio.Event()
        self._newer = False
        self._running: set[asyncio.Task[Loaded]] = set()

    def ask(self) -> None:
        """Reload soon; asked several times before it begins, it is done once."""
        self._newer = True
        self._asked.set()

    def adopt(self) -> None:
        """Go over soon to what was brought up to date already."""
        self._asked.set()

    async def run(self) -> None:
        """Do what is asked for, until cancelled. A configuration that is refused has been told of."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            newer, self._newer = self._newer, False
            try:
                await (self._reload() if newer else self._go_over())
            except GitopperError as exc:
                log.debug("not reloaded: %s", exc)
            except Exception:
                log.exception("the reload failed in a way that nobody foresaw")

    async def reload(self) -> Loaded:
        """Reload now, and return what is in force. Goes on when the caller is cancelled.

        Raises:
            ConfigError: it is refused; what was in force is still.
            GitopperError: it can't be brought up to date.
        """
        task = asyncio.create_task(self._reload())
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def _reload(self) -> Loaded:
        if self._refresh is not None:
            await self._refresh()
        return await self._go_over()

    async def _go_over(self) -> Loaded:
        async with self._one_at_a_time:
            self._notifier.reloading()
            services = None
            try:
                config = await self._threads.answer(self._load)
                for apply in self._appliers:
                    apply(config)
                note = await self._apply_services(config)
                services = len(config.services)
                tell_loaded(self._hooks, config)
            except ConfigError as exc:
                tell_refused(self._hooks, exc)
                raise
            finally:
                self._notifier.ready(services)
            return Loaded(config=config, note=note)

    def _forget(self, task: asyncio.Task[Loaded]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, also where nobody waits for it any more


def tell_loaded(hooks: Hooks, config: Config) -> None:
    """Tell observers that `config` is in force."""
    hooks.event(Event(kind="config-loaded", details={"services": len(config.services)}))


def tell_refused(hooks: Hooks, exc: ConfigError) -> None:
    """Tell observers that a configuration is refused, and the log every problem of it."""
    for problem in exc.problems:
        log.error("%s: %s", exc.origin, problem)
    count = len(exc.problems)
    first = f"{exc.problems[0]}" if exc.problems else str(exc)
    details = {"origin": exc.origin, "problems": count, "first": first}
    hooks.event(Event(kind="config-refused", details=details))
