"""What is remembered of bad commits, over branches, settings and processes; and what a pass costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from libgitopper import (
    Check,
    CheckError,
    DriftPolicy,
    Health,
    HealthError,
    Reason,
    Service,
    Source,
    State,
)
from tests.support.simulatedhost import UPSTREAM, SimulatedHost

CHECK, HEALTH = Check(commands=(("check",),)), Health(unit=True, within_seconds=1.0)


def guarded(host: SimulatedHost, **more: Any) -> Service:
    values: dict[str, Any] = {"check": CHECK, "health": HEALTH}
    return host.service(**(values | more))


def push(host: SimulatedHost, text: str) -> str:
    return host.upstream.commit({"web/conf": text})


@contextmanager
def writes(host: SimulatedHost) -> Iterator[list[str]]:
    """Collect the transactions that write: each waits for the disk."""
    found: list[str] = []
    connection = host.state._connection

    def trace(statement: str) -> None:
        if statement.startswith("BEGIN"):
            found.append(statement)

    connection.set_trace_callback(trace)
    yield found
    connection.set_trace_callback(None)


@pytest.mark.parametrize(("bad", "kind"), [("unfit", CheckError), ("ill", HealthError)])
def test_what_failed_on_one_branch_is_not_tried_on_another(
    host: SimulatedHost, bad: str, kind: type[Exception]
) -> None:
    web = guarded(host)
    good = host.deploy(web)
    push(host, bad)
    host.pass_(web)
    host.restart()
    host.upstream.commit({"web/conf": bad}, "dev")
    on_dev = guarded(host, source=Source(upstream=UPSTREAM, branch="dev"))
    assert isinstance(host.pass_(on_dev).error, kind)
    assert host.script.count("check web") == host.script.count("begin web") == 0
    host.assert_in_line(web, good)


def test_settings_that_change_and_change_back_have_it_tried_for_each_change(host: SimulatedHost) -> None:
    """One verdict is kept for a release; a change of settings is a reason to look again."""
    web, other = guarded(host), guarded(host, action="restart")
    host.deploy(web)
    push(host, "unfit")
    for number, service in enumerate((web, other, web, web), start=1):
        assert isinstance(host.pass_(service).error, CheckError)
        assert host.script.count("check web") == min(number, 3)


def test_two_bad_commits_are_remembered_both(host: SimulatedHost) -> None:
    web = guarded(host)
    good = host.deploy(web)
    for text in ("unfit 1", "ill 2", "unfit 1", "ill 2"):
        push(host, text)
        assert host.pass_(web).error is not None
    assert host.script.count("check web") == 2
    assert host.reconciler.retry("web") == 2
    host.assert_in_line(web, good)


def test_a_retry_is_for_one_service(host: SimulatedHost) -> None:
    web, other = (
        guarded(host),
        guarded(host, name="other", mappings=host.service("x", links={"/x": "web"}).mappings),
    )
    host.deploy(web)
    host.deploy(other)
    push(host, "unfit")
    host.pass_(web)
    host.pass_(other)
    host.script.clear()
    host.reconciler.retry("other")
    host.pass_(web)
    host.pass_(other)
    assert (host.script.count("check web"), host.script.count("check other")) == (0, 1)


def test_a_retry_with_nothing_to_retry_is_told_as_such(host: SimulatedHost) -> None:
    assert host.reconciler.retry("web") == 0


def test_an_unfreeze_does_not_have_it_tried_again(host: SimulatedHost) -> None:
    web = guarded(host)
    host.deploy(web)
    push(host, "ill")
    host.pass_(web)
    host.freeze(web)
    host.pass_(web)
    host.unfreeze(web)
    host.script.clear()
    assert isinstance(host.pass_(web).error, HealthError)
    assert host.script.count("publish web") == 0


def test_a_service_that_went_and_came_back_still_knows(host: SimulatedHost) -> None:
    web = guarded(host)
    host.deploy(web)
    push(host, "unfit")
    host.pass_(web)
    (orphan,) = host.reconciler.orphans(())
    assert host.reconciler.withdraw(orphan)
    host.script.clear()
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckError)
    assert "nothing is deployed" in host.told(outcome)[1]
    assert host.script.count("check web") == 0
    assert host.mounts.shown == {}


def test_a_state_that_was_broken_is_well_again_at_once_when_upstream_reverts(host: SimulatedHost) -> None:
    web = guarded(host)
    host.deploy(web)
    push(host, "ill")
    assert host.told(host.pass_(web))[0] is State.BROKEN
    push(host, "1")
    assert host.told(host.pass_(web)) == (State.OK, "")


def test_a_plain_deploy_waits_for_the_disk_twice(host: SimulatedHost) -> None:
    web = host.service()
    for _ in range(2):
        with writes(host) as found:
            assert host.pass_(web).error is None
        assert len(found) == 2, "the attempt before, and the record after"
        push(host, "2")


@pytest.mark.parametrize("more", [{}, {"check": CHECK, "health": HEALTH, "drift": DriftPolicy.HEAL}])
def test_a_pass_with_nothing_to_do_writes_nothing(host: SimulatedHost, more: dict[str, Any]) -> None:
    web = host.service(**more)
    host.deploy(web)
    with writes(host) as found:
        for _ in range(3):
            host.pass_(web)
    assert found == []
    assert set(host.script.log) <= {"fetch", "observe web"}


def test_a_commit_elsewhere_is_one_write(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.upstream.commit({"elsewhere": "2"})
    with writes(host) as found:
        host.pass_(web)
    assert len(found) == 1


@pytest.mark.parametrize("bad", ["unfit", "ill"])
def test_to_stay_away_from_a_bad_commit_writes_nothing(host: SimulatedHost, bad: str) -> None:
    web = guarded(host)
    host.deploy(web)
    push(host, bad)
    host.pass_(web)
    with writes(host) as found:
        for _ in range(3):
            assert host.pass_(web).error is not None
    assert found == []


def test_to_wait_writes_nothing(host: SimulatedHost) -> None:
    first, then = host.service("db", links={"/etc/db": "webapp"}), host.service(after=("db",))
    with writes(host) as found:
        outcome = host.pass_(then, first)
    assert outcome.plan is not None
    assert outcome.plan.reasons == (Reason.AFTER,)
    assert found == []


def test_a_service_that_asks_for_nothing_is_judged_by_nobody(host: SimulatedHost) -> None:
    web = host.service(drift=DriftPolicy.OFF)
    host.deploy(web)
    push(host, "unfit ill")
    began = host.clock.seconds
    assert host.pass_(web).error is None
    judges = {
        "verify web",
        "accept web",
        "install web",
        "check web",
        "health web",
        "reject web",
        "keep web",
    }
    assert not judges & set(host.script.log)
    assert host.guards.compared == []
    assert host.clock.seconds == began, "nobody waited"
