"""What fails in the same way at each try is told once in the log, and again when that is news."""

from __future__ import annotations

import logging

import pytest

from gitopperd.logs import EventLog, Lasting
from libgitopper import Event


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def failed(service: str, error: str) -> Event:
    return Event(kind="failed", service=service, details={"error": error})


def unreachable(upstream: str) -> Event:
    return Event(kind="poll-failed", upstream=upstream, details={"error": "gone"})


def state(service: str, after: str) -> Event:
    return Event(kind="state", service=service, details={"after": after})


@pytest.mark.parametrize(
    ("events", "errors"),
    [
        ([failed("web", "a")] * 3, ["web: failed error=a"]),
        ([failed("web", "a"), failed("db", "a")] * 2, ["web: failed error=a", "db: failed error=a"]),
        (
            [failed("web", "a"), state("web", "BROKEN"), failed("web", "b"), failed("web", "b")],
            ["web: failed error=a", "web: failed error=b"],
        ),
        ([failed("web", "a"), state("web", "OK"), failed("web", "a")], ["web: failed error=a"] * 2),
        (
            [failed("web", "a"), Event(kind="deployed", service="web"), failed("web", "a")],
            ["web: failed error=a"] * 2,
        ),
        ([unreachable("/srv/x.git")] * 3, ["/srv/x.git: poll-failed error=gone"]),
        (
            [unreachable("/x"), Event(kind="poll", upstream="/x"), unreachable("/x")],
            ["/x: poll-failed error=gone"] * 2,
        ),
    ],
    ids=[
        "the same",
        "of two",
        "another one",
        "well in between",
        "deployed in between",
        "of an upstream",
        "polled in between",
    ],
)
def test_a_failure_that_stays_the_same_is_told_in_the_log_once(
    caplog: pytest.LogCaptureFixture, events: list[Event], errors: list[str]
) -> None:
    caplog.set_level(logging.INFO, "gitopperd")
    log = EventLog()
    for event in events:
        log.gitopper_event(event)
    found = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert found == errors


def test_after_an_hour_it_is_told_again() -> None:
    clock = Clock()
    lasting = Lasting(clock)
    told = []
    for clock.seconds in range(0, 7300, 100):
        told.append((clock.seconds, lasting.is_news("web", "")))
    assert [seconds for seconds, news in told if news] == [0, 3600, 7200]
