"""A crash between every two steps of deploys that are verified, checked, watched, taken back and healed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from libgitopper import (
    Check,
    CheckError,
    DriftPolicy,
    Health,
    HealthError,
    Service,
    State,
    StepError,
    Verify,
)
from tests.support.simulated import Crash
from tests.support.simulatedcrashes import Flow, crash_in_turn, never_ahead_of_the_truth
from tests.support.simulatedhost import SimulatedHost


def guarded(host: SimulatedHost, **more: Any) -> Service:
    values: dict[str, Any] = {
        "check": Check(commands=(("check",),)),
        "health": Health(unit=True, within_seconds=1.0),
        "verify": Verify(keyring=Path("/ring")),
        "package": "nginx",
        "drift": DriftPolicy.HEAL,
    }
    return host.service(**(values | more))


def after_a_good_one(host: SimulatedHost, text: str) -> Service:
    web = guarded(host)
    host.pass_(web)
    host.upstream.commit({"web/conf": text})
    return web


def good(host: SimulatedHost) -> Service:
    return after_a_good_one(host, "2")


def good_first(host: SimulatedHost) -> Service:
    return guarded(host)


def unfit(host: SimulatedHost) -> Service:
    return after_a_good_one(host, "unfit")


def ill(host: SimulatedHost) -> Service:
    return after_a_good_one(host, "ill")


def ill_first(host: SimulatedHost) -> Service:
    host.upstream.commit({"web/conf": "ill"})
    return guarded(host)


def ill_elsewhere(host: SimulatedHost) -> Service:
    after_a_good_one(host, "ill")
    return guarded(host, links={"/srv/web": "web", "/etc/web": "webapp"})


def ill_over_drift(host: SimulatedHost) -> Service:
    web = after_a_good_one(host, "ill")
    host.edit(web, "web/conf", "edited")
    return web


def drift(host: SimulatedHost) -> Service:
    web = guarded(host)
    host.pass_(web)
    host.edit(web, "web/conf", "edited")
    return web


@frozen(kw_only=True)
class End:
    """Where a flow ends, whatever happened on the way."""

    flow: Flow
    error: type[StepError] | None = None
    """What is told in every pass."""
    reads: str = "1"
    """What the service reads."""


ENDS = [
    End(flow=good, reads="2"),
    End(flow=good_first),
    End(flow=unfit, error=CheckError),
    End(flow=ill, error=HealthError),
    End(flow=ill_first, error=HealthError, reads="ill"),
    End(flow=ill_elsewhere, error=HealthError),
    End(flow=ill_over_drift, error=HealthError),
    End(flow=drift),
]
NAMED = [pytest.param(end, id=end.flow.__name__) for end in ENDS]
TAKEN_BACK = [named for named in NAMED if named.id in {"ill", "ill_first", "ill_elsewhere"}]


def crashed(directory: Path, end: End) -> Iterator[tuple[SimulatedHost, Service, str]]:
    for host, service, where in crash_in_turn(directory, end.flow):
        never_ahead_of_the_truth(host, service, where)
        host.restart()
        yield host, service, where
        host.close()


def ends_well(host: SimulatedHost, service: Service, end: End, where: str) -> None:
    """A pass ends where the flow does; then nothing is left to do, in this process and in the next."""
    outcome = host.pass_(service)
    assert isinstance(outcome.error, end.error or type(None)), where
    told = host.told(outcome)
    assert told[0] is (State.BROKEN if end.error else State.OK), where
    assert_at_the_end(host, service, end, where)
    host.script.log.clear()
    for _ in range(2):
        assert host.told(host.pass_(service)) == told, where
        assert_at_the_end(host, service, end, where)
        left = set(host.script.log) - {"fetch", "observe web"}
        assert left <= {"install web", "checkout web", "discard web"}, f"{where}: {left}"
        host.restart()


def assert_at_the_end(host: SimulatedHost, service: Service, end: End, where: str) -> None:
    deployed = host.state.deployed("web")
    if deployed is None:
        assert end.flow is ill_first, where
        assert host.read(service) == end.reads, where
        assert host.services.taken["web"] == host.shown(service), where
        return
    placed = host.service(mappings=deployed.service.mappings)
    host.assert_in_line(placed, deployed.revision)
    assert host.read(placed) == end.reads, where
    if end.error is None:
        assert deployed.revision == host.tip, where


@pytest.mark.parametrize("end", NAMED)
def test_a_crash_at_any_step_ends_in_the_same_place_after_the_restart(end: End, tmp_path: Path) -> None:
    steps = 0
    for host, service, where in crashed(tmp_path, end):
        steps += 1
        ends_well(host, service, end, where)
    assert steps > 12


@pytest.mark.parametrize("end", NAMED)
def test_a_crash_at_any_step_and_another_in_the_repair_end_in_the_same_place(
    end: End, tmp_path: Path
) -> None:
    for number, (host, service, where) in enumerate(crashed(tmp_path, end)):
        host.script.crash_at = (3, 8, 12)[number % 3]
        try:
            host.pass_(service)
        except Crash as crash:
            never_ahead_of_the_truth(host, service, f"{where}, {crash}")
        host.restart()
        ends_well(host, service, end, where)


@pytest.mark.parametrize("end", NAMED)
def test_a_crash_at_any_step_and_a_reboot_end_in_the_same_place(end: End, tmp_path: Path) -> None:
    for host, service, where in crashed(tmp_path, end):
        host.mounts.reboot()
        host.services.taken.clear()
        assert host.reconciler.restore(service).error is None, where
        if deployed := host.state.deployed("web"):
            assert host.shown(deployed.service) == deployed.release, where
            assert host.services.taken["web"] == deployed.release, where
            ends_well(host, service, end, where)


@pytest.mark.parametrize("end", TAKEN_BACK)
def test_a_crash_at_any_step_and_a_retry_end_in_the_same_place(end: End, tmp_path: Path) -> None:
    for host, service, where in crashed(tmp_path, end):
        host.reconciler.retry("web")
        ends_well(host, service, end, where)


@pytest.mark.parametrize("end", TAKEN_BACK)
def test_a_crash_at_any_step_and_a_commit_that_mends_it_end_with_that(end: End, tmp_path: Path) -> None:
    for host, service, where in crashed(tmp_path, end):
        mended = host.upstream.commit({"web/conf": "mended"})
        assert host.pass_(service).error is None, where
        host.assert_in_line(service, mended)


@pytest.mark.parametrize("end", TAKEN_BACK)
def test_a_crash_at_any_step_and_a_freeze_end_at_what_the_service_took(end: End, tmp_path: Path) -> None:
    for host, service, where in crashed(tmp_path, end):
        host.freeze(service)
        host.upstream.commit({"web/conf": "later", "webapp/conf": "later"})
        host.pass_(service)  # told here, where it was shown when the freeze came
        outcome = host.pass_(service)
        if end.flow is ill_first:
            assert host.mounts.shown == {} or host.read(service) == "ill", where
            continue
        deployed = host.state.deployed("web")
        assert deployed is not None
        if end.flow is not ill_elsewhere:
            assert host.told(outcome)[0] is State.FREEZE, where
            host.assert_in_line(service, deployed.revision)
        assert host.read(host.service(mappings=deployed.service.mappings)) == "1", where


@pytest.mark.parametrize("end", TAKEN_BACK)
def test_a_crash_at_any_step_and_a_rollback_end_with_that(end: End, tmp_path: Path) -> None:
    for host, service, where in crashed(tmp_path, end):
        first = host.upstream.branches["main"][0]
        host.roll_back(service, first)
        outcome = host.pass_(service)
        assert host.told(outcome) == (State.FREEZE, f"ROLLBACK: {first}"), where
        host.assert_in_line(service, first)


def test_a_verdict_is_on_disk_before_anything_is_taken_back(tmp_path: Path) -> None:
    """From there on a crash goes back, and does not try it again."""
    tried = {True: 0, False: 0}
    for host, service, _ in crashed(tmp_path, End(flow=ill, error=HealthError)):
        release = host.upstream.commit({"elsewhere": "2"}) and _tip_release(host, service)
        rejected = host.state.rejection("web", release, service.fingerprint) is not None
        host.pass_(service)
        tried[rejected] += 1
        # One is the look at what HEAD names, at the first pass of a process.
        assert host.script.count("checkout web") - 1 == (0 if rejected else 1)
    assert all(tried.values())


def _tip_release(host: SimulatedHost, service: Service) -> str:
    store = host.fetch(service)
    assert store is not None
    return store.content(host.tip, service).release_id(service)
