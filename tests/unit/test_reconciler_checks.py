"""What fails its check is never seen, and what could not be checked is checked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import CheckError, Health, PluginError, ReloadError, Result, State, Verify
from tests.support.checked import checked, nothing_was_seen, rejected
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import push


def test_the_steps_of_a_deploy_come_in_their_order(host: SimulatedHost) -> None:
    web = checked(
        host,
        verify=Verify(keyring=Path("/ring")),
        package="nginx",
        health=Health(unit=True, within_seconds=5),
    )
    assert host.pass_(web).error is None
    steps = [step.removesuffix(" web") for step in host.script.log]
    assert [step for step in steps if step not in {"fetch", "observe"}] == [
        "verify", "accept", "install", "checkout", "check", "begin", "publish", "reload", "health",
        "record", "discard",
    ]  # fmt: skip
    host.assert_in_line(web, host.tip)


def test_nothing_is_published_before_the_check_accepted(host: SimulatedHost) -> None:
    web = checked(host)
    shown: list[object] = []
    host.script.on("check web", lambda: shown.extend([dict(host.mounts.shown), host.state.attempt("web")]))
    assert host.pass_(web).error is None
    assert shown == [{}, None]


def test_content_that_fails_its_check_is_never_seen_and_the_state_has_the_words_of_the_check(
    host: SimulatedHost,
) -> None:
    web = checked(host)
    good = host.deploy(web)
    bad = push(host, "unfit")
    outcome = host.pass_(web)
    assert nothing_was_seen(host)
    state, info = host.told(outcome)
    assert state is State.BROKEN
    assert info.startswith(
        f"{bad[:12]} failed its check: conf:1: unexpected end of file; stays at {good[:12]}"
    )
    host.assert_in_line(web, good)
    assert host.observer.kinds()[-2:] == ["rejected", "failed"]


def test_a_first_deploy_that_fails_its_check_publishes_nothing(host: SimulatedHost) -> None:
    web = checked(host)
    push(host, "unfit")
    outcome = host.pass_(web)
    assert nothing_was_seen(host)
    assert host.mounts.shown == {}
    assert host.told(outcome)[1].startswith(
        f"{host.tip[:12]} failed its check: conf:1: unexpected end of file; nothing is deployed"
    )
    assert host.told(host.pass_(web)) == host.told(outcome)
    assert host.script.count("check web") == 1


def test_a_check_that_could_not_be_made_is_made_again_in_each_pass(host: SimulatedHost) -> None:
    web = checked(host)
    good = host.deploy(web)
    host.script.on("check web", CheckError("no such user: web", retryable=True))
    better = push(host, "2")
    for number in (1, 2, 3):
        outcome = host.pass_(web)
        assert isinstance(outcome.error, CheckError)
        assert outcome.error.retryable
        assert "no such user" in host.told(outcome)[1]
        assert host.script.count("check web") == number
    assert nothing_was_seen(host)
    host.assert_in_line(web, good)
    (entry, _) = host.state.deploys("web")
    assert (entry.result, entry.tries) == (Result.FAILED, 3)
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_a_check_that_no_plugin_makes_publishes_nothing_and_is_not_remembered(host: SimulatedHost) -> None:
    web = checked(host)
    host.deploy(web)
    better = push(host, "2")
    host.hooks.manager.unregister(host.guards)
    assert isinstance(host.pass_(web).error, PluginError)
    assert nothing_was_seen(host)
    host.restart()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_a_check_that_fails_in_a_way_that_nobody_foresaw_publishes_nothing_and_is_not_remembered(
    host: SimulatedHost,
) -> None:
    web = checked(host)
    host.deploy(web)
    better = push(host, "2")
    host.script.on("check web", ZeroDivisionError("oh"))
    assert "internal error: ZeroDivisionError" in str(host.pass_(web).error)
    assert nothing_was_seen(host)
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_what_is_shown_already_is_not_checked_again(host: SimulatedHost) -> None:
    """It passed before it was published; a crash or a failed reload after that changes nothing in it."""
    web = checked(host)
    host.script.on("reload web", ReloadError("no such unit"))
    host.pass_(web)
    host.script.clear()
    assert host.pass_(web).error is None
    assert host.script.count("check web") == 0
    host.assert_in_line(web, host.tip)


def test_a_commit_that_fails_its_check_after_one_that_could_not_be_reloaded_brings_back_what_was_taken(
    host: SimulatedHost,
) -> None:
    web = checked(host)
    good = host.deploy(web)
    push(host, "not taken")
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    assert host.read(web) == "not taken"
    host.script.clear()
    push(host, "unfit")
    outcome = host.pass_(web)
    assert f"stays at {good[:12]}" in host.told(outcome)[1]
    host.assert_in_line(web, good)
    host.script.log.clear()
    host.pass_(web)
    assert nothing_was_seen(host), "and there it stays"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"links": {"/srv/web": "web"}}, id="another place"),
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web": "web", "/etc/app": "webapp"}}, id="one mapping more"),
        pytest.param({"user": "web"}, id="another owner"),
    ],
)
def test_settings_with_which_the_check_fails_leave_the_service_in_peace(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    web = host.service()
    good = host.deploy(web)
    changed = checked(host, **change)
    host.script.on("check web", CheckError("not like this"))
    for _ in range(3):
        state, info = host.told(host.pass_(changed))
        assert state is State.BROKEN
        assert "not like this" in info
    assert host.script.count("check web") == 1
    assert nothing_was_seen(host)
    host.assert_in_line(web, good)


def test_content_that_fails_for_one_service_is_deployed_for_another(host: SimulatedHost) -> None:
    web, good, bad = rejected(host)
    other = host.service("other", links={"/srv/other": "web"})
    assert host.pass_(other).error is None
    host.assert_in_line(other, bad)
    host.assert_in_line(web, good)


def test_a_frozen_service_is_frozen_although_the_tip_failed(host: SimulatedHost) -> None:
    web, good, _ = rejected(host)
    host.freeze(web)
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.assert_in_line(web, good)


def test_what_is_shown_stays_on_the_disk_although_it_was_never_taken(host: SimulatedHost) -> None:
    web = checked(host)
    host.script.on("reload web", ReloadError("no such unit"))
    host.pass_(web)
    push(host, "unfit")
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckError)
    assert host.read(web) == "1"
    host.script.clear()
    better = push(host, "1 again")
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_what_a_check_has_to_say_is_shown(host: SimulatedHost) -> None:
    host.guards.check_note = "checked without a private view"
    outcome = host.pass_(checked(host))
    assert host.told(outcome) == (State.OK, "checked without a private view")
