"""The reconciler, pass by pass, on simulated plugins."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from attrs import evolve

from libgitopper import (
    CheckoutError,
    GitopperError,
    Intent,
    IntentKind,
    Mapping,
    PublishError,
    Reason,
    ReloadError,
    Service,
    Source,
    SourceError,
    State,
    StateError,
    StepError,
    UnknownRevision,
    Verb,
    derive,
)
from libgitopper import SourceHealth as Health
from tests.support.simulated import BRANCH, UPSTREAM, SimulatedHost

POLLED = Health(polled=True)
PATIENCE_SECONDS = 20.0


def tip_of(host: SimulatedHost) -> str:
    return host.upstream.branches[BRANCH][-1]


def deployed_once(host: SimulatedHost, service: Service) -> str:
    """Deploy the tip, start the log anew, and return the tip."""
    outcome = host.pass_(service)
    assert outcome.error is None
    host.script.clear()
    return tip_of(host)


def state_of(host: SimulatedHost, service: Service, error: GitopperError | None) -> State:
    return derive(
        intent=host.state.intent(service.name),
        deployed=host.state.deployed(service.name),
        tip=tip_of(host),
        source=POLLED,
        branch=BRANCH,
        error=error,
    )[0]


# --- deploys -----------------------------------------------------------------------------


def test_the_first_deploy_checks_out_publishes_reloads_and_records_in_that_order(
    host: SimulatedHost,
) -> None:
    web = host.service()
    outcome = host.pass_(web)
    assert outcome.error is None
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.FIRST,)
    assert outcome.deployed == host.state.deployed("web")
    steps = [step for step in host.script.log if not step.startswith(("observe", "fetch"))]
    assert steps == ["checkout web", "begin web", "publish web", "reload web", "record web", "discard web"]
    host.assert_in_line(web, tip_of(host))
    assert [request.first for request in host.services.requests] == [True]


def test_a_second_pass_touches_nothing(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.KEEP
    assert set(host.script.log) <= {"fetch", "observe web"}


def test_a_change_of_a_mapped_path_is_published_and_reloaded_once(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    revision = host.upstream.commit({"web/conf": "2"})
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.CONTENT,)
    assert outcome.plan.changed == ("web",)
    assert (host.script.count("publish web"), host.script.count("reload web")) == (1, 1)
    assert host.services.requests[-1].first is False
    host.assert_in_line(web, revision)


@pytest.mark.parametrize("path", ["webapp/conf", "other", "we", "docs/web/conf"])
def test_a_commit_elsewhere_moves_the_hash_without_publish_or_reload(
    host: SimulatedHost, path: str
) -> None:
    web = host.service()
    deployed_once(host, web)
    before = host.state.deployed("web")
    revision = host.upstream.commit({path: "2"})
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.ADVANCE
    assert host.script.count("publish web") == host.script.count("reload web") == 0
    host.assert_in_line(web, revision)
    assert before is not None
    assert outcome.deployed is not None
    assert outcome.deployed.at == before.at
    assert host.observer.events[-1].kind == "advanced"
    assert host.observer.events[-1].details == {"before": before.revision, "after": revision}


def test_a_force_push_back_is_followed(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    deployed_once(host, web)
    host.upstream.force(BRANCH, first)
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_branch_that_is_gone_leaves_the_service_where_it_is(host: SimulatedHost) -> None:
    web = host.service()
    revision = deployed_once(host, web)
    del host.upstream.branches[BRANCH]
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.KEEP
    host.assert_in_line(web, revision)


def test_a_branch_that_never_was_is_waited_for(host: SimulatedHost) -> None:
    web = host.service(source=Source(upstream=UPSTREAM, branch="canary"))
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert (outcome.plan.verb, outcome.plan.reasons) == (Verb.WAIT, (Reason.NO_TIP,))
    assert outcome.error is None
    assert outcome.deployed is None


def test_a_deploy_is_told_to_observers_with_its_reason(host: SimulatedHost) -> None:
    host.services.note = "the unit is stopped"
    host.pass_(host.service())
    (event,) = [event for event in host.observer.events if event.kind == "deployed"]
    assert event.service == "web"
    assert event.details["revision"] == tip_of(host)
    assert event.details["why"] == "first deploy"
    assert event.details["did"] == "simulated reload web"
    assert event.details["note"] == "the unit is stopped"


# --- failures ----------------------------------------------------------------------------


def test_a_reload_that_fails_is_tried_again_until_it_succeeds(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    revision = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("exit code 1"))
    for _ in range(3):
        outcome = host.pass_(web)
        assert isinstance(outcome.error, ReloadError)
        assert state_of(host, web, outcome.error) is State.BROKEN
        assert outcome.deployed is not None
        assert outcome.deployed.revision == first, "deployed is what the service took"
    assert host.script.count("reload web") == 3
    host.script.clear()
    outcome = host.pass_(web)
    assert state_of(host, web, outcome.error) is State.OK
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, revision)


def test_a_first_reload_that_fails_is_still_the_first_when_tried_again(host: SimulatedHost) -> None:
    web = host.service()
    host.script.on("reload web", ReloadError("no such unit"))
    host.pass_(web)
    host.script.clear()
    host.pass_(web)
    assert [request.first for request in host.services.requests] == [True]
    host.assert_in_line(web, tip_of(host))


def test_a_commit_that_mends_what_a_reload_refused_is_deployed(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    host.upstream.commit({"web/conf": "broken"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.script.clear()
    mended = host.upstream.commit({"web/conf": "mended"})
    host.pass_(web)
    host.assert_in_line(web, mended)


def test_a_revert_after_a_failed_reload_reloads_what_was_there_before(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    host.upstream.commit({"web/conf": "broken"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.script.clear()
    reverted = host.upstream.commit({"web/conf": "1"})
    host.pass_(web)
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, reverted)


def test_a_checkout_that_fails_leaves_what_is_published_alone(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": None})
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckoutError)
    assert state_of(host, web, outcome.error) is State.DIFF
    host.assert_in_line(web, first)


def test_a_tip_that_fails_to_check_out_does_not_keep_the_deployed_release_from_being_restored(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": None})
    host.mounts.reboot()
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckoutError)
    host.assert_in_line(web, first)


def test_an_obstacle_is_told_and_when_it_is_gone_the_service_is_deployed(host: SimulatedHost) -> None:
    web = host.service()
    host.mounts.in_the_way.add(Path("/etc/web"))
    outcome = host.pass_(web)
    assert isinstance(outcome.error, PublishError)
    assert outcome.deployed is None
    host.mounts.in_the_way.clear()
    host.pass_(web)
    host.assert_in_line(web, tip_of(host))


def test_an_exception_that_nobody_foresaw_is_an_outcome_and_is_logged(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.script.on("checkout web", ZeroDivisionError("oh"))
    outcome = host.pass_(host.service())
    assert isinstance(outcome.error, StepError)
    assert str(outcome.error) == "internal error: ZeroDivisionError: oh"
    assert outcome.error.service == "web"
    assert isinstance(outcome.error.__cause__, ZeroDivisionError)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert host.observer.events[-1].kind == "failed"


def test_an_error_names_its_service_where_the_raiser_did_not_know_it(host: SimulatedHost) -> None:
    host.script.on("reload web", ReloadError("exit code 1"))
    outcome = host.pass_(host.service())
    assert isinstance(outcome.error, ReloadError)
    assert outcome.error.service == "web"


@pytest.mark.parametrize("error", [CheckoutError("disk"), OSError("disk"), KeyError("x")])
def test_a_discard_that_fails_does_not_fail_the_deploy(
    host: SimulatedHost, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    web = host.service()
    host.script.on("discard web", error)
    outcome = host.pass_(web)
    assert outcome.error is None
    assert "old releases could not be removed" in caplog.text
    host.assert_in_line(web, tip_of(host))


def test_a_state_store_that_fails_is_an_outcome(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(service: str) -> None:
        raise StateError("disk full")

    monkeypatch.setattr(host.state, "deployed", full)
    outcome = host.pass_(host.service())
    assert isinstance(outcome.error, StateError)
    assert host.mounts.shown == {}


def test_nothing_is_published_when_the_attempt_can_not_be_written(host: SimulatedHost) -> None:
    web = host.service()
    host.script.on("begin web", StateError("disk full"))
    outcome = host.pass_(web)
    assert isinstance(outcome.error, StateError)
    assert host.mounts.shown == {}


def test_an_upstream_that_was_never_fetched_is_told(host: SimulatedHost) -> None:
    host.roll_back(host.service(), "f" * 40)
    outcome = host.reconciler.reconcile(host.service(), None)
    assert isinstance(outcome.error, SourceError)
    assert "never fetched" in str(outcome.error)


def test_a_failed_poll_is_told_to_observers_and_raised(host: SimulatedHost) -> None:
    watch = host.watch(host.service())
    host.upstream.reachable = False
    with pytest.raises(SourceError, match="can't be reached"):
        host.reconciler.poll(watch)
    assert host.observer.kinds() == ["poll-failed"]
    with pytest.raises(SourceError, match="never fetched"):
        host.reconciler.poll(watch, offline=True)
    assert host.observer.kinds() == ["poll-failed"], "to open a store is no poll"


def test_old_releases_are_discarded_but_for_the_last_that_are_to_be_kept(host: SimulatedHost) -> None:
    web = host.service(keep=2)
    for number in range(5):
        host.upstream.commit({"web/conf": f"new {number}"})
        host.pass_(web)
    kept = {path.name for path in web.releases.iterdir()}
    assert kept == {release for release, _ in host.state.releases("web", 2)}
    assert len(kept) == 2
    assert host.shown(web) in kept


# --- after a reboot ----------------------------------------------------------------------


def test_after_a_reboot_with_the_upstream_never_reached_the_release_is_restored(
    host: SimulatedHost,
) -> None:
    web = host.service()
    revision = deployed_once(host, web)
    host.mounts.reboot()
    host.restart()
    outcome = host.reconciler.reconcile(web, None)
    assert outcome.error is None
    assert host.script.count("reload web") == 1
    assert host.services.requests[-1].first is False
    host.assert_in_line(web, revision)


def test_restore_shows_the_deployed_release_and_does_not_follow_upstream(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    assert host.reconciler.restore(web).error is None
    host.assert_in_line(web, first)


def test_restore_leaves_alone_what_is_shown_already(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    host.restart()
    assert host.reconciler.restore(web).error is None
    assert set(host.script.log) == {"observe web"}


def test_restore_has_nothing_to_do_before_the_first_deploy(host: SimulatedHost) -> None:
    outcome = host.reconciler.restore(host.service())
    assert (outcome.error, outcome.deployed, outcome.plan) == (None, None, None)


def test_a_release_that_was_deleted_is_made_again(host: SimulatedHost) -> None:
    web = host.service()
    revision = deployed_once(host, web)
    host.mounts.reboot()
    for path in web.releases.iterdir():
        path.rename(host.directory / "gone")
    host.pass_(web)
    host.assert_in_line(web, revision)


def test_an_umount_by_hand_is_repaired_and_reloaded(host: SimulatedHost) -> None:
    web = host.service(links={"/etc/web": "web", "/etc/webapp": "webapp"})
    revision = deployed_once(host, web)
    del host.mounts.shown[Path("/etc/webapp")]
    host.pass_(web)
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, revision)


def test_a_restore_whose_reload_fails_does_not_hold_up_the_commit_that_mends_it(
    host: SimulatedHost,
) -> None:
    web = host.service()
    deployed_once(host, web)
    host.mounts.reboot()
    host.script.on("reload web", ReloadError("refused"))
    assert isinstance(host.pass_(web).error, ReloadError)
    host.script.clear()
    mended = host.upstream.commit({"web/conf": "mended"})
    assert host.pass_(web).error is None
    host.assert_in_line(web, mended)


# --- freeze and rollback -----------------------------------------------------------------


def test_a_frozen_service_ignores_upstream_and_an_unfrozen_one_follows_it(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.freeze(web)
    newest = host.upstream.commit({"web/conf": "2"})
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, newest)


def test_a_frozen_service_is_restored_after_a_reboot(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.freeze(web)
    host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_frozen_service_does_not_even_advance(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.freeze(web)
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_service_that_was_frozen_before_its_first_deploy_waits(host: SimulatedHost) -> None:
    web = host.service()
    host.freeze(web)
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.FROZEN_EMPTY,)
    assert host.mounts.shown == {}
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, tip_of(host))


def test_want_returns_the_intent_as_it_stands_on_disk_and_tells_observers(host: SimulatedHost) -> None:
    stands = host.reconciler.want("web", Intent(kind=IntentKind.ROLLBACK, revision="f" * 40))
    assert stands == host.state.intent("web")
    assert stands.since is not None
    assert host.observer.events[-1].details == {"intent": "rollback", "revision": "f" * 40}


def test_a_rollback_to_a_kept_release_needs_no_upstream(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    deployed_once(host, web)
    host.upstream.reachable = False
    host.restart()
    revision = host.reconciler.resolve(web, first[:7], None)
    assert revision == first
    host.roll_back(web, revision)
    outcome = host.pass_(web)
    assert outcome.error is None
    assert state_of(host, web, None) is State.FREEZE
    host.assert_in_line(web, first)


def test_a_rollback_stands_against_new_commits_and_ends_with_unfreeze(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    deployed_once(host, web)
    host.roll_back(web, first)
    host.pass_(web)
    host.upstream.commit({"web/conf": "3"})
    host.restart()
    host.pass_(web)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    host.pass_(web)
    host.assert_in_line(web, tip_of(host))


def test_a_rollback_to_an_equal_content_only_moves_the_hash(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"elsewhere": "2"})
    deployed_once(host, web)
    host.roll_back(web, first)
    host.pass_(web)
    assert host.script.count("reload web") == 0
    host.assert_in_line(web, first)


def test_a_rollback_to_nowhere_leaves_the_service_as_it_is(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.roll_back(web, "f" * 40)
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckoutError)
    host.assert_in_line(web, first)
    host.unfreeze(web)
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)


def test_a_hash_is_resolved_from_the_branch_and_in_any_case(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    second = host.upstream.commit({"web/conf": "2"})
    store = host.fetch(web)
    assert host.reconciler.resolve(web, second[:8], store) == second
    assert host.reconciler.resolve(web, first.upper(), None) == first


@pytest.mark.parametrize("prefix", ["f" * 40, "123", ""])
def test_a_hash_that_names_nothing_is_refused_with_what_would_do(host: SimulatedHost, prefix: str) -> None:
    web = host.service()
    deployed_once(host, web)
    with pytest.raises(UnknownRevision, match=r"never fetched.*list service web"):
        host.reconciler.resolve(web, prefix, None)


def test_a_release_whose_directory_is_gone_is_not_kept(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    for path in web.releases.iterdir():
        path.rename(host.directory / "gone")
    with pytest.raises(UnknownRevision):
        host.reconciler.resolve(web, first, None)


# --- operators against a pass that runs --------------------------------------------------


class Pause:
    """Holds a pass at a step, until the test has done what it wants to do meanwhile."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go.wait(PATIENCE_SECONDS)


