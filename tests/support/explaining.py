"""Explanations on a simulated host, which change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from libgitopper import Check, Explanation, Inspector, Peer, Service
from tests.support.simulatedhost import SimulatedHost

__all__ = ["CHECK", "explain", "host", "inspector"]

CHECK = Check(commands=(("true",),))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    """A host whose upstream has no commit yet."""
    made = SimulatedHost(tmp_path)
    yield made
    made.close()


def inspector(host: SimulatedHost) -> Inspector:
    """Who looks into that host."""
    return Inspector(hooks=host.hooks, state=host.state, reconciler=host.reconciler, now=host.now)


def explain(
    host: SimulatedHost, service: Service, commit: str | None = None, *peers: Service
) -> Explanation:
    """Explain, and see to it that nothing is changed by that."""
    store = host.fetch(service)
    before = (host.state.deployed(service.name), host.state.attempt(service.name), host.shown(service))
    host.script.clear()
    found = inspector(host).explain(
        service, store, commit, peers=[Peer(service=peer, store=host.fetch(peer)) for peer in peers]
    )
    steps = [step for step in host.script.log if not step.startswith(("observe", "fetch"))]
    assert steps == []
    after = (host.state.deployed(service.name), host.state.attempt(service.name), host.shown(service))
    assert before == after
    return found
