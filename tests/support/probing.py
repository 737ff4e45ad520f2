"""Servers on loopback that behave as a test says, and what the health plugin says of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gitopper_plugins import health
from libgitopper import Accepted, Health, HealthError, HealthRequest
from libgitopper.testing.reload import request_for, service_for_tests

__all__ = [
    "TEXT",
    "Handler",
    "Serve",
    "answering",
    "probe",
    "read_request",
    "request",
    "serve",
    "silent",
    "trouble",
    "unused_port",
]

Handler = Callable[[socket.socket], None]


def request(wanted: Health | None, timeout_seconds: float = 10.0) -> HealthRequest:
    """What the plugin is asked for a service that wants to be probed so."""
    service = service_for_tests("web", health=wanted)
    return HealthRequest(
        service=service,
        release=request_for(service).release,
        since=datetime.now(UTC),
        timeout_seconds=timeout_seconds,
    )


def probe(timeout_seconds: float = 10.0, **wanted: Any) -> Accepted | None:
    """What a probe says."""
    return health.gitopper_health(request(Health(**wanted), timeout_seconds))


def trouble(timeout_seconds: float = 10.0, **wanted: Any) -> str:
    """What a probe that must fail says."""
    with pytest.raises(HealthError) as caught:
        probe(timeout_seconds, **wanted)
    text = str(caught.value)
    assert text.isprintable()
    return text


class Server:
    """Answers each connection on loopback with `handler`, in a thread of its own."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def wait(self, seconds: float) -> bool:
        """Do nothing for a while; True when the server closes meanwhile."""
        return self._over.wait(seconds)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            self.handler(connection)


Serve = Callable[[Handler], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; all of them end with the test."""
    with contextlib.ExitStack() as stack:

        def start(handler: Handler) -> Server:
            server = Server(handler)
            stack.callback(server.close)
            return server

        yield start


def read_request(connection: socket.socket) -> bytes:
    """Read up to the end of the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(4096)
        if not got:
            break
        data += got
    return data


def answering(status: str, body: bytes = b"", *headers: str) -> Handler:
    """A handler that reads a request and answers it."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    head = "\r\n".join([*lines, "", ""]).encode()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(head + body)

    return handle


TEXT = "Content-Type: text/plain; charset=utf-8"


def silent(connection: socket.socket) -> None:
    """A handler that never answers."""
    while connection.recv(4096):
        pass


def unused_port() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
