"""The plugin itself: what it does for each hook, and what it keeps between calls."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from attrs import define, field

from gitopper_plugins.dulwich.access import without_userinfo
from gitopper_plugins.dulwich.checkout import checkout
from gitopper_plugins.dulwich.drift import Looks, drift
from gitopper_plugins.dulwich.fetch import fetch, open_offline
from gitopper_plugins.dulwich.layout import store_path
from gitopper_plugins.dulwich.objects import Objects
from gitopper_plugins.dulwich.readers import Fetchers
from gitopper_plugins.dulwich.store import SharedStore, View
from gitopper_plugins.dulwich.ways import transport_for
from libgitopper import CheckoutRequest, Drift, DriftRequest, FetchRequest, Release, Store, hookimpl

__all__ = ["DulwichPlugin", "plugin"]


@define(eq=False)
class DulwichPlugin:
    """The plugin. It keeps one open store for each upstream, for all services and threads."""

    fetchers: Fetchers = field(factory=Fetchers)
    """The processes that read what upstreams send."""
    _stores: dict[Path, SharedStore] = field(factory=dict)
    _lock: threading.Lock = field(factory=threading.Lock)
    _looks: Looks = field(factory=Looks)

    def __attrs_post_init__(self) -> None:
        # Also when the interpreter ends: dulwich complains of packs that are left open.
        weakref.finalize(self, _close, self._stores, self.fetchers)

    @hookimpl
    def gitopper_fetch(self, request: FetchRequest) -> Store | None:
        """See `libgitopper.hookspecs`."""
        store = self._store(request)
        if store is None:
            return None
        return open_offline(store, request) if request.offline else fetch(store, request)

    @hookimpl
    def gitopper_checkout(self, request: CheckoutRequest) -> Release | None:
        """See `libgitopper.hookspecs`; takes stores of its own only."""
        if not isinstance(request.store, View):
            return None
        return checkout(request.store.shared, request.service, request.content, sync=request.sync)

    @hookimpl
    def gitopper_drift(self, request: DriftRequest) -> Drift | None:
        """See `libgitopper.hookspecs`; takes stores of its own only."""
        if not isinstance(request.store, View):
            return None
        return drift(request.store.shared, request, self._looks)

    def close(self) -> None:
        """Release every file and connection, end every process. The plugin can still be used afterwards."""
        with self._lock:
            _close(self._stores, self.fetchers)

    def _store(self, request: FetchRequest) -> SharedStore | None:
        path = store_path(request.stores, request.upstream)
        with self._lock:
            if path not in self._stores:
                transport = transport_for(request.upstream)
                if transport is None:
                    return None
                upstream = without_userinfo(request.upstream)
                self._stores[path] = SharedStore(
                    path=path, upstream=upstream, transport=transport, objects=Objects(path),
                    fetchers=self.fetchers,
                )  # fmt: skip
            return self._stores[path]


def _close(stores: dict[Path, SharedStore], fetchers: Fetchers) -> None:
    while stores:
        _, store = stores.popitem()
        store.close()
    fetchers.close()


plugin = DulwichPlugin()
"""What the entry point names: one registry of open stores for the process."""
