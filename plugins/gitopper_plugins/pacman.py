"""Install a missing package with pacman, on Arch Linux, and what descends from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gitopper_plugins._packages import Installer, Session

__all__ = ["Pacman", "plugin"]

DATABASES = Path("/var/lib/pacman/sync")
QUIETLY = ("--noconfirm", "--noprogressbar")

STALE = re.compile(r"target not found|failed retrieving file")


class Pacman:
    """pacman."""

    name = "pacman"
    by_hand = "pacman -S"
    settings: tuple[Path, ...] = (Path("/etc/pacman.conf"), Path("/etc/pacman.d"))
    busy = re.compile(r"unable to lock database")
    noise = re.compile(
        r"resolving dependencies|looking for conflicting|Packages \(|Total |checking |loading package"
        r"|:: (?:Proceed|Retrieving|Processing)|installing |.* downloading\.\.\.|Errors occurred"
    )
    refused: Mapping[str, str] = {}

    def installed(self, package: str, session: Session) -> bool:
        """Ask for what is not satisfied; what is provided counts."""
        done = session.look("pacman", "--deptest", "--", _name(package))
        if done.code not in (0, 127):
            session.check(done)
        return done.code == 0

    def install(self, package: str, session: Session) -> None:
        """Install it, from the databases as they are.

        New databases without an upgrade of everything would be what Arch calls a partial upgrade, here and
        with the next ``pacman -S`` of anybody. So they are fetched only where there are none at all.
        """
        if not any(DATABASES.glob("*.db")):
            session.check(session.change("pacman", "-Sy", *QUIETLY))
        install = ("pacman", "-S", "--needed", *QUIETLY)
        planned = session.look(*install, "--print", "--print-format", "%n", "--", package)
        if not planned.code:
            names = [line for line in session.whole(planned).splitlines() if line and " " not in line]
            session.refuse_changes(_installed_of(names, session))
            planned = session.change(*install, "--", package)
        if planned.code and STALE.search(planned.output):
            hint = "the databases may be old, and to renew them is left to you: pacman -Syu"
            raise session.error(f"{session.words(planned.output)}; {hint}")
        session.check(planned)


def _name(package: str) -> str:
    """Return the name in ``repository/name``."""
    return package.rpartition("/")[2]


def _installed_of(names: list[str], session: Session) -> list[str]:
    """Return those of `names` that are installed: they would be upgraded."""
    told = session.whole(session.look("pacman", "-Qq", "--", *names)).splitlines() if names else ()
    return [f"{name} upgraded" for name in names if name in told]


plugin = Installer(Pacman())
