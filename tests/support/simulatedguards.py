"""Simulated safeguards: verify, check, health, install, hold and drift, each judging by simple rules.

What they judge is what is really there: the files of a release, the commit, the release that a
service runs with. So a verdict is the same after a crash, in the next process and in the next pass.
"""

from __future__ import annotations

from pathlib import Path

from libgitopper import (
    Accepted,
    ChangeKind,
    CheckError,
    CheckRequest,
    Drift,
    DriftRequest,
    FileChange,
    HealthError,
    HealthRequest,
    Hold,
    HoldRequest,
    Installed,
    InstallRequest,
    Release,
    Service,
    VerifyError,
    VerifyRequest,
    hookimpl,
)
from tests.support.simulated import Script, SimulatedServices
from tests.support.simulatedgit import SimulatedStore

__all__ = ["ILL", "UNFIT", "SimulatedClock", "SimulatedGuards"]

UNFIT, ILL = "unfit", "ill"
"""Words in a file for which its release fails the check, or makes its service ill."""


class SimulatedClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class SimulatedGuards:
    """Judges only services that ask for it, as the builtin plugins do."""

    def __init__(self, script: Script, services: SimulatedServices) -> None:
        self._script = script
        self._services = services
        self.unsigned: set[str] = set()
        """Commits that nobody signed."""
        self.held: Hold | None = None
        """Why new content has to wait, while it has to."""
        self.installed: set[str] = set()
        """Packages that are there; they outlive the process."""
        self.keeps_patches = True
        """False: what differs is too large to be kept."""
        self.check_note = ""
        """What a check has to say of a release that is fit."""
        self.note = ""
        """What a probe has to say of a healthy service."""
        self.verified: list[VerifyRequest] = []
        self.probed: list[HealthRequest] = []
        self.asked: list[HoldRequest] = []
        self.compared: list[DriftRequest] = []

    @hookimpl
    def gitopper_hold(self, request: HoldRequest) -> Hold | None:
        self.asked.append(request)
        return self.held

    @hookimpl
    def gitopper_verify(self, request: VerifyRequest) -> Accepted | None:
        if not (request.service.verify or request.service.no_rewind):
            return None
        step = f"verify {request.service.name}"
        self._script.before(step)
        self.verified.append(request)
        if request.revision in self.unsigned:
            raise VerifyError(f"{request.revision} is not signed")
        self._script.after(step)
        return Accepted(judged=("verify", "no_rewind"))

    @hookimpl
    def gitopper_install(self, request: InstallRequest) -> Installed | None:
        package = request.service.package
        assert package
        step = f"install {request.service.name}"
        self._script.before(step)
        did = "" if package in self.installed else f"simulated install {package}"
        self.installed.add(package)
        self._script.after(step)
        return Installed(did=did)

    @hookimpl
    def gitopper_check(self, request: CheckRequest) -> Accepted | None:
        if request.service.check is None:
            return None
        step = f"check {request.service.name}"
        self._script.before(step)
        assert request.release.path.is_dir(), "a release that does not exist was checked"
        if UNFIT in _words(request.release.path):
            raise CheckError("conf:1: unexpected end of file")
        self._script.after(step)
        return Accepted(judged=("check",), note=self.check_note)

    @hookimpl
    def gitopper_health(self, request: HealthRequest) -> Accepted | None:
        service = request.service
        if service.health is None:
            return None
        step = f"health {service.name}"
        self._script.before(step)
        # What counts is what the service took, whatever the request says.
        taken = self._services.taken.get(service.name)
        self.probed.append(request)
        assert taken == request.release.id, "it was watched with a release that it did not take"
        if ILL in _words(request.release.path):
            raise HealthError("connection refused")
        self._script.after(step)
        return Accepted(judged=("health",), note=self.note)

    @hookimpl
    def gitopper_drift(self, request: DriftRequest) -> Drift | None:
        if not isinstance(request.store, SimulatedStore):
            return None
        self.compared.append(request)
        self._script.look(f"drift {request.service.name}")
        should = _should_be(request.store, request.release, request.service)
        there = _files(request.release.path)
        changes = tuple(
            FileChange(path=path, kind=_kind(should.get(path), there.get(path)))
            for path in sorted(should.keys() | there.keys())
            if should.get(path) != there.get(path)
        )
        lines = [f"{change.path}: {there.get(change.path)}" for change in changes]
        return Drift(changes=changes, patch="\n".join(lines).encode(), complete=self.keeps_patches)


def _should_be(store: SimulatedStore, release: Release, service: Service) -> dict[str, str]:
    found: dict[str, str] = {}
    for mapping in service.mappings:
        found |= store.files(release.content.revision, mapping)
    return found


def _files(release: Path) -> dict[str, str]:
    paths = (path for path in release.rglob("*") if path.is_file() and path.name != ".head")
    return {str(path.relative_to(release)): path.read_text() for path in paths}


def _words(release: Path) -> set[str]:
    return {word for text in _files(release).values() for word in text.split()}


def _kind(before: str | None, after: str | None) -> ChangeKind:
    if before is None:
        return ChangeKind.ADDED
    return ChangeKind.REMOVED if after is None else ChangeKind.EDITED
