"""A simulated gitopperd for tests of gitopperctl, and gitopperctl as a process of its own.

The simulated daemon speaks real HTTP (or TLS) on real sockets; what it answers is made up by each test.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

__all__ = ["GRAFANA", "HASH", "ROOT", "Daemons", "SimulatedDaemon", "command", "ctl", "environment"]

ROOT = Path(__file__).parents[2]
HASH = "606eb57fb4e1bd0a8df1b3d0ed3f6b3a1bd0b0a0"
GRAFANA = {
    "service": "grafana-server",
    "hash": HASH,
    "state": "OK",
    "stateinfo": "",
    "change": "Fri, 18 Nov 2022 09:14:52 UTC",
    "branch": "main",
}
# What the person who runs the tests has set up for himself must not matter.
NO_SETTINGS = "/nonexistent"

Stream = Callable[[Callable[[bytes], None]], None]
"""An answer without end: is given what sends a few bytes, and raises OSError when nobody listens."""


class SimulatedDaemon(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Answers by path, from a table, and remembers what it was asked, and by whom."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int] | str, answers: dict[str, Any], tls: ssl.SSLContext | None = None
    ) -> None:
        self.address_family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.answers = {"/list/services": (200, {"services": [GRAFANA]}), **answers}
        self.asked: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []
        self.tls = tls
        super().__init__(cast("tuple[str, int]", address), _Handler)

    def server_bind(self) -> None:
        # The stock one looks up the name of its own address, and a Unix socket has none.
        socketserver.TCPServer.server_bind(self)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands in the thread of the connection: one that fails must not hold up the others."""
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with contextlib.suppress(OSError), self.tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what some tests are about."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def at(self) -> str:
        """The @HOST that leads here."""
        # Of a Unix socket it is the path.
        where = cast("str | tuple[str, int]", self.server_address)
        scheme = "https://" if self.tls else ""
        return f"@unix:{where}" if isinstance(where, str) else f"@{scheme}127.0.0.1:{where[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: SimulatedDaemon

    def _answer(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.server.tokens.append(self.headers["Authorization"])
        unknown = (404, {"error": {"code": "not-found", "message": f"no {self.path} here"}})
        answers = self.server.answers
        status, answer = answers.get(self.path) or answers.get(self.path.partition("?")[0], unknown)
        self.send_response(status)
        if callable(answer):
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            answer(self._send)
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "simulated"


Daemons = Callable[..., SimulatedDaemon]


@pytest.fixture
def daemon() -> Iterator[Daemons]:
    """Start simulated daemons; all of them end with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            answers: dict[str, Any] | None = None,
            *,
            at: tuple[str, int] | str = ("127.0.0.1", 0),
            tls: ssl.SSLContext | None = None,
        ) -> SimulatedDaemon:
            server = stack.enter_context(SimulatedDaemon(at, answers or {}, tls))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture
def nobody() -> str:
    """An @HOST where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"@127.0.0.1:{listener.getsockname()[1]}"


def command(*words: str) -> list[str]:
    """The command line of gitopperctl."""
    return [sys.executable, "-m", "gitopperd.ctl.main", *words]


def environment(**environ: str) -> dict[str, str]:
    """The environment, without settings of gitopperctl but those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GITOPPERCTL_")}
    return {**kept, "XDG_CONFIG_HOME": NO_SETTINGS, **environ}


def ctl(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run gitopperctl to its end."""
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
