"""Fetching over http and https: who may read, by which way, and that no secret is shown."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import AuthError, Credentials, FetchRequest, SourceError
from tests.support.drifting import plugin
from tests.support.gitserver import HttpServer, http_server, make_certificate
from tests.support.httpfetch import fetch, stores
from tests.support.secrets import secret
from tests.support.upstream import Upstream

__all__ = ["plugin", "stores"]  # fixtures

SECRET = secret("s3cr3t-and-never-shown")


@pytest.mark.parametrize("form", ["url", "file", "token"])
def test_credentials_are_sent(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path, form: str
) -> None:
    file = tmp_path / "credentials"
    server.credentials = f"x-access-token:{SECRET}" if form == "token" else f"deploy:{SECRET}"
    file.write_text(f"{SECRET}\n" if form == "token" else f"deploy:{SECRET}\n")
    given = Credentials(userinfo=f"deploy:{SECRET}") if form == "url" else Credentials(file=file)
    assert fetch(plugin, server, stores, credentials=given).tips


def test_rotated_credentials_are_read_again(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("deploy:one")
    server.credentials = "deploy:one"
    fetch(plugin, server, stores, credentials=Credentials(file=file))
    server.credentials = "deploy:two"
    with pytest.raises(AuthError, match="401"):
        fetch(plugin, server, stores, credentials=Credentials(file=file))
    file.write_text("deploy:two")
    assert fetch(plugin, server, stores, credentials=Credentials(file=file)).tips


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_credentials_file_that_is_no_good_is_named(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "credentials"
    if content is not None:
        file.write_text(content)
    with pytest.raises(AuthError, match=str(file)):
        fetch(plugin, server, stores, credentials=Credentials(file=file))


def test_secrets_are_in_no_error_no_log_no_file_and_no_argv(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    given = Credentials(userinfo=f"deploy:{SECRET}")
    server.credentials = "deploy:other"
    with pytest.raises(AuthError) as refused:
        fetch(plugin, server, stores, credentials=given)
    server.credentials = f"deploy:{SECRET}"
    store = fetch(plugin, server, stores, credentials=given)
    server.truncate = 10
    upstream.commit()
    with pytest.raises(SourceError) as cut:
        fetch(plugin, server, stores, credentials=given)
    shown = [caplog.text, str(refused.value), str(cut.value), repr(store), repr(plugin), repr(given)]
    shown += [p.read_text(errors="replace") for p in stores.rglob("*") if p.is_file()]
    assert not [text for text in shown if SECRET in text]


def test_redirect_is_followed_and_credentials_stay_behind(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    with http_server(upstream.path.parent) as other:
        server.redirect = f"http://127.0.0.1:{other.port}"
        store = fetch(plugin, server, stores, credentials=Credentials(userinfo=f"deploy:{SECRET}"))
        assert store.tips
        assert other.requests
        assert set(other.authorizations) == {None}
        assert server.authorizations[0] is not None


def test_redirect_in_circles_ends(plugin: DulwichPlugin, server: HttpServer, stores: Path) -> None:
    server.redirect = f"http://127.0.0.1:{server.port}"
    with pytest.raises(SourceError, match="redirected more than"):
        fetch(plugin, server, stores)


def test_https_with_a_certificate_that_the_host_trusts(
    plugin: DulwichPlugin,
    upstream: Upstream,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tmp_path)
    with http_server(upstream.path.parent, certificate=certificate) as server:
        with pytest.raises(SourceError, match="self-signed certificate"):
            fetch(plugin, server, stores)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch(plugin, server, stores)
        server.requests.clear()
        connections = server.connections
        for _ in range(3):
            assert not fetch(plugin, server, stores).moved
        assert server.requests == ["POST /fleet.git/git-upload-pack"] * 3
        assert server.connections == connections
        server.hang = True
        with pytest.raises(SourceError, match="within 1 s"):
            fetch(plugin, server, stores, timeout_seconds=1.0)


def test_proxy_for_https_is_asked_for_a_tunnel(
    plugin: DulwichPlugin,
    server: HttpServer,
    upstream: Upstream,
    stores: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    with http_server(upstream.path.parent, certificate=certificate) as hidden:
        assert fetch(plugin, hidden, stores).tips
        assert server.tunnels == [f"127.0.0.1:{hidden.port}"]


def test_proxy_for_http_is_asked_with_its_own_credentials(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://proxy:{SECRET}@127.0.0.1:{server.port}")
    request = FetchRequest(
        upstream="http://git.invalid/fleet.git",  # a name that nobody but the proxy could know
        credentials=Credentials(),
        branches=frozenset({"main"}),
        stores=stores,
    )
    store = plugin.gitopper_fetch(request)
    assert store is not None
    assert store.tips
    assert server.requests[0].startswith("GET http://git.invalid/fleet.git/info/refs")
    assert set(server.authorizations) == {None}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (f"socks5://proxy:{SECRET}@127.0.0.1:1", "https_proxy of the environment is not the address"),
        (f"http://proxy:{SECRET}/x@127.0.0.1:1", "https_proxy of the environment is not the address"),
        (f"http://proxy:{SECRET}@[::1", "https_proxy of the environment is not the address"),
        (
            f"http://proxy:{SECRET}@127.0.0.1:1",
            "its proxy 127.0.0.1:1 can't be reached: ",
        ),
    ],
)
def test_proxy_that_is_none_is_told_and_its_password_is_not(
    plugin: DulwichPlugin, stores: Path, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.setenv("https_proxy", address)
    request = FetchRequest(
        upstream="https://git.invalid/fleet.git",
        credentials=Credentials(),
        branches=frozenset({"main"}),
        stores=stores,
    )
    with pytest.raises(SourceError, match=told) as caught:
        plugin.gitopper_fetch(request)
    assert "git.invalid" in str(caught.value)
    assert SECRET not in str(caught.value)
