"""The guard: the one place that decides who may do what. Every request passes it.

A route that was not registered with who may use it is not reachable; an auth plugin that fails lets
nobody in; and what is not said to be allowed is refused.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware
from attrs import evolve, frozen

from gitopperd.api.asker import comes_from_another_site, facts, is_local, local_trouble, origin_of
from gitopperd.api.errors import NOTE, error
from gitopperd.api.routes import IDENTITY, Handler, Open, Route, route_of
from gitopperd.work.threads import Threads
from libgitopper import AccessDenied, AuthRequest, AuthSettings, Config, Grant, Hooks, Identity, Role

__all__ = ["Attempted", "Audit", "Guard", "origin_of"]

log = logging.getLogger(__name__)

ANONYMOUS = Identity(name="anonymous", grants=(Grant(role=Role.READ),))
AUTH_TIMEOUT_SECONDS = 10.0
"""How long all auth plugins together may take: one that waits for a directory server that is down
keeps nobody waiting for ever."""
REFUSAL_SECONDS = 0.2
"""How long an answer 401 over TCP is held back. Guessing a token is hopeless anyway; this keeps whoever
tries all the same from filling the log, and it hides how long the look-up took."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing, so nobody needs to know who used them."""

STRANGER = "this host does not know who asks; bring a token or a client certificate, or use its Unix socket"
LOCAL_STRANGER = "this user has no role here; use sudo, or a group that [auth.peercred] names"


@frozen(kw_only=True)
class Attempted:
    """Something that somebody asked for, and how it was answered; for the audit log."""

    who: str
    """Name of the identity; empty where nobody was recognised."""
    action: str
    """Name of the route, as ``freeze``."""
    service: str | None
    origin: str
    """Where from: an IP address, or ``unix uid 1000 pid 123``."""
    status: int
    """HTTP status of the answer."""
    reason: str = ""
    """Why it was refused or failed, or what there is to know of it."""


class Audit(Protocol):
    """What the guard tells who keeps the audit."""

    async def begin(self, attempted: Attempted) -> int:
        """Write that something is about to be done; return the number to `end` it by.

        Raises:
            StateError: it can't be written, so it must not be done.
        """

    async def end(self, number: int, attempted: Attempted) -> None:
        """Write how it is answered; never raises."""

    def note(self, attempted: Attempted) -> None:
        """Take down something that is over; never waits, never raises."""


