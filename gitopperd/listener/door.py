"""The door of a listening socket: who comes in, who has to make room, and whose time is over.

We accept by ourselves, with asyncio's public parts: aiohttp's sites count nobody, let a handshake take
a minute, and are bound to one TLS context for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterable

from aiohttp import web

from gitopperd.api.asker import unix_peer
from gitopperd.listener.limits import Connection, Limits
from gitopperd.listener.tls import Tls

__all__ = ["Door", "open_door"]

log = logging.getLogger(__name__)

AT_ONCE = 16
RETRY_SECONDS = 0.5
TELL_SECONDS = 60.0


class Door:
    """Accepts the connections of one listening socket. Lives on the event loop."""

    def __init__(
        self, name: str, listener: socket.socket, server: web.Server, *, limits: Limits, tls: Tls | None
    ) -> None:
        self.name = name
        self.turned_away: Counter[str] = Counter()
        """Connections that we ended, by reason: full, displaced, slow, unread, idle,
        ahead, no-certificate, stopping."""
        self._listener = listener
        self._family = listener.family
        self._server = server
        self._limits = limits
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._inside: dict[Connection, None] = {}
        self._occupied = asyncio.Event()
        """Set once there may be connections to look after."""
        self._entering: set[asyncio.Task[None]] = set()
        self._told_next = 0.0

    @property
    def kind(self) -> str:
        """Which kind of address it has: tcp or unix."""
        return "unix" if self._family == socket.AF_UNIX else "tcp"

    @property
    def inside(self) -> int:
        """How many connections there are now."""
        return len(self._inside)

    def open(self) -> None:
        """Accept from now on."""
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._welcome)

    async def close(self) -> None:
        """Accept nobody any more, and end what has not got past its handshake."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for connection in [*self._inside]:
            if not connection.entered:
                connection.cut("stopping")
        await asyncio.gather(*self._entering)

    async def sweep(self) -> None:
        """End connections whose time is over, until cancelled; with nobody inside, nothing wakes up."""
        while True:
            if not self._inside:
                self._occupied.clear()
                await self._occupied.wait()
            await asyncio.sleep(self._limits.sweep_seconds)
            now = self._loop.time()
            for connection in [*self._inside]:
                if reason := connection.overdue(now):
                    self._send_away(connection, reason)

    def _welcome(self) -> None:
        """Accept some connections; the event loop comes back for more, after everybody else had a turn."""
        for _ in range(AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                self._pause(exc)
                return
            try:
                self._admit(sock)
            except OSError:  # it has gone already
                sock.close()

    def _admit(self, sock: socket.socket) -> None:
        peer = _peer(sock)
        context = self._tls.context if self._tls else None
        unable = self._tls is not None and context is None
        if unable or not self._make_room(peer):
            self.turned_away["no-certificate" if unable else "full"] += 1
            sock.close()
            return
        if sock.family != socket.AF_UNIX:
            # What a client does not acknowledge, or does not read, the kernel gives up as we do.
            patience = int(self._limits.unread_seconds * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        connection = Connection(self._server, sock, peer=peer, limits=self._limits, gone=self._forget)
        self._inside[connection] = None
        self._occupied.set()
        task = self._loop.create_task(self._let_in(sock, connection, context))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _let_in(
        self, sock: socket.socket, connection: Connection, context: ssl.SSLContext | None
    ) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=self._limits.handshake_seconds if context else None,
                ssl_shutdown_timeout=self._limits.linger_seconds if context else None,
            )
        except OSError as exc:  # also what ssl raises
            log.debug("%s: no handshake with %s: %s", self.name, connection.peer, exc)
        finally:
            if not connection.entered:
                self._forget(connection)

    def _make_room(self, peer: Hashable) -> bool:
        """Return whether there is room for one more, after somebody who only waits has made some."""
        mine = [connection for connection in self._inside if connection.peer == peer]
        if len(mine) >= self._limits.per_peer:
            return self._displace(mine, f"{peer} has {len(mine)} connections")
        if len(self._inside) >= self._limits.connections:
            return self._displace(self._inside, f"there are {len(self._inside)} connections")
        return True

    def _displace(self, among: Iterable[Connection], why: str) -> bool:
        """End a connection that only waits: of the peer that has most, the one that waits longest.

        So a crowd that holds connections open does not lock out those who come to ask. A connection
        that was answered before outlives those that never asked for anything.
        """
        self._tell(f"{self.name}: {why}, as many as may be; others have to make room")
        waiting = [connection for connection in among if connection.waits]
        if not waiting:
            return False
        crowds = Counter(connection.peer for connection in self._inside)
        self._send_away(min(waiting, key=lambda c: (-crowds[c.peer], c.served, c.since)), "displaced")
        return True

    def _send_away(self, connection: Connection, reason: str) -> None:
        connection.cut(reason)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        """Let it have no place any more: at once when it is cut, and again when it has really gone."""
        if connection in self._inside:
            del self._inside[connection]
            if connection.cut_for:
                self.turned_away[connection.cut_for] += 1

    def _pause(self, exc: OSError) -> None:
        """Without file descriptors or memory, accepting would fail again at once, for ever."""
        self._tell(f"{self.name}: can't accept connections: {exc.strerror or exc}")
        self._loop.remove_reader(self._listener)
        self._loop.call_later(RETRY_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() != -1:
            self._loop.add_reader(self._listener, self._welcome)

    def _tell(self, line: str) -> None:
        now = self._loop.time()
        if now >= self._told_next:
            self._told_next = now + TELL_SECONDS
            log.warning("%s", line)


@contextlib.asynccontextmanager
async def open_door(door: Door) -> AsyncIterator[Door]:
    """Let `door` accept while the block runs."""
    sweeping = asyncio.create_task(door.sweep())
    door.open()
    try:
        yield door
    finally:
        await door.close()
        sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping


def _peer(sock: socket.socket) -> Hashable:
    """Return what connections are counted by: whoever has one address in IPv6 has its whole network."""
    if unix := unix_peer(sock):
        return f"uid {unix.uid}"
    address = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, 64), strict=False))
