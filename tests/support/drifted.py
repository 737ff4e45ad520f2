"""Services whose files drifted, on a simulated host."""

from __future__ import annotations

from typing import Any

from libgitopper import DriftPolicy, Service
from tests.support.simulatedhost import SimulatedHost

__all__ = ["HEAL", "OFF", "drifted"]

HEAL, OFF = DriftPolicy.HEAL, DriftPolicy.OFF


def drifted(host: SimulatedHost, **more: Any) -> Service:
    """A deployed service with a file that was edited."""
    web = host.service(**more)
    host.deploy(web)
    host.edit(web, "web/conf", "edited")
    return web
