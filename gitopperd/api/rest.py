"""The REST interface: paths, members and types as documented in docs/reference/rest.md."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from gitopperd.api.admin import RELOADING
from gitopperd.api.admin import ROUTES as ADMIN_ROUTES
from gitopperd.api.audit import AUDIT, Audit
from gitopperd.api.audit import ROUTES as AUDIT_ROUTES
from gitopperd.api.diff import ROUTES as DIFF_ROUTES
from gitopperd.api.errors import answer, errors_as_json
from gitopperd.api.events import EVENTS, Events
from gitopperd.api.events import ROUTES as EVENT_ROUTES
from gitopperd.api.explain import ROUTES as EXPLAIN_ROUTES
from gitopperd.api.guard import Guard
from gitopperd.api.history import ROUTES as HISTORY_ROUTES
from gitopperd.api.inquiries import INQUIRIES
from gitopperd.api.listing import Listing, member, rfc3339
from gitopperd.api.openapi import ROUTES as OPENAPI_ROUTES
from gitopperd.api.queries import QUERY, freeze_reason, freeze_until, strict_query
from gitopperd.api.routes import IDENTITY, Open, Route, register
from gitopperd.api.webhooks import ROUTES as WEBHOOK_ROUTES
from gitopperd.api.webhooks import WEBHOOKS, Webhooks
from gitopperd.metrics import Exposition
from gitopperd.reloading import Reloading
from gitopperd.work.daemon import Daemon
from libgitopper import Role
from libgitopper.reconciler import utc_now

__all__ = ["EVERY_ROUTE", "ROUTES", "make_app"]

DAEMON = web.AppKey("daemon", Daemon)
EXPOSITION = web.AppKey("exposition", Exposition)
LISTING = web.AppKey("listing", Listing)


def make_app(
    daemon: Daemon,
    exposition: Exposition,
    guard: Guard,
    webhooks: Webhooks,
    audit: Audit,
    events: Events,
    reloading: Reloading,
    *,
    attended: Middleware,
    whole_body: Middleware,
) -> web.Application:
    """Return the application that serves `daemon`.

    `attended` and `whole_body` are the listener's: the first sees every request from its start to its
    end, the second has the body read, within its limits, before a handler runs.
    """
    # Twice: inside the guard, so that it audits the status that is answered; outside, for its own faults.
    middlewares = [attended, errors_as_json, guard.middleware(), errors_as_json, whole_body, strict_query]
    app = web.Application(middlewares=middlewares)
    app[DAEMON] = daemon
    app[INQUIRIES] = daemon.inquiries
    app[EXPOSITION] = exposition
    app[LISTING] = Listing(daemon)
    app[WEBHOOKS] = webhooks
    app[AUDIT] = audit
    app[EVENTS] = events
    app[RELOADING] = reloading
    app.on_shutdown.append(_let_watchers_go)
    register(app, EVERY_ROUTE)
    return app


async def _let_watchers_go(app: web.Application) -> None:
    app[EVENTS].close()


async def list_machines(request: web.Request) -> web.Response:
    """Every machine in the config."""
    return answer({"machines": list(request.app[DAEMON].machines)})


async def list_services(request: web.Request) -> web.Response:
    """Every service of this host that the asker may see."""
    body = request.app[LISTING].text(request[IDENTITY])
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def list_service(request: web.Request) -> web.Response:
    """One service of this host, and how far it is behind its upstream."""
    name = request.match_info["service"]
    behind = await request.app[INQUIRIES].behind(name)
    told: dict[str, object] = {}
    if behind is not None:
        told = {
            "upstream_hash": behind.upstream,
            "behind": behind.commits,
            "behind_touching": behind.touching,
        }
    return answer(member(request.app[DAEMON], request.app[DAEMON].status(name)) | told)


async def freeze(request: web.Request) -> web.Response:
    """Stop tracking, for a while or until an unfreeze; persisted before the answer."""
    query = request[QUERY]
    reason, until = freeze_reason(query), freeze_until(query, utc_now())
    by = request[IDENTITY].name
    status = await request.app[DAEMON].freeze(
        request.match_info["service"], by=by, reason=reason, until=until
    )
    end = f"until {rfc3339(until)}" if until else ""
    return answer(
        member(request.app[DAEMON], status), note=": ".join(part for part in (end, reason) if part)
    )


async def unfreeze(request: web.Request) -> web.Response:
    """Track again; persisted before the answer."""
    by = request[IDENTITY].name
    status = await request.app[DAEMON].unfreeze(request.match_info["service"], by=by)
    return answer(member(request.app[DAEMON], status))


async def rollback(request: web.Request) -> web.Response:
    """Pin to an older commit; persisted before the answer, carried out after it."""
    names, by = request.match_info, request[IDENTITY].name
    status = await request.app[DAEMON].rollback(names["service"], names["hash"], by=by)
    return answer(member(request.app[DAEMON], status), status=202, note=f"to {names['hash']}")


async def pull(request: web.Request) -> web.Response:
    """Poll now; the answer does not wait for it."""
    by = request[IDENTITY].name
    status = request.app[DAEMON].pull(request.match_info["service"], by=by)
    return answer(member(request.app[DAEMON], status), status=202)


async def retry(request: web.Request) -> web.Response:
    """Try again what was rejected before; that it may be is persisted before the answer."""
    by = request[IDENTITY].name
    status = await request.app[DAEMON].retry(request.match_info["service"], by=by)
    return answer(member(request.app[DAEMON], status), status=202)


async def metrics(request: web.Request) -> web.Response:
    """Metrics in Prometheus' text format; they show every service."""
    body = request.app[EXPOSITION].text()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def healthz(_request: web.Request) -> web.Response:
    """200 while the daemon is alive."""
    return answer({"status": "alive"})


