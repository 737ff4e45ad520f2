"""What is told of a commit, how far a service is behind, what would come, and what drifted."""

from __future__ import annotations

import pytest
from attrs import evolve

from libgitopper import Health, Reason, SourceError, Standing, UnknownRevision, Verb
from tests.support.explaining import CHECK, explain, host, inspector
from tests.support.simulated import BRANCH
from tests.support.simulatedhost import SimulatedHost

__all__ = ["host"]  # fixtures

HEALTH = Health(command=("true",), within_seconds=3)


def test_without_a_commit_it_is_about_the_tip(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    tip = host.upstream.commit({"web/conf": "2"})
    found = explain(host, host.service())
    assert (found.revision, found.standing) == (tip, Standing.AHEAD)
    assert found.commit is not None
    assert found.commit.subject == "commit 1"
    assert found.decision is found.now
    assert "the next pass deploys" in found.verdict


def test_a_commit_that_several_polls_passed_over_tells_with_which_it_came(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    passed_over = host.upstream.commit({"web/conf": "2"})
    brought_it = host.upstream.commit({"web/conf": "3"})
    host.deploy(host.service())
    host.upstream.commit({"web/conf": "4"})
    host.deploy(host.service())
    found = explain(host, host.service(), passed_over)
    assert (found.standing, found.came_with) == (Standing.PAST, brought_it)
    assert f"it came with {brought_it[:12]}" in found.verdict
    own = explain(host, host.service(), brought_it)
    assert (own.came_with, len(own.deploys)) == (None, 1)


def test_a_commit_that_was_taken_back_tells_so_also_when_a_good_one_came_after_it(
    host: SimulatedHost,
) -> None:
    service = host.service(health=HEALTH)
    host.upstream.commit({"web/conf": "1"})
    host.deploy(service)
    bad = host.upstream.commit({"web/conf": "ill"})
    host.pass_(service)
    found = explain(host, service, bad)
    assert Reason.REJECTED in found.reasons
    assert "failed its health" in found.verdict
    assert [deploy.after for deploy in found.deploys] == [bad]
    host.upstream.commit({"web/conf": "2"})
    host.deploy(service)
    assert "it failed: " in explain(host, service, bad).verdict


def test_a_commit_beside_the_one_that_failed_is_told_what_fails_it(host: SimulatedHost) -> None:
    service = host.service(check=CHECK)
    host.upstream.commit({"web/conf": "1"})
    host.deploy(service)
    bad = host.upstream.commit({"web/conf": "unfit"})
    host.pass_(service)
    beside = host.upstream.commit({"db/conf": "1"})
    found = explain(host, service, beside)
    assert Reason.ELSEWHERE in found.reasons
    assert Reason.REJECTED in found.reasons
    assert f"as part of {bad[:12]}" in found.verdict


def test_a_frozen_service_tells_who_froze_it(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    host.freeze(host.service())
    waiting = host.upstream.commit({"web/conf": "2"})
    found = explain(host, host.service(), waiting)
    assert (found.standing, found.decision) == (Standing.AHEAD, None)
    assert found.now is not None
    assert found.now.plan.verb is Verb.KEEP
    assert found.verdict.endswith("it has to wait for an unfreeze: frozen")


def test_a_commit_before_the_tip_tells_what_comes_after_it(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    waiting = host.upstream.commit({"web/conf": "2"})
    tip = host.upstream.commit({"web/conf": "3"})
    found = explain(host, host.service(), waiting)
    assert found.decision is not None
    assert found.decision.plan.target is not None
    assert found.decision.plan.target.revision == waiting
    assert found.verdict.endswith(f"{tip[:12]} comes after it")


def test_a_commit_that_lacks_a_path_tells_that_it_can_not_be_deployed(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    removed = host.upstream.commit({"web/conf": None, "db/conf": "1"})
    found = explain(host, host.service(), removed)
    assert found.effect is not None
    assert found.effect.plan is None
    assert found.now is None
    assert "web: not there" in found.trouble
    assert "can't be deployed: web: not there" in found.verdict


def test_a_commit_that_history_lost_is_known_by_what_was_done_with_it(host: SimulatedHost) -> None:
    base = host.upstream.commit({"web/conf": "1"})
    lost = host.upstream.commit({"web/conf": "2"})
    service = host.service(keep=1)
    host.deploy(service)
    host.upstream.force(BRANCH, base)
    rewritten = host.upstream.commit({"web/conf": "3"})
    host.deploy(service)
    found = explain(host, service, lost[:6])
    assert (found.revision, found.standing) == (lost, Standing.ASIDE)
    assert len(found.deploys) == 1
    assert f"{rewritten[:12]} is what web shall be at" in found.verdict
    host.freeze(service)
    assert f"{rewritten[:12]} is what web shall be at" in explain(host, service, lost).verdict
    host.upstream.force(BRANCH, base)
    anew = host.upstream.commit({"web/conf": "4"})
    found = explain(host, service, anew)
    assert (found.standing, found.tip) == (Standing.ASIDE, anew)
    assert "it has to wait for an unfreeze" in found.verdict


def test_a_hash_that_names_nothing_is_refused(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    host.deploy(host.service())
    with pytest.raises(UnknownRevision):
        explain(host, host.service(), "0" * 40)
    with pytest.raises(UnknownRevision):
        inspector(host).explain(host.service(), None, "0" * 40)


def test_how_far_a_service_is_behind_is_counted_also_while_it_is_frozen(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    service = host.service()
    look = inspector(host)
    assert look.behind(service, host.fetch(service)) is None, "nothing is deployed"
    host.deploy(service)
    host.freeze(service)
    here = look.behind(service, host.fetch(service))
    assert here is not None
    assert (here.upstream, here.commits, here.touching) == (host.tip, 0, 0)
    host.upstream.commit({"db/conf": "1"})
    host.upstream.commit({"web/conf": "2"})
    host.upstream.commit({"web/conf": None, "db/conf": "2"})
    tip = host.upstream.commit({"db/conf": "3"})
    there = look.behind(service, host.fetch(service))
    assert there is not None
    assert (there.upstream, there.commits, there.touching) == (tip, 4, 2)


def test_a_service_whose_commit_is_not_in_the_store_is_not_said_to_be_behind(host: SimulatedHost) -> None:
    host.upstream.commit({"web/conf": "1"})
    service = host.service()
    host.deploy(service)
    deployed = host.state.deployed("web")
    assert deployed is not None
    host.state.advance(evolve(deployed, revision="1" * 40))
    assert inspector(host).behind(service, host.fetch(service)) is None
    assert inspector(host).behind(service, None) is None


def test_what_would_come_is_the_difference_to_the_tip(host: SimulatedHost) -> None:
    here = host.upstream.commit({"web/conf": "1"})
    service = host.service()
    store = host.fetch(service)
    look = inspector(host)
    assert [change.path for change in look.upstream(service, store).changes] == ["web/conf"]
    host.deploy(service)
    tip = host.upstream.commit({"web/conf": "2", "db/conf": "1"})
    found = look.upstream(service, host.fetch(service))
    assert (found.before, found.after) == (here, tip)
    assert [change.path for change in found.changes] == ["web/conf"]
    assert found.patch
    back = look.revisions(service, host.fetch(service), tip[:8], here[:8])
    assert (back.before, back.after, len(back.changes)) == (tip, here, 1)
    with pytest.raises(SourceError, match="never fetched"):
        look.upstream(service, None)


def test_drift_is_compared_by_content_and_kept_also_when_it_is_healed(host: SimulatedHost) -> None:
    tip = host.upstream.commit({"web/conf": "1"})
    service = host.service()
    host.deploy(service)
    deployed = host.state.deployed("web")
    assert deployed is not None
    look, store = inspector(host), host.fetch(service)
    assert look.drift(service, store).changes == ()
    assert look.kept_drift(service).kept == 0
    (deployed.release_path / "web/conf").write_text("edited")
    found = look.drift(service, store)
    assert (found.before, found.after, found.kept) == (tip, None, 1)
    assert found.patch == b"web/conf: edited"
    assert host.guards.compared[-1].thorough
    (deployed.release_path / "web/conf").write_text("1")
    assert look.drift(service, store).patch == b""
    kept = look.kept_drift(service)
    assert (kept.patch, kept.before, kept.healed, kept.kept) == (b"web/conf: edited", tip, False, 1)
    assert kept.at is not None
    assert look.kept_drift(service, 2).patch == b""
