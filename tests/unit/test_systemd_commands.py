"""Which commands the systemd plugin runs, counted with a simulated systemctl; e2e has the real one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gitopper_plugins import systemd
from libgitopper import Hooks, Mapping, PluginError, ReloadError
from libgitopper.testing.reload import request_for, service_for_tests

UNITS = (Mapping(link="units", local=Path("/etc/systemd/system/app.service.d")),)
RUNNING = "LoadState=loaded\nActiveState=active\nSubState=running\nCanReload=yes\nNeedDaemonReload=no\n"

# Notes what it was asked, and answers `show` from a file. FAIL is the verb that fails, and how.
SIMULATED = r"""#!/bin/sh
shift 2  # --no-ask-password --no-pager
echo "$1" >> "{here}/asked"
case $1 in
show) cat "{here}/show" ;;
{fail}) {how} ;;
esac
"""

Simulate = Callable[..., Path]


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulate:
    """Put a systemctl (and a mute journalctl) on PATH; return the directory with its notes."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)

    def simulate(show: str = RUNNING, *, fail: str = "nothing", how: str = "exit 0") -> Path:
        (tmp_path / "show").write_text(show)
        script(tmp_path / "systemctl", SIMULATED.format(here=tmp_path, fail=fail, how=how))
        script(tmp_path / "journalctl", "#!/bin/sh\nexit 1\n")
        return tmp_path

    return simulate


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def asked(here: Path) -> list[str]:
    return (here / "asked").read_text().split() if (here / "asked").exists() else []


def test_nothing_is_spawned_without_an_action_in_simulation(simulate: Simulate) -> None:
    here = simulate()
    reloaded = systemd.gitopper_reload(request_for(service_for_tests("app", action=""), first=True))
    assert reloaded is not None
    assert reloaded.did == ""
    assert asked(here) == []


def test_the_module_is_a_plugin_that_takes_its_own_services_in_simulation(simulate: Simulate) -> None:
    simulate()
    hooks = Hooks()
    hooks.register(systemd)
    assert hooks.reload(request_for(service_for_tests("app"))).did == "systemctl reload app.service"
    with pytest.raises(PluginError, match="no plugin takes"):
        hooks.reload(request_for(service_for_tests("app", reload="command")))


def test_a_reload_costs_one_look_before_and_one_after_in_simulation(simulate: Simulate) -> None:
    here = simulate()
    systemd.gitopper_reload(request_for(service_for_tests("app")))
    assert asked(here) == ["show", "reload", "show"]


@pytest.mark.parametrize("need", ["mapped", "noticed"])
def test_a_daemon_reload_is_followed_by_another_look_in_simulation(simulate: Simulate, need: str) -> None:
    here = simulate(
        RUNNING.replace("NeedDaemonReload=no", "NeedDaemonReload=yes") if need == "noticed" else RUNNING
    )
    service = service_for_tests("app", mappings=UNITS) if need == "mapped" else service_for_tests("app")
    systemd.gitopper_reload(request_for(service))
    assert asked(here) == ["show", "daemon-reload", "show", "reload", "show"]


def test_systemctls_own_words_come_in_one_line_without_its_advice_in_simulation(simulate: Simulate) -> None:
    how = "echo Job for app.service failed. >&2; echo 'See \"systemctl status\"' >&2; exit 1"
    simulate(fail="reload", how=how)
    with pytest.raises(ReloadError) as caught:
        systemd.gitopper_reload(request_for(service_for_tests("app")))
    assert str(caught.value) == "systemctl reload app.service: Job for app.service failed."


def test_a_failed_daemon_reload_ends_it_before_the_action_in_simulation(simulate: Simulate) -> None:
    here = simulate(fail="daemon-reload", how="echo no space left; exit 1")
    with pytest.raises(ReloadError, match=r"^systemctl daemon-reload: no space left$"):
        systemd.gitopper_reload(request_for(service_for_tests("app", mappings=UNITS)))
    assert asked(here) == ["show", "daemon-reload"]


def test_a_unit_that_failed_right_after_is_an_error_in_simulation(
    simulate: Simulate, tmp_path: Path
) -> None:
    swap = f"printf 'LoadState=loaded\\nActiveState=failed\\nResult=signal\\n' > {tmp_path}/show"
    simulate(fail="reload", how=swap)
    with pytest.raises(
        ReloadError, match=r"reload app\.service: the unit failed \(signal\) right after it"
    ):
        systemd.gitopper_reload(request_for(service_for_tests("app")))


