"""Install a missing package with dnf, on Fedora, RHEL, CentOS, and what descends from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gitopper_plugins._packages import Installer, Session
from libgitopper import Completed

__all__ = ["Dnf", "plugin"]

ADD_ONLY = ("--setopt=install_weak_deps=False",)

# What new metadata may help against: a name that is not in it, a file that the mirrors have no more.
STALE = re.compile(
    r"Unable to find a match|No match for argument|Error downloading|Cannot download|Status code: 404"
)

# The heading above what would be changed, and the line below a package that takes the place of another.
_HEADING = re.compile(r"(Upgrad|Downgrad|Remov|Reinstall|Switch)ing[^:]*:")
_REPLACING = re.compile(r"\s+replacing\s+(\S+)")


class Dnf:
    """dnf, version 4 or 5, and rpm."""

    name = "dnf"
    by_hand = "dnf install"
    settings: tuple[Path, ...] = tuple(
        Path("/etc", name) for name in ("dnf", "yum.repos.d", "pki/rpm-gpg", "yum")
    )
    # Version 4 waits by itself.
    busy = re.compile(r"Failed to obtain .*lock|Another app is currently holding|transaction lock")
    noise = re.compile(
        r"Last metadata|Dependencies resolved|Downloading Packages|Running |Transaction |Complete!"
        r"|Preparing |Installing |Verifying |Total |Installed size|=+$|Unable to detect release version"
        r"|Install +\d|DNF will only|.* [kMG]?B/s |\(try to add"
    )
    # There is no telling whether one is installed.
    refused: Mapping[str, str] = {"@.*": "groups and modules are not supported, name a package"}

    def installed(self, package: str, session: Session) -> bool:
        """Ask rpm by name (with an architecture, if there is one), then by what is provided."""
        named = session.look("rpm", "--query", "--", package)
        return not named.code or not session.look("rpm", "--query", "--whatprovides", "--", package).code

    def install(self, package: str, session: Session) -> None:
        """Install it, with new metadata only where that which is here won't do."""
        done = self._add(package, session)
        if done.code and STALE.search(done.output):
            done = self._add(package, session, "--refresh")
        session.check(done)

    def _add(self, package: str, session: Session, *options: str) -> Completed:
        # To download is to decide, too. (With --assumeno it could not ask for the keys of a repository.)
        install = ("dnf", "-y", *options, *ADD_ONLY, "install")
        planned = session.change(*install, "--downloadonly", package)
        if planned.code:
            return planned
        session.refuse_changes(_changes(session.whole(planned)))
        return session.change(*install, package)


def _changes(table: str) -> list[str]:
    """Return what the table of a transaction says of packages that are installed."""
    found: list[str] = []
    what = ""
    for line in table.splitlines():
        heading = _HEADING.fullmatch(line)
        if replacing := _REPLACING.match(line):
            found.append(f"{replacing[1]} replaced")
        elif heading or not line.startswith(" "):
            what = f"{heading[1].lower()}ed" if heading else ""
        elif what:
            found.append(f"{line.split()[0]} {what}")
    return found


plugin = Installer(Dnf())
