"""What stands after the question mark: read strictly, as a typo must not be taken for silence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from aiohttp import web

from gitopperd.api.errors import BadRequest
from gitopperd.api.routes import Handler, route_of
from libgitopper import parse_duration

__all__ = ["QUERY", "freeze_reason", "freeze_until", "query_of", "strict_query", "whole_number"]

REASON_LENGTH = 500
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 366 * 24 * 3600.0

QUERY: web.RequestKey[Mapping[str, str]] = web.RequestKey("query", Mapping)
"""The query parameters of a route that says which it takes; an empty one counts as none."""


def query_of(request: web.Request, *known: str) -> Mapping[str, str]:
    """Return the query parameters; an empty one counts as none.

    Raises:
        BadRequest: one is not among `known`, or stands there twice.
    """
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            takes = " and ".join(known) or "no parameters"
            raise BadRequest(f"{name[:40]!r} is no parameter here; this takes {takes}")
        if name in found:
            raise BadRequest(f"{name} is given twice; give it once")
        found[name] = value
    return {name: value for name, value in found.items() if value}


@web.middleware
async def strict_query(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what the route does not take, before its handler is called; what it takes is at `QUERY`."""
    route = route_of(request)
    if route is not None and route.query is not None:
        request[QUERY] = query_of(request, *route.query)
    return await handler(request)


def whole_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a number from 1 to `most`.

    Raises:
        BadRequest: it is none.
    """
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise BadRequest(f"{name}: {text[:40]!r} is not a whole number from 1 to {most}")
    return int(text)


def freeze_reason(query: Mapping[str, str]) -> str:
    """Return why somebody freezes; empty where they do not say.

    Raises:
        BadRequest: it is too long, or more than a line that can be printed.
    """
    reason = query.get("reason", "").strip()
    if len(reason) > REASON_LENGTH:
        raise BadRequest(f"reason: it has {len(reason)} characters; {REASON_LENGTH} is the most")
    if not reason.isprintable():
        raise BadRequest("reason: it has a line end or another control character; write one line")
    return reason


def freeze_until(query: Mapping[str, str], now: datetime) -> datetime | None:
    """Return when a freeze ends, to the second and never early; None where it has no end.

    Raises:
        BadRequest: `for` is no duration, or not one for a freeze.
    """
    if (text := query.get("for")) is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise BadRequest(f"for: {text[:40]!r} is not a duration; write 30m, 2h or 72h") from None
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise BadRequest(f"for: {text[:40]!r} is not from 1s to 8784h; without it, the freeze has no end")
    end = now + timedelta(seconds=seconds)
    return end if end.microsecond == 0 else end.replace(microsecond=0) + timedelta(seconds=1)
