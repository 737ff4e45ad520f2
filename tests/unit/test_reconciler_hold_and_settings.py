"""Settings that change while a commit has to wait: they are for the commit that is deployed, until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libgitopper import Check, CheckError, State, Verify
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
    host.guards.held = None
    host.pass_(changed)
    host.assert_in_line(changed, newer)


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
