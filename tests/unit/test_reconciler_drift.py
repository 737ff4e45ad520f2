"""Drift: files that somebody changed are told, kept as a patch, and healed where that is the policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from libgitopper import (
    ChangeKind,
    Check,
    CheckError,
    CheckoutError,
    DriftPolicy,
    Health,
    PublishError,
    ReloadError,
    Result,
    Service,
    SourceError,
    State,
    Verb,
)
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost

HEAL, OFF = DriftPolicy.HEAL, DriftPolicy.OFF


def drifted(host: SimulatedHost, **more: Any) -> Service:
    """A deployed service with a file that was edited."""
    web = host.service(**more)
    host.deploy(web)
    host.edit(web, "web/conf", "edited")
    return web


def test_drift_is_told_as_diff_and_kept_as_a_patch(host: SimulatedHost) -> None:
    web = drifted(host)
    host.edit(web, "web/added", "more")
    outcome = host.pass_(web)
    assert outcome.error is None
    assert host.told(outcome) == (State.DIFF, "drift: web/added added, and 1 more file")
    (record,) = host.state.drifts("web")
    assert (record.release, record.revision, record.healed) == (host.shown(web), host.tip, False)
    assert [(c.path, c.kind) for c in record.changes] == [
        ("web/added", ChangeKind.ADDED), ("web/conf", ChangeKind.EDITED),
    ]  # fmt: skip
    assert record.patch == b"web/added: more\nweb/conf: edited"
    assert host.script.count("publish web") == host.script.count("reload web") == 0


def test_drift_is_kept_and_announced_once_for_each_form(host: SimulatedHost) -> None:
    web = drifted(host)
    for _ in range(3):
        assert host.told(host.pass_(web))[0] is State.DIFF
    host.restart()
    host.pass_(web)
    assert len(host.state.drifts("web")) == host.observer.kinds().count("drift") == 1
    host.edit(web, "web/conf", "edited again")
    host.pass_(web)
    assert [record.patch for record in host.state.drifts("web")] == [
        b"web/conf: edited again", b"web/conf: edited",
    ]  # fmt: skip
    assert host.observer.kinds().count("drift") == 2


def test_drift_that_somebody_undid_is_no_longer_told_and_its_patch_stays(host: SimulatedHost) -> None:
    web = drifted(host)
    host.pass_(web)
    host.edit(web, "web/conf", "1")
    assert host.told(host.pass_(web)) == (State.OK, "")
    assert len(host.state.drifts("web")) == 1


def test_who_wants_nobody_to_look_has_nobody_look(host: SimulatedHost) -> None:
    web = drifted(host, drift=OFF)
    host.guards.compared.clear()
    assert host.told(host.pass_(web)) == (State.OK, "")
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(web)
    assert host.guards.compared == []
    assert host.state.drifts("web") == ()


@pytest.mark.parametrize("policy", list(DriftPolicy))
def test_an_operator_who_asks_is_told_whatever_the_policy(host: SimulatedHost, policy: DriftPolicy) -> None:
    web = drifted(host, drift=policy)
    found = host.look(web)
    assert found is not None
    assert [change.path for change in found.changes] == ["web/conf"]
    assert host.guards.compared[-1].thorough
    assert len(host.state.drifts("web")) == 1
    assert host.read(web) == "edited", "asking heals nothing"


def test_an_operator_is_told_that_nothing_differs(host: SimulatedHost) -> None:
    web = host.service()
    assert host.look(web) is None, "nothing is deployed"
    host.deploy(web)
    assert host.look(web) is None
    assert host.reconciler.drift(web, None) is None, "there is nothing to compare with"


def test_files_are_compared_as_they_were_placed_when_they_were_published(host: SimulatedHost) -> None:
    host.deploy(host.service(user="then"))
    host.look(host.service(user="now", drift=HEAL))
    assert (host.guards.compared[-1].service.user, host.guards.compared[-1].service.drift) == ("then", HEAL)


def test_healing_publishes_a_fresh_release_and_the_patch_stays(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    before = host.shown(web)
    outcome = host.pass_(web)
    assert outcome.error is None
    assert outcome.drift is None
    assert host.told(outcome) == (State.OK, "")
    assert host.read(web) == "1"
    assert host.shown(web) != before
    assert (host.script.count("publish web"), host.script.count("reload web")) == (1, 1)
    host.assert_in_line(web, host.tip)
    (record,) = host.state.drifts("web")
    assert (record.release, record.healed, record.patch) == (before, True, b"web/conf: edited")
    assert host.observer.kinds()[-2:] == ["drift", "healed"]


def test_after_healing_everything_is_in_line_and_stays(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.pass_(web)
    healed = host.shown(web)
    host.restart()
    for _ in range(3):
        outcome = host.pass_(web)
        assert outcome.plan is not None
        assert outcome.plan.verb is Verb.KEEP
        assert outcome.drift is None
    assert set(host.script.log) <= {"fetch", "observe web", "discard web"}
    assert host.shown(web) == healed


def test_what_drifts_again_is_healed_again(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    releases = {host.shown(web)}
    for _ in range(3):
        host.pass_(web)
        releases.add(host.shown(web))
        host.edit(web, "web/conf", "edited again")
    assert len(releases) == 4
    assert len(host.state.drifts("web")) == 3


def test_healing_takes_no_room_from_the_releases_that_are_kept_for_rollbacks(host: SimulatedHost) -> None:
    web = host.service(drift=HEAL, keep=2)
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "2"})
    host.deploy(web)
    for _ in range(4):
        host.edit(web, "web/conf", "edited")
        host.pass_(web)
    host.upstream.reachable = False
    host.restart()
    assert len(list(web.releases.iterdir())) == 2, "what had drifted is not kept"
    host.roll_back(web, host.reconciler.resolve(web, first[:8], None))
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)


def test_healing_enters_the_history(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.pass_(web)
    entry = host.state.deploys("web")[0]
    assert (entry.result, entry.asked, entry.error) == (Result.HEALED, "drift", "")
    assert (entry.before, entry.after, entry.release) == (host.tip, host.tip, host.shown(web))
    assert [change.path for change in entry.files] == ["web/conf"]


def test_a_commit_elsewhere_after_healing_only_moves_the_hash(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.pass_(web)
    healed = host.shown(web)
    host.script.clear()
    host.upstream.commit({"elsewhere": "2"})
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.ADVANCE
    assert host.script.count("publish web") == 0
    assert host.shown(web) == healed
    host.assert_in_line(web, host.tip)
    again = host.pass_(web)
    assert again.plan is not None
    assert again.plan.verb is Verb.KEEP


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


def test_what_can_not_be_kept_is_not_healed(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.guards.keeps_patches = False
    for _ in range(2):
        state, info = host.told(host.pass_(web))
        assert state is State.DIFF
        assert info == "drift: web/conf edited; too large to be kept as a patch"
    assert host.read(web) == "edited"
    assert host.script.count("publish web") == 0


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


def test_settings_that_are_past_when_a_pass_ends_heal_nothing(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    answers = iter([True, True])
    outcome = host.pass_(web, still=lambda: next(answers, False))
    assert outcome.error is None
    assert outcome.drift is not None
    assert host.read(web) == "edited"


def test_a_fresh_release_that_is_not_taken_is_tried_again_until_it_is(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.script.on("reload web", ReloadError("refused"))
    for _ in range(2):
        outcome = host.pass_(web)
        assert isinstance(outcome.error, ReloadError)
        assert host.told(outcome)[0] is State.BROKEN
    host.script.clear()
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    host.assert_in_line(web, host.tip)
    assert host.state.drifts("web")[0].healed


@pytest.mark.parametrize("error", [PublishError("in the way"), SourceError("gone")])
def test_healing_that_fails_leaves_the_files_and_is_tried_again(
    host: SimulatedHost, error: Exception
) -> None:
    web = drifted(host, drift=HEAL)
    host.script.on("publish web" if isinstance(error, PublishError) else "checkout web", error)
    assert host.pass_(web).error is error
    assert host.read(web) == "edited"
    host.script.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, host.tip)
    assert host.read(web) == "1"


@pytest.mark.parametrize("policy", [OFF, DriftPolicy.REPORT])
def test_new_settings_for_what_is_shown_heal_nothing_that_is_not_to_be_healed(
    host: SimulatedHost, policy: DriftPolicy
) -> None:
    web = drifted(host, drift=policy)
    changed = evolve(web, readonly=True)
    assert host.pass_(changed).error is None
    assert host.read(changed) == "edited"
    host.assert_in_line(changed, host.tip)


def test_healing_waits_for_new_settings_and_then_follows_them(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    moved = evolve(web, readonly=True)
    outcome = host.pass_(moved)
    assert outcome.error is None
    assert host.read(moved) == "1", "the release is the same, so it is healed once it is placed"
    host.assert_in_line(moved, host.tip)


def test_drift_is_not_healed_at_paths_that_are_past(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    moved = host.service(links={"/srv/web": "web"}, drift=HEAL, check=Check(commands=(("check",),)))
    host.script.on("check web", CheckError("not there", retryable=True))
    assert isinstance(host.pass_(moved).error, CheckError)
    assert host.read(web) == "edited"
    assert host.shown(moved) is None
    assert len(host.state.drifts("web")) == 1
    host.script.clear()
    assert host.pass_(moved).error is None
    host.assert_in_line(moved, host.tip)


def test_a_reboot_shows_the_drifted_release_first_and_then_heals_it(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.mounts.reboot()
    host.restart()
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    host.assert_in_line(web, host.tip)


@pytest.mark.parametrize("error", [CheckoutError("the index is damaged"), OSError("i/o error")])
def test_files_that_can_not_be_compared_are_logged_and_in_nobodys_way(
    host: SimulatedHost, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    web = drifted(host)
    host.script.on("drift web", error)
    newer = host.upstream.commit({"web/conf": "2"})
    assert host.pass_(web).error is None
    assert "its files could not be compared with their revision" in caplog.text
    host.assert_in_line(web, newer)
    if isinstance(error, CheckoutError):
        assert all(record.levelno < logging.ERROR for record in caplog.records)
        with pytest.raises(CheckoutError):
            host.look(web)


def test_a_release_that_was_replaced_while_an_operator_looked_is_no_drift(host: SimulatedHost) -> None:
    web = host.service(keep=1)
    host.deploy(web)

    def replace() -> None:
        host.script.clear()
        host.upstream.commit({"web/conf": "2"})
        host.pass_(web)

    host.script.on("drift web", replace)
    assert host.look(web) is None
    assert host.state.drifts("web") == ()


def test_healing_is_not_undone_by_an_operator_in_between(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.script.on("checkout web", lambda: host.freeze(web))
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    assert host.told(host.pass_(web))[0] is State.FREEZE


FLOWS: list[Callable[[SimulatedHost], Service]] = []


def flow(make: Callable[[SimulatedHost], Service]) -> Callable[[SimulatedHost], Service]:
    FLOWS.append(make)
    return make


@flow
def plain(host: SimulatedHost) -> Service:
    return drifted(host, drift=HEAL)


@flow
def watched(host: SimulatedHost) -> Service:
    return drifted(
        host, drift=HEAL, check=Check(commands=(("x",),)), health=Health(unit=True, within_seconds=1.0)
    )


@flow
def with_a_commit_elsewhere(host: SimulatedHost) -> Service:
    web = drifted(host, drift=HEAL)
    host.upstream.commit({"elsewhere": "2"})
    return web


@flow
def frozen(host: SimulatedHost) -> Service:
    web = drifted(host, drift=HEAL)
    host.freeze(web)
    return web


@pytest.mark.parametrize("make", FLOWS)
def test_a_crash_at_any_step_of_healing_ends_with_good_files_and_the_patch(
    make: Callable[[SimulatedHost], Service], tmp_path: Any
) -> None:
    for number in range(60):
        host = SimulatedHost(tmp_path / str(number))
        host.upstream.commit({"web/conf": "1", "webapp/conf": "1"})
        web = make(host)
        host.restart()
        host.script.crash_at = number
        try:
            host.pass_(web)
        except Crash as crash:
            where = str(crash)
        else:
            host.close()
            assert number > 10
            return
        host.restart()
        assert host.pass_(web).error is None, where
        assert host.read(web) == "1", where
        host.assert_in_line(web, host.tip)
        (record,) = host.state.drifts("web")
        assert (record.patch, record.healed) == (b"web/conf: edited", True), where
        host.restart()
        host.pass_(web)
        assert set(host.script.log) <= {"fetch", "observe web", "discard web"}, where
        host.close()
    raise AssertionError("healing has no end")
