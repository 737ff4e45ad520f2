"""Both builtin reload plugins keep the contract that third parties can run on theirs."""

from __future__ import annotations

import sys

import pytest

from gitopper_plugins import command
from libgitopper import Service
from libgitopper.testing.reload import ReloadContract, service_for_tests
from tests.support.fixtures import systemd_box
from tests.support.reloading import SystemdInBox
from tests.support.systemdbox import SystemdBox

__all__ = ["systemd_box"]

RUNS = "[Service]\nExecStart=/bin/sleep inf\n"
TAKES = f"{RUNS}ExecReload=/bin/true\n"
REFUSES = f"{RUNS}ExecReload=/bin/sh -c 'echo unknown directive on line 3; exit 1'\n"
SLOW = f"{RUNS}ExecReload=/bin/sleep 60\n"


class TestCommand(ReloadContract):
    words = "unknown directive on line 3"

    @pytest.fixture
    def plugin(self) -> object:
        return command

    @pytest.fixture
    def taken(self) -> Service:
        return self.service("pass")

    @pytest.fixture
    def refused(self) -> Service:
        return self.service(f"import sys; sys.exit({self.words!r})")

    @pytest.fixture
    def slow(self) -> Service:
        return self.service("import time; time.sleep(60)", timeout_seconds=0.3)

    @staticmethod
    def service(code: str, timeout_seconds: float = 20.0) -> Service:
        return service_for_tests(
            "app", reload="command", command=(sys.executable, "-c", code), timeout_seconds=timeout_seconds
        )


@pytest.mark.systemd
class TestSystemd(ReloadContract):
    words = "unknown directive on line 3"

    @pytest.fixture
    def plugin(self, systemd_box: SystemdBox) -> object:
        return SystemdInBox(systemd_box)

    @pytest.fixture
    def taken(self, systemd_box: SystemdBox) -> Service:
        systemd_box.add_unit("takes.service", TAKES, start=True)
        return service_for_tests("takes")

    @pytest.fixture
    def ended(self, systemd_box: SystemdBox) -> Service:
        systemd_box.add_unit("ended.service", TAKES)
        return service_for_tests("ended")

    @pytest.fixture
    def refused(self, systemd_box: SystemdBox) -> Service:
        systemd_box.add_unit("refuses.service", REFUSES, start=True)
        return service_for_tests("refuses")

    @pytest.fixture
    def slow(self, systemd_box: SystemdBox) -> Service:
        systemd_box.add_unit("slow.service", SLOW, start=True)
        return service_for_tests("slow", timeout_seconds=1.0)
