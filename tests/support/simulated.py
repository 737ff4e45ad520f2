"""Simulated plugins: mounts and services in memory, for tests of the library. Git is in `simulatedgit`.

They keep the contracts of the hooks, and nothing else is real but the directories of releases.
Every step that they take is logged in a `Script`, which can fail, stop or block any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from libgitopper import (
    Event,
    MountRequest,
    MountVerb,
    Published,
    PublishError,
    Release,
    Reloaded,
    ReloadRequest,
    Service,
    hookimpl,
)
from libgitopper import Mapping as Mapped

__all__ = [
    "BRANCH",
    "Crash",
    "Script",
    "SimulatedMounts",
    "SimulatedObserver",
    "SimulatedServices",
]

BRANCH = "main"


class Crash(KeyboardInterrupt):
    """The process is gone: what runs after this is the next process.

    No plugin answers for what comes from outside.
    """


class Script:
    """The log of every step that was taken, and what is to happen at which.

    A step is named ``verb service`` (`publish web`), each twice: ``before`` it has any effect,
    and ``after`` it. `on` attaches an action; an action that raises makes the step fail.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.crash_at: int | None = None
        """Crash at the step of this number, counted from 0, before and after counted apart."""
        self._count = 0
        self._actions: dict[tuple[str, str], Callable[[], object]] = {}

    def on(self, step: str, action: Callable[[], object] | BaseException, *, when: str = "before") -> None:
        """At `step` do `action`, or raise it, until `clear`."""

        def throw() -> None:
            assert isinstance(action, BaseException)
            raise action

        self._actions[step, when] = throw if isinstance(action, BaseException) else action

    def clear(self) -> None:
        """Let everything go well from now on, and start the log anew."""
        self._actions.clear()
        self.log.clear()
        self.crash_at, self._count = None, 0

    def before(self, step: str) -> None:
        """Log `step`, and do what is attached before it."""
        self.log.append(step)
        self._reach(step, "before")

    def after(self, step: str) -> None:
        """Do what is attached after `step`."""
        self._reach(step, "after")

    def look(self, step: str) -> None:
        """Do what is attached to a step that only looks: it is not logged, and no place for a crash."""
        if action := self._actions.get((step, "before")):
            action()

    def count(self, step: str) -> int:
        """Return how often `step` was taken."""
        return self.log.count(step)

    def _reach(self, step: str, when: str) -> None:
        if not step.startswith("observe"):
            if self._count == self.crash_at:
                raise Crash(f"{when} {step}")
            self._count += 1
        if action := self._actions.get((step, when)):
            action()


class SimulatedMounts:
    """Publishing: which release, and which path of it, stands at which path of the host."""

    def __init__(self, script: Script, publishers: Collection[str] = ("simulated", "other")) -> None:
        self._script = script
        self._publishers = publishers
        self.shown: dict[Path, tuple[str, str, str, str]] = {}
        """Path of the host to (publisher, service, release id, path in the repository)."""
        self.live: dict[Path, str] = {}
        self.in_the_way: set[Path] = set()
        """Paths where something of somebody else's stands."""
        self.foreseen: set[Path] = set()
        """Paths of which the publisher knows, when it is asked first, that nothing can be shown there."""

    def reboot(self) -> None:
        """Forget everything that is mounted."""
        self.shown.clear()

    @hookimpl
    def gitopper_mount(self, request: MountRequest) -> Published | None:
        service = request.service
        if service.publish not in self._publishers:
            return None
        step = f"{request.verb.value} {service.name}"
        self._script.before(step)
        changed = False
        if request.verb is MountVerb.PUBLISH:
            assert request.release is not None
            changed = self._publish(service, request.release)
        elif request.verb is MountVerb.WITHDRAW:
            changed = self._withdraw(service, keep_live=request.keep_live)
        elif request.verb is MountVerb.JUDGE:
            for mapping in service.mappings:
                if mapping.local in self.foreseen:
                    raise PublishError(f"{mapping.local}: nothing can be shown there")
        self._script.after(step)
        release = self._observed(service)
        shown = (self.shown.get(mapping.local) for mapping in service.mappings)
        partly = release is None and any(what and what[:2] == self._tag(service) for what in shown)
        return Published(release=release, partly=partly, changed=changed)

    def _publish(self, service: Service, release: Release) -> bool:
        assert release.path.is_dir(), "a release that does not exist was published"
        before = dict(self.shown)
        for mapping in service.mappings:
            self._refuse(service, mapping)
        for mapping in service.mappings:
            self.shown[mapping.local] = (service.publish, service.name, release.id, mapping.link)
            self._script.after(f"publish {service.name} {mapping.local}")
        self.live[service.live] = release.id
        return before != self.shown

    def _refuse(self, service: Service, mapping: Mapped) -> None:
        local = mapping.local
        if local in self.in_the_way:
            raise PublishError(f"{local}: something of somebody else's is in the way")
        if local in self.shown and self.shown[local][:2] != (service.publish, service.name):
            raise PublishError(f"{local}: shown by {self.shown[local][:2]}")
        own = {mapping.local for mapping in service.mappings}
        for other in self.shown.keys() - own:
            if other in local.parents or local in other.parents:
                raise PublishError(f"{local}: {other} is shown there")

    def _withdraw(self, service: Service, *, keep_live: bool) -> bool:
        mine = [m.local for m in service.mappings if self.shown.get(m.local, ())[:2] == self._tag(service)]
        for local in mine:
            del self.shown[local]
        if not keep_live:
            self.live.pop(service.live, None)
        return bool(mine)

    def _observed(self, service: Service) -> str | None:
        found = {
            self.shown[m.local][2]
            if m.local in self.shown
            and self.shown[m.local] == (*self._tag(service), self.shown[m.local][2], m.link)
            else None
            for m in service.mappings
        }
        return found.pop() if len(found) == 1 else None

    @staticmethod
    def _tag(service: Service) -> tuple[str, str]:
        return service.publish, service.name


class SimulatedServices:
    """Reloading: which release each service runs with."""

    def __init__(self, script: Script, mounts: SimulatedMounts) -> None:
        self._script = script
        self._mounts = mounts
        self.taken: dict[str, str | None] = {}
        self.note = ""
        self.idle = False
        self.requests: list[ReloadRequest] = []

    @hookimpl
    def gitopper_reload(self, request: ReloadRequest) -> Reloaded | None:
        service = request.service
        if service.reload != "simulated":
            return None
        step = f"reload {service.name}"
        self._script.before(step)
        self.requests.append(request)
        # What the service reads is what its paths show now, whatever the request says.
        self.taken[service.name] = self._mounts._observed(service)
        self._script.after(step)
        return Reloaded(did=f"simulated reload {service.name}", note=self.note, idle=self.idle)


class SimulatedObserver:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]
