"""Crashes of simulated hosts, one at each step that a pass takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from libgitopper import Service
from tests.support.simulated import Crash
from tests.support.simulatedhost import SimulatedHost

__all__ = ["Flow", "crash_in_turn", "never_ahead_of_the_truth"]

Flow = Callable[[SimulatedHost], Service]
"""Brings a host to where a pass has something to do for the service that is returned."""


def crash_in_turn(directory: Path, flow: Flow) -> Iterator[tuple[SimulatedHost, Service, str]]:
    """Yield a host for each step of `flow` at which a pass can crash, crashed there."""
    for number in range(100):
        host = SimulatedHost(directory / str(number))
        host.upstream.commit({"web/conf": "1", "webapp/conf": "1"})
        service = flow(host)
        host.restart()
        host.script.crash_at = number
        try:
            host.pass_(service)
        except Crash as crash:
            yield host, service, str(crash)
        else:
            host.close()
            assert number > 2, "nothing was done"
            return
    raise AssertionError("the flow has no end")


def never_ahead_of_the_truth(host: SimulatedHost, service: Service, where: str) -> None:
    """What is recorded as deployed was taken by the service, unless an attempt says that more is owed."""
    deployed, attempt = host.state.deployed(service.name), host.state.attempt(service.name)
    taken = host.services.taken.get(service.name)
    shown = {what[2] for what in host.mounts.shown.values()}
    if attempt is None:
        assert taken == (deployed.release if deployed else None), where
        assert shown <= {taken}, f"{where}: published, and no reload is owed"
    for release in shown:
        paths = list((host.directory).glob(f"**/.gitopper/releases/*/{release}"))
        assert paths, f"{where}: what is shown is not there"
