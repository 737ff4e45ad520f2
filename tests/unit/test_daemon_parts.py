"""The daemon's small parts, each by itself."""

from __future__ import annotations

import json
import logging
import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gitopperd.logs import EventLog, JournalFormatter, JsonFormatter, PlainFormatter
from gitopperd.metrics import Meters
from gitopperd.notify import Notifier
from gitopperd.work.asked import Asked
from gitopperd.work.delays import next_delay
from libgitopper import Event

intervals = st.floats(1, 86400)


@given(intervals, st.integers(0, 2**31), st.integers(1, 10**6))
def test_a_delay_is_never_longer_than_the_interval_or_ten_minutes_plus_jitter(
    interval: float, seed: int, failures: int
) -> None:
    delay = next_delay(interval_seconds=interval, polls=2, failures=failures, rng=random.Random(seed))
    assert 0 < delay <= max(interval, 600)


@given(intervals, st.integers(0, 2**31))
def test_the_first_retry_comes_soon(interval: float, seed: int) -> None:
    delay = next_delay(interval_seconds=interval, polls=1, failures=1, rng=random.Random(seed))
    assert delay <= min(5, interval)


def test_a_thousand_hosts_that_start_together_are_spread_from_the_second_poll_on() -> None:
    minutes = [0] * 60
    for seed in range(1000):
        rng, at = random.Random(seed), 0.0
        polls = 1
        while True:
            at += next_delay(interval_seconds=300, polls=polls, failures=0, rng=rng)
            polls += 1
            if at >= 3600:
                break
            minutes[int(at // 60)] += 1
    # The first and the last minute are cut: polls come from the second on, and end with the hour.
    assert max(minutes) <= 1.5 * sum(minutes) / len(minutes)


def test_readiness_goes_to_the_service_manager(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": str(path)}).send("READY=1", "STATUS=3 services")
        assert manager.recv(1024) == b"READY=1\nSTATUS=3 services"


def test_a_manager_that_is_gone_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send("READY=1")
    assert "can't be told READY=1" in caplog.text
    caplog.clear()
    Notifier({}).send("READY=1")
    assert caplog.text == ""


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("gitopperd", level, __file__, 1, message, (), None)
    made.__dict__.update(extra)
    return made


def test_each_line_for_the_journal_has_its_priority() -> None:
    formatter = JournalFormatter("%(message)s")
    assert formatter.format(record("all is well")) == "<6>all is well"
    made = record("failed", logging.ERROR)
    error = ValueError("one\x1b[2J\u202e")
    made.exc_info = (ValueError, error, None)
    lines = formatter.format(made).split("\n")
    assert lines[0] == "<3>failed"
    assert lines[-1] == "<3>ValueError: one\\x1b[2J\\u202e"
    assert all(line.startswith("<3>") for line in lines)
    assert formatter.format(record("hm", logging.WARNING)) == "<4>hm"
    assert formatter.format(record("hm", logging.DEBUG)) == "<7>hm"


HOSTILE = "x\n<3>all is lost\r\x1b[31m\x9b2J\x85\u2028\u202egpj.exe\U000e0041\udcff"


def test_no_name_from_a_repository_can_forge_a_line_of_the_log_or_reach_a_terminal() -> None:
    made = record("path %s")
    made.args = (HOSTILE,)
    line = PlainFormatter("%(message)s").format(made)
    assert line == (r"path x\n<3>all is lost\r\x1b[31m\x9b2J\x85\u2028\u202egpj.exe\U000e0041\udcff")
    assert JournalFormatter("%(message)s").format(made) == f"<6>{line}"
    assert made.getMessage() == f"path {HOSTILE}"  # other handlers get what was said


def test_json_is_printable_whatever_it_holds_and_means_the_same() -> None:
    event = Event(kind="failed", service="web", details={"error": HOSTILE})
    line = JsonFormatter().format(record(HOSTILE, event=event))
    assert line.isprintable()
    assert json.loads(line)["message"] == json.loads(line)["details"]["error"] == HOSTILE


def test_an_event_is_one_json_object_with_its_members() -> None:
    event = Event(kind="deployed", service="web", details={"revision": "abc"})
    entry = json.loads(JsonFormatter().format(record("web: deployed", event=event)))
    assert entry["event"] == "deployed"
    assert entry["service"] == "web"
    assert entry["details"] == {"revision": "abc"}
    assert "upstream" not in entry


def test_an_event_can_not_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gitopperd")
    hostile = "x\n<3>gitopperd: all is lost\x1b[31m"
    EventLog().gitopper_event(Event(kind="failed", service="web", details={"error": hostile}))
    (line,) = [entry.getMessage() for entry in caplog.records]
    assert "\n" not in line
    assert "\x1b" not in line


def test_the_watchdog_is_only_fed_where_it_is_meant_for_us() -> None:
    ours = {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(ours)._watchdog_seconds == 2
    assert Notifier(ours | {"WATCHDOG_PID": "1"})._watchdog_seconds is None
    assert Notifier({"WATCHDOG_USEC": "soon"})._watchdog_seconds is None
    assert Notifier({})._watchdog_seconds is None


def test_a_commit_that_hurts_is_told_as_a_warning_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gitopperd")
    details = {"revision": "606eb57", "step": "check", "error": "nginx: [emerg] unexpected end of file"}
    for kind in ("rejected", "taken-back", "drift", "healed", "installed"):
        EventLog().gitopper_event(Event(kind=kind, service="web", details=details))
    levels = [entry.levelno for entry in caplog.records]
    assert levels == [logging.WARNING] * 4 + [logging.INFO]
    assert caplog.records[0].getMessage() == (
        "web: rejected revision=606eb57 step=check error=nginx: [emerg] unexpected end of file"
    )


def test_deploys_are_counted_by_result_and_forgotten_with_their_service() -> None:
    meters = Meters(CollectorRegistry())
    for service, kind in (("web", "deployed"), ("web", "deployed"), ("web", "rejected"), ("db", "healed")):
        meters.gitopper_event(Event(kind=kind, service=service))
    meters.gitopper_event(Event(kind="failed", service="web"))

    def counted(*services: str) -> dict[tuple[str, str], float]:
        samples = meters.deploys_of(set(services)).samples
        named = {(sample.labels["service"], sample.labels["result"]): sample.value for sample in samples}
        return {name: number for name, number in named.items() if number}

    assert counted("web", "db") == {("web", "deployed"): 2, ("web", "rejected"): 1, ("db", "healed"): 1}
    assert counted("db") == {("db", "healed"): 1}
    assert counted("web", "db") == {("db", "healed"): 1}, "a service that comes back begins anew"


def test_who_asked_is_told_once_each_and_not_without_end() -> None:
    asked = Asked("start")
    for who in ("pull by alice", "webhook github", "pull by alice", ""):
        asked.add(who)
    assert asked.take() == "start, pull by alice, webhook github"
    assert asked.take() == ""
    for number in range(1000):
        asked.add(f"pull by user {number}")
    assert len(asked.take().split(", ")) == 5
