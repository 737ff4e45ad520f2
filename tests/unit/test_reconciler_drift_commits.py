"""Drift beside what else happens to a service: new commits, bad ones, rollbacks and freezes."""

from __future__ import annotations

import logging

import pytest

from libgitopper import Check, CheckError, DriftPolicy, PublishError, ReloadError, State
from tests.support.drifted import HEAL, drifted
from tests.support.simulatedhost import SimulatedHost


def test_a_later_deploy_of_the_content_that_drifted_gives_what_the_revision_has(
    host: SimulatedHost,
) -> None:
    web = drifted(host)
    host.pass_(web)
    host.upstream.commit({"web/conf": "2"})
    host.pass_(web)
    host.upstream.commit({"web/conf": "1"})
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    host.assert_in_line(web, host.tip)
    assert host.told(host.pass_(web)) == (State.OK, "")


def test_a_later_deploy_of_the_content_that_was_healed_uses_a_release_that_is_good(
    host: SimulatedHost,
) -> None:
    web = drifted(host, drift=HEAL)
    host.pass_(web)
    host.upstream.commit({"web/conf": "2"})
    host.pass_(web)
    host.upstream.commit({"web/conf": "1"})
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    host.assert_in_line(web, host.tip)
    host.script.clear()
    host.pass_(web)
    assert host.script.count("publish web") == 0


