"""The systemd reload plugin against a real systemd, with real units and a real nginx."""

from __future__ import annotations

import time

import pytest

from libgitopper import Reloaded, ReloadError
from tests.support.systemdbox import SystemdBox
from tests.support.units import RELOADABLE, RESTARTABLE, Reload, daemon_reloads, reload, reloads

__all__ = ["reload"]  # fixtures

pytestmark = pytest.mark.systemd


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


def test_a_job_that_ran_and_ended_is_not_told_as_one_that_was_not_started(
    systemd_box: SystemdBox, reload: Reload
) -> None:
    """Systemd forgets it at its end, and what it says of it then is what it says of any that never ran."""
    systemd_box.add_unit("ran.service", "[Service]\nType=oneshot\nExecStart=touch /run/ran\n")
    done = reload("ran", action="restart")
    assert systemd_box.exists("/run/ran")
    assert (done.did, done.note) == ("systemctl restart ran.service", "")
    systemd_box.add_unit(
        "picked.service",
        "[Unit]\nConditionPathExists=/no/such\n[Service]\nType=oneshot\nExecStart=true\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    systemd_box.systemctl("enable", "picked")
    assert "a condition in its unit file is not met" in reload("picked", action="restart").note


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
