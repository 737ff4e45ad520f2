"""The systemd reload plugin against a real systemd, with real units and a real nginx."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libgitopper import Mapping, Reloaded, ReloadError
from libgitopper.testing.reload import request_for, service_for_tests
from tests.support.reloading import SystemdInBox
from tests.support.systemdbox import SystemdBox

pytestmark = pytest.mark.systemd

RELOADABLE = """\
[Service]
ExecStart=/bin/sleep inf
ExecReload=/bin/sh -c 'echo >> /run/%p.reloads'
[Install]
WantedBy=multi-user.target
"""
RESTARTABLE = "[Service]\nExecStart=/bin/sleep inf\n"
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

Reload = Callable[..., Reloaded]


@pytest.fixture
def reload(systemd_box: SystemdBox) -> Reload:
    plugin = SystemdInBox(systemd_box)

    def reload(name: str, *, first: bool = False, **fields: Any) -> Reloaded:
        reloaded = plugin.gitopper_reload(request_for(service_for_tests(name, **fields), first=first))
        assert reloaded is not None
        return reloaded

    return reload


def reloads(box: SystemdBox, name: str) -> int:
    """How often the unit's ExecReload ran."""
    path = f"/run/{name}.reloads"
    return len(box.read(path).splitlines()) if box.exists(path) else 0


def daemon_reloads(box: SystemdBox) -> int:
    """How often systemd read its unit files again, by its own journal."""
    box.run(["journalctl", "--sync"], check=True)
    lines = box.run(["journalctl", "_PID=1", "--output=cat", "--no-pager"], check=True).stdout.splitlines()
    return sum(1 for line in lines if re.match(r"Reloading(\.$| requested)", line))


def mapped(local: str) -> tuple[Mapping, ...]:
    return (Mapping(link="units", local=Path(local)),)


def wait_for(box: SystemdBox, unit: str, name: str, value: str) -> None:
    deadline = time.monotonic() + 10
    while box.property(unit, name) != value:
        assert time.monotonic() < deadline, box.journal(unit)
        time.sleep(0.02)


