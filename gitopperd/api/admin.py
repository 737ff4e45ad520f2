"""Routes that concern the daemon itself."""

from __future__ import annotations

from aiohttp import web

from gitopperd.api.errors import answer
from gitopperd.api.routes import Route
from gitopperd.reloading import Reloading
from libgitopper import ConfigError, Role

__all__ = ["RELOADING", "ROUTES"]

RELOADING = web.AppKey("reloading", Reloading)


async def reload_config(request: web.Request) -> web.Response:
    """Load the configuration again; one with mistakes is refused, with all of them."""
    try:
        loaded = await request.app[RELOADING].reload()
    except ConfigError as exc:
        problems = [str(problem) for problem in exc.problems]
        count = f"{len(problems)} mistake{'s' if len(problems) != 1 else ''}"
        message = f"{exc.origin} has {count}; nothing was changed"
        told = {"code": "bad-config", "message": message, "problems": problems}
        return answer({"error": told}, status=422, note=message)
    note = {"note": loaded.note} if loaded.note else {}
    return answer({"services": len(loaded.config.services), **note}, note=loaded.note)


ROUTES = (
    Route(
        method="POST", path="/do/reload-config", handler=reload_config, access=Role.ADMIN,
        summary="Load the configuration again.",
    ),
)  # fmt: skip
