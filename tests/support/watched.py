"""Services that are watched, on a simulated host: what makes them ill, and what was done about it."""

from __future__ import annotations

from typing import Any

from libgitopper import Health, Service
from tests.support.simulatedhost import SimulatedHost

__all__ = ["HEALTH", "made_ill", "push", "steps", "watched"]

HEALTH = Health(unit=True, within_seconds=3.0)


def watched(host: SimulatedHost, **more: Any) -> Service:
    """A service with `HEALTH`."""
    return host.service(**({"health": HEALTH} | more))


def push(host: SimulatedHost, text: str) -> str:
    """Commit a file of the service; ``ill`` makes it ill."""
    return host.upstream.commit({"web/conf": text})


def made_ill(host: SimulatedHost, **more: Any) -> tuple[Service, str, str]:
    """A service with a good commit deployed, and one that makes it ill waiting upstream."""
    web = watched(host, **more)
    good = host.deploy(web)
    return web, good, push(host, "ill")


def steps(host: SimulatedHost) -> list[str]:
    """The steps of the log that change something, and the probes; each run of probes as one."""
    looks = {"fetch", "observe web", "checkout web", "discard web"}
    found = [step for step in host.script.log if step not in looks]
    return [s for at, s in enumerate(found) if s != "health web" or found[at - 1 : at] != [s]]
