"""Starting: the first time, when nothing is there, and again, when everything is."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.bench import Bench, Stage
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import disk_bytes, peak
from tests.benchmarks.ours import Ours, files_bytes, followed
from tests.benchmarks.theirs import Theirs

__all__ = ["cold_start", "warm_start"]

MB = 1_000_000
Found = dict[str, list[float]]


def cold_start(bench: Bench) -> Iterator[Figure]:
    """First start with nothing there, until every service is OK; git: a sparse clone for each service."""
    ours: Found = defaultdict(list)
    git: Found = defaultdict(list)
    with bench.stage(bench.config) as stage:
        for number in range(bench.rounds):
            _start_cold(stage, stage.home / f"ours{number}", bench.services, ours)
            _clone_all(stage, stage.home / f"git{number}", bench.services, git)
    yield Figure(name="CPU", unit="s", ours=ours["cpu"], git=git["cpu"], limit=2, ratio_limit=1 / 12)
    yield Figure(name="wall", unit="s", ours=ours["wall"], git=git["wall"])
    yield Figure(name="on the wire", unit="MB", ours=ours["wire"], git=git["wire"])
    yield Figure(name="requests", unit="", ours=ours["requests"], git=git["requests"])
    yield Figure(name="disk beyond the files", unit="MB", ours=ours["disk"], git=git["disk"], limit=10)
    yield Figure(name="peak memory", unit="MB", ours=ours["peak"], git=git["peak"])


def warm_start(bench: Bench) -> Iterator[Figure]:
    """Start where everything is there and nothing moved, until every service is OK."""
    found: Found = defaultdict(list)
    with (
        bench.stage(bench.config) as stage,
        Ours(stage.home / "ours", followed(stage.url, bench.services)) as ours,
    ):
        ours.start()
        for _ in range(bench.rounds):
            ours.stop()
            begun = time.monotonic()
            ours.start()
            found["wall"].append(time.monotonic() - begun)
            found["cpu"].append(ours.cpu_seconds())
    yield Figure(name="CPU", unit="s", ours=found["cpu"], limit=0.7)
    yield Figure(name="wall", unit="s", ours=found["wall"])


def _start_cold(stage: Stage, home: Path, services: int, found: Found) -> None:
    wire, begun = stage.server.wire(), time.monotonic()
    with Ours(home, followed(stage.url, services)) as ours:
        ours.launch()
        with peak(ours.pid) as seen:
            ours.wait_until_ready()
        found["wall"].append(time.monotonic() - begun)
        found["cpu"].append(ours.cpu_seconds())
        found["peak"].append(seen.bytes / MB)
    went = stage.server.wire().since(wire)
    found["wire"].append(went.bytes / MB)
    found["requests"].append(went.requests)
    releases = (home / "mount/.gitopper/releases").glob("*/*")
    kept = disk_bytes(home / "mount") + disk_bytes(home / "state")
    found["disk"].append((kept - files_bytes(releases)) / MB)


def _clone_all(stage: Stage, home: Path, services: int, found: Found) -> None:
    wire = stage.server.wire()
    theirs = Theirs(home, followed(stage.url, services))
    spent = theirs.clone(watch_memory=True)
    went = stage.server.wire().since(wire)
    found["wall"].append(spent.wall_seconds)
    found["cpu"].append(spent.cpu_seconds)
    found["peak"].append(spent.peak_bytes / MB)
    found["wire"].append(went.bytes / MB)
    found["requests"].append(went.requests)
    found["disk"].append((disk_bytes(home) - files_bytes([home])) / MB)
