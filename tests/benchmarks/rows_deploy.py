"""Deploying: from the push to the reload, for one service of many, and for all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.measure import settle
from tests.benchmarks.ours import Followed, Ours
from tests.benchmarks.repositories import commit
from tests.benchmarks.sides import side_by_side
from tests.benchmarks.theirs import Theirs

__all__ = ["deploy_all", "deploy_one"]

SPACING_SECONDS = 1.1
"""Webhooks that come faster than once a second wait for each other, and that would be measured."""


def deploy_one(bench: Bench) -> Iterator[Figure]:
    """From the webhook to the start of the reload command of one service that changed; git: the same."""
    ours, git = [], []
    with side_by_side(bench, stamping=True) as sides:
        for number in range(bench.rounds * bench.pick(20, 10, 2)):
            changed = [sides.services[number % len(sides.services)]]
            commit(sides.stage.repository, change(changed, number))
            ours.append(1000 * seconds_to_reload(sides.ours, changed))
            git.append(1000 * git_seconds_to_reload(sides.theirs, changed)[0])
            time.sleep(SPACING_SECONDS)
    yield Figure(
        name="wall", unit="ms", ours=ours, git=git, limit=60, ratio_limit=1 / 3,
        note="git knows which service changed, and looks after no other",
    )  # fmt: skip
    tails = [percentile(ours, 99)], [percentile(git, 99)]
    yield Figure(name="wall, p99", unit="ms", ours=tails[0], git=tails[1], limit=200)


def deploy_all(bench: Bench) -> Iterator[Figure]:
    """From the webhook to the start of the last reload command where all changed; git: a poll of all."""
    ours, git, ours_cpu, git_cpu = [], [], [], []
    with side_by_side(bench, stamping=True) as sides:
        services = sides.services
        for number in range(bench.rounds):
            commit(sides.stage.repository, change(services, number))
            before = settle(sides.ours.pid)
            ours.append(seconds_to_reload(sides.ours, services))
            ours_cpu.append(settle(sides.ours.pid) - before)
            wall, cpu = git_seconds_to_reload(sides.theirs, services)
            git.append(wall)
            git_cpu.append(cpu)
    yield Figure(name="wall", unit="s", ours=ours, git=git, limit=2, ratio_limit=1 / 10)
    yield Figure(name="CPU, with the reload commands", unit="s", ours=ours_cpu, git=git_cpu)


def change(services: Sequence[Followed], number: int) -> dict[str, str]:
    """Return another text for one file of each of `services`."""
    return {f"{one.link}/file00.conf": f"deploy = {number}\n" for one in services}


def seconds_to_reload(host: Ours, services: Sequence[Followed]) -> float:
    """Return the time from a webhook until the last reload of `services`, and of nobody else, starts."""
    before = len(host.stamps())
    begun = host.push()
    reloads = host.wait_for_stamps(before + len(services))[before:]
    assert {stamp.service for stamp in reloads} == {one.name for one in services}
    return max(stamp.seconds for stamp in reloads) - begun


def git_seconds_to_reload(theirs: Theirs, services: Sequence[Followed]) -> tuple[float, float]:
    """Return the same from the start of git's script, and the CPU seconds of that."""
    before, begun = len(theirs.stamps()), time.time()
    spent = theirs.poll(services)
    reloads = theirs.stamps()[before:]
    assert {stamp.service for stamp in reloads} == {one.name for one in services}
    return max(stamp.seconds for stamp in reloads) - begun, spent.cpu_seconds
