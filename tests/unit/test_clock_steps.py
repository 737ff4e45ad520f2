"""A clock that is set forth and back under a reconciler: what was said holds, in the order of events."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import health
from libgitopper import Health, HealthError, HealthRequest, Intent, IntentKind
from libgitopper.testing.reload import request_for, service_for_tests
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import watched

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = 365 * 24 * 3600
FREEZE = Intent(kind=IntentKind.FREEZE, by="ops")


def test_a_freeze_that_is_over_stays_over_when_the_clock_goes_back(host: SimulatedHost) -> None:
    web = host.service()
    host.deploy(web)
    host.reconciler.want("web", evolve(FREEZE, until=START + timedelta(seconds=1000)))
    newest = host.upstream.commit({"web/conf": "2"})
    host._seconds = YEAR
    host.pass_(web)
    host._seconds = 10
    for _ in range(2):
        outcome = host.pass_(web)
        assert outcome.intent.kind is IntentKind.TRACK
        host.restart()
    host.assert_in_line(web, newest)


@pytest.mark.parametrize("seconds", [-YEAR, 0])
def test_a_freeze_holds_when_the_clock_goes_back_behind_its_begin(
    host: SimulatedHost, seconds: int
) -> None:
    web = host.service()
    first = host.deploy(web)
    host._seconds = 500
    host.reconciler.want("web", evolve(FREEZE, until=START + timedelta(seconds=1000)))
    host.upstream.commit({"web/conf": "2"})
    host._seconds = seconds
    assert host.pass_(web).intent.kind is IntentKind.FREEZE
    host.assert_in_line(web, first)


def test_history_is_in_the_order_of_events_whatever_the_clock_said(host: SimulatedHost) -> None:
    web = host.service()
    commits = []
    for number, seconds in enumerate((1000, -YEAR, YEAR, 0, 5)):
        host._seconds = seconds
        commits.append(host.upstream.commit({"web/conf": str(number)}))
        host.pass_(web)
    newest_first = list(reversed(commits))
    assert [deploy.after for deploy in host.state.deploys("web")] == newest_first
    assert [revision for _, revision in host.state.releases("web", 9)] == newest_first
    # So those that stay for a rollback are the last ones, not those with the latest times.
    kept = {release for release, _ in host.state.releases("web", web.keep)}
    assert {path.name for path in web.releases.iterdir()} == kept
    host.assert_in_line(web, commits[-1])


def test_who_watches_health_is_told_the_end_of_the_reload_on_the_clock_that_nobody_sets(
    host: SimulatedHost,
) -> None:
    web = watched(host)
    reloaded = []
    host.script.on("reload web", lambda: reloaded.append(time.monotonic()))
    host._seconds = YEAR
    host.deploy(web)
    (request,) = host.guards.probed
    assert request.since > START + timedelta(seconds=YEAR)
    assert reloaded[-1] <= request.since_monotonic <= time.monotonic()


@pytest.fixture
def up_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """When the unit came up, as a systemd has it that is simulated."""
    seconds = round(time.monotonic() - 2, 3)
    systemctl = tmp_path / "systemctl"
    told = "LoadState=loaded\nActiveState=active\nSubState=running\n"
    told += f"ActiveEnterTimestampMonotonic={seconds * 1e6:.0f}\n"
    systemctl.write_text(f"#!/bin/sh\ncat <<EOF\n{told}EOF\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return seconds


@pytest.mark.parametrize("wall_seconds", [-YEAR, 0, YEAR])
def test_a_unit_is_not_judged_by_a_clock_that_was_set_since_its_reload(
    up_seconds: float, wall_seconds: int
) -> None:
    service = service_for_tests("web", health=Health(unit=True))
    request = HealthRequest(
        service=service,
        release=request_for(service).release,
        since=datetime.now(UTC) + timedelta(seconds=wall_seconds),
        since_monotonic=up_seconds + 1,
        timeout_seconds=20,
    )
    assert health.gitopper_health(request)
    with pytest.raises(HealthError, match=r"was started again 1\.0s after its reload"):
        health.gitopper_health(evolve(request, since_monotonic=up_seconds - 1))
