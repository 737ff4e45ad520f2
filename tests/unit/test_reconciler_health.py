"""What makes a service ill is taken back and not tried again: verdict, memory, and who comes between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve

from libgitopper import (
    Check,
    CheckError,
    HealthError,
    Intent,
    ReloadError,
    Result,
    State,
    Verb,
)
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import HEALTH, made_ill, push, steps, watched


def test_a_service_that_is_healthy_keeps_its_new_release(host: SimulatedHost) -> None:
    web = watched(host)
    host.deploy(web)
    better = push(host, "2")
    host.guards.note = "the unit has no readiness"
    outcome = host.pass_(web)
    assert host.told(outcome) == (State.OK, "the unit has no readiness")
    host.assert_in_line(web, better)


def test_a_service_that_is_ill_in_the_beginning_has_its_time_to_recover(host: SimulatedHost) -> None:
    web = watched(host)
    host.deploy(web)
    better = push(host, "2")
    began = host.clock.seconds

    def starting() -> None:
        if host.clock.seconds < began + 2:
            raise HealthError("starting")

    host.script.on("health web", starting)
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_what_makes_a_service_ill_is_taken_back_and_the_former_release_is_watched_too(
    host: SimulatedHost,
) -> None:
    web, good, _ = made_ill(host)
    outcome = host.pass_(web)
    assert steps(host) == [
        "begin web", "publish web", "reload web", "health web", "reject web",
        "begin web", "publish web", "reload web", "health web", "record web",
    ]  # fmt: skip
    host.assert_in_line(web, good)
    assert host.read(web) == "1"
    assert isinstance(outcome.error, HealthError)
    assert host.observer.kinds()[-3:] == ["rejected", "taken-back", "failed"]


def test_the_state_says_what_happened_in_one_line_that_stays(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info.startswith(
        f"{bad[:12]}: not healthy within 3s: connection refused; taken back to {good[:12]}; not tried again"
    )
    assert "\n" not in info
    assert host.told(host.pass_(web)) == (state, info)
    host.restart()
    assert host.told(host.pass_(web)) == (state, info)


def test_what_is_on_record_of_it_agrees(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    host.pass_(web)
    deployed = host.state.deployed("web")
    assert deployed is not None
    assert (deployed.revision, deployed.release) == (good, host.shown(web))
    assert host.state.attempt("web") is None
    entry, first = host.state.deploys("web")
    assert (entry.result, entry.before, entry.after) == (Result.TAKEN_BACK, good, bad)
    assert entry.error == "not healthy within 3s: connection refused"
    assert (first.result, first.after) == (Result.DEPLOYED, good)
    assert list(entry.seconds) == [
        "verify", "install", "checkout", "check", "publish", "reload", "health", "take back",
    ]  # fmt: skip
    rejection = host.state.rejection("web", entry.release, web.fingerprint)
    assert rejection is not None
    assert (rejection.revision, rejection.step, rejection.reason) == (bad, "health", entry.error)
    assert host.state.releases("web", 5)[0] == (deployed.release, good)


def test_what_made_a_service_ill_is_not_tried_again(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    host.pass_(web)
    host.script.log.clear()
    host.pass_(web)
    host.restart()
    host.pass_(web)
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    assert steps(host) == []
    host.assert_in_line(web, good)


@pytest.mark.parametrize("mended", ["2", "1"])
def test_new_content_is_tried(host: SimulatedHost, mended: str) -> None:
    web, _, _ = made_ill(host)
    host.pass_(web)
    better = push(host, mended)
    assert host.told(host.pass_(web)) == (State.OK, "")
    host.assert_in_line(web, better)


def test_an_operator_can_have_it_tried_again(host: SimulatedHost) -> None:
    web = watched(host)
    host.deploy(web)
    better = push(host, "2")
    host.script.on("health web", HealthError("the database is down"))
    host.pass_(web)
    host.script.clear()
    assert isinstance(host.pass_(web).error, HealthError)
    assert host.reconciler.retry("web") == 1
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_it_is_tried_again_with_another_health(host: SimulatedHost) -> None:
    _, _, bad = made_ill(host)
    host.pass_(watched(host))
    longer = watched(host, health=evolve(HEALTH, within_seconds=10.0))
    assert "not healthy within 10s" in host.told(host.pass_(longer))[1]
    host.script.log.clear()
    host.pass_(longer)
    assert steps(host) == []
    assert host.pass_(host.service()).error is None
    host.assert_in_line(host.service(), bad)


def test_an_operator_who_rolls_back_to_it_has_it_tried_once_more(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host)
    host.pass_(web)
    host.script.log.clear()
    host.roll_back(web, bad)
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info.startswith(f"rollback to {bad[:12]} failed; {bad[:12]}: not healthy")
    assert host.script.count("reload web") == 2
    host.pass_(web)
    assert host.script.count("reload web") == 2
    host.assert_in_line(web, good)


def test_a_rollback_to_what_was_good_and_its_end_do_not_have_it_tried_again(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    host.pass_(web)
    host.script.log.clear()
    host.roll_back(web, good)
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.unfreeze(web)
    assert isinstance(host.pass_(web).error, HealthError)
    assert steps(host) == []


def test_a_first_deploy_that_makes_the_service_ill_stays_and_is_not_tried_again(
    host: SimulatedHost,
) -> None:
    web = watched(host)
    bad = push(host, "ill")
    state, info = host.told(host.pass_(web))
    assert state is State.BROKEN
    assert info.startswith(f"{bad[:12]}: not healthy within 3s: connection refused; there is nothing to go")
    assert host.read(web) == "ill", "nothing is withdrawn"
    assert [entry.result for entry in host.state.deploys("web")] == [Result.FAILED]
    host.script.log.clear()
    assert host.told(host.pass_(web)) == (state, info)
    host.restart()
    assert host.told(host.pass_(web)) == (state, info)
    assert steps(host) == []
    assert host.read(web) == "ill"
    better = push(host, "2")
    assert host.pass_(web).error is None
    assert host.services.requests[-1].first
    host.assert_in_line(web, better)


def test_a_first_deploy_that_is_tried_again_and_healthy_then_is_deployed(host: SimulatedHost) -> None:
    web = watched(host)
    host.script.on("health web", HealthError("the database is down"))
    host.pass_(web)
    host.script.clear()
    host.reconciler.retry("web")
    assert host.pass_(web).error is None
    host.assert_in_line(web, host.tip)


def test_a_first_reload_that_fails_is_tried_again_for_a_watched_service_too(host: SimulatedHost) -> None:
    web = watched(host)
    host.script.on("reload web", ReloadError("no such unit"))
    assert isinstance(host.pass_(web).error, ReloadError)
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, host.tip)


def test_a_rollback_that_comes_while_health_is_watched_is_obeyed_at_once(host: SimulatedHost) -> None:
    web, good, bad = made_ill(host, health=evolve(HEALTH, within_seconds=300.0))
    host.script.on("health web", lambda: _once(host, lambda: host.roll_back(web, good)))
    began = host.clock.seconds
    outcome = host.pass_(web)
    assert host.clock.seconds < began + 1
    assert outcome.error is None
    assert host.told(outcome) == (State.FREEZE, f"ROLLBACK: {good}")
    host.assert_in_line(web, good)
    ended = host.state.deploys("web")[1]
    assert (ended.result, ended.after) == (Result.FAILED, bad)
    assert ended.error.startswith("ended while its health was watched")
    assert host.state.rejection("web", ended.release, web.fingerprint) is None, "there was no verdict"


def test_a_freeze_that_comes_while_health_is_watched_stays_with_what_is_shown(host: SimulatedHost) -> None:
    web = watched(host)
    host.deploy(web)
    better = push(host, "2")
    host.script.on("health web", lambda: _once(host, lambda: host.freeze(web)))
    outcome = host.pass_(web)
    assert host.told(outcome)[0] is State.FREEZE
    host.assert_in_line(web, better)


def test_a_freeze_at_what_makes_the_service_ill_goes_back_to_what_it_took(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host)
    host.script.on("health web", lambda: _once(host, lambda: host.freeze(web)))
    outcome = host.pass_(web)
    assert isinstance(outcome.error, HealthError)
    assert f"taken back to {good[:12]}" in host.told(outcome)[1]
    host.assert_in_line(web, good)
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.assert_in_line(web, good)


def test_an_operator_who_can_not_be_kept_up_with_ends_the_pass_and_the_next_one_obeys(
    host: SimulatedHost,
) -> None:
    web, good, _ = made_ill(host)
    host.script.on("health web", lambda: host.reconciler.want("web", Intent()))
    outcome = host.pass_(web)
    assert (outcome.plan, outcome.error) == (None, None)
    host.script.clear()
    host.pass_(web)
    host.assert_in_line(web, good)


def test_an_operator_is_not_kept_waiting_while_the_former_release_is_watched(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host, health=evolve(HEALTH, within_seconds=300.0))
    took: list[float] = []

    def taken_back() -> None:
        if host.read(web) == "1":
            host.freeze(web)
            took.append(host.clock.seconds)
            raise HealthError("still starting")

    host.script.on("health web", taken_back)
    host.pass_(web)
    assert len(took) == 1
    assert host.clock.seconds < took[0] + 1
    host.script.clear()
    assert host.told(host.pass_(web))[0] is State.FREEZE
    host.assert_in_line(web, good)


def test_new_settings_that_come_while_health_is_watched_end_the_pass(host: SimulatedHost) -> None:
    web, good, _ = made_ill(host, health=evolve(HEALTH, within_seconds=300.0))
    past: list[bool] = []
    host.script.on("health web", lambda: past.append(True))
    began = host.clock.seconds
    outcome = host.pass_(web, still=lambda: not past)
    assert (outcome.plan, outcome.error) == (None, None)
    assert host.clock.seconds < began + 1
    assert host.state.attempt("web") is not None, "the next pass ends it"
    host.script.clear()
    moved = watched(host, links={"/srv/web": "web"})
    host.pass_(moved)
    host.assert_in_line(web, good)
    better = push(host, "2")
    assert host.pass_(moved).error is None
    host.assert_in_line(moved, better)


def test_check_and_health_together(host: SimulatedHost) -> None:
    web = watched(host, check=Check(commands=(("x",),)))
    good = host.deploy(web)
    push(host, "unfit")
    assert isinstance(host.pass_(web).error, CheckError)
    bad = push(host, "ill")
    assert isinstance(host.pass_(web).error, HealthError)
    host.assert_in_line(web, good)
    push(host, "unfit")
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.script.count("check web") == 2
    assert host.reconciler.retry("web") == 2
    better = push(host, "2")
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.DEPLOY
    host.assert_in_line(web, better)
    assert bad != better


def _once(host: SimulatedHost, action: Callable[[], None]) -> None:
    """Do `action` at the first probe only, which is not good."""
    action()
    host.script.on("health web", lambda: None)
    raise HealthError("still starting")


def test_nobody_watches_a_service_that_is_stopped_and_is_to_stay_so(host: SimulatedHost) -> None:
    web, _, ill = made_ill(host)
    host.services.idle, host.services.note = True, "unit web is stopped"
    outcome = host.pass_(web)
    assert host.told(outcome) == (State.OK, "unit web is stopped")
    assert "health web" not in host.script.log
    host.assert_in_line(web, ill)
