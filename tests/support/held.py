"""Services whose new content has to wait: for its time, or for another service."""

from __future__ import annotations

from datetime import UTC, datetime

from libgitopper import Hold, Reason, Service
from tests.support.simulatedhost import SimulatedHost

__all__ = ["CLOSED", "MORNING", "both", "db", "held", "waits_for_db", "web"]

MORNING = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
CLOSED = Hold(reason="outside of Mon-Fri 09:00-17:00", until=MORNING)


def held(host: SimulatedHost) -> Service:
    """A deployed service for which new content waits from now on."""
    web = host.service()
    host.deploy(web)
    host.guards.asked.clear()
    host.guards.held = CLOSED
    return web


def db(host: SimulatedHost, **more: object) -> Service:
    return host.service("db", links={"/etc/db": "webapp"}, **more)


def web(host: SimulatedHost) -> Service:
    return host.service(after=("db",))


def both(host: SimulatedHost) -> tuple[Service, Service]:
    """Two services in line, and a commit upstream that changes both."""
    first, then = db(host), web(host)
    host.deploy(first)
    assert host.pass_(then, first).error is None
    host.script.clear()
    host.upstream.commit({"web/conf": "2", "webapp/conf": "2"})
    return first, then


def waits_for_db(host: SimulatedHost, then: Service, first: Service) -> bool:
    outcome = host.pass_(then, first)
    assert outcome.error is None
    assert outcome.plan is not None
    return outcome.plan.reasons == (Reason.AFTER,)
