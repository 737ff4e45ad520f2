"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.simulatedhost import SimulatedHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    """A simulated host; its upstream has two directories in one commit."""
    host = SimulatedHost(tmp_path)
    host.upstream.commit({"web/conf": "1", "webapp/conf": "1", "cert.pem": "1"})
    yield host
    host.close()
