"""The composition root: the one place where the parts are made and handed to each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from aiohttp import web
from attrs import evolve, frozen
from prometheus_client import CollectorRegistry

from gitopperd.api.audit import Audit
from gitopperd.api.events import Events
from gitopperd.api.guard import Guard
from gitopperd.api.rest import make_app
from gitopperd.api.webhooks import Webhooks
from gitopperd.bootstrap import Bootstrap
from gitopperd.claims import Claims
from gitopperd.filewatch import FileWatch
from gitopperd.listener.limits import attended, whole_body
from gitopperd.listener.listen import Address, ListenError, listening
from gitopperd.listener.metrics import ListenerCollector
from gitopperd.listener.tls import TlsFiles
from gitopperd.logs import EventLog
from gitopperd.metrics import DaemonCollector, Exposition, Meters
from gitopperd.notify import Notifier
from gitopperd.reloading import Applier, Reloading, tell_loaded
from gitopperd.signals import Hangups, ignore_signals, until_signalled
from gitopperd.work.daemon import Daemon
from gitopperd.work.owed import Owed
from gitopperd.work.threads import Threads
from libgitopper import Config, Hooks, Reconciler, State, StateStore
from libgitopper.reconciler import utc_now

__all__ = ["START_OVER", "Settings", "serve"]

log = logging.getLogger(__name__)

START_OVER = -1
"""Instead of an exit code: the program is to be run again, with what it was run with."""

GRACE_SECONDS = 5.0
"""How long a pass that runs may take to end after SIGTERM."""
RESTORE_SECONDS = 30.0
"""How long the start waits for services that take back what they had. One whose reload hangs may take its
whole timeout, which by default is all that systemd gives a unit to start."""


@frozen(kw_only=True)
class Settings:
    """What the command line and the config add up to."""

    config: Config
    hooks: Hooks
    """Every plugin that is installed."""
    state_dir: Path
    address: Address
    unix_socket: Path | None
    once: bool
    load: Callable[[], Config]
    """Reads the configuration again, and judges it."""
    address_of: Callable[[Config], Address]
    """Where to answer by that configuration, and by the command line."""
    file_watch: FileWatch | None = None
    """With ``-r``."""
    bootstrap: Bootstrap | None = None
    """With ``-U``; then `config` and `address` are those of an empty configuration."""

    def bootstrapped(self, state: StateStore) -> Settings:
        """Return them with the configuration of the repository, as far as there is one."""
        if self.bootstrap is None:
            return self
        self.hooks.register(self.bootstrap, name="gitopperd.bootstrap")
        config = self.bootstrap.start(Reconciler(hooks=self.hooks, state=state), state)
        return evolve(self, config=config, address=self.address_of(config))


def serve(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT, or once; return the exit code, or `START_OVER`.

    Raises:
        StateError: the state can't be used, or another daemon uses it.
        ConfigError: another daemon keeps its releases at a `mount` of the configuration.
        PluginError: a plugin is not fit to be loaded.
        ListenError: an address is taken.
    """
    hangups = Hangups()
    hangups.let() if settings.once else hangups.hold()
    registry = CollectorRegistry()
    meters = Meters(registry)
    hooks = settings.hooks
    hooks.register(EventLog(), name="gitopperd.log")
    hooks.register(meters, name="gitopperd.metrics")
    hooks.register(Owed(), name="gitopperd.owed")
    events = Events(utc_now)
    hooks.register(events, name="gitopperd.events")
    with _claims(settings) as claims, StateStore(settings.state_dir / "state.db") as state:
        settings = settings.bootstrapped(state)
        claims.claim_mounts(settings.config)
        threads = Threads()
        daemon = Daemon(
            config=settings.config,
            hooks=hooks,
            state=state,
            threads=threads,
            now=utc_now,
            rng=random.Random(),  # noqa: S311 - it spreads polls, it guards nothing
            observe_seconds=meters.observe_seconds,
        )
        registry.register(DaemonCollector(daemon))
        _greet(settings, hooks)
        if settings.bootstrap is None:
            tell_loaded(hooks, settings.config)
        events.apply(settings.config)
        audit = Audit(state=state, hooks=hooks, threads=threads, now=utc_now)
        guard = Guard(hooks=hooks, threads=threads, config=settings.config, audit=audit)
        webhooks = Webhooks(
            config=settings.config,
            followers=lambda: daemon.followers,
            threads=threads,
            audit=audit.note,
        )
        notifier = Notifier(os.environ)
        # Who goes over to another configuration, in this order, before the services do.
        appliers: list[Applier] = [guard.apply, webhooks.apply, events.apply, _warn_of_own_namespace]
        bootstrap = settings.bootstrap
        reloading = Reloading(
            load=lambda: claims.claim_mounts(settings.load()),
            refresh=partial(bootstrap.refresh, daemon.look) if bootstrap else None,
            appliers=appliers,
            apply_services=daemon.apply,
            hooks=hooks,
            threads=threads,
            notifier=notifier,
        )
        app = make_app(
            daemon, Exposition(registry, daemon.board, meters), guard, webhooks, audit, events, reloading,
            attended=attended, whole_body=whole_body,
        )  # fmt: skip
        parts = _Parts(
            settings=settings, daemon=daemon, app=app, audit=audit, registry=registry, threads=threads,
            notifier=notifier, reloading=reloading, appliers=appliers, hangups=hangups,
        )  # fmt: skip
        main = _once(daemon) if settings.once else _run(parts)
        # Not when it starts over: whom a service manager takes for stopping, it kills in the end.
        stopping = partial(notifier.send, "STOPPING=1")
        try:
            code = asyncio.run(until_signalled(main, on_end=stopping, ended=1 if settings.once else 0))
        except* _StartOver:
            hangups.block()
            code = START_OVER
        if code != START_OVER:
            ignore_signals()
        if not threads.close(GRACE_SECONDS) and code != START_OVER:
            _leave(code)
    return code


