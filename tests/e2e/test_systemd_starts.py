"""The systemd reload plugin and real units that do not run: which it starts, and which stay stopped."""

from __future__ import annotations

import time

import pytest

from libgitopper import ReloadError
from tests.support.systemdbox import SystemdBox
from tests.support.units import RELOADABLE, Reload, reload, reloads

__all__ = ["reload"]  # fixtures

pytestmark = pytest.mark.systemd

# Runs only where a file is, as a service that depends on its configuration.
NEEDS_FILE = "[Service]\nExecStart=/bin/sh -c 'test -e /run/%p.good || exit 7; exec sleep inf'\n"
LIMITED = """\
[Unit]
StartLimitBurst=1
StartLimitIntervalSec=1h
[Service]
ExecStartPre=/bin/sh -c 'test -e /run/retry.good || { echo no such port: banana; exit 7; }'
ExecStart=/bin/sleep inf
"""


def wait_for(box: SystemdBox, unit: str, name: str, value: str) -> None:
    deadline = time.monotonic() + 10
    while box.property(unit, name) != value:
        assert time.monotonic() < deadline, box.journal(unit)
        time.sleep(0.02)


def test_at_the_first_release_a_unit_that_does_not_run_is_started(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("fresh.service", RELOADABLE)
    assert reload("fresh", first=True).did == "systemctl start fresh.service"
    assert systemd_box.property("fresh", "ActiveState") == "active"
    assert reloads(systemd_box, "fresh") == 0


def test_an_operators_stop_is_respected_and_told(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("halted.service", RELOADABLE, start=True)
    systemd_box.systemctl("stop", "halted")
    for action in ("reload", "restart", "reload-or-restart"):
        reloaded = reload("halted", action=action)
        assert reloaded.did == ""
        assert "halted.service is stopped" in reloaded.note
    assert systemd_box.property("halted", "ActiveState") == "inactive"


def test_a_stop_is_respected_when_the_program_ends_with_a_code_as_java_does(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    script = "trap 'exit 143' TERM; touch /run/java.ready; sleep inf & wait"
    systemd_box.add_unit("java.service", f'[Service]\nExecStart=/bin/sh -c "{script}"\n', start=True)
    wait_for_file(systemd_box, "/run/java.ready")
    systemd_box.systemctl("stop", "java")
    assert systemd_box.property("java", "ActiveState") == "failed"
    assert "is stopped" in reload("java", action="restart").note
    assert systemd_box.property("java", "ActiveState") == "failed"


def wait_for_file(box: SystemdBox, path: str) -> None:
    deadline = time.monotonic() + 10
    while not box.exists(path):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_a_masked_unit_stays_off_and_is_told(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.write("/usr/lib/systemd/system/masked.service", RELOADABLE)
    systemd_box.systemctl("mask", "masked")
    for first in (True, False):
        reloaded = reload("masked", first=first)
        assert reloaded.did == ""
        assert "masked" in reloaded.note


def test_a_unit_that_crashed_is_started_again(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("crashed.service", RELOADABLE, start=True)
    systemd_box.systemctl("kill", "--signal=SEGV", "crashed")
    wait_for(systemd_box, "crashed", "ActiveState", "failed")
    reloaded = reload("crashed")
    assert reloaded.did == "systemctl reset-failed crashed.service; systemctl restart crashed.service"
    assert "had failed" in reloaded.note
    assert systemd_box.property("crashed", "ActiveState") == "active"


def test_a_failed_first_start_gives_the_units_words_and_the_next_release_another_try(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("retry.service", LIMITED)
    for first in (True, False):  # the second one also meets the limit of starts
        with pytest.raises(ReloadError, match="no such port: banana") as caught:
            reload("retry", first=first)
        assert "start retry.service: " in str(caught.value)
        assert caught.value.retryable
    systemd_box.write("/run/retry.good", "")
    assert reload("retry").did.endswith("systemctl restart retry.service")
    assert systemd_box.property("retry", "ActiveState") == "active"


def test_a_restart_that_systemctl_calls_good_is_an_error_when_the_unit_has_failed_by_then(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.write("/run/quick.good", "")
    systemd_box.add_unit("quick.service", NEEDS_FILE, start=True)
    systemd_box.run(["rm", "/run/quick.good"], check=True)
    # systemctl answers as soon as a simple service is forked. The process ends within milliseconds, but
    # nothing orders its end before our look; so one look of several has to see it.
    with pytest.raises(ReloadError, match=r"restart quick\.service: the unit failed \(exit-code\)"):
        [reload("quick", action="restart") for _ in range(5)]


def test_a_unit_that_systemd_keeps_restarting_is_started_at_once(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    unit = NEEDS_FILE + "Restart=on-failure\nRestartSec=1h\n"
    systemd_box.add_unit("looping.service", unit)
    systemd_box.systemctl("start", "looping")
    wait_for(systemd_box, "looping", "SubState", "auto-restart")
    systemd_box.write("/run/looping.good", "")
    assert "had failed" in reload("looping").note
    assert systemd_box.property("looping", "SubState") == "running"


def test_a_unit_that_is_starting_is_waited_for_and_then_reloaded(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    # It goes on starting until somebody waits for that: no clock of a busy machine is asked.
    waited_for = "until grep -qsz '^start$$' /proc/[0-9]*/cmdline; do sleep 0.1; done"
    systemd_box.add_unit(
        "slowly.service",
        RELOADABLE.replace("[Service]", f'[Service]\nExecStartPre=/bin/sh -c "{waited_for}"'),
    )
    systemd_box.systemctl("start", "--no-block", "slowly")
    wait_for(systemd_box, "slowly", "ActiveState", "activating")
    assert reload("slowly").did == "systemctl start slowly.service; systemctl reload slowly.service"
    assert reloads(systemd_box, "slowly") == 1
