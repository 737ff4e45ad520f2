"""What one client may take: sizes and times of requests and answers, and the connections that keep to them.

aiohttp limits the lines of a request's head. What it lacks is here: how long a head, a body or the reading
of an answer may take, and how much a client may send ahead of its answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import math
import socket
from collections.abc import Callable, Hashable
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from attrs import evolve, frozen

from gitopperd.api.errors import error
from gitopperd.api.routes import Handler, route_of

__all__ = ["Connection", "Limits", "attended", "whole_body"]

log = logging.getLogger(__name__)

TOO_LARGE = "request-header-fields-too-large"


@frozen(kw_only=True)
class Limits:
    """Chosen for an API of small requests that people, scripts and Prometheus use."""

    connections: int = 256
    """At one listener. One over TLS takes 0.3 MiB, with a long head 0.9; and files need room, too."""
    per_peer: int = 64
    """Of one IPv4 address, IPv6 network of 64 bits, or user of the Unix socket."""
    handshake_seconds: float = 10.0
    request_seconds: float = 10.0
    """From a request's first byte, or the beginning of the connection, to the end of its head; and from
    there to the end of its body."""
    idle_seconds: float = 75.0
    """Between an answer and the next request."""
    unread_seconds: float = 30.0
    """How long an answer may wait for a client that does not read."""
    linger_seconds: float = 2.0
    """How long what is left of a refused request is read, so that its sender sees the answer."""
    sweep_seconds: float = 0.5
    """How often it is looked whose time is over."""
    line_bytes: int = 8190
    """The request line; and each field of the head, its name included."""
    fields: int = 32
    head_bytes: int = 32 * 1024
    """All fields together."""
    ahead_bytes: int = 128 * 1024
    """What may come while an answer is being made."""
    unsent_bytes: int = 64 * 1024
    """Of an answer, in our memory, before its writer waits."""

    def for_unix_socket(self) -> Limits:
        """Return the limits of the Unix socket: the same, for fewer connections."""
        return evolve(self, connections=max(2, self.connections // 4), per_peer=max(1, self.per_peer // 2))


class Phase(enum.Enum):
    """Where in its life a connection is."""

    WAITING = "for the handshake, or for a request's head"
    RECEIVING = "the head is there, the body perhaps not"
    ANSWERING = "the request is there"
    GONE = "cut, or lost"


class Connection(web.RequestHandler):
    """aiohttp's side of one client's connection, with an eye on the clock.

    It only notes what is due when; `overdue` is asked by whoever looks after all connections.
    """

    def __init__(
        self,
        server: web.Server,
        sock: socket.socket,
        *,
        peer: Hashable,
        limits: Limits,
        gone: Callable[[Connection], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_seconds,
            max_line_size=limits.line_bytes,
            max_field_size=limits.line_bytes,
            max_headers=limits.fields,
            lingering_time=limits.linger_seconds,
            auto_decompress=False,
        )
        self.peer = peer
        self.limits = limits
        self.served = False
        """Whether a request of it was answered."""
        self.cut_for: str | None = None
        """Why we ended it."""
        self.since = loop.time()
        """Since when it is in its phase."""
        self._sock = sock
        self._gone = gone
        self._clock = loop.time
        self._wire: asyncio.Transport | None = None
        self._phase = Phase.WAITING
        self._due = math.inf
        self._due_read = math.inf
        self._heard_bytes = 0
        """In this phase."""

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection whose handshake is done."""
        self._wire = cast(asyncio.Transport, transport)
        self._wire.set_write_buffer_limits(high=self.limits.unsent_bytes)
        self._enter(Phase.WAITING, self.limits.request_seconds)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note the end."""
        self._phase = Phase.GONE
        super().connection_lost(exc)
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request. aiohttp calls this too, with none, to go on with what it kept."""
        if data and not self._hear(len(data)):
            return
        super().data_received(data)

    def pause_writing(self) -> None:
        """Note that the client does not read as fast as it is answered."""
        self._due_read = self._clock() + self.limits.unread_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that it has caught up."""
        self._due_read = math.inf
        super().resume_writing()

    def _hear(self, size: int) -> bool:
        first = self._heard_bytes == 0
        self._heard_bytes += size
        if self._phase is Phase.WAITING and first:
            self._due = min(self._due, self._clock() + self.limits.request_seconds)
        if self._phase is Phase.ANSWERING and self._heard_bytes > self.limits.ahead_bytes:
            self.cut("ahead")
        return self._phase is not Phase.GONE

    # --- what the middlewares tell

    def head_came(self) -> None:
        """A request's head is complete."""
        self._enter(Phase.RECEIVING)

    def body_came(self) -> None:
        """The request is complete."""
        self._enter(Phase.ANSWERING)

    def answered(self, *, complete: bool) -> None:
        """The answer is made. An incomplete request ends the connection when its sender was given time."""
        self.served = True
        lingering = self.limits.linger_seconds + 1
        self._enter(Phase.WAITING, self.limits.idle_seconds if complete else lingering)

    def _enter(self, phase: Phase, seconds: float = math.inf) -> None:
        if self._phase is not Phase.GONE:
            self._phase, self.since, self._heard_bytes = phase, self._clock(), 0
            self._due = self.since + seconds

    # --- what the door asks and does

    @property
    def entered(self) -> bool:
        """True once its handshake is done."""
        return self._wire is not None

    @property
    def waits(self) -> bool:
        """True while nothing is being done for it, so that it can make room for another."""
        return self._phase is Phase.WAITING

    def overdue(self, now: float) -> str | None:
        """Return why its time is over at `now`, in the clock of the event loop: idle, slow or unread."""
        if self._wire is not None and self._wire.is_closing():
            # Closed, and still there: it has yet to read its last answer.
            self._due_read = min(self._due_read, now + self.limits.linger_seconds)
        if now >= self._due_read:
            return "unread"
        if now < self._due:
            return None
        return "idle" if self.served and not self._heard_bytes else "slow"

    def cut(self, reason: str) -> None:
        """End it now, whatever it was about to send or to read."""
        log.debug("connection of %s: cut, %s", self.peer, reason)
        self.cut_for = reason
        self._phase = Phase.GONE
        if self._wire is not None:
            self._wire.abort()
            return
        # In its handshake, which sees this as the client's end.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request in the one shape of errors, without a line in the log for each."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.debug("%s sent what is no request: %s", self.peer, exc.message)
        if isinstance(exc, LineTooLong):
            limit = f"a line of the request's head is longer than {self.limits.line_bytes} bytes"
            response = error(431, TOO_LARGE, limit)
        else:
            response = error(400, "bad-request", "this is no request in HTTP/1.1 that can be understood")
        response.force_close()
        return response


