"""Services whose releases are checked, on a simulated host, and what could be seen of one that failed."""

from __future__ import annotations

from typing import Any

from libgitopper import Check, CheckError, Service
from tests.support.simulatedhost import SimulatedHost
from tests.support.watched import push

__all__ = ["checked", "nothing_was_seen", "rejected"]

CHECK = Check(commands=(("check",),))
SEEN = ("begin web", "publish web", "withdraw web", "reload web", "record web")
"""Steps of which a service, or a reader of its files, could notice something."""


def checked(host: SimulatedHost, **more: Any) -> Service:
    """A service with `CHECK`."""
    return host.service(check=CHECK, **more)


def nothing_was_seen(host: SimulatedHost) -> bool:
    """Tell whether no step was taken that a service, or a reader of its files, could notice."""
    return not any(host.script.count(step) for step in SEEN)


def rejected(host: SimulatedHost) -> tuple[Service, str, str]:
    """A service with a commit deployed, and one that failed its check after it."""
    web = checked(host)
    good = host.deploy(web)
    bad = push(host, "unfit")
    outcome = host.pass_(web)
    assert isinstance(outcome.error, CheckError)
    return web, good, bad
