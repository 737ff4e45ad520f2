"""A host with a simulated package manager: apt, dnf or pacman."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gitopper_plugins import _packages, _unpublished, apt, dnf, pacman
from gitopper_plugins._packages import Installer
from libgitopper import Installed, InstallError, InstallRequest, Service
from libgitopper.testing.reload import service_for_tests

__all__ = ["PLUGINS", "PROGRAMS", "SimulatedHost", "host", "manager", "service"]

PLUGINS = {"apt": apt.plugin, "dnf": dnf.plugin, "pacman": pacman.plugin}
DISTRIBUTIONS = {"apt": "debian", "dnf": "fedora", "pacman": "arch"}

# Each simulated program notes what it was asked in `asked`, and keeps what is installed in `installed`.
# What happens depends on the name of the package, which comes last:
#   easy      is installed              nope     does not exist, however new the lists are
#   late      is in new lists only      needy    would upgrade a library
#   bad       fails to be installed     slow     takes a minute
#   many      would upgrade a library, and bring thousands of packages
#   busy      waits for `free` to exist twice    takes a moment, and notes when another one is at work, too
COMMON = r"""#!/bin/sh
here={here}
printf '%s\n' "${{0##*/}} $*" >> $here/asked
for last; do :; done
there() {{ grep -qx -- "$last" $here/installed; }}
add() {{
    case $last in
    slow) sleep 60 ;;
    twice*) mkdir $here/at-work || touch $here/overlap; sleep 0.2; rmdir $here/at-work ;;
    esac
    echo "$last" >> $here/installed
}}
"""

APT = {
    "dpkg-query": r"""
there && {{ echo installed; exit 0; }}
echo "dpkg-query: no packages found matching $last"; exit 1
""",
    "apt-cache": r"""
case $last in nope) exit 0 ;; late) [ -e $here/new ] || exit 0 ;; esac
printf '%s:\n  Installed: (none)\n  Candidate: 1\n' "$last"
""",
    "apt-get": r"""
case "$*" in *update) touch $here/new; exit 0 ;; esac
case "$*" in *-s\ *)
    echo 'Reading package lists...'
    case $last in needy|many) echo 'Inst libneedy [1.0] (2.0 localhost [all])' ;; esac
    [ $last = many ] && seq -f 'Inst new%.0f (1 localhost [all])' 3000
    echo "Inst $last (1 localhost [all])"; exit 0 ;;
esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1'; exit 100; }}
[ $last = bad ] && {{
    printf 'Setting up bad (1) ...\nthe script speaks\ndpkg: error processing package bad (--configure):\n'
    printf 'E: Sub-process /usr/bin/dpkg returned an error code (1)\n'; exit 100; }}
add
""",
}
DNF = {
    "rpm": r"""
there && {{ echo "$last-1-1.noarch"; exit 0; }}
echo "package $last is not installed"; exit 1
""",
    "dnf": r"""
unknown() {{ echo "No match for argument: $last"; echo "Error: Unable to find a match: $last"; exit 1; }}
case "$*" in *--refresh*) touch $here/new ;; esac
case $last in nope) unknown ;; late) [ -e $here/new ] || unknown ;; esac
printf 'Dependencies resolved.\n=====\n Package  Arch\n=====\nInstalling:\n %s  noarch  1-1  t\n' $last
case $last in needy|many) printf 'Upgrading:\n libneedy  noarch  2.0-1  t\n' ;; esac
[ $last = many ] && {{ echo 'Installing dependencies:'; seq -f ' new%.0f  noarch  1-1  updates' 3000; }}
printf '\nTransaction Summary\n'
case "$*" in *--downloadonly*) echo 'Complete!'; exit 0 ;; esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'Failed to obtain rpm transaction lock. Another transaction is in progress.'; exit 1; }}
[ $last = bad ] && {{ printf 'Running transaction\nthe script speaks\nError: it failed\n'; exit 1; }}
add
""",
}
PACMAN = {
    "pacman": r"""
case "$1" in
--deptest) there && exit 0; echo "$last"; exit 127 ;;
-Qq) shift 2; for name; do [ $name = libneedy ] && echo libneedy; done
    echo "error: package '$last' was not found"; exit 1 ;;
esac
case "$*" in *-Sy\ *) touch $here/new; exit 0 ;; esac
unknown() {{ echo "error: target not found: $last"; exit 1; }}
case $last in nope) unknown ;; late) [ -e $here/new ] || unknown ;; esac
case "$*" in *--print\ *) case $last in needy|many) echo libneedy ;; esac
    [ $last = many ] && seq -f 'a-package-that-is-new-%.0f' 3000
    echo $last; exit 0 ;; esac
[ $last = busy ] && [ ! -e $here/free ] && {{
    echo 'error: failed to init transaction (unable to lock database)'; exit 1; }}
[ $last = bad ] && {{
    printf 'checking keyring...\nthe script speaks\nerror: failed to commit transaction\n'; exit 1; }}
add
""",
}
PROGRAMS = {"apt": APT, "dnf": DNF, "pacman": PACMAN}


class SimulatedHost:
    """A host with one simulated package manager, on which this process is root."""

    def __init__(self, manager: str, here: Path) -> None:
        self.manager = manager
        self.here = here
        self.plugin: Installer = PLUGINS[manager]
        for name, text in PROGRAMS[manager].items():
            program = here / name
            program.write_text((COMMON + text).format(here=here))
            program.chmod(0o755)
        (here / "installed").touch()

    def install(self, package: str, **fields: Any) -> Installed | None:
        return self.plugin.gitopper_install(InstallRequest(service=service(package, **fields)))

    def refused(self, package: str, **fields: Any) -> InstallError:
        with pytest.raises(InstallError) as caught:
            self.install(package, **fields)
        assert "\n" not in str(caught.value)
        assert package in str(caught.value)
        return caught.value

    @property
    def asked(self) -> list[str]:
        """Every command so far, in order."""
        path = self.here / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def installed(self) -> list[str]:
        return (self.here / "installed").read_text().split()


def service(package: str, **fields: Any) -> Service:
    """A service that wants `package`."""
    return evolve(service_for_tests("app", package=package), **fields)


@pytest.fixture(params=PROGRAMS)
def manager(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    return str(request.param)


@pytest.fixture
def host(manager: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedHost:
    """A host of its distribution, on which the programs are the simulated ones."""
    release = tmp_path / "os-release"
    release.write_text(f"ID={DISTRIBUTIONS[manager]}\n")
    monkeypatch.setattr(_packages, "OS_RELEASE", (release,))
    monkeypatch.setattr(_packages, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(apt, "STATUS", tmp_path / "no-status")
    monkeypatch.setattr(pacman, "DATABASES", tmp_path)
    (tmp_path / "core.db").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    # Who is not root may have no namespaces; test_packages_unpublished.py has those.
    monkeypatch.setattr(_unpublished, "command", lambda argv, **_: tuple(argv))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return SimulatedHost(manager, tmp_path)
