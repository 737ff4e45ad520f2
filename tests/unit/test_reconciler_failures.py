"""The reconciler when a step fails: what is told, what stays as it was, what is tried again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from libgitopper import (
    CheckoutError,
    GitopperError,
    PublishError,
    ReloadError,
    Service,
    SourceError,
    State,
    StateError,
    StepError,
    derive,
)
from libgitopper import SourceHealth as Health
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import SimulatedHost

POLLED = Health(polled=True)


def state_of(host: SimulatedHost, service: Service, error: GitopperError | None) -> State:
    return derive(
        intent=host.state.intent(service.name),
        deployed=host.state.deployed(service.name),
        tip=host.tip,
        source=POLLED,
        branch=BRANCH,
        error=error,
    )[0]


def test_a_reload_that_fails_is_tried_again_until_it_succeeds(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
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
    host.assert_in_line(web, host.tip)


def test_a_commit_that_mends_what_a_reload_refused_is_deployed(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({"web/conf": "broken"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.script.clear()
    mended = host.upstream.commit({"web/conf": "mended"})
    host.pass_(web)
    host.assert_in_line(web, mended)


def test_a_revert_after_a_failed_reload_reloads_what_was_there_before(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
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
    first = host.deploy(web)
    host.upstream.commit({"web/conf": None})
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckoutError)
    assert state_of(host, web, outcome.error) is State.DIFF
    host.assert_in_line(web, first)


def test_a_tip_that_fails_to_check_out_does_not_keep_the_deployed_release_from_being_restored(
    host: SimulatedHost,
) -> None:
    web = host.service()
    first = host.deploy(web)
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
    host.assert_in_line(web, host.tip)


def test_an_exception_that_nobody_foresaw_is_an_outcome_and_is_logged(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    host.script.on("checkout web", ZeroDivisionError("oh"))
    outcome = host.pass_(host.service())
    assert isinstance(outcome.error, StepError)
    assert str(outcome.error) == (
        "internal error: ZeroDivisionError: oh (in gitopper_checkout of plugin 'SimulatedGit')"
    )
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
    # What a disk refuses is told in its words; where nobody foresaw it, with all that there is to know.
    assert ("Traceback" in caplog.text) is isinstance(error, KeyError)
    host.assert_in_line(web, host.tip)


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
