"""What the package managers have in common: who is asked on this host, one installation at a time, limits.

An installation *adds* packages. It upgrades, downgrades and removes none, be it for a dependency: that
would restart services which nobody wanted to touch. A package that can't be had otherwise is left to the
operator.
"""

from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gitopper_plugins import _unpublished
from gitopper_plugins._programs import DAEMONS_OWN, last_words
from libgitopper import (
    OUTPUT_LIMIT_BYTES,
    CommandError,
    Completed,
    Installed,
    InstallError,
    InstallRequest,
    Service,
    hookimpl,
    run,
)

__all__ = ["Installer", "Manager", "Session", "manager_here"]

OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))

MANAGERS = {
    "debian": "apt", "ubuntu": "apt",
    "fedora": "dnf", "rhel": "dnf", "centos": "dnf",
    "arch": "pacman",
}  # fmt: skip
"""Package manager by the ID of a distribution; others name one of these in ID_LIKE."""

INSTALL_SECONDS = 600.0
"""An installation gets this long, or the service's timeout where that is longer."""
BUSY_SECONDS = 1.0

# Read by every package manager that fetches something; no package brings them.
NAME_RESOLUTION = (Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/nsswitch.conf"))

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    # Nothing that is installed changes, so there is nothing that would need a restart.
    "NEEDRESTART_SUSPEND": "1",
}
# It would come before LC_ALL in the choice of messages.
UNWANTED = (*DAEMONS_OWN, "LANGUAGE")

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


def manager_here() -> str | None:
    """Return the name of this host's package manager by os-release(5); None for one that is not known."""
    found = next((path for path in OS_RELEASE if path.is_file()), None)
    if found is None:
        return None
    lines = (line.partition("=") for line in found.read_text(errors="replace").splitlines())
    told = {key: value.strip().strip("\"'") for key, _, value in lines}
    # The closest relative comes first.
    names = [told.get("ID", ""), *told.get("ID_LIKE", "").split()]
    return next((MANAGERS[name] for name in names if name in MANAGERS), None)


def _is_sandboxed() -> bool:
    """Tell whether what this process starts can't have more rights than it has, as in our unit."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return any(line.split() == ["NoNewPrivs:", "1"] for line in lines)


class Manager(Protocol):
    """One package manager: how to ask it, and how to have a package installed."""

    name: str
    by_hand: str
    """What an operator types before the name of a package."""
    settings: tuple[Path, ...]
    """Where its own settings are; what is published there is seen by it."""
    busy: re.Pattern[str]
    """What it says when another one is at work."""
    noise: re.Pattern[str]
    """How lines of its output begin that tell nothing about a failure."""
    refused: Mapping[str, str]
    """Names that can't be asked for: a regular expression for the whole of each, and why."""

    def installed(self, package: str, session: Session) -> bool:
        """Tell whether `package`, or one that provides it, is installed. Any user may ask."""

    def install(self, package: str, session: Session) -> None:
        """Install it.

        Raises:
            InstallError: it can't be installed.
        """


