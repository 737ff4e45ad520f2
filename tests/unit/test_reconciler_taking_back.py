"""The former release comes back whatever stands in its way, and what was wrong is told in one line."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from libgitopper import (
    HealthError,
    PluginError,
    PublishError,
    ReloadError,
    Result,
    SourceError,
    State,
)
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import made_ill, push, steps, watched


def test_a_former_release_with_which_it_is_not_healthy_either_is_told(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    host.script.on("health web", HealthError("no route to host"))
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info.startswith(
        f"{bad[:12]}: not healthy within 3s: no route to host; taken back to {good[:12]},"
        " with that not healthy within 3s: no route to host; not tried again"
    )
    host.assert_in_line(web, good)
    host.script.clear()
    assert host.told(host.pass_(web)) == (state, info)
    assert steps(host) == [], "it stays as it is"
    host.restart()
    assert host.told(host.pass_(web)) == (state, info)


def test_what_there_is_to_say_of_the_former_release_stays(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    host.services.note, host.guards.note = "the unit is stopped", "it has no readiness"
    assert (
        f"taken back to {good[:12]}, the unit is stopped; it has no readiness;"
        in host.told(host.pass_(web))[1]
    )


def test_a_former_release_whose_directory_is_gone_is_made_again(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    deployed = host.state.deployed("web")
    assert deployed is not None
    host.script.on("reload web", lambda: shutil.rmtree(deployed.release_path, ignore_errors=True))
    host.script.on("reload web", host.script.clear, when="after")
    host.pass_(web)
    host.assert_in_line(web, good)
    assert host.read(web) == "1"


def test_a_former_release_that_can_not_be_made_again_is_told_and_tried_until_it_can(
    host: SimulatedHost,
) -> None:
    web, good, bad = made_ill(host)
    deployed = host.state.deployed("web")
    assert deployed is not None

    def lose() -> None:
        shutil.rmtree(deployed.release_path, ignore_errors=True)
        host.script.on("checkout web", SourceError("its blobs are gone"))

    host.script.on("health web", lose)
    for _ in range(3):
        state, info = host.told(host.pass_(web))
        assert state is State.BROKEN
        assert info == (
            f"{bad[:12]}: not healthy within 3s: connection refused; it can't be taken back to {good[:12]}"
            " now: its blobs are gone"
        )
        host.script.on("health web", lambda: None)
        assert host.read(web) == "ill"
    assert host.script.count("reload web") == 1
    host.restart()
    assert "taken back" in host.told(host.pass_(web))[1]
    host.assert_in_line(web, good)


def test_a_take_back_that_can_not_be_reloaded_is_tried_again_until_it_can(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    refused = ReloadError("exit code 1")
    host.script.on("reject web", lambda: host.script.on("reload web", refused), when="after")
    outcome = host.pass_(web)
    assert isinstance(outcome.error, HealthError)
    assert outcome.error.retryable, "so it is tried again soon"
    told = host.told(outcome)
    assert told[0] is State.BROKEN
    assert told[1] == (
        f"{bad[:12]}: not healthy within 3s: connection refused; it can't be taken back to {good[:12]}"
        " now: reload failed: exit code 1"
    )
    assert host.told(host.pass_(web)) == told
    host.restart()
    host.script.on("reload web", refused)
    assert host.told(host.pass_(web)) == told
    assert host.state.deploys("web")[0].result is Result.FAILED
    host.script.clear()
    assert f"taken back to {good[:12]}" in host.told(host.pass_(web))[1]
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, good)
    assert host.state.deploys("web")[0].result is Result.TAKEN_BACK


def test_a_take_back_that_can_not_be_published_is_tried_again_until_it_can(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    obstacle = PublishError("something is in the way")
    host.script.on("reject web", lambda: host.script.on("publish web", obstacle), when="after")
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info == (
        f"{bad[:12]}: not healthy within 3s: connection refused; it can't be taken back to {good[:12]}"
        " now: something is in the way"
    )
    host.restart()
    host.script.on("publish web", obstacle)
    assert host.told(host.pass_(web)) == (State.BROKEN, "something is in the way")
    host.script.clear()
    assert f"taken back to {good[:12]}" in host.told(host.pass_(web))[1]
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, good)


def test_a_reload_that_fails_takes_a_watched_service_back(host: SimulatedHost) -> None:
    """What fails to restart is down: who watches its health wants it up."""
    web = watched(host)
    good = host.deploy(web)
    bad = push(host, "2")
    answers = iter([ReloadError("exit code 1")])

    def refuse_once() -> None:
        for answer in answers:
            raise answer

    host.script.on("reload web", refuse_once)
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info.startswith(f"{bad[:12]}: reload failed: exit code 1; taken back to {good[:12]}")
    host.assert_in_line(web, good)
    host.script.log.clear()
    host.pass_(web)
    assert steps(host) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"links": {"/srv/web": "web"}}, id="another place"),
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
        pytest.param({"links": {"/etc/web": "web", "/etc/app": "webapp"}}, id="one mapping more"),
        pytest.param({"user": "web"}, id="another owner"),
        pytest.param({"readonly": True}, id="read-only"),
    ],
)
def test_settings_with_which_the_service_is_ill_are_taken_back_and_left_in_peace(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    web = watched(host)
    good = host.deploy(web)
    changed = watched(host, **change)
    ill = iter([HealthError("ill")] * 3)

    def at_first() -> None:
        for answer in ill:
            raise answer

    host.script.on("health web", at_first)
    told = host.told(host.pass_(changed))
    assert told[0] is State.BROKEN
    host.assert_in_line(web, good)
    host.script.clear()
    for _ in range(2):
        assert host.told(host.pass_(changed)) == told
    assert steps(host) == []
    host.assert_in_line(web, good)
    host.reconciler.retry("web")
    assert host.pass_(changed).error is None
    host.assert_in_line(changed, good)


def test_a_service_that_is_ill_with_what_it_had_before_is_not_taken_back(host: SimulatedHost) -> None:
    web = watched(host)
    good = host.deploy(web)
    push(host, "2")
    host.script.on("publish web", PublishError("in the way"))
    host.pass_(web)
    host.script.clear()
    host.upstream.force("main", good)
    host.script.on("health web", HealthError("the database is down"))
    outcome = host.pass_(web)
    assert outcome.error is None
    assert "the database is down" in host.told(outcome)[1]
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, good)
    deployed = host.state.deployed("web")
    assert deployed is not None
    assert host.state.rejection("web", deployed.release, web.fingerprint) is None


def test_a_reload_that_fails_with_what_it_had_before_is_tried_again_and_nothing_is_rejected(
    host: SimulatedHost,
) -> None:
    web = watched(host)
    good = host.deploy(web)
    push(host, "2")
    host.script.on("publish web", PublishError("in the way"))
    host.pass_(web)
    host.script.clear()
    host.upstream.force("main", good)
    host.script.on("reload web", ReloadError("exit code 1"))
    for _ in range(2):
        assert isinstance(host.pass_(web).error, ReloadError)
    assert host.script.count("reload web") == 2
    assert host.reconciler.retry("web") == 0
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, good)


def test_health_that_no_plugin_watches_is_told_and_nothing_is_taken_back(host: SimulatedHost) -> None:
    web = watched(host)
    host.deploy(web)
    better = push(host, "2")
    host.hooks.manager.unregister(host.guards)
    outcome = host.pass_(web)
    assert isinstance(outcome.error, PluginError)
    assert host.read(web) == "2"
    host.restart()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_a_release_that_was_taken_back_leaves_no_directory_behind(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    for number in range(4):
        host.pass_(web)
        push(host, f"ill {number}")
    host.pass_(web)
    assert [path.name for path in web.releases.iterdir()] == [host.shown(web)]
    host.assert_in_line(web, good)


def test_a_verdict_that_can_not_be_written_is_made_again(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    host.script.on("reject web", OSError("disk full"))
    assert host.pass_(web).error is not None
    assert host.read(web) == "ill"
    host.script.clear()
    assert isinstance(host.pass_(web).error, HealthError)
    host.assert_in_line(web, good)


@pytest.mark.parametrize("step", ["reject web", "begin web", "publish web", "reload web"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_on_the_way_back_does_not_leave_the_service_down(
    host: SimulatedHost, step: str, when: str
) -> None:
    """What was taken back may have ended it: who brings the former release back has it run again."""
    web, good, bad = made_ill(host)

    def crash_there() -> None:
        host.script.on(step, Crash(), when=when)

    host.script.on("health web", crash_there)
    with pytest.raises(Crash):
        host.pass_(web)
    host.restart()
    host.services.requests.clear()
    host.pass_(web)
    host.assert_in_line(web, good)
    assert host.services.requests[-1].start
    last = host.state.deploys("web")[0]
    assert (last.before, last.after, last.result) == (good, bad, Result.TAKEN_BACK)


def test_what_is_shown_again_after_a_reboot_starts_nothing(host: SimulatedHost) -> None:
    """Whether it runs then is the service manager's to say."""
    web = watched(host)
    host.deploy(web)
    host.mounts.reboot()
    host.restart()
    host.pass_(web)
    assert not host.services.requests[-1].start