def in_thread(target: object, *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
    thread.start()
    return thread


def ended(thread: threading.Thread) -> None:
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def paused_pass(
    host: SimulatedHost, service: Service, step: str, when: str
) -> tuple[Pause, threading.Thread]:
    pause = Pause()
    host.script.on(step, pause, when=when)
    thread = in_thread(host.pass_, service)
    assert pause.reached.wait(PATIENCE_SECONDS)
    return pause, thread


def test_a_freeze_acknowledged_between_checkout_and_publish_keeps_the_deploy_from_publishing(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "checkout web", "after")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    assert host.script.count("publish web") == host.script.count("reload web") == 0
    host.assert_in_line(web, first)


def test_a_freeze_acknowledged_before_a_commit_elsewhere_advances_keeps_it_from_advancing(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"elsewhere": "2"})
    pause, thread = paused_pass(host, web, "observe web", "after")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    assert host.script.count("advance web") == 0
    host.assert_in_line(web, first)


def test_a_freeze_acknowledged_right_after_publish_stays_at_the_new_one(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    second = host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "reload web", "before")
    host.freeze(web)
    pause.go.set()
    ended(thread)
    host.upstream.commit({"web/conf": "3"})
    host.pass_(web)
    host.assert_in_line(web, second)


def test_a_freeze_is_not_acknowledged_while_the_mount_is_being_switched(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    second = host.upstream.commit({"web/conf": "2"})
    pause, thread = paused_pass(host, web, "publish web", "before")
    freeze = in_thread(host.freeze, web)
    freeze.join(0.1)
    assert freeze.is_alive(), "acknowledged, and then the mount switched"
    pause.go.set()
    ended(thread)
    ended(freeze)
    host.assert_in_line(web, second)


def test_a_freeze_does_not_wait_for_a_slow_reload(host: SimulatedHost) -> None:
    web = host.service()
    pause, thread = paused_pass(host, web, "reload web", "before")
    freeze = in_thread(host.freeze, web)
    ended(freeze)
    assert thread.is_alive()
    pause.go.set()
    ended(thread)


def test_a_rollback_during_a_deploy_is_where_the_same_pass_goes(host: SimulatedHost) -> None:
    web = host.service()
    first = deployed_once(host, web)
    host.upstream.commit({"web/conf": "2"})
    second = deployed_once(host, web)
    host.upstream.commit({"web/conf": "3"})
    pause, thread = paused_pass(host, web, "checkout web", "after")
    host.roll_back(web, first)
    pause.go.set()
    ended(thread)
    assert second != first
    host.assert_in_line(web, first)


def test_an_operator_who_never_stops_changing_their_mind_ends_the_pass_not_in_an_error(
    host: SimulatedHost,
) -> None:
    web = host.service()
    host.script.on("checkout web", lambda: host.unfreeze(web), when="after")
    outcome = host.pass_(web)
    assert (outcome.plan, outcome.error) == (None, None)
    assert host.script.count("checkout web") == 3
    assert host.mounts.shown == {}
    host.script.clear()
    host.pass_(web)
    host.assert_in_line(web, tip_of(host))


def test_passes_of_one_service_never_overlap(host: SimulatedHost) -> None:
    web = host.service()
    pause, first = paused_pass(host, web, "reload web", "before")
    second = in_thread(host.reconciler.reconcile, web, host.fetch(web))
    third = in_thread(host.reconciler.restore, web)
    second.join(0.2)
    assert second.is_alive()
    assert third.is_alive()
    assert host.script.count("checkout web") == host.script.count("reload web") == 1
    pause.go.set()
    for thread in (first, second, third):
        ended(thread)
    assert host.script.count("reload web") == 1, "the second pass found everything in line"


def test_one_services_slow_reload_blocks_no_other(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    pause, slow = paused_pass(host, web, "reload web", "before")
    host.script.on("reload web", pause)
    quick = in_thread(host.pass_, app)
    ended(quick)
    assert slow.is_alive()
    host.assert_in_line(app, tip_of(host))
    pause.go.set()
    ended(slow)


# --- settings that change ----------------------------------------------------------------

TWO = {"/etc/web": "web", "/etc/app": "webapp"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(TWO, {"/etc/web": "web"}, id="one mapping less"),
        pytest.param({"/etc/web": "web"}, TWO, id="one more"),
        pytest.param({"/etc/web": "web"}, {"/srv/web": "web"}, id="another place"),
        pytest.param({"/etc/web": "web"}, {"/etc/web": "webapp"}, id="another link"),
        pytest.param({"/etc/web": "web"}, {"/etc/web/a": "web"}, id="below the old one"),
        pytest.param({"/etc/web/a": "web"}, {"/etc/web": "web"}, id="above the old one"),
        pytest.param({"/a": "web", "/b": "webapp"}, {"/b": "web", "/a": "webapp"}, id="swapped"),
        pytest.param(TWO, {"/etc/web": "web", "/etc/web2": "webapp"}, id="one moves, one stays"),
    ],
)
@pytest.mark.parametrize("with_a_commit", [False, True])
def test_mappings_that_change_leave_no_stale_path(
    host: SimulatedHost, before: dict[str, str], after: dict[str, str], with_a_commit: bool
) -> None:
    deployed_once(host, host.service(links=before))
    if with_a_commit:
        host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    host.restart()
    changed = host.service(links=after)
    outcome = host.pass_(changed)
    assert outcome.error is None
    assert host.script.count("reload web") == 1
    host.assert_in_line(changed, tip_of(host))
    assert host.mounts.live == {changed.live: host.shown(changed)}
    host.script.clear()
    host.pass_(changed)
    assert host.script.count("publish web") == 0


@pytest.mark.parametrize(
    "change", [{"publish": "other"}, {"mount": True}, {"readonly": True}, {"user": "x"}]
)
def test_another_publisher_mount_directory_or_owner_is_published_anew(
    host: SimulatedHost, change: dict[str, object]
) -> None:
    deployed_once(host, host.service())
    change = {"mount": host.directory / "elsewhere"} if "mount" in change else change
    changed = host.service(**change)  # type: ignore[arg-type]
    outcome = host.pass_(changed)
    assert outcome.error is None
    assert outcome.plan is not None
    assert Reason.SETTINGS in outcome.plan.reasons
    assert host.script.count("reload web") == 1
    host.assert_in_line(changed, tip_of(host))
    assert host.mounts.live == {changed.live: host.shown(changed)}


def test_a_directory_that_becomes_a_file_mapping_is_read_from_the_store_again(host: SimulatedHost) -> None:
    deployed_once(host, host.service())
    file = host.service(mappings=(Mapping(link="web", local=Path("/etc/web"), file=True),))
    outcome = host.pass_(file)
    assert isinstance(outcome.error, CheckoutError), "the repository has a directory there"


def test_a_frozen_service_gets_its_new_mappings_at_its_old_revision(host: SimulatedHost) -> None:
    first = deployed_once(host, host.service())
    host.freeze(host.service())
    host.upstream.commit({"web/conf": "2"})
    changed = host.service(links=TWO)
    host.pass_(changed)
    host.assert_in_line(changed, first)


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"links": {"/srv/web": "web"}}, id="moved"),
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
    ],
)
def test_a_failing_reload_after_new_settings_does_not_switch_back_and_forth(
    host: SimulatedHost, after: dict[str, object]
) -> None:
    deployed_once(host, host.service())
    changed = host.service(**after)  # type: ignore[arg-type]
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(changed)
    shown = dict(host.mounts.shown)
    host.script.log.clear()
    for _ in range(2):
        assert isinstance(host.pass_(changed).error, ReloadError)
        assert host.mounts.shown == shown
    assert host.script.count("reload web") == 2, "once for each pass"
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, tip_of(host))