class Session:
    """The commands of a package manager for one package, and one deadline for all of them.

    Each method raises `InstallError` where a command can't be started, or is not done in time.
    """

    def __init__(self, manager: Manager, service: Service, seconds: float) -> None:
        self.package = service.package or ""
        self._manager = manager
        self._service = service
        self._until = time.monotonic() + seconds

    @property
    def left_seconds(self) -> float:
        """How long until the deadline; at least 0.1."""
        return max(self._until - time.monotonic(), 0.1)

    def look(self, *argv: str) -> Completed:
        """Run a command that changes nothing."""
        return self._run(argv)

    def change(self, *argv: str) -> Completed:
        """Run a command where nothing is published; while another one is at work, again and again.

        Raises:
            InstallError: this process may not have such a place.
        """
        keep = (*self._manager.settings, *NAME_RESOLUTION)
        # Releases that are shown by mounts need none: the mounts are gone.
        scratch = (self._service.releases.parent,) if self._service.publish == "symlink" else ()
        command = _unpublished.command(argv, keep=keep, scratch=scratch)
        while True:
            done = self._run(argv, command)
            if done.code == _unpublished.REFUSED and _unpublished.REFUSED_WORDS in done.output:
                raise self.error(last_words(done.output), retryable=False)
            busy = done.code and self._manager.busy.search(done.output)
            if not busy or time.monotonic() + BUSY_SECONDS >= self._until:
                return done
            time.sleep(BUSY_SECONDS)

    def check(self, done: Completed) -> None:
        """Make sure that a command ended well.

        Raises:
            InstallError: it did not; holds its last words.
        """
        if done.code:
            raise self.error(self.words(done.output) or f"exit code {done.code}")

    def whole(self, done: Completed) -> str:
        """Return what a command printed, where that is all of it.

        Raises:
            InstallError: it may be the end only; what would be changed may stand before that.
        """
        if len(done.output.encode()) >= OUTPUT_LIMIT_BYTES:
            raise self.error(
                "it would bring more packages than are looked through here, which is left to you:"
                f" {self._manager.by_hand} {self.package}",
                retryable=False,
            )
        return done.output

    def refuse_changes(self, changes: Sequence[str]) -> None:
        """Make sure that nothing that is installed would be changed.

        Raises:
            InstallError: `changes` are not empty.
        """
        if changes:
            names = ", ".join(changes)
            raise self.error(
                f"it would change what is installed ({names}), which is left to you:"
                f" {self._manager.by_hand} {self.package}",
                retryable=False,
            )

    def error(self, why: str, *, retryable: bool = True) -> InstallError:
        """Return the error for an operator, in one line."""
        text = f"package {self.package} can't be installed: {why}"
        return InstallError(text, service=self._service.name, retryable=retryable)

    def words(self, output: str) -> str:
        """Return the last lines of `output` that tell of a failure, as one."""
        lines = (line.strip() for line in output.splitlines())
        telling = (line for line in lines if not self._manager.noise.match(line))
        return last_words(_USERINFO.sub("", "\n".join(telling)))

    def _run(self, argv: Sequence[str], command: Sequence[str] = ()) -> Completed:
        """Run `argv`, by way of `command` where that is given."""
        inherited = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        # dpkg wants all of it, and a daemon may be started with less.
        path = f"{inherited.get('PATH', '')}:{SYSTEM_PATH}".lstrip(":")
        env = {**inherited, **ENVIRONMENT, "PATH": path}
        command = command or argv
        try:
            return run(command, timeout_seconds=self.left_seconds, env=env)
        except CommandError as exc:
            reason = str(exc).removeprefix(shlex.join(command))
            words = self.words(exc.output)
            said = f"; it said last: {words}" if words else ""
            raise self.error(f"{shlex.join(argv)}{reason}{said}", retryable=exc.retryable) from exc


class Installer:
    """The plugin for one package manager."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._one_at_a_time = threading.Lock()

    @hookimpl
    def gitopper_install(self, request: InstallRequest) -> Installed | None:
        """Have the package of a service installed on hosts that have this package manager.

        Raises:
            InstallError: it can't be installed; not retryable where an operator has to act.
        """
        if manager_here() != self._manager.name or not request.service.package:
            return None
        session = Session(self._manager, request.service, request.service.timeout_seconds)
        self._check_name(session)
        if self._manager.installed(session.package, session):
            return Installed()
        self._check_rights(session)
        with self._one_at_a_time:
            return self._install(request.service)

    def _check_name(self, session: Session) -> None:
        package = session.package
        refused = {"-.*": "it would be taken for an option", **self._manager.refused}
        for names, why in refused.items():
            if re.fullmatch(names, package):
                raise session.error(f'{why}; change "package"', retryable=False)

    def _check_rights(self, session: Session) -> None:
        if os.geteuid() != 0:
            raise session.error(
                "it is missing, and only root may install it; do it by hand:"
                f" {self._manager.by_hand} {session.package}",
                retryable=False,
            )
        if _is_sandboxed():
            raise session.error(
                "it is missing, and scripts of packages fail in the daemon's sandbox (NoNewPrivileges=):"
                f" give its unit the drop-in packages.conf, or {self._manager.by_hand} {session.package}",
                retryable=False,
            )

    def _install(self, service: Service) -> Installed:
        # The clock starts now: waiting for the installation of another service is not counted.
        seconds = max(INSTALL_SECONDS, service.timeout_seconds)
        session = Session(self._manager, service, seconds)
        package = session.package
        if self._manager.installed(package, session):
            return Installed()
        done = Installed(did=f"{self._manager.by_hand} {package}")
        try:
            self._manager.install(package, session)
        except InstallError:
            # As with apt, when another package is in a bad state, and this one is not.
            if self._manager.installed(package, Session(self._manager, service, service.timeout_seconds)):
                return done
            raise
        if not self._manager.installed(package, session):
            raise session.error(f"{done.did} ended well, and it still is not installed")
        return done
