"""``GET /history/{service}``: what was deployed when, why, and how it went."""

from __future__ import annotations

from aiohttp import web

from gitopperd.api.errors import answer
from gitopperd.api.inquiries import INQUIRIES, deploy_member
from gitopperd.api.queries import QUERY, whole_number
from gitopperd.api.routes import Route
from libgitopper import Role

__all__ = ["MOST_SHOWN", "ROUTES"]

SHOWN, MOST_SHOWN = 50, 200


async def history(request: web.Request) -> web.Response:
    """The last deploys of a service, newest first; those that failed, too."""
    name = request.match_info["service"]
    limit = whole_number(request[QUERY], "limit", SHOWN, MOST_SHOWN)
    deploys = await request.app[INQUIRIES].history(name, limit)
    return answer({"service": name, "history": [deploy_member(deploy) for deploy in deploys]})


ROUTES = (
    Route(
        method="GET", path="/history/{service}", handler=history, access=Role.READ,
        summary="What was deployed when, why, and how it went, newest first.", query=("limit",),
    ),
)  # fmt: skip