async def readyz(request: web.Request) -> web.Response:
    """200 once every upstream was polled and every service had a pass; 503 with how much is awaited."""
    if waiting := len(request.app[DAEMON].waiting):
        return answer({"status": "waiting", "for": waiting}, status=503)
    return answer({"status": "ready"})


ROUTES = (
    Route(
        method="GET", path="/list/machines", handler=list_machines, access=Role.READ,
        summary="Every machine that the configuration names.", narrowed=True,
    ),
    Route(
        method="GET", path="/list/services", handler=list_services, access=Role.READ,
        summary="Every service of this host.", narrowed=True,
    ),
    Route(
        method="GET", path="/list/service/{service}", handler=list_service, access=Role.READ,
        summary="One service of this host.",
    ),
    Route(
        method="POST", path="/state/freeze/{service}", handler=freeze, access=Role.OPERATE,
        summary="Stop tracking upstream.", query=("reason", "for"),
    ),
    Route(
        method="POST", path="/state/unfreeze/{service}", handler=unfreeze, access=Role.OPERATE,
        summary="Track upstream again.",
    ),
    Route(
        method="POST", path="/state/rollback/{service}/{hash}", handler=rollback, access=Role.OPERATE,
        summary="Pin a service to an older commit.",
    ),
    Route(
        method="POST", path="/do/pull/{service}", handler=pull, access=Role.OPERATE,
        summary="Poll the upstream of a service now.",
    ),
    Route(
        method="POST", path="/do/retry/{service}", handler=retry, access=Role.OPERATE,
        summary="Try again what failed its check or its health before.",
    ),
    Route(
        method="GET", path="/metrics", handler=metrics, access=Role.READ, summary="Metrics.", query=None
    ),
    Route(
        method="GET", path="/healthz", handler=healthz, access=Open.PUBLIC,
        summary="Whether the daemon is alive.", query=None,
    ),
    Route(
        method="GET", path="/readyz", handler=readyz, access=Open.PUBLIC,
        summary="Whether the first round is complete.", query=None,
    ),
)  # fmt: skip

EVERY_ROUTE = (
    *ROUTES,
    *ADMIN_ROUTES,
    *AUDIT_ROUTES,
    *HISTORY_ROUTES,
    *EXPLAIN_ROUTES,
    *DIFF_ROUTES,
    *EVENT_ROUTES,
    *WEBHOOK_ROUTES,
    *OPENAPI_ROUTES,
)
"""Of this module and of those that have a part of the API to themselves."""
