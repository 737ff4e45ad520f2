"""New content can wait: for its time, and for another service. What is no news never waits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libgitopper import (
    Check,
    CheckError,
    Hold,
    Peer,
    Reason,
    ReloadError,
    Service,
    Source,
    State,
    Verb,
    Verify,
    VerifyError,
)
from tests.support.held import CLOSED, MORNING, both, db, held, waits_for_db, web
from tests.support.simulated import Crash
from tests.support.simulatedhost import UPSTREAM, SimulatedHost


def test_new_content_waits_and_the_plan_says_for_what_and_until_when(host: SimulatedHost) -> None:
    service = held(host)
    before = host.shown(service)
    newer = host.upstream.commit({"web/conf": "2"})
    outcome = host.pass_(service)
    assert outcome.error is None
    plan = outcome.plan
    assert plan is not None
    assert (plan.verb, plan.reasons) == (Verb.WAIT, (Reason.HELD,))
    assert (plan.note, plan.until, plan.changed) == (CLOSED.reason, MORNING, ("web",))
    assert host.told(outcome) == (State.DIFF, f"{newer[:12]} waits: outside of Mon-Fri 09:00-17:00")
    assert set(host.script.log) <= {"fetch", "observe web"}, "nothing is done for it before its time"
    assert host.shown(service) == before
    (request,) = host.guards.asked
    assert request.revision == newer
    host.guards.held = None
    host.pass_(service)
    host.assert_in_line(service, newer)


def test_a_hold_without_an_end_waits_for_the_next_poll(host: SimulatedHost) -> None:
    service = held(host)
    host.guards.held = Hold(reason="the fleet is locked")
    host.upstream.commit({"web/conf": "2"})
    plan = host.pass_(service).plan
    assert plan is not None
    assert (plan.note, plan.until) == ("the fleet is locked", None)


def test_a_first_deploy_does_not_wait_for_its_time(host: SimulatedHost) -> None:
    host.guards.held = CLOSED
    service = host.service()
    assert host.pass_(service).error is None
    host.assert_in_line(service, host.tip)
    assert host.guards.asked == []


def test_a_commit_elsewhere_does_not_wait(host: SimulatedHost) -> None:
    service = held(host)
    newer = host.upstream.commit({"elsewhere": "2"})
    host.pass_(service)
    host.assert_in_line(service, newer)
    assert host.guards.asked == []


def test_a_rollback_does_not_wait(host: SimulatedHost) -> None:
    service = host.service()
    first = host.deploy(service)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(service)
    host.guards.held = CLOSED
    host.roll_back(service, first)
    host.pass_(service)
    host.assert_in_line(service, first)


def test_files_that_are_to_be_shown_again_do_not_wait(host: SimulatedHost) -> None:
    service = held(host)
    first = host.tip
    host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    outcome = host.pass_(service)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.HELD,), "but what is new does"
    host.assert_in_line(service, first)


def test_a_deploy_that_was_not_finished_does_not_wait(host: SimulatedHost) -> None:
    service = host.service()
    host.deploy(service)
    newer = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(service)
    host.script.clear()
    host.guards.held = CLOSED
    assert host.pass_(service).error is None
    host.assert_in_line(service, newer)


def test_a_deploy_that_was_begun_and_not_seen_by_anybody_waits(host: SimulatedHost) -> None:
    service = host.service()
    first = host.deploy(service)
    host.upstream.commit({"web/conf": "2"})
    host.script.on("publish web", Crash())
    with pytest.raises(Crash):
        host.pass_(service)
    host.restart()
    host.guards.held = CLOSED
    outcome = host.pass_(service)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.HELD,)
    deployed = host.state.deployed("web")
    assert deployed is not None
    assert (deployed.revision, host.shown(service)) == (first, deployed.release)


@pytest.mark.parametrize("change", [{"links": {"/srv/web": "web"}}, {"publish": "other"}, {"user": "x"}])
def test_changed_settings_do_not_wait(host: SimulatedHost, change: dict[str, Any]) -> None:
    held(host)
    changed = host.service(**change)
    assert host.pass_(changed).error is None
    host.assert_in_line(changed, host.tip)


def test_what_was_rejected_is_told_rather_than_what_it_would_wait_for(host: SimulatedHost) -> None:
    service = host.service(check=Check(commands=(("x",),)))
    host.deploy(service)
    host.upstream.commit({"web/conf": "unfit"})
    host.pass_(service)
    host.guards.held = CLOSED
    assert isinstance(host.pass_(service).error, CheckError)


def test_a_service_comes_after_the_one_that_it_names(host: SimulatedHost) -> None:
    first, then = both(host)
    outcome = host.pass_(then, first)
    plan = outcome.plan
    assert plan is not None
    assert (plan.verb, plan.reasons, plan.until) == (Verb.WAIT, (Reason.AFTER,), None)
    assert plan.note == "for db, which is not in line with its upstream"
    assert host.told(outcome) == (State.DIFF, f"{host.tip[:12]} waits: {plan.note}")
    assert set(host.script.log) <= {"fetch", "observe web"}
    host.pass_(first)
    assert host.pass_(then, first).error is None
    host.assert_in_line(then, host.tip)


def test_it_comes_after_all_that_it_names(host: SimulatedHost) -> None:
    first, second, then = db(host), host.service("cache", links={"/c": "cert.pem"}), web(host)
    host.upstream.commit({"cert.pem/x": "1", "cert.pem": None})
    host.pass_(first)
    outcome = host.pass_(then, first, second)
    assert outcome.plan is not None
    assert "for cache" in outcome.plan.note
    assert host.pass_(second).error is None
    assert host.pass_(then, first, second).error is None
    host.assert_in_line(then, host.tip)


def test_the_order_holds_for_the_first_deploy_too(host: SimulatedHost) -> None:
    first, then = db(host), web(host)
    assert waits_for_db(host, then, first)
    assert host.mounts.shown == {}
    host.pass_(first)
    assert host.pass_(then, first).error is None
    host.assert_in_line(then, host.tip)


def test_a_first_deploy_that_was_cut_short_is_ended_whoever_else_is_not_in_line(
    host: SimulatedHost,
) -> None:
    """Half a configuration is the one thing that can't wait."""
    links = {"/etc/web": "web", "/srv/www": "webapp"}
    first, then = db(host), host.service(links=links)
    host.script.on("publish web /etc/web", Crash(), when="after")
    with pytest.raises(Crash):
        host.pass_(then)
    host.restart()
    then = host.service(links=links, after=("db",))
    assert host.pass_(then, first).error is None
    host.assert_in_line(then, host.tip)


