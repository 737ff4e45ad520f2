"""What a route is: a path, its handler, and who may use it. One without the last can't be made."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web
from attrs import frozen

from libgitopper import Identity, Role

__all__ = ["IDENTITY", "Handler", "Open", "Route", "register", "route_of"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)
"""Who asks; set by the guard before a handler of a route with a role is called."""


class Open(enum.Enum):
    """Routes that need no identity."""

    PUBLIC = "public"
    """Tells nothing that is worth guarding."""
    SIGNED = "signed"
    """The handler itself checks a signature over the body."""


@frozen(kw_only=True)
class Route:
    """One method and path of the API. A ``{service}`` in the path limits the role to that service."""

    method: str
    path: str
    handler: Handler
    access: Role | Open
    summary: str
    """For the OpenAPI description: one sentence."""

    @property
    def name(self) -> str:
        """What the route is called in the audit log, as ``freeze``."""
        return self.handler.__name__.replace("_", "-")


_ROUTES: web.AppKey[dict[Handler, Route]] = web.AppKey("routes", dict)


def register(app: web.Application, routes: Iterable[Route]) -> None:
    """Add `routes` to `app`. There is no other way to add one that the guard lets anybody use."""
    known = app.setdefault(_ROUTES, {})
    for route in routes:
        known[route.handler] = route
        app.router.add_route(route.method, route.path, route.handler)


def route_of(request: web.Request) -> Route | None:
    """Return the route that `request` matched; None where the path or the method is not known."""
    return request.app[_ROUTES].get(request.match_info.handler)


def routes_of(app: web.Application) -> tuple[Route, ...]:
    """Return every route of `app`."""
    return tuple(app[_ROUTES].values())
