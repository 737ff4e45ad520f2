"""Settings that change while a commit has to wait: they are for the commit that is deployed, until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import Check, CheckError, Reason, ReloadError, State, Verify
from tests.support.drifted import HEAL, drifted
from tests.support.held import CLOSED, both, held, waits_for_db
from tests.support.simulatedhost import SimulatedHost

OTHERWISE: list[dict[str, Any]] = [
    {"links": {"/srv/web": "web"}},
    {"links": {"/etc/web": "web", "/etc/app": "webapp"}},
    {"publish": "other"},
    {"user": "x"},
    {"readonly": True},
]


@pytest.mark.parametrize("change", OTHERWISE)
def test_changed_settings_take_no_commit_along_that_waits(
    host: SimulatedHost, change: dict[str, Any]
) -> None:
    service = held(host)
    first = host.tip
    newer = host.upstream.commit({"web/conf": "2"})
    host.pass_(service)
    changed = host.service(**change)
    for _ in range(2):
        outcome = host.pass_(changed)
        assert host.told(outcome) == (State.DIFF, f"{newer[:12]} waits: {CLOSED.reason}")
        host.assert_in_line(changed, first)
        assert host.read(changed) == "1"
    assert host.script.count("reload web") == 1
    [entry] = host.state.deploys("web", 1)
    assert entry.after == first
    assert Reason.SETTINGS.value in entry.why
    host.guards.held = None
    host.pass_(changed)
    host.assert_in_line(changed, newer)


def test_other_settings_keep_a_release_that_was_healed(host: SimulatedHost) -> None:
    web = drifted(host, drift=HEAL)
    host.pass_(web)
    healed = host.shown(web)
    host.guards.held = CLOSED
    host.upstream.commit({"web/conf": "2"})
    moved = host.service(drift=HEAL, publish="other")
    host.pass_(moved)
    assert host.shown(moved) == healed


def test_changed_settings_take_no_commit_along_that_waits_for_another_service(
    host: SimulatedHost,
) -> None:
    first, then = both(host)
    deployed = host.state.deployed("web")
    assert deployed is not None
    then = host.service(links={"/srv/web": "web"}, after=("db",))
    assert waits_for_db(host, then, first)
    host.assert_in_line(then, deployed.revision)
    host.pass_(first)
    assert not waits_for_db(host, then, first)
    host.assert_in_line(then, host.tip)


def test_settings_that_need_a_commit_that_waits_wait_with_it(host: SimulatedHost) -> None:
    service = held(host)
    first = host.tip
    newer = host.upstream.commit({"new/conf": "1", "web/conf": "2"})
    changed = host.service(links={"/etc/web": "web", "/etc/new": "new"})
    outcome = host.pass_(changed)
    assert host.told(outcome) == (State.DIFF, f"{newer[:12]} waits: {CLOSED.reason}")
    host.assert_in_line(service, first)
    host.guards.held = None
    host.pass_(changed)
    host.assert_in_line(changed, newer)


def test_settings_that_fail_while_a_commit_waits_are_told_and_left_in_peace(host: SimulatedHost) -> None:
    service = held(host)
    first = host.tip
    host.upstream.commit({"web/conf": "2"})
    changed = host.service(links={"/srv/web": "web"}, check=Check(commands=(("x",),)))
    host.script.on("check web", CheckError("no such path"))
    told = host.told(host.pass_(changed))
    assert told[0] is State.BROKEN
    host.script.clear()
    assert host.told(host.pass_(changed)) == told
    assert host.script.count("check web") == 0
    host.assert_in_line(service, first)


def test_changed_settings_are_no_way_behind_what_was_accepted(host: SimulatedHost) -> None:
    """A commit that was accepted, and failed then, is no reason against the one before it."""
    verify: dict[str, Any] = {"verify": Verify(keyring=Path("/ring")), "no_rewind": True}
    service = host.service(check=Check(commands=(("x",),)), **verify)
    first = host.deploy(service)
    unfit = host.upstream.commit({"web/conf": "unfit"})
    host.pass_(service)
    assert host.state.accepted("web", service.source) == unfit
    host.upstream.commit({"web/conf": "2"})
    host.guards.held = CLOSED
    changed = host.service(links={"/srv/web": "web"}, **verify)
    host.guards.verified.clear()
    host.pass_(changed)
    host.assert_in_line(changed, first)
    assert [request.floor for request in host.guards.verified] == [None]
    assert host.state.accepted("web", service.source) == unfit


def test_changed_settings_that_are_not_taken_are_no_reason_to_end_the_wait(host: SimulatedHost) -> None:
    held(host)
    first = host.tip
    newer = host.upstream.commit({"web/conf": "2"})
    changed = host.service(links={"/srv/web": "web"})
    host.script.on("reload web", ReloadError("refused"))
    for _ in range(2):
        assert isinstance(host.pass_(changed).error, ReloadError)
        assert host.read(changed) == "1"
    host.script.clear()
    assert host.told(host.pass_(changed)) == (State.DIFF, f"{newer[:12]} waits: {CLOSED.reason}")
    host.assert_in_line(changed, first)


def test_a_reload_that_is_owed_does_not_wait_with_a_commit(host: SimulatedHost) -> None:
    """As after a boot: the service may have come up without its files."""
    service = held(host)
    first = host.tip
    newer = host.upstream.commit({"web/conf": "2"})
    host.mounts.reboot()
    host.services.taken.clear()
    host.script.on("reload web", ReloadError("not yet"))
    assert isinstance(host.pass_(service).error, ReloadError)
    assert host.read(service) == "1"
    assert isinstance(host.pass_(service).error, ReloadError)
    host.script.clear()
    assert host.told(host.pass_(service)) == (State.DIFF, f"{newer[:12]} waits: {CLOSED.reason}")
    host.assert_in_line(service, first)