@pytest.mark.parametrize("step", ["reload db", "publish db", "checkout db"])
def test_it_is_not_deployed_when_the_earlier_one_failed(host: SimulatedHost, step: str) -> None:
    first, then = both(host)
    host.script.on(step, ReloadError("refused"))
    assert host.pass_(first).error is not None
    assert waits_for_db(host, then, first)
    host.script.clear()
    assert host.pass_(first).error is None
    assert not waits_for_db(host, then, first)
    host.assert_in_line(then, host.tip)


def test_it_is_not_deployed_while_the_earlier_one_does_not_take_its_new_settings(
    host: SimulatedHost,
) -> None:
    first, then = db(host), web(host)
    host.deploy(first)
    host.pass_(then, first)
    host.upstream.commit({"web/conf": "2"})
    host.pass_(first)
    host.script.on("reload db", ReloadError("refused"))
    moved = host.service("db", links={"/srv/db": "webapp"})
    assert isinstance(host.pass_(moved).error, ReloadError)
    assert waits_for_db(host, then, moved)
    host.script.clear()
    host.pass_(moved)
    assert not waits_for_db(host, then, moved)


def test_it_is_not_deployed_while_the_earlier_one_stays_behind_a_commit_that_was_rejected(
    host: SimulatedHost,
) -> None:
    first, then = db(host, check=Check(commands=(("x",),))), web(host)
    host.deploy(first)
    host.pass_(then, first)
    host.upstream.commit({"web/conf": "2", "webapp/conf": "unfit"})
    for _ in range(2):
        assert isinstance(host.pass_(first).error, CheckError)
        assert waits_for_db(host, then, first)
    host.upstream.commit({"webapp/conf": "2"})
    assert host.pass_(first).error is None
    assert not waits_for_db(host, then, first)
    host.assert_in_line(then, host.tip)