@pytest.mark.parametrize("deployed_before", [False, True])
def test_settings_that_change_twice_before_a_reload_succeeds_leave_no_stale_path(
    host: SimulatedHost, deployed_before: bool
) -> None:
    if deployed_before:
        deployed_once(host, host.service())
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(host.service(links={"/second": "web"}))
    host.restart()
    third = host.service(links={"/third": "web"})
    host.pass_(third)
    host.assert_in_line(third, tip_of(host))


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"publish": "other"}, id="another publisher"),
        pytest.param({"links": {"/etc/web/a": "web"}}, id="below"),
    ],
)
def test_a_service_keeps_its_files_when_they_can_not_be_shown_in_the_new_way(
    host: SimulatedHost, after: dict[str, object]
) -> None:
    web = host.service()
    deployed_once(host, web)
    before = host.shown(web)
    changed = host.service(**after)  # type: ignore[arg-type]
    # It refuses the new, and not the old when that is put back.
    host.script.on("publish web", _Once(PublishError("something is in the way")))
    outcome = host.pass_(changed)
    assert isinstance(outcome.error, PublishError)
    assert host.shown(web) == before, "the service lost its files"
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, tip_of(host))


class _Once:
    """Raises at the first call only."""

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def __call__(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error


def test_a_release_that_can_not_be_put_back_is_logged_and_restored_by_the_next_pass(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    deployed_once(host, host.service())
    host.script.on("publish web", PublishError("no"))
    changed = host.service(publish="other")
    outcome = host.pass_(changed)
    assert isinstance(outcome.error, PublishError)
    assert "could not be put back" in caplog.text
    host.script.clear()
    host.pass_(changed)
    host.assert_in_line(changed, tip_of(host))


def test_a_service_that_was_moved_away_from_an_obstacle_after_a_reboot_is_deployed(
    host: SimulatedHost,
) -> None:
    deployed_once(host, host.service())
    host.mounts.reboot()
    host.mounts.in_the_way.add(Path("/etc/web"))
    host.restart()
    moved = host.service(links={"/srv/web": "web"})
    assert host.pass_(moved).error is None
    host.assert_in_line(moved, tip_of(host))


def test_restore_shows_the_old_settings_until_a_pass_brings_the_new(host: SimulatedHost) -> None:
    old = host.service()
    first = deployed_once(host, old)
    host.mounts.reboot()
    changed = host.service(links={"/srv/web": "web"})
    assert host.reconciler.restore(changed).error is None
    host.assert_in_line(old, first)
    host.pass_(changed)
    host.assert_in_line(changed, first)


# --- services that leave the config ------------------------------------------------------


def test_a_service_that_leaves_the_config_is_withdrawn_and_its_data_kept(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    deployed_once(host, web)
    deployed_once(host, app)
    host.freeze(web)
    host.restart()
    (orphan,) = host.reconciler.orphans((app,))
    assert orphan.service.name == "web"
    host.reconciler.withdraw(orphan)
    assert list(host.mounts.shown) == [Path("/etc/webapp")]
    assert web.live not in host.mounts.live
    assert any(web.releases.iterdir())
    assert host.reconciler.orphans((app,)) == ()
    assert host.state.intent("web").kind is IntentKind.FREEZE, "it comes back as it left"
    assert host.observer.events[-1].kind == "withdrawn"


def test_no_service_of_the_config_is_an_orphan(host: SimulatedHost) -> None:
    web = host.service("web")
    deployed_once(host, web)
    assert host.reconciler.orphans((web, host.service("webapp"))) == ()


def test_an_orphan_that_can_not_be_withdrawn_stays_one(host: SimulatedHost) -> None:
    deployed_once(host, host.service())
    host.script.on("withdraw web", PublishError("busy"))
    (orphan,) = host.reconciler.orphans(())
    with pytest.raises(PublishError):
        host.reconciler.withdraw(orphan)
    assert host.reconciler.orphans(()) == (orphan,)


def test_a_mistyped_service_gives_its_paths_to_the_right_one(host: SimulatedHost) -> None:
    typo = host.service("wbe", links={"/etc/web": "web"})
    host.script.on("reload wbe", ReloadError("no such unit"))
    assert isinstance(host.pass_(typo).error, ReloadError)
    host.restart()
    right = host.service("web")
    for orphan in host.reconciler.orphans((right,)):
        host.reconciler.withdraw(orphan)
    assert host.pass_(right).error is None
    host.assert_in_line(right, tip_of(host))
    assert set(host.mounts.live) == {right.live}


def test_a_withdraw_takes_what_an_unfinished_change_of_settings_shows_too(host: SimulatedHost) -> None:
    deployed_once(host, host.service())
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(host.service(links={"/srv/web": "web"}))
    host.script.clear()
    (orphan,) = host.reconciler.orphans(())
    host.reconciler.withdraw(orphan)
    assert host.mounts.shown == {}
    assert host.reconciler.orphans(()) == ()


def test_services_share_a_poll(host: SimulatedHost) -> None:
    web, app = host.service("web"), host.service("webapp")
    store = host.reconciler.poll(host.watch(web, app))
    for service in (web, app):
        assert host.reconciler.reconcile(service, store).error is None
        host.assert_in_line(service, tip_of(host))
    assert host.script.count("fetch") == 1


def test_settings_that_place_nothing_are_no_reason_for_a_deploy(host: SimulatedHost) -> None:
    web = host.service()
    deployed_once(host, web)
    host.pass_(evolve(web, action="restart", interval_seconds=1.0, keep=9))
    assert host.script.count("publish web") == host.script.count("reload web") == 0
