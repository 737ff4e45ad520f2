"""The reconciler, pass by pass, on simulated plugins: deploys, and what survives a reboot."""

from __future__ import annotations

from pathlib import Path

import pytest

from libgitopper import (
    Reason,
    ReloadError,
    Source,
    Verb,
)
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import UPSTREAM, SimulatedHost


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
    host.assert_in_line(web, host.tip)
    assert [request.first for request in host.services.requests] == [True]


def test_a_second_pass_touches_nothing(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.KEEP
    assert set(host.script.log) <= {"fetch", "observe web"}


def test_a_change_of_a_mapped_path_is_published_and_reloaded_once(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
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
    host.deploy(web)
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
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.upstream.force(BRANCH, first)
    host.pass_(web)
    host.assert_in_line(web, first)


def test_a_branch_that_is_gone_leaves_the_service_where_it_is(host: SimulatedHost) -> None:
    web = host.service()
    revision = host.deploy(web)
    del host.upstream.branches[BRANCH]
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.KEEP
    host.assert_in_line(web, revision)


@pytest.mark.parametrize("first", [True, False])
def test_a_deploy_that_was_not_finished_when_its_branch_went_is_finished(
    host: SimulatedHost, first: bool
) -> None:
    web = host.service()
    if not first:
        host.deploy(web)
    revision = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    host.pass_(web)
    host.script.clear()
    del host.upstream.branches[BRANCH]
    assert host.pass_(web).error is None
    assert host.script.count("reload web") == 1
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
    assert event.details["revision"] == host.tip
    assert event.details["why"] == "first deploy"
    assert event.details["did"] == "simulated reload web"
    assert event.details["note"] == "the unit is stopped"


def test_after_a_reboot_with_the_upstream_never_reached_the_release_is_restored(
    host: SimulatedHost,
) -> None:
    web = host.service()
    revision = host.deploy(web)
    host.mounts.reboot()
    host.restart()
    outcome = host.reconciler.reconcile(web, None)
    assert outcome.error is None
    assert host.script.count("reload web") == 1
    assert host.services.requests[-1].first is False
    host.assert_in_line(web, revision)


def test_restore_shows_the_deployed_release_and_does_not_follow_upstream(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    assert host.reconciler.restore(web).error is None
    host.assert_in_line(web, first)


def test_restore_leaves_alone_what_is_shown_already(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.restart()
    assert host.reconciler.restore(web).error is None
    assert set(host.script.log) == {"observe web"}


def test_restore_has_nothing_to_do_before_the_first_deploy(host: SimulatedHost) -> None:
    outcome = host.reconciler.restore(host.service())
    assert (outcome.error, outcome.deployed, outcome.plan) == (None, None, None)


def test_a_release_that_was_deleted_is_made_again(host: SimulatedHost) -> None:
    web = host.service()
    revision = host.deploy(web)
    host.mounts.reboot()
    for path in web.releases.iterdir():
        path.rename(host.directory / "gone")
    host.pass_(web)
    host.assert_in_line(web, revision)


def test_an_umount_by_hand_is_repaired_and_reloaded(host: SimulatedHost) -> None:
    web = host.service(links={"/etc/web": "web", "/etc/webapp": "webapp"})
    revision = host.deploy(web)
    del host.mounts.shown[Path("/etc/webapp")]
    host.pass_(web)
    assert host.script.count("reload web") == 1
    host.assert_in_line(web, revision)


def test_a_restore_whose_reload_fails_does_not_hold_up_the_commit_that_mends_it(
    host: SimulatedHost,
) -> None:
    web = host.service()
    host.deploy(web)
    host.mounts.reboot()
    host.script.on("reload web", ReloadError("refused"))
    assert isinstance(host.pass_(web).error, ReloadError)
    host.script.clear()
    mended = host.upstream.commit({"web/conf": "mended"})
    assert host.pass_(web).error is None
    host.assert_in_line(web, mended)
