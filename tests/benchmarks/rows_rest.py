"""Rest: what a daemon takes while nothing happens, and how a thousand of them come at an upstream."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gitopperd.work.delays import next_delay
from tests.benchmarks.bench import Bench, Stage
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import pss_bytes, rss_bytes, settle
from tests.benchmarks.ours import Followed, Ours, followed
from tests.benchmarks.repositories import Shape, copy, link

__all__ = ["fleet", "memory_at_rest", "spread_of_polls"]

MB = 1_000_000
INTERVAL_SECONDS = 300
HOUR_SECONDS = 3600


def spread_of_polls(bench: Bench) -> Iterator[Figure]:
    """A SIMULATION, on a simulated clock: 1,000 hosts that start together, an hour of five-minute polls."""
    fullest = [_fullest_minute(hosts=1_000, seed=seed) for seed in range(bench.rounds)]
    yield Figure(
        name="fullest minute to the mean", unit="", ours=fullest, limit=1.5,
        note="a simulation over the daemon's own choice of delays; each round is another throw of the dice",
    )  # fmt: skip


def _fullest_minute(*, hosts: int, seed: int) -> float:
    """Return the most polls of a minute to the mean; not the first polls, which come together."""
    minutes: Counter[int] = Counter()
    for host in range(hosts):
        rng, now, polls = random.Random(f"{seed} {host}"), 0.0, 1
        while (
            now := now + next_delay(interval_seconds=INTERVAL_SECONDS, polls=polls, failures=0, rng=rng)
        ) < HOUR_SECONDS:
            polls += 1
            minutes[int(now // 60)] += 1
    return max(minutes.values()) / (minutes.total() / (HOUR_SECONDS / 60))


def memory_at_rest(bench: Bench) -> Iterator[Figure]:
    """Memory of the daemon and its children at rest: with many services, and after a clone of *large*."""
    config, both = [], []
    for _ in range(min(bench.rounds, 3)):
        with bench.stage(bench.config) as stage:
            large = copy(bench.large, bench.cache, stage.repository.parent / "large.git")
            services = followed(stage.url, bench.services)
            big = Followed(name="large", upstream=stage.server.url(large), link=link(0))
            with Ours(stage.home / "ours", services) as host:
                config.append(_at_rest(host.start()))
            with Ours(stage.home / "ours", [*services, big]) as host:
                both.append(_at_rest(host.start()))
    for name, found, limit in (("many services", config, 60), ("after the large clone", both, 75)):
        yield Figure(name=f"PSS, {name}", unit="MB", ours=[pss for pss, _ in found], limit=limit)
        yield Figure(name=f"RSS, {name}", unit="MB", ours=[rss for _, rss in found])


def _at_rest(host: Ours) -> tuple[float, float]:
    settle(host.pid)
    return pss_bytes(host.pid) / MB, rss_bytes(host.pid) / MB


def fleet(bench: Bench) -> Iterator[Figure]:
    """CPU at rest, as a part of one core: 1,000 services on 20 upstreams that are asked once a minute."""
    upstreams, each = bench.pick(20, 5, 2), bench.pick(50, 10, 2)
    shape = Shape(name="part", directories=each, files=bench.pick(20, 20, 3), commits=100)
    found, asked = [], []
    with bench.stage(shape) as stage:
        services = _on_many(stage, shape, bench.cache, upstreams)
        with Ours(stage.home / "ours", services, interval="1m") as host:
            host.start()
            time.sleep(bench.pick(65, 65, 1))  # the second polls come anywhere in the first minute
            for _ in range(min(bench.rounds, 3)):
                wire, before, begun = stage.server.wire(), host.cpu_seconds(), time.monotonic()
                time.sleep(bench.pick(60, 60, 2))
                found.append(100 * (host.cpu_seconds() - before) / (time.monotonic() - begun))
                asked.append(stage.server.wire().since(wire).requests)
            memory = [pss_bytes(host.pid) / MB]
    yield Figure(name="CPU", unit="% of a core", ours=found, limit=0.5)
    yield Figure(name="requests in that time", unit="", ours=asked)
    yield Figure(name="PSS", unit="MB", ours=memory)


def _on_many(stage: Stage, shape: Shape, cache: Path, upstreams: int) -> list[Followed]:
    """Serve so many repositories of `shape`; return a service for each directory of each."""
    found = []
    for number in range(upstreams):
        repository = copy(shape, cache, stage.repository.parent / f"part{number}.git")
        url = stage.server.url(repository)
        found += followed(url, shape.directories, prefix=f"part{number}-")
    return found
