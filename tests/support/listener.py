"""The daemon's listener with its real limits and middlewares, in a thread, before a small application."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from gitopperd.api.certificate import tls_peer
from gitopperd.api.errors import answer, errors_as_json
from gitopperd.api.routes import Open, Route, register
from gitopperd.listener.limits import Limits, attended, whole_body
from gitopperd.listener.listen import Address, Listener, listening
from libgitopper import Api

__all__ = ["BIG_BYTES", "Served", "serve"]

BIG_BYTES = 16 * 1024 * 1024
"""More than any socket's buffers take."""


async def hello(_request: web.Request) -> web.StreamResponse:
    return answer({"hello": "world"})


async def echo(request: web.Request) -> web.StreamResponse:
    return answer({"bytes": len(await request.read())})


async def slow(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(1)
    return answer({"hello": "at last"})


async def big(_request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * BIG_BYTES)


async def whoami(request: web.Request) -> web.StreamResponse:
    peer = tls_peer(request.get_extra_info("ssl_object"))
    members = (
        {"subject": peer.subject, "names": peer.names, "fingerprint": peer.fingerprint} if peer else {}
    )
    return answer(members | {"remote": request.remote})


HANDLERS = (("GET", hello), ("POST", echo), ("GET", slow), ("GET", big), ("GET", whoami))


def make_app() -> web.Application:
    app = web.Application(middlewares=[attended, errors_as_json, whole_body])
    routes = (
        Route(method=method, path=f"/{handler.__name__}", handler=handler, access=Open.PUBLIC, summary="")
        for method, handler in HANDLERS
    )
    register(app, routes)
    return app


class Served:
    """A listener that runs, and clients of it."""

    def __init__(self, listener: Listener, unix: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.listener = listener
        self.unix = unix
        self.loop = loop
        self.port = listener.address.port
        self.tcp, self.local = listener.doors

    def connect(self, *, source: str = "127.0.0.1") -> socket.socket:
        """Connect over TCP, from an address of loopback's network."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))

    def connect_unix(self) -> socket.socket:
        """Connect over the Unix socket."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(self.unix))
        return sock

    def get(
        self,
        path: str = "/hello",
        *,
        sock: socket.socket | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        """GET on a connection of its own; over `sock`, or over TCP."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        with contextlib.closing(connection):
            raw = sock or self.connect()
            connection.sock = tls.wrap_socket(raw, server_hostname="localhost") if tls else raw
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()


@contextlib.contextmanager
def serve(home: Path, *, api: Api | None = None, limits: Limits | None = None) -> Iterator[Served]:
    """Run a listener on loopback while the block runs."""
    started: list[Served] = []
    ready = threading.Event()
    stop: list[asyncio.Event] = []

    async def main() -> None:
        stop.append(asyncio.Event())
        address, unix = Address(host="127.0.0.1", port=0), home / "listener.sock"
        async with listening(
            make_app(), address, unix, api=api or Api(), limits=limits or Limits()
        ) as listener:
            started.append(Served(listener, unix, asyncio.get_running_loop()))
            ready.set()
            await stop[0].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert ready.wait(10), "the listener did not start"
        yield started[0]
    finally:
        started[0].loop.call_soon_threadsafe(stop[0].set)
        thread.join(10)
        assert not thread.is_alive(), "the listener did not end"