def test_it_is_not_deployed_while_the_earlier_one_refuses_a_commit_that_is_none_of_its_own(
    host: SimulatedHost,
) -> None:
    first, then = db(host, verify=Verify(keyring=Path("/ring"))), web(host)
    host.deploy(first)
    host.pass_(then, first)
    host.guards.unsigned.add(host.upstream.commit({"web/conf": "2"}))
    assert isinstance(host.pass_(first).error, VerifyError)
    assert waits_for_db(host, then, first)


def test_a_frozen_service_in_line_holds_nobody_up(host: SimulatedHost) -> None:
    first, then = both(host)
    host.freeze(first)
    host.pass_(first)
    assert host.pass_(then, first).error is None
    host.assert_in_line(then, host.tip)


def test_a_service_that_was_rolled_back_holds_nobody_up_once_it_is_there(host: SimulatedHost) -> None:
    first, then = db(host), web(host)
    oldest = host.deploy(first)
    host.pass_(then, first)
    host.upstream.commit({"webapp/conf": "2"})
    host.deploy(first)
    host.pass_(then, first)
    host.upstream.commit({"web/conf": "3"})
    host.roll_back(first, oldest)
    assert waits_for_db(host, then, first)
    host.pass_(first)
    assert not waits_for_db(host, then, first)
    host.assert_in_line(then, host.tip)


def test_a_service_that_is_frozen_before_its_first_deploy_is_not_in_line(host: SimulatedHost) -> None:
    first, then = db(host), web(host)
    host.freeze(first)
    host.pass_(first)
    assert waits_for_db(host, then, first)


def test_a_service_on_another_branch_is_in_line_with_its_own(host: SimulatedHost) -> None:
    host.upstream.commit({"webapp/conf": "dev"}, "dev")
    first, then = db(host, source=Source(upstream=UPSTREAM, branch="dev")), web(host)

    def reasons(service: Service) -> tuple[Reason, ...]:
        store = host.reconciler.poll(host.watch(first, then))
        peers = [Peer(service=first, store=store)] if service is then else []
        outcome = host.reconciler.reconcile(service, store, peers=peers)
        assert outcome.error is None
        assert outcome.plan is not None
        return outcome.plan.reasons

    assert reasons(first) == reasons(then) == (Reason.FIRST,)
    host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    assert reasons(then) == (Reason.CONTENT,), "a commit of main is none of its own"
    host.upstream.commit({"webapp/conf": "newer"}, "dev")
    host.upstream.commit({"web/conf": "3"})
    assert reasons(then) == (Reason.AFTER,)


def test_a_service_whose_upstream_was_never_fetched_is_not_in_line(host: SimulatedHost) -> None:
    then = web(host)
    store = host.fetch(then)
    outcome = host.reconciler.reconcile(then, store, peers=[Peer(service=db(host), store=None)])
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.AFTER,)


@pytest.mark.parametrize("act", ["roll back", "restore", "settings", "elsewhere"])
def test_what_is_no_news_does_not_wait_for_another_service(host: SimulatedHost, act: str) -> None:
    first, then = db(host), web(host)
    oldest = host.deploy(first)
    host.pass_(then, first)
    host.upstream.commit({"web/conf": "2"})
    host.pass_(first)
    host.pass_(then, first)
    expected = host.upstream.commit({"webapp/conf": "2"})
    acts: dict[str, Callable[[], object]] = {
        "roll back": lambda: host.roll_back(then, oldest),
        "restore": host.mounts.reboot,
        "settings": lambda: None,
        "elsewhere": lambda: None,
    }
    acts[act]()
    if act == "settings":
        then = host.service(links={"/srv/web": "web"}, after=("db",))
    assert not waits_for_db(host, then, first)
    host.assert_in_line(then, oldest if act == "roll back" else expected)


def test_windows_are_asked_only_once_the_order_is_kept(host: SimulatedHost) -> None:
    first, then = both(host)
    host.guards.asked.clear()
    host.guards.held = CLOSED
    assert waits_for_db(host, then, first)
    assert host.guards.asked == []
