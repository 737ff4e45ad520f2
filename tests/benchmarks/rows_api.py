"""The API and its client: how fast the daemon answers, busy or not, and what gitopperctl takes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import Figure, percentile
from tests.benchmarks.measure import run_and_measure, settle
from tests.benchmarks.ours import Followed, Ours, followed
from tests.benchmarks.repositories import link
from tests.support.daemon import BIN

__all__ = ["answers", "answers_while_cloning", "ctl"]

OF_THE_DAEMON = ("gitopperd.work", "gitopperd.api", "aiohttp", "asyncio", "dulwich", "prometheus_client")
"""What a client has no use for."""


class Client:
    """One connection that is kept, and what each of its requests took."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.milliseconds: list[float] = []

    def get(self, path: str) -> None:
        """GET `path`, whatever its length."""
        begun = time.perf_counter()
        self._connection.request("GET", path)
        with self._connection.getresponse() as response:
            response.read()
        self.milliseconds.append(1000 * (time.perf_counter() - begun))
        assert response.status == 200, f"{path}: {response.status}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def answers(bench: Bench) -> Iterator[Figure]:
    """GET /metrics and /list/services with 1,000 services, one request after another."""
    with bench.stage(bench.config) as stage:
        services = _many(stage.url, count=bench.pick(1_000, 100, 3), directories=bench.config.directories)
        with Ours(stage.home / "ours", services) as host:
            host.start()
            settle(host.pid)
            for path in ("/metrics", "/list/services"):
                yield from _timed(bench, host, path)


def _many(url: str, *, count: int, directories: int) -> list[Followed]:
    """Return `count` services, more than one for a directory where there are not enough."""
    return [Followed(name=f"many{at:04}", upstream=url, link=link(at % directories)) for at in range(count)]


def _timed(bench: Bench, host: Ours, path: str) -> Iterator[Figure]:
    requests, tails, rates, walls = bench.pick(200, 100, 5), [], [], []
    for _ in range(bench.rounds):
        client = Client(host.port)
        client.get(path)  # the connection and whatever is made once are no part of the rest
        client.milliseconds.clear()
        before, begun = host.cpu_seconds(), time.monotonic()
        for _ in range(requests):
            client.get(path)
        walls.append(requests / (time.monotonic() - begun))
        rates.append(requests / (host.cpu_seconds() - before))
        tails.append(percentile(client.milliseconds, 99))
        client.close()
    yield Figure(name=f"{path}, p99", unit="ms", ours=tails, limit=20)
    yield Figure(name=f"{path}, for each second of CPU", unit="requests", ours=rates, floor=500)
    yield Figure(name=f"{path}, one client", unit="requests/s", ours=walls)


def answers_while_cloning(bench: Bench) -> Iterator[Figure]:
    """GET /list/services, one every 5 ms, while the daemon makes its first clone of *large*."""
    found, seconds = [], []
    with bench.stage(bench.large) as stage:
        for number in range(bench.rounds):
            with Ours(stage.home / f"ours{number}", followed(stage.url, 1)) as host:
                host.launch()
                begun, client, ready = time.monotonic(), Client(host.port), threading.Event()
                waiter = threading.Thread(target=_wait, args=(host, ready))
                waiter.start()
                client.get("/list/services")
                while not ready.wait(0.005):
                    client.get("/list/services")
                waiter.join()
                client.close()
                seconds.append(time.monotonic() - begun)
                found.append(client.milliseconds)
    yield Figure(name="p99", unit="ms", ours=[percentile(each, 99) for each in found], limit=25)
    yield Figure(name="median", unit="ms", ours=[percentile(each, 50) for each in found])
    yield Figure(name="slowest", unit="ms", ours=[max(each) for each in found])
    yield Figure(name="the clone", unit="s", ours=seconds)


def _wait(host: Ours, ready: threading.Event) -> None:
    try:
        host.wait_until_ready()
    finally:
        ready.set()


def ctl(bench: Bench) -> Iterator[Figure]:
    """``gitopperctl list services`` as a whole process, by the Unix socket, with 100 services."""
    with (
        bench.stage(bench.config) as stage,
        Ours(stage.home / "ours", followed(stage.url, bench.services)) as host,
    ):
        host.start()
        command: list[str | Path] = [
            BIN / "gitopperctl",
            "list",
            "services",
            f"@unix:{host.home}/gitopperd.sock",
        ]
        environment = dict(os.environ)
        run_and_measure(command, env=environment)  # its byte code is there from now on
        spent = [run_and_measure(command, env=environment) for _ in range(4 * bench.rounds)]
        modules = _imported([sys.executable, "-X", "importtime", *command])
    yield Figure(name="CPU", unit="ms", ours=[1000 * one.cpu_seconds for one in spent], limit=150)
    yield Figure(name="wall", unit="ms", ours=[1000 * one.wall_seconds for one in spent])
    daemons = [name for name in modules if name.startswith(OF_THE_DAEMON)]
    yield Figure(name="modules imported", unit="", ours=[len(modules)])
    yield Figure(
        name="modules of the daemon", unit="", ours=[len(daemons)], limit=0, note=" ".join(daemons)
    )


def _imported(command: list[str | Path]) -> list[str]:
    """Return the names of all modules that a Python program imports, as ``-X importtime`` prints them."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return [name for line in lines if (name := line.rpartition("|")[2].strip()) != "imported package"]
