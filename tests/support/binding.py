"""The bind publisher, a stage for it, and what is seen where it published."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitopper_plugins import bind
from gitopper_plugins._mountinfo import MountTable
from libgitopper import Hooks, Service
from libgitopper.testing.mount import Stage

__all__ = ["depths", "hooks", "stage", "texts"]


@pytest.fixture
def hooks() -> Hooks:
    """Only this publisher."""
    hooks = Hooks()
    hooks.register(bind)
    return hooks


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Services to publish, and their releases."""
    return Stage(root=tmp_path, publish="bind")


def texts(service: Service) -> list[str]:
    """What each mapping shows."""
    return [(m.local if m.file else m.local / "a").read_text() for m in service.mappings]


def depths(service: Service) -> list[int]:
    """How many mounts there are at each mapping."""
    table = MountTable.read()
    return [len(table.stack(m.local)) for m in service.mappings]
