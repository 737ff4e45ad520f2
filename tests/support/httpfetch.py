"""Fetches over http, and what they leave on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Credentials, FetchRequest, Limits, Store
from tests.support.gitserver import HttpServer

__all__ = ["fetch", "snapshot", "stores"]


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """Where the stores are."""
    return tmp_path / "stores"


def fetch(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    *branches: str,
    credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    timeout_seconds: float = 30.0,
    offline: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Store:
    """Fetch `branches`, by default main."""
    store = plugin.gitopper_fetch(
        FetchRequest(
            upstream=server.url(),
            credentials=credentials,
            branches=frozenset(branches or ["main"]),
            stores=stores,
            offline=offline,
            timeout_seconds=timeout_seconds,
            limits=limits,
        )
    )
    assert store is not None
    return store


def snapshot(path: Path) -> dict[str, tuple[int, int, int]]:
    """When each file below `path` was written, its size and its inode."""
    return {
        str(p): (p.lstat().st_mtime_ns, p.lstat().st_size, p.lstat().st_ino)
        for p in (path, *path.rglob("*"))
    }