def test_a_running_unit_is_reloaded_and_nothing_else_is_done(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("plain.service", RELOADABLE, start=True)
    pid, before = systemd_box.property("plain", "MainPID"), daemon_reloads(systemd_box)
    assert reload("plain") == Reloaded(did="systemctl reload plain.service")
    assert reloads(systemd_box, "plain") == 1
    assert systemd_box.property("plain", "MainPID") == pid
    assert daemon_reloads(systemd_box) == before


@pytest.mark.parametrize("action", ["restart", "reload-or-restart", "try-restart", "try-reload-or-restart"])
def test_every_action_that_restarts_does_so(systemd_box: SystemdBox, reload: Reload, action: str) -> None:
    systemd_box.add_unit("again.service", RESTARTABLE, start=True)
    pid = systemd_box.property("again", "MainPID")
    assert reload("again", action=action).did == f"systemctl {action} again.service"
    assert systemd_box.property("again", "MainPID") not in {pid, "0"}


def test_without_an_action_a_unit_is_left_alone(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("alone.service", RELOADABLE)
    assert reload("alone", action="", first=True) == Reloaded(did="")
    assert systemd_box.property("alone", "ActiveState") == "inactive"


def test_a_unit_that_can_not_reload_says_what_to_write_instead(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("noreload.service", RESTARTABLE, start=True)
    with pytest.raises(ReloadError, match=r"can't reload.*ExecReload.*restart") as caught:
        reload("noreload")
    assert caught.value.retryable
    # The remedy may be a drop-in of the operator's.
    systemd_box.write(
        "/etc/systemd/system/noreload.service.d/own.conf", "[Service]\nExecReload=/bin/true\n"
    )
    systemd_box.systemctl("daemon-reload")
    assert reload("noreload").did == "systemctl reload noreload.service"


def test_an_unknown_unit_is_said_to_be_unknown(reload: Reload) -> None:
    for first in (True, False):
        with pytest.raises(ReloadError, match=r"nosuch\.service is unknown to systemd") as caught:
            reload("nosuch", first=first)
        assert caught.value.retryable


def test_a_template_without_its_instance_is_refused_in_systemds_words(reload: Reload) -> None:
    with pytest.raises(ReloadError, match="neither a valid invocation ID nor unit name"):
        reload("app@")


def test_a_broken_unit_file_is_told_in_systemds_words(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("broken.service", "[Service]\nExecStart=\n")
    with pytest.raises(ReloadError, match=r"broken\.service can't be loaded: .*bad unit file setting"):
        reload("broken")


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


def test_a_slow_reload_ends_at_the_deadline(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit(
        "hangs.service", "[Service]\nExecStart=/bin/sleep inf\nExecReload=/bin/sleep 60\n", start=True
    )
    started = time.monotonic()
    with pytest.raises(ReloadError, match=r"systemctl reload hangs\.service: not done after 1 s") as caught:
        reload("hangs", timeout_seconds=1.0)
    assert time.monotonic() - started < 8
    assert caught.value.retryable


def test_a_unit_whose_condition_is_not_met_is_told(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("picky.service", "[Unit]\nConditionPathExists=/no/such\n" + RESTARTABLE)
    assert "a condition in its unit file is not met" in reload("picky", first=True).note


def test_a_oneshot_runs_on_restart_and_otherwise_when_it_next_runs(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit(
        "job.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo >> /run/job.reloads'\n"
    )
    assert "its next run has the new files" in reload("job").note
    assert reloads(systemd_box, "job") == 0
    assert reload("job", action="restart").did == "systemctl restart job.service"
    assert reloads(systemd_box, "job") == 1


def test_a_timer_is_started_and_restarted_like_any_unit(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    systemd_box.add_unit("tick.timer", "[Timer]\nOnBootSec=1h\n")
    assert reload("tick.timer", first=True).did == "systemctl start tick.timer"
    assert reload("tick.timer", action="restart").did == "systemctl restart tick.timer"
    with pytest.raises(ReloadError, match=r"tick\.timer can't reload"):
        reload("tick.timer")
    systemd_box.systemctl("stop", "tick.timer")
    assert "tick.timer is stopped" in reload("tick.timer", action="restart").note


def test_the_first_drop_in_of_a_unit_takes_effect(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("dropped.service", RESTARTABLE, start=True)
    directory = "/etc/systemd/system/dropped.service.d"
    systemd_box.write(f"{directory}/level.conf", "[Service]\nEnvironment=LEVEL=debug\n")
    before = daemon_reloads(systemd_box)
    reloaded = reload("dropped", action="restart", mappings=mapped(directory))
    assert reloaded.did == "systemctl daemon-reload; systemctl restart dropped.service"
    assert daemon_reloads(systemd_box) == before + 1
    assert systemd_box.property("dropped", "Environment") == "LEVEL=debug"


def test_systemds_own_notice_of_a_changed_unit_file_brings_a_daemon_reload(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("edited.service", RESTARTABLE, start=True)
    systemd_box.write("/etc/systemd/system/edited.service", RESTARTABLE + "Environment=LEVEL=debug\n")
    systemd_box.run(["touch", "-d", "+2 seconds", "/etc/systemd/system/edited.service"], check=True)
    assert reload("edited", action="restart").did.startswith("systemctl daemon-reload; ")
    assert reload("edited", action="restart").did == "systemctl restart edited.service"
    assert systemd_box.property("edited", "Environment") == "LEVEL=debug"


@pytest.mark.parametrize(
    "local", ["/etc/systemd/system/new.service", "/etc/systemd/system", "/etc/systemd"]
)
def test_a_new_unit_file_is_read_before_its_start(
    systemd_box: SystemdBox, reload: Reload, local: str
) -> None:
    systemd_box.write("/etc/systemd/system/new.service", RESTARTABLE)
    try:
        reloaded = reload("new", first=True, mappings=mapped(local))
        assert reloaded.did == "systemctl daemon-reload; systemctl start new.service"
        assert systemd_box.property("new", "ActiveState") == "active"
    finally:
        systemd_box.systemctl("stop", "new")
        systemd_box.run(["rm", "/etc/systemd/system/new.service"], check=True)
        systemd_box.systemctl("daemon-reload")


def test_without_an_action_a_mapped_unit_file_is_read_all_the_same(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    before = daemon_reloads(systemd_box)
    reloaded = reload("whatever", action="", mappings=mapped("/etc/systemd/system/whatever.service.d"))
    assert reloaded == Reloaded(did="systemctl daemon-reload")
    assert daemon_reloads(systemd_box) == before + 1


def test_an_instance_of_a_template_is_enabled_and_started(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("app@.service", RELOADABLE)
    reloaded = reload("app@blue", first=True)
    assert reloaded == Reloaded(did="systemctl enable app@blue.service; systemctl start app@blue.service")
    assert systemd_box.property("app@blue", "UnitFileState") == "enabled"
    assert systemd_box.property("app@blue", "ActiveState") == "active"
    assert systemd_box.property("app@green", "UnitFileState") == "disabled"
    assert reload("app@blue", first=True).did == "systemctl reload app@blue.service"


def test_an_instance_that_an_operator_disabled_stays_so(systemd_box: SystemdBox, reload: Reload) -> None:
    systemd_box.add_unit("own@.service", RELOADABLE)
    reload("own@x", first=True)
    systemd_box.systemctl("disable", "own@x")
    reload("own@x")
    assert systemd_box.property("own@x", "UnitFileState") == "disabled"


def test_an_instance_that_can_not_be_enabled_is_started_and_told(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("stuck@.service", RELOADABLE.replace("multi-user.target", "stuck.target"))
    # Something of somebody else's stands where the link has to go.
    systemd_box.write("/etc/systemd/system/stuck.target.wants", "")
    reloaded = reload("stuck@x", first=True)
    assert reloaded.did == "systemctl start stuck@x.service"
    assert "stuck@x.service is not enabled" in reloaded.note
    assert systemd_box.property("stuck@x", "ActiveState") == "active"


def test_with_the_whole_unit_directory_mapped_nothing_is_written_into_it(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.add_unit("inrepo@.service", RELOADABLE)
    reloaded = reload("inrepo@x", first=True, mappings=mapped("/etc/systemd/system"))
    assert "belongs into the repository" in reloaded.note
    assert systemd_box.property("inrepo@x", "UnitFileState") == "disabled"
    assert systemd_box.property("inrepo@x", "ActiveState") == "active"


NGINX = """\
pid /run/nginx.pid;
events {}
http { server { listen 127.0.0.1:8080; return 200 "ANSWER"; } }
"""


def test_nginx_takes_a_good_configuration_and_explains_why_it_refuses_a_bad_one(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    systemd_box.write("/etc/nginx/nginx.conf", NGINX.replace("ANSWER", "one"))
    assert reload("nginx", first=True).did == "systemctl start nginx.service"
    assert answer(systemd_box) == "one"

    systemd_box.write("/etc/nginx/nginx.conf", NGINX.replace("ANSWER", "two"))
    assert reload("nginx").did == "systemctl reload nginx.service"
    wait_for_answer(systemd_box, "two")

    systemd_box.write("/etc/nginx/nginx.conf", NGINX.replace("listen", "lissten"))
    with pytest.raises(ReloadError, match=r'unknown directive "lissten" in /etc/nginx/nginx\.conf:3'):
        reload("nginx")
    assert answer(systemd_box) == "two"


def answer(box: SystemdBox) -> str:
    code = "import json, urllib.request as u; print(json.dumps(u.urlopen('http://127.0.0.1:8080').read().decode()))"
    return str(box.python(code))


def wait_for_answer(box: SystemdBox, wanted: str) -> None:
    # nginx's reload returns before the new workers have taken over.
    deadline = time.monotonic() + 10
    while answer(box) != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