@web.middleware
async def attended(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection how far it is with a request. The outermost, so that it sees every answer."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        return await handler(request)
    connection.head_came()
    try:
        if _head_bytes(request) > connection.limits.head_bytes:
            return error(
                431, TOO_LARGE, f"the request's head is longer than {connection.limits.head_bytes} bytes"
            )
        return await handler(request)
    finally:
        connection.answered(complete=request.content.is_eof())


@web.middleware
async def whole_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have the whole body before the handler runs: then its size and its slowness are nobody else's matter.

    ``await request.read()`` in a handler gives it again. A route says how much it takes.
    """
    route = route_of(request)
    if route is None:
        return await handler(request)
    connection = request.protocol if isinstance(request.protocol, Connection) else None
    limits = connection.limits if connection else Limits()
    sized = request.clone(client_max_size=route.body_bytes)
    await _read_body(sized, limits)
    if connection is not None:
        connection.body_came()
    return await handler(sized)


def _head_bytes(request: web.Request) -> int:
    return sum(len(name) + len(value) for name, value in request.raw_headers)


async def _read_body(request: web.Request, limits: Limits) -> None:
    try:
        async with asyncio.timeout(limits.request_seconds):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (ConnectionError, web.RequestPayloadError) as exc:
        # Broken off, or not in the coding that its head promised.
        raise web.HTTPBadRequest from exc
