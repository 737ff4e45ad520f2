"""The OpenAPI description of the API, made from its routes: ``GET /openapi.json``.

``python -m gitopperd.api.openapi`` prints the same document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from attrs import field, frozen

from gitopperd.api.errors import answer
from gitopperd.api.routes import Open, Route, routes_of
from gitopperd.api.schemas import SCHEMAS, ref
from libgitopper import Role, __version__

__all__ = ["DESCRIBED", "ROUTES", "describe"]

Json = Mapping[str, Any]

JSON = "application/json"
INTRODUCTION = """\
The API of one host's gitopper daemon. Over TCP, who asks is known by a bearer token, a client \
certificate, or a plugin of the operator's; over the daemon's Unix socket, by the user of the process. \
x-gitopper-role is the role that an operation asks for, or public, or signed, where the signature of the \
body is what is checked. Every error has the shape of Error."""


@frozen(kw_only=True)
class Described:
    """What there is to say of a route beyond the route itself."""

    answers: Mapping[int, str]
    """Status to a name in `SCHEMAS`, or to the media type of something that is no JSON."""
    errors: tuple[int, ...] = ()
    """Besides those that its access and its path bring about."""
    query: Mapping[str, Json] = field(factory=dict)
    headers: tuple[str, ...] = ()
    body: Json | None = None


SIGNATURES = (
    "X-Hub-Signature-256", "X-Gitlab-Token", "webhook-id", "webhook-timestamp", "webhook-signature",
    "X-Gitea-Signature", "X-Forgejo-Signature", "X-Signature",
)  # fmt: skip
FREEZING: Json = {
    "reason": {"type": "string", "maxLength": 500, "description": "Why; shown with the service."},
    "for": {"type": "string", "description": "Thaw by itself after so long, as 2h."},
}
AUDITING: Json = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How many, at most."},
    "service": {"type": "string", "description": "Only what concerned this service."},
}
HISTORY: Json = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 200, "description": "How many, at most."},
}
COMMIT: Json = {"type": "string", "pattern": "^[0-9A-Fa-f]{4,64}$"}
EXPLAINING: Json = {"commit": {**COMMIT, "description": "Its hash, or the first digits; else the tip."}}
DIFFERING: Json = {
    "kind": {"enum": ["drift", "kept-drift", "upstream"], "description": "Else drift, or what would come."},
    "number": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "description": "Of kept-drift, from the last.",
    },
    "from": {**COMMIT, "description": "Without a kind; else what is deployed."},
    "to": {**COMMIT, "description": "Without a kind; else the tip."},
}
PAYLOAD: Json = {
    "description": "What the sender sends; for a generic sender upstream and branch, or nothing.",
    "content": {JSON: {"schema": {}}, "application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
}

DESCRIBED: Mapping[tuple[str, str], Described] = {
    ("GET", "/list/machines"): Described(answers={200: "Machines"}),
    ("GET", "/list/services"): Described(answers={200: "Services"}),
    ("GET", "/list/service/{service}"): Described(answers={200: "Service"}),
    ("POST", "/state/freeze/{service}"): Described(answers={200: "Service"}, query=FREEZING),
    ("POST", "/state/unfreeze/{service}"): Described(answers={200: "Service"}),
    ("POST", "/state/rollback/{service}/{hash}"): Described(answers={202: "Service"}),
    ("POST", "/do/pull/{service}"): Described(answers={202: "Service"}),
    ("POST", "/do/retry/{service}"): Described(answers={202: "Service"}),
    ("POST", "/do/reload-config"): Described(answers={200: "Reloaded"}, errors=(422,)),
    ("POST", "/hook/{name}"): Described(answers={202: "Polling"}, headers=SIGNATURES, body=PAYLOAD),
    ("GET", "/audit"): Described(answers={200: "Audit"}, query=AUDITING),
    ("GET", "/history/{service}"): Described(answers={200: "History"}, query=HISTORY),
    ("GET", "/explain/{service}"): Described(answers={200: "Explanation"}, query=EXPLAINING),
    ("GET", "/diff/{service}"): Described(answers={200: "Difference"}, query=DIFFERING),
    ("GET", "/events"): Described(answers={200: "text/event-stream"}),
    ("GET", "/metrics"): Described(answers={200: "text/plain"}),
    ("GET", "/healthz"): Described(answers={200: "Alive"}),
    ("GET", "/readyz"): Described(answers={200: "Ready", 503: "Ready"}),
    ("GET", "/openapi.json"): Described(answers={200: "Description"}),
}
"""By method and path. A test fails where one is missing, or describes no route."""


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of `routes`."""
    paths: dict[str, dict[str, Json]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gitopper",
            "version": __version__,
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "See gitopperctl token."},
                "mtls": {"type": "mutualTLS", "description": "A client certificate that [auth] knows."},
            },
        },
    }


def _operation(route: Route) -> Json:
    described = DESCRIBED.get((route.method, route.path), Described(answers={}))
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "x-gitopper-role": route.access.name.lower(),
        "security": _security(route.access),
        "parameters": _parameters(route, described),
        "responses": _responses(route, described),
    }
    if described.body is not None:
        operation["requestBody"] = described.body
    return operation


def _security(access: Role | Open) -> list[Json]:
    if isinstance(access, Open):
        return []
    # An empty one says that it can go without: see anonymous in [api].
    anonymous: list[Json] = [{}] if access is Role.READ else []
    return [{"bearer": []}, {"mtls": []}, *anonymous]


def _parameters(route: Route, described: Described) -> list[Json]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _names(route.path)
    ]
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in described.query.items()]
    headers = [{"name": name, "in": "header", "schema": {"type": "string"}} for name in described.headers]
    return [*path, *query, *headers]


def _names(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _responses(route: Route, described: Described) -> dict[str, Json]:
    answers = {status: _response(status, what) for status, what in described.answers.items()}
    for status in sorted({*described.errors, *_usual_errors(route)} - answers.keys()):
        answers[status] = _response(status, "Error")
    return {str(status): response for status, response in answers.items()}


def _usual_errors(route: Route) -> Iterable[int]:
    yield from (400, 408, 413, 431)  # the limits, which are every request's
    if route.access is not Open.PUBLIC:
        yield from (401, 503)
    if isinstance(route.access, Role):
        yield 403
    if _names(route.path):
        yield 404


def _response(status: int, what: str) -> Json:
    content = {JSON: {"schema": ref(what)}} if what in SCHEMAS else {what: {"schema": {"type": "string"}}}
    return {"description": HTTPStatus(status).phrase, "content": content}


async def openapi(request: web.Request) -> web.Response:
    """Return the description of this very application."""
    return answer(describe(routes_of(request.app)))


ROUTES = (
    Route(
        method="GET", path="/openapi.json", handler=openapi, access=Open.PUBLIC,
        summary="This description.", query=None,
    ),
)  # fmt: skip


def _main() -> None:
    # Here and not above: those who serve the description are described by it.
    from gitopperd.api.rest import EVERY_ROUTE

    print(json.dumps(describe(EVERY_ROUTE), indent=2))  # noqa: T201 - it is what this is for


if __name__ == "__main__":
    _main()
