"""Stores: the first clone of a large repository, and what two thousand fetches leave."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.bench import Bench, Stage
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import cpu_seconds, descriptors, disk_bytes, peak, run_and_measure
from tests.benchmarks.repositories import commit, link
from tests.benchmarks.theirs import GIT_ENVIRONMENT

__all__ = ["clone_large", "many_fetches"]

MB = 1_000_000
PART = 100
"""The first fetches are held against the last, so many of each."""


class Fetcher:
    """`tests.benchmarks.fetching` as a process: a store, and nothing else of the daemon."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read()  # it is ready: what it took to start is no part of a fetch

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fetch(self) -> None:
        """Bring its store up to date."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._read()

    def _read(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "done\n", f"the fetch failed: {line!r}"


@contextlib.contextmanager
def fetcher(url: str, stores: Path, *, git: bool = True) -> Iterator[Fetcher]:
    """Run a fetcher; without `git`, on a PATH that has none."""
    command = [sys.executable, "-m", "tests.benchmarks.fetching", url, str(stores)]
    environment = {**os.environ, "PATH": os.environ["PATH"] if git else "/nonexistent"}
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield Fetcher(process)


def clone_large(bench: Bench) -> Iterator[Figure]:
    """The first clone of a large repository without file contents; git: clone --bare --filter=blob:none."""
    found: dict[str, list[float]] = defaultdict(list)
    with bench.stage(bench.large) as stage:
        for number in range(min(bench.rounds, 3)):
            for way, git in (("with", True), ("without", False)):
                _clone_ours(stage, stage.home / f"{way}{number}", way, git, found)
            _clone_git(stage, stage.home / f"git{number}", found)
    yield Figure(
        name="CPU, git installed", unit="s", ours=found["with cpu"], git=found["cpu"], ratio_limit=1.3
    )
    yield Figure(name="CPU, no git", unit="s", ours=found["without cpu"], git=found["cpu"], ratio_limit=6)
    for way, words in (("with", "git installed"), ("without", "no git")):
        memory, wire, disk = (found[f"{way} {what}"] for what in ("peak", "wire", "disk"))
        yield Figure(name=f"peak memory, {words}", unit="MB", ours=memory, git=found["peak"])
        yield Figure(name=f"on the wire, {words}", unit="MB", ours=wire, git=found["wire"])
        yield Figure(name=f"disk, {words}", unit="MB", ours=disk, git=found["disk"])


def _clone_ours(stage: Stage, stores: Path, way: str, git: bool, found: dict[str, list[float]]) -> None:
    wire = stage.server.wire()
    with fetcher(stage.url, stores, git=git) as ours:
        before = cpu_seconds(ours.pid)
        with peak(ours.pid) as seen:
            ours.fetch()
        found[f"{way} cpu"].append(cpu_seconds(ours.pid) - before)
        found[f"{way} peak"].append(seen.bytes / MB)
    found[f"{way} wire"].append(stage.server.wire().since(wire).bytes / MB)
    found[f"{way} disk"].append(disk_bytes(stores) / MB)


def _clone_git(stage: Stage, target: Path, found: dict[str, list[float]]) -> None:
    wire = stage.server.wire()
    command: list[str | Path] = [
        "git",
        "clone",
        "--quiet",
        "--bare",
        "--filter=blob:none",
        stage.url,
        target,
    ]
    spent = run_and_measure(command, env=GIT_ENVIRONMENT, watch_memory=True)
    found["cpu"].append(spent.cpu_seconds)
    found["peak"].append(spent.peak_bytes / MB)
    found["wire"].append(stage.server.wire().since(wire).bytes / MB)
    found["disk"].append(disk_bytes(target) / MB)


def many_fetches(bench: Bench) -> Iterator[Figure]:
    """Fetches into one store, each of one new commit: the last 100 against the first 100."""
    count, part = bench.pick(2_000, 300, 4), bench.pick(PART, PART, 2)
    cpu, open_files = [], []
    with bench.stage(bench.config) as stage, fetcher(stage.url, stage.home / "stores") as ours:
        ours.fetch()
        for number in range(count):
            commit(stage.repository, {f"{link(0)}/file00.conf": f"fetch = {number}\n"})
            before = cpu_seconds(ours.pid)
            ours.fetch()
            cpu.append(1000 * (cpu_seconds(ours.pid) - before))
            open_files.append(descriptors(ours.pid))
    first, last = sum(cpu[:part]) / part, sum(cpu[-part:]) / part
    yield Figure(name=f"CPU of each of the first {part}", unit="ms", ours=[first])
    yield Figure(name=f"CPU of each of the last {part}", unit="ms", ours=[last])
    yield Figure(name="last to first", unit="", ours=[last / first], limit=1.2)
    yield Figure(name=f"descriptors, most in the first {part}", unit="", ours=[max(open_files[:part])])
    yield Figure(
        name=f"descriptors, most in the last {part}",
        unit="",
        ours=[max(open_files[-part:])],
        limit=1.2 * max(open_files[:part]),
    )
