"""Polling when nothing is new: what most of a daemon's life is."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.bench import Bench, Stage
from tests.benchmarks.figures import Figure
from tests.benchmarks.ours import Ours, followed
from tests.benchmarks.sides import side_by_side
from tests.benchmarks.theirs import Theirs
from tests.support.gitserver import git_daemon, ssh_server

__all__ = ["idle_poll", "other_transports"]

SHORTEST = "1s"
"""The shortest interval that the configuration takes."""


def idle_poll(bench: Bench) -> Iterator[Figure]:
    """One poll with nothing new for many services on one upstream; git: five processes for each service."""
    found = defaultdict(list)
    with side_by_side(bench, interval=SHORTEST) as sides:
        for _ in range(bench.rounds):
            cpu, requests = polls(sides.stage, sides.ours, seconds=bench.pick(10, 5, 1))
            found["ours"].append(cpu * 1000)
            found["requests"].append(requests)
            sides.ours.stop()  # it would poll on while the others are measured
            found["git"].append(sides.theirs.poll().cpu_seconds * 1000)
            found["ls-remote"].append(sides.theirs.ls_remote().cpu_seconds * 1000)
            sides.ours.start()
    yield Figure(name="CPU", unit="ms", ours=found["ours"], git=found["git"], ratio_limit=1 / 1000)
    yield Figure(name="requests", unit="", ours=found["requests"], limit=1)
    yield Figure(
        name="CPU, against one ls-remote", unit="ms", ours=found["ours"], git=found["ls-remote"],
        note="git here is one `git ls-remote` for all services: the least that a script can do",
    )  # fmt: skip


def other_transports(bench: Bench) -> Iterator[Figure]:
    """One poll with nothing new by git:// and by ssh; git: a single ls-remote."""
    with bench.stage(bench.config) as stage:
        with git_daemon(stage.repository.parent) as port:
            url = f"git://127.0.0.1:{port}/{stage.repository.name}"
            yield from _polled_by(bench, stage.home / "git", "git://", url)
        with (
            ssh_server(stage.home / "sshd") as server,
            _set("GIT_SSH_COMMAND", f"{server.command} -i {server.key}"),
        ):
            url = server.url(stage.repository)
            # The test server's key and settings lie below /tmp, of which another account has its own.
            yield from _polled_by(bench, stage.home / "ssh", "ssh", url, as_ourselves=True)


def _polled_by(
    bench: Bench, home: Path, name: str, url: str, *, as_ourselves: bool = False
) -> Iterator[Figure]:
    services, ours, git = followed(url, bench.services), [], []
    theirs = Theirs(home, services)
    with Ours(home / "ours", services, interval=SHORTEST, as_ourselves=as_ourselves) as host:
        host.start()
        for _ in range(bench.rounds):
            polls_before, before = host.polls(), host.cpu_seconds()
            time.sleep(bench.pick(10, 5, 2))
            spent = host.cpu_seconds() - before
            ours.append(1000 * spent / (host.polls() - polls_before))
            git.append(1000 * theirs.ls_remote().cpu_seconds)
    yield Figure(name=f"CPU, {name}", unit="ms", ours=ours, git=git)


@contextlib.contextmanager
def _set(name: str, value: str) -> Iterator[None]:
    """Have a variable in the environment of whatever is started in the block."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def polls(stage: Stage, ours: Ours, *, seconds: float) -> tuple[float, float]:
    """Return the CPU seconds of one poll, and its requests, over the polls of so many seconds.

    What the daemon does between polls is in it.
    """
    _next_request(stage)
    wire, cpu, begun = stage.server.wire(), ours.cpu_seconds(), time.monotonic()
    polled = 0
    while time.monotonic() < begun + seconds:
        _next_request(stage)
        polled += 1
    spent, went = ours.cpu_seconds() - cpu, stage.server.wire().since(wire)
    return spent / polled, went.requests / polled


def _next_request(stage: Stage) -> None:
    """Wait for a request, and until what it made the daemon do is done: half of the shortest interval."""
    before = stage.server.wire().requests
    while stage.server.wire().requests == before:
        time.sleep(0.02)
    time.sleep(0.5)
