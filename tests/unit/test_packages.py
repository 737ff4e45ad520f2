"""What the package plugins do, with simulated package managers; test_packages_apt.py has the real apt."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from gitopper_plugins import _packages
from libgitopper import Hooks, Installed, InstallError, InstallRequest, PluginError
from libgitopper.testing.install import InstallContract
from tests.support.simulatedpackages import PLUGINS, PROGRAMS, SimulatedHost, host, manager, service

__all__ = ["host", "manager"]  # fixtures


class TestContract(InstallContract):
    """Each manager in turn, in simulation."""

    @pytest.fixture
    def plugin(self, host: SimulatedHost) -> object:
        return host.plugin

    @pytest.fixture
    def there(self, host: SimulatedHost) -> str:
        (host.here / "installed").write_text("old\n")
        return "old"

    @pytest.fixture
    def missing(self) -> str:
        return "easy"

    @pytest.fixture
    def impossible(self) -> str:
        return "nope"


def test_what_is_installed_stays_and_nothing_else_is_run_in_simulation(host: SimulatedHost) -> None:
    (host.here / "installed").write_text("easy\n")
    assert host.install("easy") == Installed(did="")
    assert len(host.asked) == 1


def test_any_user_is_told_what_is_installed_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.here / "installed").write_text("easy\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert host.install("easy") == Installed(did="")
    error = host.refused("late")
    assert not error.retryable
    assert f"by hand: {host.plugin._manager.by_hand} late" in str(error)
    assert "late" not in host.installed


def test_a_plan_of_which_only_the_end_is_known_is_not_carried_out_in_simulation(
    host: SimulatedHost,
) -> None:
    """What it upgrades stands at its beginning."""
    error = host.refused("many")
    assert not error.retryable
    assert str(error).endswith(f"which is left to you: {host.plugin._manager.by_hand} many")
    assert host.installed == []


def test_what_is_missing_is_installed_once_in_simulation(host: SimulatedHost) -> None:
    assert host.install("easy") == Installed(did=f"{host.plugin._manager.by_hand} easy")
    assert host.install("easy") == Installed(did="")
    assert host.installed == ["easy"]


def test_lists_are_renewed_only_where_they_will_not_do_in_simulation(host: SimulatedHost) -> None:
    host.install("easy")
    assert not (host.here / "new").exists()
    if host.manager == "pacman":  # its lists are never renewed alone
        assert "pacman -Syu" in str(host.refused("late"))
        assert not (host.here / "new").exists()
    else:
        assert host.install("late")
        assert (host.here / "new").exists()


def test_a_package_that_does_not_exist_is_told_of_and_may_come_to_exist_in_simulation(
    host: SimulatedHost,
) -> None:
    error = host.refused("nope")
    assert error.retryable
    assert "package nope can't be installed: " in str(error)
    assert host.installed == []


def test_nothing_that_is_installed_is_upgraded_for_it_in_simulation(host: SimulatedHost) -> None:
    error = host.refused("needy")
    assert not error.retryable
    assert "libneedy upgraded" in str(error)
    assert str(error).endswith(f": {host.plugin._manager.by_hand} needy")
    assert host.installed == []


def test_a_failure_has_the_package_managers_last_words_in_simulation(host: SimulatedHost) -> None:
    error = host.refused("bad")
    assert error.retryable
    assert "the script speaks" in str(error)
    assert "Setting up" not in str(error)
    assert error.service == "app"


def test_while_another_one_is_at_work_it_waits_in_simulation(host: SimulatedHost) -> None:
    timer = threading.Timer(0.4, (host.here / "free").touch)
    timer.start()
    assert host.install("busy")
    timer.join()
    assert host.installed == ["busy"]
    assert host.asked.count(host.asked[-2]) > 1  # the last one looked whether it is installed


def test_it_does_not_wait_for_ever_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "INSTALL_SECONDS", 0.5)
    started = time.monotonic()
    error = host.refused("busy", timeout_seconds=0.5)
    assert time.monotonic() - started < 10
    assert error.retryable
    assert "lock" in str(error)


def test_an_installation_that_hangs_is_ended_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "INSTALL_SECONDS", 0.6)
    started = time.monotonic()
    error = host.refused("slow", timeout_seconds=0.6)
    assert time.monotonic() - started < 15
    assert error.retryable
    assert "not done after" in str(error)


def test_an_installation_has_ten_minutes_or_the_timeout_where_that_is_longer() -> None:
    assert _packages.INSTALL_SECONDS == 600


def test_there_is_one_installation_at_a_time_in_simulation(host: SimulatedHost) -> None:
    threads = [threading.Thread(target=host.install, args=(name,)) for name in ("twice", "twice-more")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(host.installed) == ["twice", "twice-more"]
    assert not (host.here / "overlap").exists()


def test_two_services_of_one_package_install_it_once_in_simulation(host: SimulatedHost) -> None:
    answers: list[Installed | None] = []
    threads = [threading.Thread(target=lambda: answers.append(host.install("twice"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert host.installed == ["twice"]
    assert sorted(bool(answer and answer.did) for answer in answers) == [False, True]


def test_a_program_that_is_missing_is_named_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_packages, "SYSTEM_PATH", "")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "can't be started: No such file" in str(host.refused("easy"))


def test_no_name_is_taken_for_an_option_in_simulation(host: SimulatedHost) -> None:
    assert not host.refused("--purge").retryable
    assert host.asked == []


def test_programs_get_no_words_of_the_daemons_own_in_simulation(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("LANGUAGE", "de")
    first = next(iter(PROGRAMS[host.manager]))
    (host.here / first).write_text(f"#!/bin/sh\nenv > {host.here}/environment\nexit 1\n")
    with pytest.raises(InstallError):
        host.install("nope")
    told = dict(line.split("=", 1) for line in (host.here / "environment").read_text().splitlines())
    assert not {"NOTIFY_SOCKET", "LANGUAGE"} & set(told)
    assert told["LC_ALL"] == "C.UTF-8"
    assert told["DEBIAN_FRONTEND"] == "noninteractive"
    assert "/usr/sbin" in told["PATH"].split(":")


def test_only_the_plugin_of_the_hosts_own_manager_answers_in_simulation(host: SimulatedHost) -> None:
    (host.here / "installed").write_text("easy\n")
    request = InstallRequest(service=service("easy"))
    answers = {name: plugin.gitopper_install(request) for name, plugin in PLUGINS.items()}
    assert answers == {**dict.fromkeys(PLUGINS), host.manager: Installed()}


def test_a_host_with_another_manager_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os-release").write_text("ID=alpine\n")
    monkeypatch.setattr(_packages, "OS_RELEASE", (tmp_path / "os-release",))
    hooks = Hooks()
    for name, plugin in PLUGINS.items():
        hooks.register(plugin, name=name)
    with pytest.raises(PluginError, match="no plugin takes gitopper_install for package 'easy'"):
        hooks.install(InstallRequest(service=service("easy")))
