"""What the systemd plugin decides from what systemctl shows: pure, so without any systemd."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitopper_plugins._units import (
    ACTIONS,
    UNIT_DIRECTORIES,
    Plan,
    Unit,
    check_action,
    decide,
    decide_for_ourselves,
    maps_units,
    unit_name,
)
from libgitopper import Mapping, ReloadError
from libgitopper.testing.reload import service_for_tests


def unit(**properties: str) -> Unit:
    plain = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "CanReload": "yes"}
    return Unit(name="app.service", properties={**plain, **properties})


def failed(*, started: int, left: int, ended: int, result: str = "exit-code") -> Unit:
    return unit(
        ActiveState="failed",
        Result=result,
        InactiveExitTimestampMonotonic=str(started),
        ActiveExitTimestampMonotonic=str(left),
        ExecMainExitTimestampMonotonic=str(ended),
    )


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("state", ["active", "reloading"])
def test_a_running_unit_gets_just_the_action(action: str, first: bool, state: str) -> None:
    assert decide(unit(ActiveState=state), action, first=first) == Plan(verbs=(action,))


@pytest.mark.parametrize("action", ACTIONS)
def test_the_daemon_itself_is_reloaded_and_neither_restarted_nor_waited_for(action: str) -> None:
    ours = unit(MainPID="17")
    assert ours.is_run_by(17)
    assert not ours.is_run_by(1)
    assert not unit(ActiveState="inactive", MainPID="0").is_run_by(17)
    if "reload" in action:
        assert decide_for_ourselves(ours, action) == Plan(verbs=(action,))
        for state in ("activating", "deactivating"):
            with pytest.raises(ReloadError, match="is reloaded once it is") as caught:
                decide_for_ourselves(unit(ActiveState=state), action)
            assert caught.value.retryable
        ours = unit(CanReload="no")
    with pytest.raises(ReloadError, match=r'is this daemon: .*write action = "reload", or ""') as caught:
        decide_for_ourselves(ours, action)
    assert not caught.value.retryable


def test_only_a_plain_reload_needs_a_unit_that_can_reload() -> None:
    stiff = unit(CanReload="no")
    with pytest.raises(ReloadError, match="restart"):
        decide(stiff, "reload", first=False)
    for action in ACTIONS[1:]:
        assert decide(stiff, action, first=False).verbs == (action,)


def test_a_crash_is_told_from_a_stop_that_ended_with_a_code() -> None:
    stopped = failed(started=1, left=5, ended=6)
    crashed = failed(started=1, left=6, ended=5)
    assert stopped.stopped
    assert not crashed.stopped
    assert decide(stopped, "restart", first=False).verbs == ()
    assert decide(crashed, "restart", first=False).verbs == ("reset-failed", "restart")
    assert decide(stopped, "restart", first=True).verbs == ("reset-failed", "restart")


@pytest.mark.parametrize(
    ("started", "left", "ended", "stopped"),
    [
        pytest.param(1, 5, 0, True, id="its process still runs, and is its first"),
        pytest.param(3, 5, 2, True, id="its process still runs; one before it ended earlier"),
        pytest.param(1, 5, 6, True, id="its process has ended since"),
        pytest.param(1, 6, 5, False, id="its process ended by itself"),
    ],
)
def test_what_is_just_ending_was_stopped_or_has_crashed(
    started: int, left: int, ended: int, stopped: bool
) -> None:
    ending = unit(
        ActiveState="deactivating",
        InactiveExitTimestampMonotonic=str(started),
        ActiveExitTimestampMonotonic=str(left),
        ExecMainExitTimestampMonotonic=str(ended),
    )
    assert ending.stopped is stopped


def test_a_start_that_failed_after_a_good_run_is_no_stop() -> None:
    # A restart: it left "active" at 5, began to start at 7, and that start's process ended at 8.
    assert not failed(started=7, left=5, ended=8).stopped


@pytest.mark.parametrize("result", ["watchdog", "oom-kill"])
def test_what_systemd_ended_by_itself_is_no_operators_stop(result: str) -> None:
    assert not failed(started=1, left=5, ended=6, result=result).stopped


def test_a_unit_that_never_ran_is_not_taken_for_one_that_was_stopped() -> None:
    assert not unit(ActiveState="failed").stopped


@pytest.mark.parametrize(
    ("action", "verbs"),
    [
        ("reload", ("start", "reload")),
        ("reload-or-restart", ("start", "reload-or-restart")),
        ("restart", ("restart",)),
        ("try-restart", ("try-restart",)),
    ],
)
def test_a_start_under_way_is_waited_for_where_the_action_needs_it(
    action: str, verbs: tuple[str, ...]
) -> None:
    assert decide(unit(ActiveState="activating", SubState="start"), action, first=False).verbs == verbs


states = st.fixed_dictionaries(
    {
        "LoadState": st.sampled_from(["loaded", "masked"]),
        "ActiveState": st.sampled_from(
            ["active", "reloading", "inactive", "failed", "activating", "deactivating"]
        ),
        "SubState": st.sampled_from(["running", "dead", "auto-restart", "failed"]),
        "Type": st.sampled_from(["", "simple", "oneshot"]),
        "RemainAfterExit": st.sampled_from(["", "yes", "no"]),
        "CanReload": st.sampled_from(["yes", "no"]),
        "Result": st.sampled_from(["success", "exit-code", "watchdog"]),
    }
)


@given(properties=states, action=st.sampled_from(ACTIONS), first=st.booleans())
def test_every_unit_is_acted_on_or_the_operator_is_told_why_not(
    properties: dict[str, str], action: str, first: bool
) -> None:
    try:
        plan = decide(unit(**properties), action, first=first)
    except ReloadError as exc:
        assert "action = " in str(exc)  # noqa: PT017 - one of three right answers
        return
    assert plan.verbs or plan.note
    assert set(plan.verbs) <= {*ACTIONS, "start", "reset-failed"}


@given(properties=states, action=st.sampled_from(ACTIONS))
def test_what_was_stopped_is_never_started_later(properties: dict[str, str], action: str) -> None:
    stopped = {**properties, "ActiveState": "inactive", "SubState": "dead", "Type": "simple"}
    assert decide(unit(**stopped), action, first=False).verbs == ()


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("nginx", "nginx.service"),
        ("app@blue", "app@blue.service"),
        ("app@10.0.0.1", "app@10.0.0.1.service"),
        ("backup.timer", "backup.timer"),
        ("docker.socket", "docker.socket"),
        ("my.app", "my.app.service"),
    ],
)
def test_the_suffix_of_a_service_is_implied(service: str, expected: str) -> None:
    assert unit_name(service_for_tests(service)) == expected


@pytest.mark.parametrize("name", ["web*", "a b", "a,x", "[ab]", "a;b", "é"])
def test_a_name_that_systemctl_would_expand_or_escape_is_refused(name: str) -> None:
    with pytest.raises(ReloadError, match="can't be the name of a unit") as caught:
        unit_name(service_for_tests(name))
    assert not caught.value.retryable


@pytest.mark.parametrize("action", ["stop", "relaod", "--help", "start"])
def test_an_action_that_is_none_is_refused_with_those_that_are(action: str) -> None:
    with pytest.raises(ReloadError, match='"reload-or-restart"') as caught:
        check_action(action)
    assert not caught.value.retryable


@pytest.mark.parametrize("directory", UNIT_DIRECTORIES)
@pytest.mark.parametrize("below", ["", "x.service", "x.service.d", "x.service.d/a.conf", ".."])
def test_unit_files_are_recognised_by_where_they_are_shown(directory: Path, below: str) -> None:
    local = directory.parent if below == ".." else directory / below
    assert maps_units(service_for_tests("x", mappings=(Mapping(link="units", local=local),)))


@pytest.mark.parametrize("local", ["/etc/nginx", "/etc/systemd/network", "/etc/systemd/systemd.conf"])
def test_other_directories_hold_no_unit_files(local: str) -> None:
    assert not maps_units(service_for_tests("x", mappings=(Mapping(link="etc", local=Path(local)),)))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"SubState": "running"}, "active (running)"),
        ({"SubState": "active", "Result": "success"}, "active"),
        ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"}, "failed (exit-code)"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "inactive"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "activating (auto-restart)"),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "unknown to systemd"),
        ({"LoadState": "not-found", "ActiveState": "active"}, "active (running)"),
    ],
)
def test_a_state_is_told_in_words(properties: dict[str, str], words: str) -> None:
    assert unit(**properties).state == words


@pytest.mark.parametrize("active", ["active", "reloading", "refreshing", "failed", "inactive"])
def test_a_unit_that_reloads_runs(active: str) -> None:
    assert unit(ActiveState=active).runs == (active not in {"failed", "inactive"})


@pytest.mark.parametrize("state", ["loaded", "masked"])
def test_a_unit_that_systemd_knows_is_loaded(state: str) -> None:
    unit(LoadState=state).check_loaded()


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"LoadState": "not-found"}, "unit app.service is unknown to systemd: install its package"),
        (
            {"LoadState": "error", "LoadError": 'x.y "Bad thing."'},
            "can't be loaded: Bad thing. Try: systemd-a",
        ),
        (
            {"LoadState": "bad-setting"},
            "can't be loaded: its load state is bad-setting. Try: systemd-analyze",
        ),
    ],
)
def test_a_unit_that_systemd_has_no_use_of_is_told_with_the_reason(
    properties: dict[str, str], words: str
) -> None:
    with pytest.raises(ReloadError) as caught:
        unit(**properties).check_loaded()
    assert words in str(caught.value)
