"""Drift is healed where that is the policy: by a fresh release, and the patch stays."""

from __future__ import annotations

import pytest
from attrs import evolve

from libgitopper import (
    Check,
    CheckError,
    DriftPolicy,
    PublishError,
    ReloadError,
    Result,
    SourceError,
    State,
    Verb,
)
from tests.support.drifted import HEAL, OFF, drifted
from tests.support.simulatedhost import SimulatedHost


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
    assert set(host.script.log) <= {"fetch", "observe web", "checkout web", "discard web"}
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


def test_what_can_not_be_kept_is_not_healed(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.guards.keeps_patches = False
    for _ in range(2):
        state, info = host.told(host.pass_(web))
        assert state is State.DIFF
        assert info == "drift: web/conf edited; too large to be kept as a patch"
    assert host.read(web) == "edited"
    assert host.script.count("publish web") == 0


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


def test_healing_is_not_undone_by_an_operator_in_between(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.script.on("checkout web", lambda: host.freeze(web))
    assert host.pass_(web).error is None
    assert host.read(web) == "1"
    assert host.told(host.pass_(web))[0] is State.FREEZE
