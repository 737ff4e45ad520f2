"""The watch after a reload: when it is content, when it gives up, and what it says then."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field

from libgitopper import (
    Accepted,
    CommandError,
    Health,
    HealthError,
    HealthRequest,
    HealthWatch,
    Hooks,
    PluginError,
    WatchEnded,
    hookimpl,
)
from libgitopper.testing.reload import request_for, service_for_tests

SINCE = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

Answer = Accepted | Exception | None
"""What a probe gives or raises."""


@define
class Site:
    """A service that is probed, and a clock that only moves when somebody sleeps or probes."""

    answer: Callable[[float], Answer]
    """What is seen at so many seconds after the beginning."""
    probe_seconds: Callable[[float], float] = lambda _now: 0.0
    """How long a probe would take, if it had no deadline."""
    now: float = 1000.0
    probes: list[float] = field(factory=list)
    """When the probes were, in seconds after the beginning."""
    timeouts: list[float] = field(factory=list)
    requests: list[HealthRequest] = field(factory=list)
    naps: list[float] = field(factory=list)

    @hookimpl
    def gitopper_health(self, request: HealthRequest) -> Accepted | None:
        at = round(self.now - 1000.0, 3)
        self.probes.append(at)
        self.timeouts.append(request.timeout_seconds)
        self.requests.append(request)
        self.now += min(self.probe_seconds(at), request.timeout_seconds)
        answer = self.answer(at)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.naps.append(seconds)
        self.now += seconds

    @property
    def passed(self) -> float:
        return round(self.now - 1000.0, 3)

    def watch(
        self,
        *,
        still: Callable[[], bool] = lambda: True,
        timeout_seconds: float = 90.0,
        health: Health | None = None,
        **settings: Any,
    ) -> tuple[Accepted, ...]:
        hooks = Hooks()
        hooks.register(self)
        wanted = health or (Health(unit=True, **settings) if settings else None)
        service = service_for_tests("web", health=wanted, timeout_seconds=timeout_seconds)
        watch = HealthWatch(hooks=hooks, clock=self.clock, sleep=self.sleep)
        return watch.run(
            service, request_for(service).release, since=SINCE, since_monotonic=990.5, still=still
        )


GOOD = Accepted(judged=("health",), note="fine")
BAD = HealthError("http://127.0.0.1:9090/-/ready answers 503")


def bad_until(seconds: float) -> Callable[[float], Answer]:
    return lambda now: GOOD if now >= seconds else BAD


def test_a_service_that_is_healthy_at_once_is_probed_once() -> None:
    site = Site(answer=bad_until(0))
    assert site.watch(within_seconds=30, interval_seconds=1) == (GOOD,)
    assert (site.probes, site.passed) == ([0], 0)


def test_a_probe_is_told_what_it_is_about() -> None:
    site = Site(answer=bad_until(0))
    site.watch(within_seconds=30)
    (request,) = site.requests
    assert (request.service.name, request.release.service, request.since) == ("web", "web", SINCE)
    assert request.since_monotonic == 990.5


def test_it_is_probed_until_it_is_healthy() -> None:
    site = Site(answer=bad_until(2.5))
    assert site.watch(within_seconds=30, interval_seconds=1) == (GOOD,)
    assert site.probes == [0, 1, 2, 3]


def test_the_interval_is_from_the_end_of_a_probe() -> None:
    site = Site(answer=bad_until(5), probe_seconds=lambda _: 2)
    site.watch(within_seconds=30, interval_seconds=1)
    assert site.probes == [0, 3, 6]


def test_it_must_stay_healthy_and_is_looked_at_once_more_when_that_is_over() -> None:
    site = Site(answer=bad_until(1))
    site.watch(within_seconds=30, interval_seconds=2, stable_for_seconds=5)
    assert site.probes == [0, 2, 4, 6, 7]


def test_a_relapse_begins_the_time_anew() -> None:
    site = Site(answer=lambda now: BAD if now in {3, 4} else GOOD)
    site.watch(within_seconds=30, interval_seconds=1, stable_for_seconds=5)
    assert site.probes[-1] == 10
    assert site.passed == 10


def test_what_was_seen_last_and_how_long_it_was_given_is_told() -> None:
    site = Site(answer=lambda now: BAD if now > 20 else HealthError("connection refused"))
    with pytest.raises(HealthError) as caught:
        site.watch(within_seconds=30, interval_seconds=1)
    assert str(caught.value) == "not healthy within 30s: http://127.0.0.1:9090/-/ready answers 503"
    assert not caught.value.retryable
    assert caught.value.service == "web"
    assert site.passed == 30


def test_what_was_seen_is_told_in_one_line() -> None:
    site = Site(answer=lambda _: HealthError("it says:\n  no such\r\n\tport "))
    with pytest.raises(HealthError, match=r"within 1s: it says: no such port$"):
        site.watch(within_seconds=1)


def test_one_that_does_not_stay_healthy_long_enough_is_told_so() -> None:
    site = Site(answer=bad_until(26))
    expected = (
        "not healthy for 10s without interruption within 30s: at the end it had been for 4.0s; before that:"
        f" {BAD}"
    )
    with pytest.raises(HealthError) as caught:
        site.watch(within_seconds=30, interval_seconds=1, stable_for_seconds=10)
    assert str(caught.value) == expected


def test_one_whose_good_probes_take_too_long_is_told_so() -> None:
    site = Site(answer=bad_until(0), probe_seconds=lambda _: 3)
    with pytest.raises(HealthError, match=r"had been for 2\.0s$"):
        site.watch(within_seconds=5, interval_seconds=1, stable_for_seconds=4)


@pytest.mark.parametrize("stable", [30, 31])
def test_what_can_not_be_met_is_told_at_once(stable: float) -> None:
    site = Site(answer=bad_until(0))
    with pytest.raises(HealthError, match=rf"stable_for = {stable}s .* make within the longer one"):
        site.watch(within_seconds=30, stable_for_seconds=stable)
    assert not site.probes


@pytest.mark.parametrize("interval", [0.3, 1, 7, 29.5, 30, 100])
def test_the_last_look_is_shortly_before_the_deadline_however_long_the_interval(interval: float) -> None:
    site = Site(answer=bad_until(29))
    site.watch(within_seconds=30, interval_seconds=interval)
    assert 29 <= site.probes[-1] < 29.9
    late = Site(answer=bad_until(30))
    with pytest.raises(HealthError):
        late.watch(within_seconds=30, interval_seconds=interval)
    assert late.passed == 30


def test_a_probe_that_hangs_gets_no_more_than_its_share_and_the_deadline_is_kept() -> None:
    site = Site(answer=lambda _: HealthError("no answer"), probe_seconds=lambda _: 1000)
    with pytest.raises(HealthError, match="not healthy within 25s: no answer"):
        site.watch(within_seconds=25, interval_seconds=1)
    assert site.timeouts == [10, 10, pytest.approx(3)]
    assert site.passed == 25


def test_a_long_watch_has_long_probes() -> None:
    site = Site(answer=bad_until(80), probe_seconds=lambda _: 1000)
    site.watch(within_seconds=300, interval_seconds=1)
    assert site.timeouts == [90, 90]  # the service's own timeout
    site = Site(answer=bad_until(90), probe_seconds=lambda _: 1000)
    site.watch(within_seconds=270, interval_seconds=1, timeout_seconds=1000)
    assert site.timeouts == [90, 90]  # a third of the time


def test_a_probe_without_time_is_not_made() -> None:
    site = Site(answer=lambda _: BAD)
    with pytest.raises(HealthError):
        site.watch(within_seconds=1, interval_seconds=0.19)
    assert min(site.timeouts) > 0.1


def test_where_nobody_watches_it_is_over_at_once() -> None:
    site = Site(answer=lambda _: None)
    assert site.watch() == ()
    assert site.probes == [0]


def test_a_plugin_that_watches_unasked_gets_the_usual_time() -> None:
    site = Site(answer=lambda now: BAD if now < 3 else GOOD)
    assert site.watch() == (GOOD,)
    with pytest.raises(HealthError, match="not healthy within 30s: "):
        Site(answer=lambda _: BAD).watch()


def test_a_plugin_that_has_nothing_more_to_object_is_content() -> None:
    site = Site(answer=lambda now: BAD if now == 0 else None)
    assert site.watch() == ()
    assert site.probes == [0, 1]


def test_a_service_that_nobody_can_watch_is_no_case_for_patience() -> None:
    site = Site(answer=lambda _: None)
    with pytest.raises(PluginError, match="no plugin takes gitopper_health for 'health' of service web"):
        site.watch(within_seconds=30)
    assert site.probes == [0]


def test_any_error_of_a_probe_counts_as_not_healthy() -> None:
    site = Site(answer=lambda now: CommandError("probe: exit code 1") if now < 2 else GOOD)
    assert site.watch(within_seconds=30) == (GOOD,)


def test_an_error_that_nobody_foresaw_is_logged_and_counts_as_not_healthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(answer=lambda _: ZeroDivisionError("division by zero"))
    with caplog.at_level(logging.ERROR), pytest.raises(HealthError) as caught:
        site.watch(within_seconds=1)
    assert str(caught.value) == (
        "not healthy within 1s: internal error: ZeroDivisionError: division by zero"
        " (in gitopper_health of plugin 'Site')"
    )
    record = caplog.records[0]
    assert record.exc_info
    assert "web" in record.getMessage()


@pytest.mark.parametrize("minds", [0, 1, 7])
def test_a_change_of_mind_ends_it_within_a_fifth_of_a_second(minds: int) -> None:
    site = Site(answer=lambda _: BAD)
    asked: list[float] = []

    def still() -> bool:
        asked.append(site.now)
        return len(asked) <= minds

    with pytest.raises(WatchEnded):
        site.watch(within_seconds=30, interval_seconds=10, still=still)
    assert len(asked) == minds + 1
    assert len(site.probes) == min(minds, 1)
    assert max(site.naps, default=0) <= 0.2


def test_before_each_probe_it_is_asked_whether_the_watch_still_stands() -> None:
    site = Site(answer=lambda _: BAD, probe_seconds=lambda _: 3)
    with pytest.raises(WatchEnded):
        site.watch(within_seconds=30, interval_seconds=0.2, still=lambda: site.now < 1003.2)
    assert site.probes == [0]
