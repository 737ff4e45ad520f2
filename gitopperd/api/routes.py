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
    narrowed: bool = False
    """The handler shows everybody only the services that they may see. A route with neither this nor a
    ``{service}`` asks for its role without a limit to some services."""
    query: tuple[str, ...] | None = ()
    """The query parameters that it takes; any other one is refused. None: it does not look at them."""
    body_bytes: int = 64 * 1024
    """The longest body that it takes."""

    @property
    def name(self) -> str:
        """What the route is called in the audit log, as ``freeze``."""
        return self.handler.__name__.replace("_", "-")


# By aiohttp's own object for the route: two routes may share a handler, and not their access.
_ROUTES: web.AppKey[dict[web.AbstractRoute, Route]] = web.AppKey("routes", dict)


def register(app: web.Application, routes: Iterable[Route]) -> None:
    """Add `routes` to `app`. There is no other way to add one that the guard lets anybody use.

    Raises:
        ValueError: two routes have the same method and path.
    """
    known = app.setdefault(_ROUTES, {})
    taken = {(route.method, route.path) for route in known.values()}
    for route in routes:
        if (route.method, route.path) in taken:
            raise ValueError(f"two routes are {route.method} {route.path}; only one could be reached")
        taken.add((route.method, route.path))
        known[app.router.add_route(route.method, route.path, route.handler)] = route


def route_of(request: web.Request) -> Route | None:
    """Return the route that `request` matched; None where it matched nothing that was registered."""
    return request.app.get(_ROUTES, {}).get(request.match_info.route)


def routes_of(app: web.Application) -> tuple[Route, ...]:
    """Return every route of `app`."""
    return tuple(app[_ROUTES].values())
