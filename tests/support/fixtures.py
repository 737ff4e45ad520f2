"""Fixtures that several directories of tests share; their conftest.py imports them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.support.systemdbox import BoxError, SystemdBox

__all__ = ["systemd_box"]


@pytest.fixture(scope="module")
def systemd_box() -> Iterator[SystemdBox]:
    """A booted systemd for the tests of one module. Mark the module with `pytest.mark.systemd`."""
    if os.geteuid() != 0:
        pytest.skip("a systemd of its own needs root: run the tests as root to include this one")
    with contextlib.ExitStack() as stack:
        try:
            box = stack.enter_context(SystemdBox())
        except (BoxError, OSError) as exc:
            # A skip in CI would be a test that nobody ever runs.
            if os.environ.get("CI", "") not in {"", "0", "false"}:
                raise
            pytest.skip(f"systemd can't be booted here: {exc}")
        yield box
