"""``GET /events``: what happens, as it happens, as server-sent events.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html. Nobody waits
for a client: one that does not keep up is disconnected, and may come back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from aiohttp import web
from attrs import frozen

from gitopperd.api.errors import error
from gitopperd.api.routes import IDENTITY, Route
from gitopperd.plaintext import as_json
from libgitopper import Config, Event, Identity, Role, hookimpl

__all__ = ["EVENTS", "ROUTES", "Events", "Watcher"]

CLIENTS = 64
BACKLOG = 256
"""Events that may wait for one client; one more, and the client is too slow."""
WRITE_SECONDS = 10.0
"""How long a client may leave a write waiting."""
HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
"""A client has to come back after this, and show again who it is: a role that was taken away ends."""
HEARTBEAT = b":\n\n"

FOR_ADMINS = frozenset({"who", "origin", "reason"})
"""Details of a refusal that are as confidential as the audit."""


@frozen(kw_only=True)
class Frame:
    """An event as it goes over the wire; made once for all clients."""

    service: str | None
    full: bytes
    public: bytes
    """For those who may not read the audit."""

    def for_(self, identity: Identity) -> bytes | None:
        """Return what `identity` gets to see; None: nothing."""
        may = identity.may(Role.READ, self.service) if self.service else identity.may_everywhere(Role.READ)
        if not may:
            return None
        return self.full if identity.may_everywhere(Role.ADMIN) else self.public


class Watcher:
    """One client, and what waits for it. Lives on the event loop."""

    def __init__(self, identity: Identity, transport: asyncio.Transport | None) -> None:
        self.over = asyncio.Event()
        """Set when the connection is to be closed."""
        self.slow = False
        self._identity = identity
        self._transport = transport
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)

    @property
    def gone(self) -> bool:
        """True when the client has closed the connection."""
        return self._transport is None or self._transport.is_closing()

    def offer(self, frame: Frame) -> None:
        """Queue `frame`, as far as this client may see it; never waits."""
        if (data := frame.for_(self._identity)) is None:
            return
        try:
            self._waiting.put_nowait(data)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        """Give this client up: it is too slow. What waits for it is lost."""
        self.slow = True
        self.over.set()

    def disconnect(self) -> None:
        """Close the connection now, with what is in its buffers."""
        if self._transport is not None:
            self._transport.abort()

    async def pump(self, response: web.StreamResponse) -> None:
        """Write what comes, and a comment where nothing comes, until the client is gone or too slow."""
        try:
            while True:
                data = await self._next()
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(data)
        except (TimeoutError, ConnectionError):
            self.drop()
        finally:
            self.over.set()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                return await self._waiting.get()
        except TimeoutError:
            return HEARTBEAT


class Events:
    """Hands every event to every client that may see it; an observer like any plugin."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._watchers: set[Watcher] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._access: object = None

    def apply(self, config: Config) -> None:
        """Let every client show again who it is, where another configuration may see them differently."""
        access = (config.auth, config.api.anonymous)
        if access != self._access:
            self._end()
        self._access = access

    @hookimpl
    def gitopper_event(self, event: Event) -> None:
        """Take an event, in whichever thread it comes about."""
        if not self._watchers or self._loop is None:
            return
        frame = _frame(event, self._now())
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._hand_out, frame)

    @contextlib.contextmanager
    def watching(self, identity: Identity, transport: asyncio.Transport | None) -> Iterator[Watcher | None]:
        """Let a client watch while the block runs; None where too many do."""
        if len(self._watchers) >= CLIENTS:
            for watcher in self._watchers:
                if watcher.gone:  # else its next heartbeat would find out
                    watcher.over.set()
            self._watchers = {watcher for watcher in self._watchers if not watcher.gone}
        if self._closed or len(self._watchers) >= CLIENTS:
            yield None
            return
        self._loop = asyncio.get_running_loop()
        watcher = Watcher(identity, transport)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """Let every client go, and take no more: the daemon ends."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        for watcher in self._watchers:
            watcher.over.set()

    def _hand_out(self, frame: Frame) -> None:
        for watcher in self._watchers:
            watcher.offer(frame)


def _frame(event: Event, now: datetime) -> Frame:
    """Return `event` as it goes over the wire."""

    def encode(details: Mapping[str, object]) -> bytes:
        data = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "kind": event.kind,
            "service": event.service,
            "upstream": event.upstream,
            "details": dict(details),
        }
        # One line: JSON escapes the line ends that would end the event.
        return f"event: {event.kind}\ndata: {as_json(data, default=str)}\n\n".encode()

    full = encode(event.details)
    if event.kind != "refused":
        return Frame(service=event.service, full=full, public=full)
    public = {key: value for key, value in event.details.items() if key not in FOR_ADMINS}
    return Frame(service=event.service, full=full, public=encode(public))


EVENTS = web.AppKey("events", Events)
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy must not collect them
}


async def events(request: web.Request) -> web.StreamResponse:
    """What happens to the services that the asker may see, as it happens."""
    with request.app[EVENTS].watching(request[IDENTITY], request.transport) as watcher:
        if watcher is None:
            message = f"{CLIENTS} clients watch already; try again later"
            return error(503, "too-many-clients", message, {"Retry-After": "30"})
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        await response.write(HEARTBEAT)  # so that a client knows at once that it is heard
        await _stream(watcher, response)
    return response


async def _stream(watcher: Watcher, response: web.StreamResponse) -> None:
    pump = asyncio.create_task(watcher.pump(response))
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_SECONDS):
                await watcher.over.wait()
    finally:
        pump.cancel()
        await asyncio.wait([pump])
    if watcher.slow:
        watcher.disconnect()


ROUTES = (
    Route(
        method="GET", path="/events", handler=events, access=Role.READ, narrowed=True,
        summary="What happens, as it happens: server-sent events.", query=None,
    ),
)  # fmt: skip
