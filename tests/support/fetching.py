"""A plugin that fetches as another account, and the processes that fetch for it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import CheckoutRequest, Credentials, FetchRequest, Limits, Mapping, Service, Source, Store
from tests.support.upstream import Upstream, git

__all__ = [
    "ACCOUNT",
    "MEMORY_BYTES",
    "SECONDS",
    "Client",
    "children_that_fetch",
    "client",
    "follow",
    "until",
]

ACCOUNT = "nobody"
MEMORY_BYTES = 1 << 28
SECONDS = 20.0


@define
class Client:
    """A plugin that fetches as another account."""

    plugin: DulwichPlugin
    root: Path
    credentials: Credentials = field(factory=Credentials)
    account: str = ACCOUNT

    def fetch(self, url: str, *, seconds: float = 30.0, limits: Limits = Limits()) -> Store:  # noqa: B008
        request = FetchRequest(
            upstream=url, credentials=self.credentials, branches=frozenset({"main"}),
            stores=self.root / "stores", timeout_seconds=seconds, limits=limits, fetch_user=self.account,
        )  # fmt: skip
        store = self.plugin.gitopper_fetch(request)
        assert store is not None
        return store

    def read(self, url: str, store: Store) -> str:
        """Check out, and return what is in ``web/index``."""
        service = Service(
            name="web",
            source=Source(
                upstream=url, branch="main", credentials=self.credentials, fetch_user=self.account
            ),
            mappings=(Mapping(link="web", local=Path("/nowhere")),),
            mount=self.root / "mount",
        )
        content = store.content(store.tips["main"], service)
        request = CheckoutRequest(service=service, store=store, content=content)
        release = self.plugin.gitopper_checkout(request)
        assert release is not None
        assert git(release.path, "status", "--porcelain") == ""
        return (release.path / "web/index").read_text()

    def pids(self) -> list[int]:
        """The processes that fetch for it."""
        found = self.plugin.fetchers._fetchers.values()
        return [one.pid for one in found if one.pid is not None]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A plugin with stores of its own; no process of it stays behind."""
    plugin = DulwichPlugin()
    client = Client(plugin, tmp_path)
    yield client
    pids = client.pids()
    plugin.close()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not children_that_fetch(os.getpid())


def children_that_fetch(pid: int) -> list[int]:
    """The processes below `pid` that are fetchers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"unprivileged" in (status.parent / "cmdline").read_bytes():
                found.append(int(status.parent.name))
    return found


def follow(client: Client, upstream: Upstream, url: str) -> None:
    """Fetch, check out, poll, and fetch again; the same for every transport."""
    store = client.fetch(url)
    assert client.read(url, store) == "1"
    assert not client.fetch(url).moved
    upstream.commit({"web/index": "2"})
    store = client.fetch(url)
    assert store.moved
    assert client.read(url, store) == "2"
    git(store.path, "fsck")


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