def test_a_rollback_to_a_release_whose_files_drifted_makes_a_fresh_one(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    web = drifted(host)
    first, before = host.tip, host.shown(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.roll_back(web, first)
    assert host.pass_(web).error is None
    assert "was changed meanwhile, and is made afresh" in caplog.text
    assert host.read(web) == "1"
    assert host.shown(web) != before
    host.assert_in_line(web, first)
    host.script.clear()
    host.pass_(web)
    assert host.script.count("publish web") == 0


def test_a_rollback_to_a_release_whose_files_are_what_they_were_uses_it(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    before = host.shown(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.roll_back(web, first)
    host.pass_(web)
    assert host.shown(web) == before


@pytest.mark.parametrize("policy", [DriftPolicy.REPORT, HEAL])
def test_drift_is_seen_while_frozen(host: SimulatedHost, policy: DriftPolicy) -> None:
    web = host.service(drift=policy)
    host.deploy(web)
    host.freeze(web)
    host.edit(web, "web/conf", "edited")
    newer = host.upstream.commit({"web/conf": "2"})
    state, info = host.told(host.pass_(web))
    if policy is HEAL:
        assert state is State.FREEZE
        assert host.read(web) == "1"
    else:
        assert (state, info) == (State.DIFF, "drift: web/conf edited")
    deployed = host.state.deployed("web")
    assert deployed is not None
    assert deployed.revision != newer
    assert host.state.drifts("web")[0].healed is (policy is HEAL)


@pytest.mark.parametrize("policy", [DriftPolicy.REPORT, HEAL])
def test_drift_is_seen_while_rolled_back(host: SimulatedHost, policy: DriftPolicy) -> None:
    web = host.service(drift=policy)
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    host.roll_back(web, first)
    host.pass_(web)
    host.edit(web, "web/conf", "edited")
    state, info = host.told(host.pass_(web))
    if policy is HEAL:
        assert (state, info) == (State.FREEZE, f"ROLLBACK: {first}")
        host.assert_in_line(web, first)
    else:
        assert state is State.DIFF
        assert "drift: web/conf edited" in info


@pytest.mark.parametrize("policy", [DriftPolicy.REPORT, HEAL])
def test_drift_and_a_new_commit_in_one_pass_keep_the_patch_before_the_files_are_replaced(
    host: SimulatedHost, policy: DriftPolicy
) -> None:
    web = drifted(host, drift=policy)
    newer = host.upstream.commit({"web/conf": "2"})
    outcome = host.pass_(web)
    assert host.script.log.index("keep web") < host.script.log.index("publish web")
    assert (outcome.error, outcome.drift) == (None, None)
    assert host.script.count("publish web") == 1, "nothing is healed that is replaced"
    (record,) = host.state.drifts("web")
    assert (record.patch, record.healed) == (b"web/conf: edited", False)
    host.assert_in_line(web, newer)


def test_drift_and_a_commit_elsewhere_in_one_pass_are_both_seen_to(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    newer = host.upstream.commit({"elsewhere": "2"})
    assert host.told(host.pass_(web)) == (State.OK, "")
    assert host.read(web) == "1"
    host.assert_in_line(web, newer)


def test_drift_under_a_commit_that_is_refused_is_healed_all_the_same(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL, check=Check(commands=(("check",),)))
    host.upstream.commit({"web/conf": "unfit"})
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.read(web) == "1"
    host.edit(web, "web/conf", "edited again")
    assert isinstance(host.pass_(web).error, CheckError)
    assert host.read(web) == "1"
    assert host.script.count("check web") == 1


def test_healing_that_fails_under_a_commit_that_is_refused_is_logged(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    web = drifted(host, drift=HEAL, check=Check(commands=(("check",),)))
    host.upstream.commit({"web/conf": "unfit"})
    host.script.on("publish web", PublishError("in the way"))
    assert isinstance(host.pass_(web).error, CheckError), "what the operator has to mend first"
    assert "web: its drift could not be healed: in the way" in caplog.text
    host.script.clear()
    host.pass_(web)
    assert host.read(web) == "1"


def test_healing_that_fails_in_a_way_that_nobody_foresaw_does_not_hide_what_is_to_be_mended(
    host: SimulatedHost, caplog: pytest.LogCaptureFixture
) -> None:
    web = drifted(host, drift=HEAL, check=Check(commands=(("check",),)))
    host.upstream.commit({"web/conf": "unfit"})
    host.script.on("publish web", ZeroDivisionError("oh"))
    assert isinstance(host.pass_(web).error, CheckError)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "web: its drift could not be healed"
    assert record.exc_info


def test_drift_under_a_commit_that_is_not_taken_does_not_bring_back_the_former_files(
    host: SimulatedHost,
) -> None:
    web = drifted(host, drift=HEAL)
    newer = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    for _ in range(2):
        assert isinstance(host.pass_(web).error, ReloadError)
        assert host.read(web) == "2"
    assert host.script.count("reload web") == 2, "once for each pass"
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, newer)


@pytest.mark.parametrize("policy", [DriftPolicy.REPORT, HEAL])
@pytest.mark.parametrize("former", ["1", None])
def test_what_was_mended_by_hand_where_a_reload_failed_is_kept_before_it_is_replaced(
    host: SimulatedHost, policy: DriftPolicy, former: str | None
) -> None:
    web = host.service(drift=policy)
    if former:
        host.upstream.commit({"web/conf": former})
        host.pass_(web)
    host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    assert isinstance(host.pass_(web).error, ReloadError)
    host.edit(web, "web/conf", "mended")
    newer = host.upstream.commit({"web/conf": "3"})
    host.script.clear()
    assert host.pass_(web).drift is None
    assert host.script.log.index("keep web") < host.script.log.index("publish web")
    (record,) = host.state.drifts("web")
    assert record.patch == b"web/conf: mended"
    host.assert_in_line(web, newer)


def test_what_was_mended_by_hand_where_a_reload_failed_stays_until_it_is_taken(host: SimulatedHost) -> None:
    web = host.service(drift=HEAL)
    revision = host.upstream.commit({"web/conf": "2"})
    host.script.on("reload web", ReloadError("refused"))
    for _ in range(2):
        assert isinstance(host.pass_(web).error, ReloadError)
        host.edit(web, "web/conf", "mended")
    assert host.read(web) == "mended"
    host.script.clear()
    assert host.pass_(web).error is None
    host.pass_(web)
    assert host.read(web) == "2"
    assert [record.patch for record in host.state.drifts("web")] == [b"web/conf: mended"]
    host.assert_in_line(web, revision)