class Guard:
    """Finds out who asks, by the auth plugins that the config names, and lets them do what they may."""

    def __init__(
        self,
        *,
        hooks: Hooks,
        threads: Threads,
        config: Config,
        audit: Audit,
        refusal_seconds: float = REFUSAL_SECONDS,
    ) -> None:
        self._hooks = hooks
        self._threads = threads
        self._audit = audit
        self._refusal_seconds = refusal_seconds
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
            if route is None:
                return await self._unregistered(request, handler)
            if isinstance(route.access, Open):
                return await handler(request)
            return await self._guarded(request, handler, route, route.access)

        return guard

    async def _unregistered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            return await handler(request)  # aiohttp's own: there is no such path, or not with this method
        log.error("%s %s has a handler and no role: nobody may use it", request.method, request.path)
        raise web.HTTPNotFound

    async def _guarded(
        self, request: web.Request, handler: Handler, route: Route, role: Role
    ) -> web.StreamResponse:
        service = request.match_info.get("service")
        attempted = Attempted(
            who="", action=route.name, service=service, origin=origin_of(request), status=500
        )
        asked = facts(request)
        if comes_from_another_site(asked.headers):
            reason = "the Origin header names another site than the Host header"
            return await self._refuse(evolve(attempted, status=403, reason=reason))
        try:
            identity = await self._identify(asked, role)
        except AccessDenied as exc:
            return await self._refuse(evolve(attempted, status=401, reason=str(exc)), asked)
        attempted = evolve(attempted, who=identity.name)
        if reason := _lacks(identity, role, route, service):
            return await self._refuse(evolve(attempted, status=403, reason=reason))
        request[IDENTITY] = identity
        if request.method in SAFE_METHODS:
            return await handler(request)
        return await self._carried_out(request, handler, attempted)

    async def _carried_out(
        self, request: web.Request, handler: Handler, attempted: Attempted
    ) -> web.StreamResponse:
        """Have an operation audited before it is done, and its result before it is answered."""
        number = await self._audit.begin(attempted)
        # Cancelled in here, as the daemon ends, its entry keeps saying that it was begun.
        response = await handler(request)
        reason = response.get(NOTE, "")
        await self._audit.end(number, evolve(attempted, status=response.status, reason=reason))
        return response

    async def _refuse(self, attempted: Attempted, asked: AuthRequest | None = None) -> web.Response:
        self._audit.note(attempted)
        if attempted.status != 401:
            return error(attempted.status, "forbidden", attempted.reason)
        if asked is not None and asked.unix is None:
            await asyncio.sleep(self._refusal_seconds)
        challenge = {"WWW-Authenticate": 'Bearer realm="gitopper"'}
        return error(401, "unknown-identity", attempted.reason, challenge)

    async def _identify(self, asked: AuthRequest, role: Role) -> Identity:
        """Return who asks.

        Raises:
            AccessDenied: credentials are not good, a plugin failed, or there is nobody to be seen.
        """
        identity = await self._ask_plugins(asked)
        if identity is not None:
            return identity
        if role > Role.READ:
            raise AccessDenied(LOCAL_STRANGER if asked.unix else STRANGER)
        return self._anonymous_reader(asked)

    async def _ask_plugins(self, asked: AuthRequest) -> Identity | None:
        """Ask one after the other until one knows, each in a thread of its own pool."""
        plugin = ""
        try:
            async with asyncio.timeout(AUTH_TIMEOUT_SECONDS):
                for auth in self._auth:
                    plugin = auth.plugin
                    identity = await self._threads.identify(plugin, self._ask, auth, asked)
                    if identity is not None:
                        return identity
        except TimeoutError as exc:
            log.error("auth plugins took more than %g s; %r was asked", AUTH_TIMEOUT_SECONDS, plugin)  # noqa: TRY400
            raise AccessDenied("finding out who asks took too long; try again") from exc
        return None

    def _ask(self, auth: AuthSettings, asked: AuthRequest) -> Identity | None:
        try:
            return self._hooks.identify(evolve(asked, plugin=auth.plugin, settings=auth.settings))
        except AccessDenied:
            raise
        # SystemExit and its like, too: a plugin that fails must not let anybody in, nor leave the
        # decision to the next plugin, nor end the daemon.
        except BaseException as exc:
            log.exception("auth plugin %r failed", auth.plugin)
            raise AccessDenied("an auth plugin failed; the daemon's log has the details") from exc

    def _anonymous_reader(self, asked: AuthRequest) -> Identity:
        if self._anonymous:
            return ANONYMOUS
        if self._anonymous is False or not is_local(asked):
            raise AccessDenied(LOCAL_STRANGER if asked.unix else STRANGER)
        if asked.unix is None and (trouble := local_trouble(asked.headers)):
            raise AccessDenied(f"{STRANGER} ({trouble})")
        return ANONYMOUS


def _lacks(identity: Identity, role: Role, route: Route, service: str | None) -> str:
    """Return what `identity` lacks for `route`; empty: nothing. Says nothing of what this host runs."""
    name = role.name.lower()
    if service is not None:
        return "" if identity.may(role, service) else f"{identity.name} lacks the role {name} for {service}"
    if not identity.may(role):
        return f"{identity.name} lacks the role {name}"
    if not (route.narrowed or identity.may_everywhere(role)):
        return f"this concerns every service, and {identity.name} has the role {name} for some of them only"
    return ""
