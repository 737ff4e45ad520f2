"""What cost grows with: three sizes of everything, and the growth from the smallest to the largest."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence

from attrs import evolve, frozen

from tests.benchmarks.bench import Bench, Size
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import settle
from tests.benchmarks.ours import Ours, followed
from tests.benchmarks.repositories import Shape, commit
from tests.benchmarks.rows_deploy import SPACING_SECONDS, change, seconds_to_reload
from tests.benchmarks.rows_poll import SHORTEST, polls

__all__ = ["scale_commits", "scale_files", "scale_services"]

SLACK = 2.0
"""What does not grow may still measure so much more at the largest size than at the smallest."""


@frozen(kw_only=True)
class Setting:
    """One size."""

    label: str
    shape: Shape
    services: int


def scale_files(bench: Bench) -> Iterator[Figure]:
    """CPU of an idle poll and of the deploy of one file, by the number of files in the repository."""
    base = bench.config
    shapes = [evolve(base, directories=base.directories * factor // 4) for factor in (1, 4, 16)]
    yield from _growth(
        bench,
        [
            Setting(label=f"{s.directories * s.files:,} files", shape=s, services=_services(bench))
            for s in shapes
        ],
    )


def scale_commits(bench: Bench) -> Iterator[Figure]:
    """The same by the number of commits."""
    base = bench.config
    shapes = [evolve(base, commits=max(2, base.commits * factor // 10)) for factor in (1, 10, 100)]
    yield from _growth(
        bench,
        [Setting(label=f"{s.commits:,} commits", shape=s, services=_services(bench)) for s in shapes],
    )


def scale_services(bench: Bench) -> Iterator[Figure]:
    """The same by the number of services."""
    counts = [max(1, _services(bench) * factor // 4) for factor in (1, 4, 16)]
    yield from _growth(
        bench, [Setting(label=f"{n} services", shape=bench.config, services=n) for n in counts]
    )


def _services(bench: Bench) -> int:
    """How many services there are where another thing grows: no more than the smallest repository has."""
    return bench.pick(40, 10, 1)


def _growth(bench: Bench, settings: Sequence[Setting]) -> Iterator[Figure]:
    chosen = settings[::2] if bench.size is Size.TINY else settings
    found = [(setting, *_cost(bench, setting)) for setting in chosen]
    for setting, poll, deploy in found:
        yield Figure(name=f"idle poll, {setting.label}", unit="ms", ours=poll)
        yield Figure(name=f"deploy, {setting.label}", unit="ms", ours=deploy)
    (_, first_poll, first_deploy), *_, (_, last_poll, last_deploy) = found
    yield Figure(name="growth, idle poll", unit="", ours=[_ratio(last_poll, first_poll)], limit=SLACK)
    yield Figure(name="growth, deploy", unit="", ours=[_ratio(last_deploy, first_deploy)], limit=SLACK)


def _ratio(last: Sequence[float], first: Sequence[float]) -> float:
    return statistics.median(last) / statistics.median(first)


def _cost(bench: Bench, setting: Setting) -> tuple[list[float], list[float]]:
    """Return the CPU milliseconds of idle polls, and of deploys of one file with the reload command."""
    with bench.stage(setting.shape) as stage:
        services, home = followed(stage.url, setting.services), stage.home / "ours"
        with Ours(home, services, interval=SHORTEST) as host:
            host.start()
            seconds = bench.pick(10, 5, 1)
            found = [1000 * polls(stage, host, seconds=seconds)[0] for _ in range(bench.rounds)]
        deploys = []
        with Ours(home, services, stamping=True) as host:
            host.start()
            for number in range(bench.rounds):
                changed = [services[number % len(services)]]
                commit(stage.repository, change(changed, number))
                before = settle(host.pid)
                seconds_to_reload(host, changed)
                deploys.append(1000 * (settle(host.pid) - before))
                time.sleep(SPACING_SECONDS)
    return found, deploys