def test_all_steps_share_one_deadline_in_simulation(simulate: Simulate) -> None:
    simulate(fail="daemon-reload|reload", how="sleep 0.6")
    started = time.monotonic()
    with pytest.raises(ReloadError, match="not done after 1 s"):
        systemd.gitopper_reload(request_for(service_for_tests("app", mappings=UNITS, timeout_seconds=1.0)))
    assert time.monotonic() - started < 5


def test_a_host_that_systemd_did_not_boot_gets_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "no")
    with pytest.raises(ReloadError, match='reload = "command"') as caught:
        systemd.gitopper_reload(request_for(service_for_tests("app")))
    assert not caught.value.retryable
    # Without an action nothing is asked of systemd, so its absence is no trouble.
    unread = systemd.gitopper_reload(request_for(service_for_tests("app", action="", mappings=UNITS)))
    assert unread is not None
    assert unread.did == ""


def test_a_host_without_systemctl_gets_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReloadError, match=r'can\'t be started.*reload = "command"') as caught:
        systemd.gitopper_reload(request_for(service_for_tests("app")))
    assert not caught.value.retryable


def test_an_unknown_action_is_refused_before_anything_runs_in_simulation(simulate: Simulate) -> None:
    here = simulate()
    with pytest.raises(ReloadError, match="relaod"):
        systemd.gitopper_reload(request_for(service_for_tests("app", action="relaod")))
    assert asked(here) == []


def test_unit_files_are_read_also_where_there_is_no_action_in_simulation(simulate: Simulate) -> None:
    here = simulate()
    reloaded = systemd.gitopper_reload(request_for(service_for_tests("app", action="", mappings=UNITS)))
    assert reloaded is not None
    assert reloaded.did == "systemctl daemon-reload"
    assert asked(here) == ["daemon-reload"]


INSTANCE = RUNNING + "UnitFileState=disabled\n"


def test_an_instance_is_enabled_once_in_simulation(simulate: Simulate) -> None:
    here = simulate(INSTANCE)
    service = service_for_tests("app@one")
    first = systemd.gitopper_reload(request_for(service, first=True))
    assert first is not None
    assert "systemctl enable app@one.service" in first.did
    systemd.gitopper_reload(request_for(service))
    assert asked(here).count("enable") == 1


def test_an_instance_that_can_not_be_enabled_runs_all_the_same_in_simulation(simulate: Simulate) -> None:
    here = simulate(INSTANCE, fail="enable", how="echo read-only; exit 1")
    reloaded = systemd.gitopper_reload(request_for(service_for_tests("app@one"), first=True))
    assert reloaded is not None
    assert reloaded.note.startswith("unit app@one.service is not enabled, and won't start at boot: ")
    assert "read-only" in reloaded.note
    assert "reload" in asked(here)


def test_nothing_is_enabled_where_the_links_are_the_repositorys_in_simulation(simulate: Simulate) -> None:
    here = simulate(INSTANCE)
    whole = (Mapping(link="units", local=Path("/etc/systemd/system")),)
    reloaded = systemd.gitopper_reload(
        request_for(service_for_tests("app@one", mappings=whole), first=True)
    )
    assert reloaded is not None
    assert "belongs into the repository" in reloaded.note
    assert "enable" not in asked(here)


def test_a_start_that_a_condition_forbids_is_told_in_simulation(simulate: Simulate) -> None:
    simulate("LoadState=loaded\nActiveState=inactive\nConditionResult=no\n")
    reloaded = systemd.gitopper_reload(request_for(service_for_tests("app"), first=True))
    assert reloaded is not None
    assert reloaded.note == "unit app.service was not started: a condition in its unit file is not met"


def test_what_the_unit_said_itself_is_told_in_simulation(simulate: Simulate) -> None:
    here = simulate(fail="reload", how="echo no; exit 1")
    script(here / "journalctl", "#!/bin/sh\n[ $1 = --sync ] || printf 'line one\\n\\n  line two\\n'\n")
    with pytest.raises(ReloadError, match=r"no Its log: line one \| line two$"):
        systemd.gitopper_reload(request_for(service_for_tests("app")))


def test_a_journal_that_does_not_answer_is_no_matter_in_simulation(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = simulate(fail="reload", how="echo no; exit 1")
    script(here / "journalctl", "#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(systemd, "JOURNAL_SECONDS", 0.1)
    with pytest.raises(ReloadError, match=r"^systemctl reload app\.service: no$"):
        systemd.gitopper_reload(request_for(service_for_tests("app")))
