"""Nothing is written before a commit is verified; what was accepted is remembered, and never by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import (
    IntentKind,
    PluginError,
    ReloadError,
    Result,
    Service,
    Source,
    State,
    Verb,
    Verify,
    VerifyError,
)
from tests.support.simulated import BRANCH, Crash
from tests.support.simulatedhost import UPSTREAM, SimulatedHost

VERIFY = Verify(keyring=Path("/etc/ring"))
MAIN = Source(upstream=UPSTREAM, branch=BRANCH)
DEV = Source(upstream=UPSTREAM, branch="dev")


def verified(host: SimulatedHost, **more: Any) -> Service:
    return host.service(**({"verify": VERIFY} | more))


def accepted(host: SimulatedHost, source: Source = MAIN) -> str | None:
    return host.state.accepted("web", source)


def push(host: SimulatedHost, text: str, *, signed: bool = True) -> str:
    revision = host.upstream.commit({"web/conf": text})
    if not signed:
        host.guards.unsigned.add(revision)
    return revision


def test_nothing_is_written_before_the_commit_is_verified(host: SimulatedHost) -> None:
    web = verified(host)
    seen: list[object] = []

    def look() -> None:
        seen.extend(
            [web.mount.exists(), host.state.attempt("web"), accepted(host), host.mounts.shown.copy()]
        )

    host.script.on("verify web", look)
    assert host.pass_(web).error is None
    assert seen == [False, None, None, {}]
    assert accepted(host) == host.tip


@pytest.mark.parametrize("first", [True, False])
def test_a_commit_that_is_refused_leaves_nothing_behind(host: SimulatedHost, first: bool) -> None:
    web = verified(host)
    good = None if first else host.deploy(web)
    push(host, "2", signed=False)
    releases = set(web.releases.iterdir()) if web.releases.exists() else set()
    outcome = host.pass_(web)
    assert isinstance(outcome.error, VerifyError)
    assert f"{host.tip} is not signed" in host.told(outcome)[1]
    assert (set(web.releases.iterdir()) if web.releases.exists() else set()) == releases
    assert accepted(host) == good
    assert host.state.attempt("web") is None
    changing = ("accept", "install", "checkout", "check", "begin", "publish", "reload", "record")
    assert not any(host.script.count(f"{step} web") for step in changing)
    assert host.state.deploys("web")[0].result is Result.FAILED
    if good:
        host.assert_in_line(web, good)


def test_a_refused_commit_is_judged_again_in_each_pass(host: SimulatedHost) -> None:
    """What is trusted may change, and nothing of the commit was tried."""
    web = verified(host)
    host.deploy(web)
    better = push(host, "2", signed=False)
    for number in (1, 2):
        assert isinstance(host.pass_(web).error, VerifyError)
        assert host.script.count("verify web") == number
    host.guards.unsigned.clear()
    assert host.pass_(web).error is None
    host.assert_in_line(web, better)


def test_a_commit_that_changes_other_paths_only_is_verified_too(host: SimulatedHost) -> None:
    web = verified(host)
    good = host.deploy(web)
    stranger = host.upstream.commit({"elsewhere": "2"})
    host.guards.unsigned.add(stranger)
    assert isinstance(host.pass_(web).error, VerifyError)
    host.assert_in_line(web, good)
    assert accepted(host) == good
    host.guards.unsigned.clear()
    outcome = host.pass_(web)
    assert outcome.plan is not None
    assert outcome.plan.verb is Verb.ADVANCE
    assert accepted(host) == stranger
    host.assert_in_line(web, stranger)


def test_what_is_in_line_is_not_verified_again(host: SimulatedHost) -> None:
    web = verified(host)
    host.deploy(web)
    host.pass_(web)
    host.restart()
    host.pass_(web)
    assert host.script.count("verify web") == 0


def test_what_was_accepted_is_told_to_whoever_verifies(host: SimulatedHost) -> None:
    web = verified(host)
    first = host.deploy(web)
    second = push(host, "2")
    host.pass_(web)
    third = push(host, "3")
    host.restart()
    host.pass_(web)
    told = [(request.accepted, request.floor, request.revision) for request in host.guards.verified]
    assert told == [(None, None, first), (first, first, second), (second, second, third)]


def test_what_is_deployed_already_when_verifying_begins_counts_as_accepted_but_is_no_floor(
    host: SimulatedHost,
) -> None:
    first = host.deploy(host.service())
    second = push(host, "2")
    web = verified(host)
    host.pass_(web)
    (request,) = host.guards.verified
    assert (request.accepted, request.floor) == (first, None)
    assert accepted(host) == second


def test_nothing_is_marked_as_accepted_where_no_plugin_judged(host: SimulatedHost) -> None:
    host.deploy(host.service())
    push(host, "2")
    host.pass_(host.service())
    host.upstream.commit({"elsewhere": "2"})
    host.pass_(host.service())
    assert accepted(host) is None
    assert host.script.count("accept web") == 0


def test_what_is_deployed_while_nothing_is_verified_counts_when_it_is_again(host: SimulatedHost) -> None:
    """So an operator can let a commit pass: without `verify` for one deploy."""
    web = verified(host)
    host.deploy(web)
    passed = push(host, "2", signed=False)
    assert isinstance(host.pass_(web).error, VerifyError)
    assert host.pass_(host.service()).error is None
    push(host, "3")
    assert host.pass_(web).error is None
    assert host.guards.verified[-1].accepted == passed


def test_verifying_that_no_plugin_does_publishes_nothing(host: SimulatedHost) -> None:
    host.hooks.manager.unregister(host.guards)
    assert isinstance(host.pass_(verified(host)).error, PluginError)
    assert host.mounts.shown == {}
    assert not (host.directory / "mount").exists()


def test_a_rollback_does_not_move_back_what_was_accepted(host: SimulatedHost) -> None:
    web = verified(host)
    first = host.deploy(web)
    second = push(host, "2")
    host.deploy(web)
    host.roll_back(web, first)
    assert host.pass_(web).error is None
    host.assert_in_line(web, first)
    request = host.guards.verified[-1]
    assert request.intent.kind is IntentKind.ROLLBACK
    assert (request.accepted, request.floor, request.revision) == (second, second, first)
    assert accepted(host) == second
    host.unfreeze(web)
    assert host.pass_(web).error is None
    assert host.guards.verified[-1].accepted == second
    assert accepted(host) == second


def test_a_rollback_to_a_commit_that_is_refused_is_refused(host: SimulatedHost) -> None:
    web = verified(host)
    bad = push(host, "2", signed=False)
    good = push(host, "3")
    assert host.pass_(web).error is None
    host.roll_back(web, bad)
    assert isinstance(host.pass_(web).error, VerifyError)
    host.assert_in_line(web, good)


def test_after_a_change_of_branch_there_is_no_floor_and_what_runs_counts_as_accepted(
    host: SimulatedHost,
) -> None:
    first = host.deploy(verified(host))
    dev = host.upstream.commit({"web/conf": "dev"}, "dev")
    on_dev = verified(host, source=DEV)
    assert host.pass_(on_dev).error is None
    request = host.guards.verified[-1]
    assert (request.accepted, request.floor, request.revision) == (first, None, dev)
    assert (accepted(host, DEV), accepted(host)) == (dev, first)


def test_back_on_a_branch_its_floor_is_what_was_accepted_there(host: SimulatedHost) -> None:
    web = verified(host)
    first = host.deploy(web)
    host.upstream.commit({"web/conf": "dev"}, "dev")
    host.pass_(verified(host, source=DEV))
    assert host.pass_(web).error is None
    request = host.guards.verified[-1]
    assert (request.accepted, request.floor, request.revision) == (first, first, first)


def test_what_was_accepted_stays_when_a_later_step_fails(host: SimulatedHost) -> None:
    web = verified(host)
    host.deploy(web)
    second = push(host, "2")
    host.mounts.in_the_way.update(mapping.local for mapping in web.mappings)
    host.pass_(web)
    assert accepted(host) == second
    assert host.script.count("accept web") == 1
    host.pass_(web)
    assert host.script.count("accept web") == 1, "written once"


def test_upstream_that_is_rewound_to_what_is_deployed_is_held_to_what_was_accepted_since(
    host: SimulatedHost,
) -> None:
    web = verified(host)
    first = host.deploy(web)
    host.script.on("reload web", ReloadError("no"))
    second = push(host, "2")
    host.pass_(web)
    host.upstream.force("main", first)
    host.guards.verified.clear()
    host.pass_(web)
    [request] = host.guards.verified
    assert (request.accepted, request.floor, request.revision) == (second, second, first)


def test_a_crash_while_it_is_accepted_loses_nothing(tmp_path: Path) -> None:
    for when in ("before", "after"):
        host = SimulatedHost(tmp_path / when)
        host.upstream.commit({"web/conf": "1"})
        web = verified(host)
        first = host.deploy(web)
        second = push(host, "2")
        host.script.on("accept web", Crash(), when=when)
        with pytest.raises(Crash):
            host.pass_(web)
        host.restart()
        assert accepted(host) == (first if when == "before" else second)
        host.assert_in_line(web, first)
        assert host.pass_(web).error is None
        host.assert_in_line(web, second)
        host.close()


def test_a_frozen_service_accepts_nothing_new(host: SimulatedHost) -> None:
    web = verified(host)
    first = host.deploy(web)
    host.freeze(web)
    push(host, "2")
    assert host.told(host.pass_(web))[0] is State.FREEZE
    assert accepted(host) == first


def test_who_asks_for_no_rewind_alone_is_verified_as_well(host: SimulatedHost) -> None:
    web = host.service(no_rewind=True)
    assert host.pass_(web).error is None
    assert accepted(host) == host.tip


def test_a_freeze_that_comes_while_a_commit_elsewhere_is_verified_keeps_it_from_advancing(
    host: SimulatedHost,
) -> None:
    web = verified(host)
    first = host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    host.script.on("verify web", lambda: host.freeze(web))
    outcome = host.pass_(web)
    assert host.told(outcome)[0] is State.FREEZE
    host.assert_in_line(web, first)


def test_what_stays_with_other_settings_is_accepted_where_nothing_was(host: SimulatedHost) -> None:
    web = host.service()
    first = host.deploy(web)
    moved = host.service(no_rewind=True, links={"/srv/web": "web"})
    host.pass_(moved)
    host.assert_in_line(moved, first)
    assert host.state.accepted("web", moved.source) == first