class _StartOver(Exception):  # noqa: N818 - nothing is wrong
    """The first configuration wants the daemon to answer elsewhere."""


@frozen(kw_only=True)
class _Parts:
    """What runs on the event loop."""

    settings: Settings
    daemon: Daemon
    app: web.Application
    audit: Audit
    registry: CollectorRegistry
    threads: Threads
    notifier: Notifier
    reloading: Reloading
    appliers: list[Applier]
    hangups: Hangups


async def _run(parts: _Parts) -> int:
    try:
        return await _answer_and_work(parts)
    except ListenError:
        # The services of this host need their files more than its API.
        await parts.daemon.restore(RESTORE_SECONDS)
        raise


async def _answer_and_work(parts: _Parts) -> int:
    settings, daemon, notifier = parts.settings, parts.daemon, parts.notifier
    api, unix_socket = settings.config.api, settings.unix_socket
    _listen_to_hangups(parts)
    async with listening(parts.app, settings.address, unix_socket, api=api) as listener:
        parts.appliers.append(listener.apply)
        parts.registry.register(ListenerCollector(listener))
        log.info("answering on %s%s", listener, f" and {unix_socket}" if unix_socket else "")
        async with asyncio.TaskGroup() as group:
            group.create_task(notifier.watchdog())
            group.create_task(parts.audit.run())
            await daemon.restore(RESTORE_SECONDS)
            notifier.ready(len(daemon.board.services))
            group.create_task(parts.reloading.run())
            group.create_task(_start_over_if_elsewhere(parts))
            if settings.file_watch:
                group.create_task(settings.file_watch.run(parts.threads, parts.reloading.ask))
            await daemon.run()
    return 0


def _listen_to_hangups(parts: _Parts) -> None:
    """Reload on SIGHUP, and when a pass has brought another configuration."""
    loop = asyncio.get_running_loop()
    parts.hangups.hand_on(parts.reloading.ask)

    def adopt() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the next start adopts it
            loop.call_soon_threadsafe(parts.reloading.adopt)

    if parts.settings.bootstrap:
        parts.settings.bootstrap.on_taken = adopt


async def _start_over_if_elsewhere(parts: _Parts) -> None:
    """Start over if the daemon had to start without a configuration, and the first one has another API.

    Otherwise such a change waits for the next start; but here nobody would know that it does.
    """
    settings, first = parts.settings, asyncio.get_running_loop().create_future()
    empty = settings.config
    if settings.bootstrap is None or empty is not settings.bootstrap.empty:
        return

    def note(config: Config) -> None:
        if not first.done() and config is not empty:
            first.set_result(config)

    parts.appliers.append(note)
    config: Config = await first
    if (settings.address_of(config), TlsFiles.of(config.api)) != (settings.address, None):
        log.info("the first configuration has another address to answer on, or TLS: starting over")
        raise _StartOver


async def _once(daemon: Daemon) -> int:
    await daemon.restore()
    await daemon.once()
    for status in daemon.board:
        if status.state not in {State.OK, State.FREEZE}:
            log.error("%s: %s %s", status.service, status.state.value, status.info)
    return 0 if daemon.board.well else 1


@contextlib.contextmanager
def _claims(settings: Settings) -> Iterator[Claims]:
    """Hold what only one daemon may work in."""
    with Claims() as claims:
        claims.claim_state(settings.state_dir)
        claims.claim_mounts(settings.bootstrap.empty if settings.bootstrap else settings.config)
        yield claims


def _greet(settings: Settings, hooks: Hooks) -> None:
    log.info("plugins: %s", ", ".join(hooks.names))
    services = settings.config.services
    if not services:
        log.warning("the config has no service for this host; see machine, and -h for other host names")
    _warn_of_own_namespace(settings.config)
    if any(service.source.fetch_user == "nobody" for service in services):
        log.warning(
            'fetching as "nobody", which other programs use, too; with an account gitopper-fetch, as'
            " examples/gitopper.sysusers.conf makes it, what fetches is kept apart from them as well"
        )


def _warn_of_own_namespace(config: Config) -> None:
    if any(service.publish == "bind" for service in config.services) and _in_own_namespace():
        log.warning(
            "this process has a mount namespace of its own, so its bind mounts reach no service: its unit"
            " must not use PrivateTmp=, ProtectSystem= and the like; examples/gitopperd.service tells all"
        )


def _in_own_namespace() -> bool:
    """Tell whether our mounts are hidden from PID 1; False where we may not look."""
    try:
        ours, theirs = (os.stat(f"/proc/{process}/ns/mnt") for process in ("self", "1"))  # noqa: PTH116
    except OSError:
        return False
    return ours.st_ino != theirs.st_ino


def _leave(code: int) -> None:
    """End although a thread still runs: it waits for a network or a service manager, and holds nothing."""
    log.info("leaving what still runs; it is repeated at the next start")
    sys.stderr.flush()
    os._exit(code)
