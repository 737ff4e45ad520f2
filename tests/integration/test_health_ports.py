"""The health plugin connects to ports, and to addresses that are none or lead nowhere."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from libgitopper import Accepted
from tests.support.probing import Serve, probe, serve, silent, trouble, unused_port

__all__ = ["serve"]  # fixtures


def test_a_port_that_takes_connections_is_healthy(serve: Serve) -> None:
    server = serve(silent)
    assert probe(tcp=f"127.0.0.1:{server.port}") == Accepted(judged=("health",))
    assert probe(tcp=f"localhost:{server.port}") == Accepted(judged=("health",))
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert probe(tcp=f"[::1]:{six.getsockname()[1]}") == Accepted(judged=("health",))


def test_a_port_that_takes_none_is_told() -> None:
    port = unused_port()
    assert trouble(tcp=f"127.0.0.1:{port}") == f"tcp 127.0.0.1:{port}: Connection refused"
    assert trouble(http=f"http://127.0.0.1:{port}/x") == f"http://127.0.0.1:{port}/x: Connection refused"


def test_a_probe_does_not_take_itself_for_the_service() -> None:
    # A connection from the very port that it goes to meets itself: TCP calls that a simultaneous open.
    from gitopper_plugins._channel import _refuse_ourselves

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            _refuse_ourselves(sock)


def test_a_full_backlog_ends_at_the_deadline() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        where = f"127.0.0.1:{server.getsockname()[1]}"
        started = time.monotonic()
        assert trouble(0.4, tcp=where) == f"tcp {where}: no answer within 0.4s"
        assert time.monotonic() - started < 1.5


def test_a_resolver_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real: Callable[..., object] = socket.getaddrinfo

    def slow(host: str, *args: Any, flags: int = 0, **more: Any) -> object:
        if not flags:
            over.wait(10)
        return real(host, *args, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        started = time.monotonic()
        assert trouble(0.3, tcp="localhost:80") == "tcp localhost:80: no answer within 0.3s"
        assert time.monotonic() - started < 1.5
    finally:
        over.set()


@pytest.mark.parametrize("wanted", [{"tcp": "nosuch.invalid:80"}, {"http": "http://nosuch.invalid/"}])
def test_a_name_that_nobody_has_is_told(wanted: dict[str, str]) -> None:
    assert "nosuch.invalid" in trouble(20.0, **wanted)


@pytest.mark.parametrize("wanted", ["127.0.0.1:99999", "127.0.0.1:x", "127.0.0.1", "x" * 70 + ":1"])
def test_an_address_that_is_none_is_told(wanted: str) -> None:
    assert trouble(tcp=wanted).startswith(f"tcp {wanted}: ")


@pytest.mark.parametrize(
    "wanted", ["ftp://127.0.0.1/", "http://", "http://[::1", "http://x:99999/", "/ready"]
)
def test_a_url_that_is_none_is_told(wanted: str) -> None:
    assert trouble(http=wanted).startswith("http: ")
