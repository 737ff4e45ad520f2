"""A clock that is set forth and back under a reconciler: what was said holds, in the order of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from libgitopper import Intent, IntentKind
from tests.support.simulatedhost import SimulatedHost

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
