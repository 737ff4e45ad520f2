"""Install a missing package with apt, on Debian, Ubuntu, and what descends from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gitopper_plugins._packages import Installer, Session
from libgitopper import Completed

__all__ = ["Apt", "plugin"]

STATUS = Path("/var/lib/dpkg/status")

# dpkg's own words. One whose triggers are still to run is there, and will not be installed again.
INSTALLED = frozenset({"installed", "triggers-awaited", "triggers-pending"})

# A settings file that somebody has changed stays as it is; nobody is here to be asked.
QUIETLY = (
    "-q", "-y",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "Dpkg::Use-Pty=0",  # dpkg stays in our process group, and ends with it
)  # fmt: skip
ADD_ONLY = ("--no-upgrade", "--no-install-recommends")

INTERRUPTED = "dpkg was interrupted"
UNFETCHED = re.compile(r"^E: (?:Failed to fetch|Unable to fetch)", re.MULTILINE)

_UPGRADED = re.compile(r"^Inst (\S+) \[", re.MULTILINE)
_REMOVED = re.compile(r"^Remv (\S+)", re.MULTILINE)
_PROVIDES = re.compile(r"^Provides: (.*)$", re.MULTILINE)
_STATUS = re.compile(r"^Status: \S+ \S+ (\S+)$", re.MULTILINE)


class Apt:
    """apt and dpkg."""

    name = "apt"
    by_hand = "apt-get install"
    settings: tuple[Path, ...] = (Path("/etc/apt"),)
    busy = re.compile(
        r"Could not get lock|Unable to acquire the dpkg frontend lock|lock was locked by another"
    )
    noise = re.compile(
        r"Reading |Building |Get:|Hit:|Ign:|Fetched |Need to get|After this operation|Selecting previously"
        r"|Preparing to unpack|Unpacking |Setting up |Processing triggers|\(Reading|\d+ upgraded"
        r"|\d+ not fully|The following|debconf: |Skipping |Errors were encountered|E: Sub-process |[NW]: "
    )
    refused: Mapping[str, str] = {".*-": "apt-get would remove what is called so without the - at its end"}

    def installed(self, package: str, session: Session) -> bool:
        """Ask dpkg; where it knows no package of that name, look for one that provides it."""
        name = _name(package)
        done = session.look("dpkg-query", "--show", "--showformat=${db:Status-Status}\\n", "--", name)
        if done.code not in (0, 1):
            session.check(done)
        return bool(INSTALLED & set(done.output.splitlines())) or _is_provided(name)

    def install(self, package: str, session: Session) -> None:
        """Install it, with new package lists only where those that are here won't do."""
        updated = ""
        if not _knows(package, session):
            updated = self._update(session)
            # Else apt-get would take the name for a pattern, and install whatever fits.
            if not _knows(package, session):
                raise session.error(f"apt knows no package of that name{updated}")
        done = self._add(package, session)
        if INTERRUPTED in done.output:
            # A crash, or the end of a deadline, came in between; nothing can be installed before this.
            session.change("dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
            done = self._add(package, session)
        if done.code and UNFETCHED.search(done.output) and not updated:
            self._update(session)
            done = self._add(package, session)
        session.check(done)

    def _add(self, package: str, session: Session) -> Completed:
        planned = session.look("apt-get", "-s", *QUIETLY, *ADD_ONLY, "install", "--", package)
        session.check(planned)
        plan = session.whole(planned)
        upgraded, removed = _UPGRADED.findall(plan), _REMOVED.findall(plan)
        session.refuse_changes(
            [f"{name} upgraded" for name in upgraded] + [f"{name} removed" for name in removed]
        )
        wait = f"DPkg::Lock::Timeout={session.left_seconds:.0f}"
        return session.change(
            "apt-get", *QUIETLY, *ADD_ONLY, "--no-remove", "-o", wait, "install", "--", package
        )

    def _update(self, session: Session) -> str:
        """Fetch the package lists; return what failed at that, as a remark, which is no end of it yet."""
        done = session.change("apt-get", "-q", "update")
        return (
            f", and its lists can't be updated: {session.words(done.output)}"
            if done.code
            else ", in new lists too"
        )


def _name(package: str) -> str:
    """Return the name in ``name/release``."""
    return package.partition("/")[0]


def _knows(package: str, session: Session) -> bool:
    """Tell whether apt's lists have a package of this very name, or one that provides it."""
    name = _name(package)
    done = session.look("apt-cache", "policy", "--", name)
    session.check(done)
    # It takes patterns, too, and tells which names fit. The host's own architecture is left out.
    return bool({f"{name}:", f"{name.partition(':')[0]}:"} & set(done.output.splitlines()))


def _is_provided(name: str) -> bool:
    """Tell whether an installed package provides `name`."""
    # Not asked of dpkg-query: it can't select by this, and tells more than is kept of a command's output.
    stanzas = STATUS.read_text(errors="replace").split("\n\n") if STATUS.is_file() else ()
    return any(name in stanza and name in _provided_by(stanza) for stanza in stanzas)


def _provided_by(stanza: str) -> set[str]:
    status, provides = _STATUS.search(stanza), _PROVIDES.search(stanza)
    if status is None or provides is None or status[1] not in INSTALLED:
        return set()
    # As ``mail-transport-agent, httpd (= 2.4), libz-dev:amd64``.
    return {part.split()[0].partition(":")[0] for part in provides[1].split(",") if part.strip()}


plugin = Installer(Apt())
