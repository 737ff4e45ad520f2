"""What is of one package manager alone, and which one a host has; with simulated ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from gitopper_plugins import _packages, apt, dnf
from gitopper_plugins._packages import manager_here
from tests.support.simulatedpackages import SimulatedHost, host, manager

__all__ = ["host", "manager"]  # fixtures


@pytest.mark.parametrize(
    ("text", "manager"),
    [
        ("ID=debian\n", "apt"),
        ('NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n', "apt"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=fedora\n", "dnf"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\n', None),
        ("# nothing here\n\n", None),
    ],
)
def test_the_distribution_tells_the_package_manager(
    text: str, manager: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "os-release").write_text(text)
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "missing", tmp_path / "os-release"))
    assert manager_here() == manager


def test_a_host_without_os_release_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "missing",))
    assert manager_here() is None


@pytest.mark.parametrize(
    ("manager", "package", "words"),
    [("apt", "easy-", "would remove"), ("dnf", "@web-server", "groups")],
)
def test_names_that_mean_something_else_are_refused_in_simulation(
    host: SimulatedHost, package: str, words: str
) -> None:
    error = host.refused(package)
    assert words in str(error)
    assert not error.retryable
    assert host.asked == []


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("Downgrading:\n libfoo  noarch  0.9-1  t\n", "libfoo downgraded"),
        ("Removing dependent packages:\n old  noarch  1-1  @System\n", "old removed"),
        ("Installing:\n new  noarch  1-1  t\n     replacing  old.noarch 1-1\n", "old.noarch replaced"),
        (
            "Upgrading:\n a-very-long-name-of-a-package\n        noarch  2  t  5 k\n b  noarch 2 t 5 k\n",
            "a-very-long-name-of-a-package upgraded",
        ),
    ],
)
def test_every_change_of_a_transaction_of_dnf_is_refused(table: str, told: str) -> None:
    assert told in dnf._changes(f"Dependencies resolved.\n{table}\nTransaction Summary\n")


def test_a_transaction_of_dnf_that_only_adds_is_none() -> None:
    table = "Installing:\n a  noarch  1\nInstalling dependencies:\n b  noarch  1\n\nTransaction Summary\n"
    assert dnf._changes(table) == []


STATUS = """Package: exim4-daemon-light
Status: install ok installed
Provides: mail-transport-agent, exim (= 4.96)

Package: gone
Status: deinstall ok config-files
Provides: httpd
"""


@pytest.mark.parametrize("manager", ["apt"])
@pytest.mark.parametrize(
    ("package", "there"), [("mail-transport-agent", True), ("exim", True), ("httpd", False)]
)
def test_what_an_installed_package_provides_is_installed_in_simulation(
    host: SimulatedHost, package: str, there: bool
) -> None:
    apt.STATUS.write_text(STATUS)
    installed = host.install(package)
    assert installed is not None
    assert (installed.did == "") is there


@pytest.mark.parametrize("manager", ["pacman"])
def test_the_first_databases_are_fetched_in_simulation(host: SimulatedHost) -> None:
    (host.here / "core.db").unlink()
    assert host.install("late")
    assert any(command.startswith("pacman -Sy ") for command in host.asked)


@pytest.mark.parametrize("manager", ["apt"])
def test_no_password_of_a_repository_is_shown_in_simulation(host: SimulatedHost) -> None:
    text = "#!/bin/sh\necho 'E: Failed to fetch https://me:s3cr3t@deb.example.net/x 401'; exit 100\n"
    (host.here / "apt-get").write_text(text)
    error = host.refused("easy")
    assert "https://deb.example.net/x" in str(error)
    assert "s3cr3t" not in str(error)


def first_of(commands: Sequence[str], word: str) -> str:
    return next(command for command in commands if word in command)


@pytest.mark.parametrize("manager", ["apt"])
def test_nobody_is_asked_by_apt_in_simulation(host: SimulatedHost) -> None:
    host.install("easy")
    command = first_of(host.asked, "--no-remove")
    for word in (
        "-y",
        "--no-upgrade",
        "--force-confdef",
        "--force-confold",
        "DPkg::Lock::Timeout=",
        "-- easy",
    ):
        assert word in command
