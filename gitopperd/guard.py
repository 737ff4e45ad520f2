"""The guard: the one place that decides who may do what. Every request passes it."""

from __future__ import annotations

import ipaddress
import logging
import socket
import struct
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Middleware
from attrs import evolve, frozen

from gitopperd.errors import error
from gitopperd.routes import IDENTITY, Handler, Open, Route, route_of
from gitopperd.threads import Threads
from gitopperd.tls import tls_peer
from libgitopper import (
    AccessDenied,
    AuthRequest,
    Config,
    Grant,
    Hooks,
    Identity,
    Role,
    UnixPeer,
)

__all__ = ["Attempted", "Guard"]

log = logging.getLogger(__name__)

ANONYMOUS = Identity(name="anonymous", grants=(Grant(role=Role.READ),))
# struct ucred: pid, uid, gid (unix(7)).
_UCRED = struct.Struct("3i")


@frozen(kw_only=True)
class Attempted:
    """Something that somebody asked for, and how it was answered; for the audit log."""

    who: str
    """Name of the identity; empty where nobody was recognised."""
    action: str
    """Name of the route, as ``freeze``."""
    service: str | None
    origin: str
    """Where from: an IP address, or ``unix pid 123``."""
    status: int
    """HTTP status of the answer."""
    reason: str = ""
    """Of a refusal."""


class Guard:
    """Finds out who asks, by the auth plugins that the config names, and lets them do what they may."""

    def __init__(
        self, *, hooks: Hooks, threads: Threads, config: Config, audit: Callable[[Attempted], None]
    ) -> None:
        self._hooks = hooks
        self._threads = threads
        self._audit = audit
        self.apply(config)

    def apply(self, config: Config) -> None:
        """Go over to the ``[auth]`` and ``[api]`` of another configuration."""
        self._auth = config.auth
        self._anonymous = config.api.anonymous

    def middleware(self) -> Middleware:
        """Return what every request of the application passes."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = route_of(request)
            if route is None or isinstance(route.access, Open):
                return await handler(request)
            return await self._guarded(request, handler, route, route.access)

        return guard

    async def _guarded(
        self, request: web.Request, handler: Handler, route: Route, role: Role
    ) -> web.StreamResponse:
        service = request.match_info.get("service")
        attempted = Attempted(
            who="", action=route.name, service=service, origin=origin_of(request), status=500
        )
        try:
            identity = await self._identify(request)
        except AccessDenied as exc:
            return self._refuse(evolve(attempted, status=401, reason=str(exc)))
        if identity is None:
            reason = "nobody whom this host knows; bring a token, a certificate, or use the Unix socket"
            return self._refuse(evolve(attempted, status=401, reason=reason))
        attempted = evolve(attempted, who=identity.name)
        if not identity.may(role, service):
            about = f" for {service}" if service else ""
            reason = f"{identity.name} lacks the role {role.name.lower()}{about}"
            return self._refuse(evolve(attempted, status=403, reason=reason))
        request[IDENTITY] = identity
        try:
            response = await handler(request)
        except BaseException:
            self._audit_if_it_matters(role, attempted)
            raise
        self._audit_if_it_matters(role, evolve(attempted, status=response.status))
        return response

    def _audit_if_it_matters(self, role: Role, attempted: Attempted) -> None:
        if role > Role.READ:
            self._audit(attempted)

    def _refuse(self, attempted: Attempted) -> web.Response:
        self._audit(attempted)
        code = "unknown-identity" if attempted.status == 401 else "forbidden"
        headers = {"WWW-Authenticate": 'Bearer realm="gitopper"'} if attempted.status == 401 else None
        return error(attempted.status, code, attempted.reason, headers)

    async def _identify(self, request: web.Request) -> Identity | None:
        asked = facts(request)
        for auth in self._auth:
            question = evolve(asked, plugin=auth.plugin, settings=auth.settings)
            try:
                identity = await self._threads.answer(self._hooks.identify, question)
            except AccessDenied:
                raise
            except Exception as exc:
                # A plugin that fails must not let anybody in, nor leave the decision to the next.
                log.exception("auth plugin %r failed", auth.plugin)
                raise AccessDenied("the auth plugin failed; the daemon's log has the details") from exc
            if identity is not None:
                return identity
        return ANONYMOUS if self._may_be_anonymous(asked) else None

    def _may_be_anonymous(self, asked: AuthRequest) -> bool:
        if self._anonymous is not None:
            return self._anonymous
        return asked.peer is None or ipaddress.ip_address(asked.peer).is_loopback


def facts(request: web.Request) -> AuthRequest:
    """Return what an auth plugin may know of `request`, without its name and settings."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    sock = request.get_extra_info("socket")
    unix = unix_peer(sock)
    return AuthRequest(
        plugin="",
        settings={},
        method=request.method,
        path=request.raw_path,
        headers=headers,
        peer=None if unix else request.remote,
        unix=unix,
        tls=tls_peer(request.get_extra_info("ssl_object")),
    )


def unix_peer(sock: socket.socket | None) -> UnixPeer | None:
    """Return who is at the other end of a Unix socket; None for any other socket."""
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return UnixPeer(pid=pid, uid=uid, gid=gid)


def origin_of(request: web.Request) -> str:
    """Return where `request` comes from, for the audit log."""
    unix = unix_peer(request.get_extra_info("socket"))
    return f"unix uid {unix.uid} pid {unix.pid}" if unix else (request.remote or "unknown")
