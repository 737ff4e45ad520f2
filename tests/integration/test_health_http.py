"""The health plugin asks by http and https, and servers are good and bad in every way."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest

from libgitopper import Accepted
from tests.support.certificates import Authority, Pair
from tests.support.probing import (
    TEXT,
    Handler,
    Serve,
    answering,
    probe,
    read_request,
    serve,
    silent,
    trouble,
)

__all__ = ["serve"]  # fixtures


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "302 Found", "399 Odd"])
def test_any_answer_of_2xx_and_3xx_is_healthy(serve: Serve, status: str) -> None:
    server = serve(answering(status))
    assert probe(http=f"http://127.0.0.1:{server.port}/-/ready") == Accepted(judged=("health",))


@pytest.mark.parametrize("status", [199, 400, 404, 500, 503])
def test_any_other_answer_is_not_and_its_code_is_told(serve: Serve, status: int) -> None:
    server = serve(answering(f"{status} Whatever"))
    url = f"http://127.0.0.1:{server.port}/-/ready"
    assert trouble(http=url) == f"{url} answers {status}"


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(answering("503 No"))
    location = f"Location: http://127.0.0.1:{elsewhere.port}/"
    server = serve(answering("307 Temporary Redirect", b"", location))
    assert probe(http=f"http://127.0.0.1:{server.port}/") == Accepted(judged=("health",))


def test_what_is_asked_for_is_what_is_written(serve: Serve) -> None:
    seen: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    server = serve(handle)
    probe(http=f"http://localhost:{server.port}/a%20b/ready?full=1&token=secret#part")
    lines = seen[0].decode().splitlines()
    assert lines[0] == "GET /a%20b/ready?full=1&token=secret HTTP/1.1"
    assert f"Host: localhost:{server.port}" in lines
    probe(http=f"http://127.0.0.1:{server.port}?x")
    assert seen[1].startswith(b"GET /?x HTTP/1.1\r\n")


def test_what_the_server_says_is_shown_in_one_line(serve: Serve) -> None:
    body = "configuration\x1b[31m not loaded:\r\n  no such\tport \u2028 ü".encode()
    server = serve(answering("503 Service Unavailable", body, TEXT))
    url = f"http://127.0.0.1:{server.port}/"
    assert trouble(http=url) == f"{url} answers 503: configuration [31m not loaded: no such port ü"


def test_of_a_long_answer_only_the_beginning_is_read_and_shown(serve: Serve) -> None:
    sent = []

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 500 No\r\n{TEXT}\r\n\r\n".encode())
        for n in range(1000):
            connection.sendall(b"x" * 100_000)
            sent.append(n)

    server = serve(handle)
    text = trouble(http=f"http://127.0.0.1:{server.port}/")
    assert text.startswith(f"http://127.0.0.1:{server.port}/ answers 500: xxxx")
    assert len(text) <= 300
    server.wait(0.2)
    assert len(sent) < 1000


def test_markup_is_not_shown(serve: Serve) -> None:
    server = serve(answering("502 Bad Gateway", b"<html>\r\n<head>", "Content-Type: text/html"))
    assert trouble(http=f"http://127.0.0.1:{server.port}/").endswith("/ answers 502")


def test_secrets_of_a_url_are_not_shown(serve: Serve) -> None:
    server = serve(answering("500 No"))
    base = f"http://127.0.0.1:{server.port}/ready"
    assert trouble(http=f"{base}?token=secret") == f"{base}?… answers 500"
    text = trouble(http=f"http://user:secret@127.0.0.1:{server.port}/")
    assert "secret" not in text
    assert "leave them out" in text


def test_no_proxy_of_the_environment_is_used(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answering("200 OK"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert probe(http=f"http://127.0.0.1:{server.port}/") == Accepted(judged=("health",))


def dripping(prefix: bytes) -> Handler:
    """Sends something all the time, and never comes to an end."""

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(prefix)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return handle


@pytest.mark.parametrize(
    "handler",
    [silent, dripping(b""), dripping(b"HTTP/1.1 200 "), dripping(b"HTTP/1.1 200 OK\r\nX-Long: ")],
    ids=["silent", "status", "reason", "header"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_hangs_or_drips_is_given_up_at_the_deadline(
    serve: Serve, handler: Handler, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{serve(handler).port}/"
    started = time.monotonic()
    text = trouble(0.4, http=url)
    assert time.monotonic() - started < 1.5
    assert text.startswith(f"{url}: ")
    if scheme == "http":
        assert text == f"{url}: no answer within 0.4s"


def test_a_body_that_drips_holds_up_nobody(serve: Serve) -> None:
    head = f"HTTP/1.1 503 No\r\nContent-Length: 1000\r\n{TEXT}\r\n\r\n".encode()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head)
        time.sleep(1.5)

    url = f"http://127.0.0.1:{serve(handle).port}/"
    started = time.monotonic()
    assert trouble(http=url) == f"{url} answers 503"
    assert time.monotonic() - started < 1.4
    good = serve(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"))
    assert probe(1.0, http=f"http://127.0.0.1:{good.port}/") == Accepted(judged=("health",))


@pytest.mark.parametrize(
    ("sends", "told"),
    [
        (b"", "hung up without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP (BadStatusLine)"),
        (b"HTTP/1.1 OK\r\n\r\n", "does not answer in HTTP (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "does not answer in HTTP (HTTPException)"),
        (b"HTTP/1.1 200 " + b"x" * 70_000, "does not answer in HTTP (LineTooLong)"),
    ],
)
def test_what_is_no_http_is_told(serve: Serve, sends: bytes, told: str) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(sends)

    url = f"http://127.0.0.1:{serve(handle).port}/"
    assert trouble(http=url) == f"{url}: {told}"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only CA that the system trusts."""
    authority = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    return authority


def over_tls(pair: Pair, handler: Handler) -> Handler:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            handler(encrypted)

    return handle


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_https_is_verified_by_the_systems_cas(serve: Serve, authority: Authority, host: str) -> None:
    server = serve(over_tls(authority.issue("good"), answering("200 OK")))
    assert probe(http=f"https://{host}:{server.port}/") == Accepted(judged=("health",))
    bad = serve(over_tls(authority.issue("bad"), answering("503 No")))
    assert trouble(http=f"https://{host}:{bad.port}/").endswith("/ answers 503")


def test_a_certificate_that_is_not_good_is_told(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    pairs = {
        "unable to get local issuer": stranger.issue("stranger"),
        "expired": authority.issue("old", end="20210101000000Z"),
        "IP address mismatch": authority.issue("other", names="DNS:other.example.net"),
    }
    for reason, pair in pairs.items():
        url = f"https://127.0.0.1:{serve(over_tls(pair, answering('200 OK'))).port}/"
        text = trouble(http=url)
        assert text.startswith(f"{url}: its certificate is not trusted: ")
        assert reason in text


def test_plain_http_where_https_is_asked_for_is_told(serve: Serve) -> None:
    def handle(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = f"https://127.0.0.1:{serve(handle).port}/"
    assert trouble(http=url) == f"{url}: no TLS with it: wrong version number"
