"""The unit probe against a real systemd: what is up, what only seems so, and what is not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.fixtures import systemd_box
from tests.support.systemdbox import SystemdBox

__all__ = ["systemd_box"]

pytestmark = pytest.mark.systemd

RUNS = "[Service]\nExecStart=/bin/sleep inf\n"
RELOADS_SLOWLY = RUNS + "ExecReload=/bin/sleep 0.5\n"
FAILS = "[Service]\nExecStart=/bin/sh -c 'exit 7'\n"
# Up for a third of a second at a time: at most looks it runs.
CRASHES = """\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'sleep 0.3; exit 1'
Restart=always
RestartSec=100ms
"""

DRIVER = """
import json, subprocess, sys, time
from datetime import UTC, datetime
from attrs import evolve
from gitopper_plugins import health
from libgitopper import Health, HealthError, HealthRequest, HealthWatch, Hooks, run
from libgitopper.testing.reload import request_for, service_for_tests

service = service_for_tests(sys.argv[1], health=Health(unit=True))
release = request_for(service).release

def systemctl(*words):
    run(("systemctl", *words), timeout_seconds=20).check()

# Nobody who looks at a unit has to do with the clock on the wall.
WALL = datetime(1999, 1, 1, tzinfo=UTC)

def probe(since):
    request = HealthRequest(
        service=service, release=release, since=WALL, since_monotonic=since, timeout_seconds=10
    )
    try:
        health.gitopper_health(request)
    except HealthError as exc:
        return str(exc)
    return ""

def probes(since, seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield probe(since)
        time.sleep(0.02)

def watch(since, **settings):
    watched = evolve(service, health=Health(unit=True, **settings))
    hooks = Hooks()
    hooks.register(health)
    try:
        HealthWatch(hooks=hooks).run(
            watched, release, since=WALL, since_monotonic=since, still=lambda: True
        )
    except HealthError as exc:
        return str(exc)
    return ""

def now():
    return time.monotonic()

"""


def run(box: SystemdBox, unit: str, *lines: str) -> Any:
    """Run `lines` in the box after the driver; the last of them is what is returned."""
    *first, last = lines
    return box.python(DRIVER + "\n".join([*first, f"print(json.dumps({last}))"]), unit)


def test_a_unit_that_runs_is_healthy(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("runs.service", RUNS, start=True)
    assert run(systemd_box, "runs", "probe(now())") == ""


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_its_start_before_the_reload_was_done_is_not_held_against_it(
    systemd_box: SystemdBox, verb: str
) -> None:
    often = "[Unit]\nStartLimitIntervalSec=0\n"
    systemd_box.add_unit(f"{verb}ed.service", often + RUNS, start=verb == "restart")
    found = run(
        systemd_box,
        f"{verb}ed",
        "found = set()",
        "for _ in range(10):",
        f"    systemctl('{verb}', service.name)",
        "    found.add(probe(now()))",
        "sorted(found)",
    )
    assert found == [""]


def test_a_reload_is_no_restart_and_one_under_way_is_no_trouble(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("reloads.service", RELOADS_SLOWLY, start=True)
    found = run(
        systemd_box,
        "reloads",
        "since = now()",
        "systemctl('reload', '--no-block', service.name)",
        "states = set()",
        "def state():",
        "    argv = ('systemctl', 'show', '--property=ActiveState', '--value', service.name)",
        "    states.add(run(argv, timeout_seconds=20).output.strip())",
        "found = {(probe(since), state()) [0] for _ in range(60) if time.sleep(0.01) is None}",
        "[sorted(found), sorted(states)]",
    )
    assert found == [[""], ["active", "reloading"]]


def test_a_unit_that_crashes_and_is_started_again_is_never_healthy_again(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("crashes.service", CRASHES)
    seen = run(systemd_box, "crashes", "systemctl('start', service.name)", "list(probes(now(), 2.0))")
    first = next(n for n, words in enumerate(seen) if words)
    assert all(seen[first:])
    assert any("crashes.service was started again" in words for words in seen)
    assert any("crashes.service is activating (auto-restart, exit-code)" in words for words in seen)


def test_a_watch_is_not_deceived_by_one_that_runs_at_most_looks(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("deceives.service", CRASHES)
    words = run(
        systemd_box,
        "deceives",
        "systemctl('start', service.name)",
        # Just so often that it may be up each time.
        "watch(now(), within_seconds=2, interval_seconds=0.4, stable_for_seconds=1)",
    )
    assert words.startswith("not healthy within 2s: unit deceives.service ")


def test_a_restart_by_somebody_else_is_told(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("again.service", RUNS, start=True)
    words = run(systemd_box, "again", "since = now()", "systemctl('restart', service.name)", "probe(since)")
    assert words.startswith("unit again.service was started again 0.")
    assert words.endswith("s after its reload")


def test_a_unit_that_failed_says_how(systemd_box: SystemdBox) -> None:
    systemd_box.add_unit("fails.service", FAILS, start=True)
    deadline = time.monotonic() + 10
    while systemd_box.property("fails", "ActiveState") != "failed":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run(systemd_box, "fails", "probe(now())") == "unit fails.service is failed (exit-code)"


@pytest.mark.parametrize(
    ("unit", "text", "told"),
    [
        ("stopped", RUNS, "inactive"),
        ("nosuch", None, "unknown to systemd"),
        (
            "starts",
            RUNS.replace("[Service]", "[Service]\nExecStartPre=/bin/sleep 60"),
            "activating (start-pre)",
        ),
    ],
)
def test_a_unit_that_does_not_run_says_so(
    systemd_box: SystemdBox, unit: str, text: str | None, told: str
) -> None:
    if text:
        systemd_box.add_unit(f"{unit}.service", text)
    if unit == "starts":
        systemd_box.systemctl("start", "--no-block", unit)
    assert run(systemd_box, unit, "probe(now())") == f"unit {unit}.service is {told}"


def test_what_stays_active_after_its_process_ended_is_healthy(systemd_box: SystemdBox) -> None:
    unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"
    systemd_box.add_unit("stays.service", unit, start=True)
    systemd_box.add_unit("tick.timer", "[Timer]\nUnit=stays.service\nOnBootSec=1h\n", start=True)
    assert run(systemd_box, "stays", "probe(now())") == ""
    assert run(systemd_box, "tick.timer", "probe(now())") == ""
