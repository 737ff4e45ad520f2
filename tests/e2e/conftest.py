"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fixtures import systemd_box
from tests.support.host import Host
from tests.support.systemdbox import SystemdBox

__all__ = ["host", "systemd_box"]


@pytest.fixture(scope="module")
def host(systemd_box: SystemdBox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with gitopperd installed, not yet configured; one for the tests of a module."""
    host = Host(systemd_box, tmp_path_factory.mktemp("host"))
    with host.teardown:
        host.install()
        yield host
