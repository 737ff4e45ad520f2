"""Units of a real systemd that are reloaded, and what that did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from libgitopper import Reloaded
from libgitopper.testing.reload import request_for, service_for_tests
from tests.support.reloading import SystemdInBox
from tests.support.systemdbox import SystemdBox

__all__ = ["RELOADABLE", "RESTARTABLE", "Reload", "daemon_reloads", "reload", "reloads"]

RELOADABLE = """\
[Service]
ExecStart=/bin/sleep inf
ExecReload=/bin/sh -c 'echo >> /run/%p.reloads'
[Install]
WantedBy=multi-user.target
"""
RESTARTABLE = "[Service]\nExecStart=/bin/sleep inf\n"

Reload = Callable[..., Reloaded]


@pytest.fixture
def reload(systemd_box: SystemdBox) -> Reload:
    """Have a service reloaded in the box."""
    plugin = SystemdInBox(systemd_box)

    def reload(name: str, *, first: bool = False, **fields: Any) -> Reloaded:
        reloaded = plugin.gitopper_reload(request_for(service_for_tests(name, **fields), first=first))
        assert reloaded is not None
        return reloaded

    return reload


def reloads(box: SystemdBox, name: str) -> int:
    """How often the unit's ExecReload ran."""
    path = f"/run/{name}.reloads"
    return len(box.read(path).splitlines()) if box.exists(path) else 0


def daemon_reloads(box: SystemdBox) -> int:
    """How often systemd read its unit files again, by its own journal."""
    box.run(["journalctl", "--sync"], check=True)
    lines = box.run(["journalctl", "_PID=1", "--output=cat", "--no-pager"], check=True).stdout.splitlines()
    return sum(1 for line in lines if re.match(r"Reloading(\.$| requested)", line))
