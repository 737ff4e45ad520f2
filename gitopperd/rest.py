"""The REST interface: paths, members and types as documented in docs/reference/rest.md."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from gitopperd.daemon import Daemon, UnknownService
from libgitopper import GitopperError, Status, UnknownRevision

__all__ = ["make_app"]

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

DAEMON = web.AppKey("daemon", Daemon)
REGISTRY = web.AppKey("registry", CollectorRegistry)

MAX_BODY_BYTES = 64 * 1024


def make_app(daemon: Daemon, registry: CollectorRegistry) -> web.Application:
    """Return the application that serves `daemon`."""
    app = web.Application(middlewares=[errors_as_json], client_max_size=MAX_BODY_BYTES)
    app[DAEMON] = daemon
    app[REGISTRY] = registry
    app.add_routes(
        [
            web.get("/list/machines", list_machines),
            web.get("/list/services", list_services),
            web.get("/list/service/{service}", list_service),
            web.post("/state/freeze/{service}", freeze),
            web.post("/state/unfreeze/{service}", unfreeze),
            web.post("/state/rollback/{service}/{hash}", rollback),
            web.post("/do/pull/{service}", pull),
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    return app


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as ``{"error": {"code", "message"}}``."""
    try:
        return await handler(request)
    except UnknownService as exc:
        return error(404, "unknown-service", str(exc))
    except UnknownRevision as exc:
        return error(404, "unknown-revision", str(exc))
    except GitopperError as exc:
        return error(503, "unavailable", str(exc))
    except web.HTTPException as exc:
        code = (exc.reason or "error").lower().replace(" ", "-")
        message = f"{request.method} {request.path}: {exc.reason}"
        headers = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        return error(exc.status, code, message, headers)
    except Exception:
        log.exception("%s %s failed in a way that nobody foresaw", request.method, request.path)
        return error(500, "internal", "an internal error; the daemon's log has the details")


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the one shape that every error has."""
    body = {"error": {"code": code, "message": message}}
    return web.json_response(body, status=status, headers=headers, dumps=dumps)


def dumps(value: Any) -> str:
    """JSON as a person can read it with curl: one line, UTF-8, with its line end."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def answer(body: Any, status: int = 200) -> web.Response:
    """Return `body` as JSON."""
    return web.json_response(body, status=status, dumps=dumps)


def member(request: web.Request, status: Status) -> dict[str, str]:
    """Return a service as the API shows it. `change` is RFC 1123, as clients have always read it."""
    source = request.app[DAEMON].service(status.service).source
    return {
        "service": status.service,
        "hash": status.hash,
        "state": status.state.value,
        "stateinfo": status.info,
        "change": status.change.strftime("%a, %d %b %Y %H:%M:%S UTC"),
        "upstream": source.upstream,
        "branch": source.branch,
    }


async def list_machines(request: web.Request) -> web.Response:
    """Every machine in the config."""
    return answer({"machines": list(request.app[DAEMON].machines)})


async def list_services(request: web.Request) -> web.Response:
    """Every service of this host."""
    return answer({"services": [member(request, status) for status in request.app[DAEMON].board]})


async def list_service(request: web.Request) -> web.Response:
    """One service of this host."""
    return answer(member(request, request.app[DAEMON].status(request.match_info["service"])))


async def freeze(request: web.Request) -> web.Response:
    """Stop tracking; persisted before the answer."""
    status = await request.app[DAEMON].freeze(request.match_info["service"])
    return answer(member(request, status))


async def unfreeze(request: web.Request) -> web.Response:
    """Track again; persisted before the answer."""
    status = await request.app[DAEMON].unfreeze(request.match_info["service"])
    return answer(member(request, status))


async def rollback(request: web.Request) -> web.Response:
    """Pin to an older commit; persisted before the answer, carried out after it."""
    names = request.match_info
    status = await request.app[DAEMON].rollback(names["service"], names["hash"])
    return answer(member(request, status), status=202)


async def pull(request: web.Request) -> web.Response:
    """Poll now; the answer does not wait for it."""
    status = request.app[DAEMON].pull(request.match_info["service"])
    return answer(member(request, status), status=202)


async def metrics(request: web.Request) -> web.Response:
    """Metrics in Prometheus' text format."""
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def healthz(_request: web.Request) -> web.Response:
    """200 while the daemon is alive."""
    return answer({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """200 once every upstream was polled and every service had a pass; 503 with what is awaited."""
    waiting = request.app[DAEMON].waiting
    if waiting:
        return answer({"status": "waiting", "for": list(waiting)}, status=503)
    return answer({"status": "ready"})
