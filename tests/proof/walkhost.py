"""A host for the walk: the real reconciler, state store and plugins in a directory, and a witness of all.

Only the clock is not real. A crash is an exception that nobody catches, out of any hook call or any write
to the state; what comes after it is the next process, on the same directories.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from types import ModuleType
from typing import Any

from gitopper_plugins import check, command, health, rewind, symlink
from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import (
    Attempt,
    Check,
    Credentials,
    Deployed,
    Health,
    HealthWatch,
    Hold,
    HoldRequest,
    Hooks,
    MountVerb,
    Reconciler,
    Service,
    Source,
    SourceError,
    SourceHealth,
    StateStore,
    Store,
    Watch,
    hookimpl,
)
from tests.proof.walkgit import EXECUTABLE, LINK, PLAIN, File, Upstream
from tests.proof.walkvalues import ILL, UNFIT, Setup

__all__ = ["Crash", "Host", "read"]

PLUGINS: tuple[ModuleType, ...] = (symlink, command, check, health, rewind)
TAKE = 'test ! -e "$0/refused" && cd -P "$1" && echo "${PWD##*/}" >"$0/taken-$GITOPPER_SERVICE"'
LOOK = '! grep -rqx "$0" "$GITOPPER_RELEASE"'


class Crash(KeyboardInterrupt):
    """The process is gone; no plugin answers for what comes from outside."""


class Steps:
    """Every hook call and every write: before it, and after it, something may be done."""

    def __init__(self) -> None:
        self.count = 0
        self.at: dict[int, Callable[[str], None]] = {}
        self.witness: Callable[[str], None] = lambda step: None
        self.log: list[str] = []
        self.owed: set[str] = set()
        """Services that see something which they were not reloaded for."""

    def begin(self, at: int | None = None, action: Callable[[str], None] | None = None) -> None:
        """Count anew; at the step of that number do something."""
        self.count = 0
        self.log = []
        self.at = {at: action} if at is not None and action else {}

    def reach(self, step: str) -> None:
        """A step is reached."""
        self.log.append(step)
        self.witness(step)
        action = self.at.pop(self.count, None)
        self.count += 1
        if action:
            action(step)

    def _around(self, name: str) -> Iterator[Any]:
        self.reach(f"before {name}")
        answer = yield
        self.reach(f"after {name}")
        return answer

    @hookimpl(wrapper=True)
    def gitopper_fetch(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("fetch"))

    @hookimpl(wrapper=True)
    def gitopper_checkout(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("checkout"))

    @hookimpl(wrapper=True)
    def gitopper_mount(self, request: Any) -> Iterator[Any]:
        if request.verb is MountVerb.OBSERVE:
            return (yield)
        name = request.verb.value
        self.reach(f"before {name}")
        if request.verb is MountVerb.PUBLISH:
            self.owed.add(request.service.name)
        answer = yield
        self.reach(f"after {name}")
        return answer

    @hookimpl(wrapper=True)
    def gitopper_reload(self, request: Any) -> Iterator[Any]:
        self.reach("before reload")
        answer = yield
        self.owed.discard(request.service.name)
        self.reach("after reload")
        return answer

    @hookimpl(wrapper=True)
    def gitopper_verify(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("verify"))

    @hookimpl(wrapper=True)
    def gitopper_check(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("check"))

    @hookimpl(wrapper=True)
    def gitopper_health(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("health"))

    @hookimpl(wrapper=True)
    def gitopper_drift(self, request: Any) -> Iterator[Any]:
        return (yield from self._around("drift"))


class Window:
    """A plugin that lets new content wait, while it is closed."""

    closed = False

    @hookimpl
    def gitopper_hold(self, request: HoldRequest) -> Hold | None:
        return Hold(reason="the window is closed") if self.closed else None


class _State(StateStore):
    """The real state store, with its writes among the steps."""

    steps: Steps | None = None

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        if self.steps:
            self.steps.reach("before write")
        with super()._write() as connection:
            yield connection
        if self.steps:
            self.steps.reach("after write")


class Host:
    """The directories of a host, and the process that works on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.upstream = Upstream.create(directory / "upstreams" / "fleet.git")
        self.steps = Steps()
        self.window = Window()
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic = 0.0
        self._start()

    def _start(self) -> None:
        self.git = DulwichPlugin()
        self.hooks = Hooks()
        for plugin in (self.git, *PLUGINS, self.window, self.steps):
            self.hooks.register(plugin)
        self.state = _State(self.directory / "state" / "state.db")
        # These crashes are of the process, never of the machine: what was written is there.
        self.state._connection.execute("PRAGMA synchronous = OFF")
        self.state.steps = self.steps
        self.reconciler = Reconciler(hooks=self.hooks, state=self.state, now=self.now)
        watch = HealthWatch(hooks=self.hooks, clock=lambda: self._monotonic, sleep=self._sleep)
        self.reconciler._deploying._watch = watch
        self.store: Store | None = None
        self.source = SourceHealth()
        self.polled: frozenset[str] = frozenset()

    def close(self) -> None:
        """End the process; nothing is tidied up but files that are open."""
        self.state.close()
        self.git.close()

    def restart(self) -> None:
        """End the process, and start another one."""
        self.close()
        self.steps.begin()
        self._start()

    def now(self) -> datetime:
        """Return a time that is later at each call, by next to nothing."""
        self.clock += timedelta(microseconds=1)
        return self.clock

    def _sleep(self, seconds: float) -> None:
        self._monotonic += seconds

    def service(self, name: str, setup: Setup) -> Service:
        """Return a service as the library knows it."""
        mount = self.directory / "mount"
        return Service(
            name=name, source=Source(upstream=self.upstream.url, branch=setup.branch),
            mappings=setup.mappings, mount=mount, publish="symlink", reload="command",
            command=("/bin/sh", "-c", TAKE, str(self.directory), str(mount / name)),
            keep=setup.keep, drift=setup.drift, no_rewind=setup.no_rewind,
            check=Check(commands=(_look(UNFIT),)) if setup.check else None,
            health=Health(command=_look(ILL), within_seconds=20.0, interval_seconds=10.0)
            if setup.health else None,
        )  # fmt: skip

    def poll(self, services: tuple[Service, ...], *, offline: bool = False) -> None:
        """Poll upstream for the services, or open what is there."""
        watch = Watch(
            upstream=self.upstream.url, credentials=Credentials(), services=services,
            stores=self.directory / "mount" / ".gitopper" / "stores",
        )  # fmt: skip
        try:
            self.store = self.reconciler.poll(watch, offline=offline)
        except SourceError as exc:
            self.source = self.source if offline else SourceHealth(polled=True, error=str(exc))
        else:
            if not offline:
                self.source, self.polled = SourceHealth(polled=True), watch.branches

    def source_of(self, branch: str) -> SourceHealth:
        """Return how the last poll went for a branch; one that it did not ask for is not polled yet."""
        return self.source if self.source.error or branch in self.polled else SourceHealth()

    def refuse(self, *, reloads: bool) -> None:
        """Let services refuse every reload, or take them."""
        marker = self.directory / "refused"
        marker.unlink(missing_ok=True) if reloads else marker.touch()

    def taken(self, name: str) -> str:
        """Return the release that a service took last."""
        return (self.directory / f"taken-{name}").read_text().strip()

    def shows(self, known: Deployed | Attempt) -> bool:
        """Tell whether the paths show just that release."""
        return self.hooks.observe(known.service).release == known.release

    def shown_by(self, local: Path) -> str | None:
        """Return the service whose link stands at a path of the host."""
        try:
            target = local.readlink()
        except OSError:
            return None
        parts = target.relative_to(self.directory / "mount").parts
        return parts[2] if parts[0] == ".gitopper" else parts[0]


def _look(word: bytes) -> tuple[str, ...]:
    return "/bin/sh", "-c", LOOK, word.decode()


def read(local: Path) -> Mapping[str, File] | None:
    """Return what is to be read at a path of the host, by path below it; None where there is nothing."""
    real = Path(os.path.realpath(local))
    if real.is_file():
        return {"": _file(real)}
    if not real.is_dir():
        return None
    found = {}
    for directory, names, files in os.walk(real):
        links = [name for name in names if (Path(directory) / name).is_symlink()]
        for name in (*files, *links):
            path = Path(directory) / name
            found[str(path.relative_to(real))] = _file(path)
    return found


def _file(path: Path) -> File:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return File(LINK, os.fsencode(path.readlink()))
    return File(EXECUTABLE if mode & 0o100 else PLAIN, path.read_bytes())
