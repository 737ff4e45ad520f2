"""Fetching over http from servers that hang, hang up, are gone or have something else."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import NoReturn

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Credentials, FetchRequest, SourceError
from tests.support.drifting import plugin
from tests.support.gitserver import HttpServer, http_server
from tests.support.httpfetch import fetch, snapshot, stores
from tests.support.upstream import Upstream

__all__ = ["plugin", "stores"]  # fixtures


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_server_that_never_finishes_is_given_up_at_the_deadline(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream, fault: str
) -> None:
    tips = fetch(plugin, server, stores).tips
    upstream.commit()
    setattr(server, fault, True)
    started = time.monotonic()
    with pytest.raises(SourceError, match="within 1 s"):
        fetch(plugin, server, stores, timeout_seconds=1.0)
    assert time.monotonic() - started < 5.0
    assert fetch(plugin, server, stores, offline=True).tips == tips
    setattr(server, fault, False)
    assert fetch(plugin, server, stores).moved


@pytest.mark.parametrize("size", [0, 3, 40, 200])
def test_answer_that_is_cut_short_is_an_error_and_leaves_the_store_as_it_was(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream, size: int
) -> None:
    fetch(plugin, server, stores)
    before = snapshot(stores)
    upstream.commit({"web/index": "2" * 4000})
    server.truncate = size
    with pytest.raises(SourceError):
        fetch(plugin, server, stores)
    after = snapshot(stores)
    assert {name for name in after if not Path(name).is_dir()} == {
        name for name in before if not Path(name).is_dir()
    }
    server.truncate = None
    assert fetch(plugin, server, stores).moved


def test_address_of_a_web_page_is_an_error_that_says_so(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    server.page = b"<html>log in first</html>"
    with pytest.raises(SourceError, match=r"no git repository over smart http.*text/html"):
        fetch(plugin, server, stores)


def test_missing_repository_is_an_error_that_shows_the_address(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    upstream.path.rename(upstream.path.with_name("elsewhere"))
    with pytest.raises(SourceError, match=rf"{server.url()}.*404"):
        fetch(plugin, server, stores)


def test_stopped_server_is_an_error_at_once(
    plugin: DulwichPlugin, upstream: Upstream, stores: Path
) -> None:
    with http_server(upstream.path.parent) as server:
        fetch(plugin, server, stores)
    with pytest.raises(SourceError, match="Connection refused"):
        fetch(plugin, server, stores)


def test_a_failure_of_tls_is_none_of_the_disk(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are its own: 5 is what a disk says with EIO."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "EOF occurred in violation of protocol")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", fail)
    request = FetchRequest(
        upstream=f"https://127.0.0.1:{server.port}/fleet.git",
        credentials=Credentials(),
        branches=frozenset({"main"}),
        stores=stores,
    )
    with pytest.raises(SourceError, match=r"^https://127\.0\.0\.1:[0-9]+/fleet\.git: EOF occurred"):
        plugin.gitopper_fetch(request)
