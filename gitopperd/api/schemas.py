"""The shapes of the API's answers, as JSON Schema; each written once, for the OpenAPI description.

No schema forbids further members: docs/reference/rest.md promises that names and types stay, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libgitopper import State

__all__ = ["SCHEMAS", "ref"]

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def ref(name: str) -> Schema:
    """Return a reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(optional: Schema | None = None, /, **required: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _told(description: str, schema: Schema = TEXT, **more: object) -> Schema:
    return {**schema, "description": description, **more}


SCHEMAS: Mapping[str, Schema] = {
    "Service": _object(
        {
            "reason": _told("Why it is frozen, as an operator wrote it."),
            "until": _told("When it thaws by itself.", TIME),
            "by": _told("Who froze it."),
            "waits": _told("What a commit that is not deployed yet waits for."),
        },
        service=_told("Its name.", minLength=1),
        hash=_told("The commit that it is in line with; empty before the first deploy.",
                   pattern="^([0-9a-f]{40}|[0-9a-f]{64})?$"),
        state=_told("See docs/reference/states.md.", enum=[state.value for state in State]),
        stateinfo=_told("Why, in one line; empty when there is nothing to say."),
        change=_told("Since when, as Fri, 18 Nov 2022 09:14:52 UTC.",
                     pattern="^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} UTC$"),
        upstream=_told("URL of the repository, without credentials."),
        branch=_told("The branch that it tracks."),
    ),
    "Services": _object(services=_list(ref("Service"))),
    "Machines": _object(machines=_list(TEXT)),
    "Attempt": _object(
        time=_told("When.", TIME),
        who=_told("Name of the identity; empty where nobody was recognised."),
        action=_told("What was asked for, as freeze."),
        service={"type": ["string", "null"], "description": "Null where no service was named."},
        origin=_told("Where from."),
        status=_told("HTTP status of the answer.", {"type": "integer"}),
        reason=_told("Of a refusal, or what was said with the request."),
    ),
    "Audit": _object(audit=_list(ref("Attempt"))),
    "Reloaded": _object(services=_told("How many services this host runs now.", COUNT)),
    "Polling": _object(
        {"note": _told("Why nothing is polled.")},
        polling=_told("The upstreams that are polled now.", _list(TEXT)),
    ),
    "Alive": _object(status={"const": "alive"}),
    "Ready": _object({"for": _told("How much is awaited.", COUNT)}, status={"enum": ["ready", "waiting"]}),
    "Description": _object(openapi=TEXT, info={"type": "object"}, paths={"type": "object"}),
    "Error": _object(
        error=_object(
            {"problems": _told("Of a configuration: every mistake in it.", _list(TEXT))},
            code=_told("For programs; stays the same.", pattern="^[a-z][a-z-]*$"),
            message=_told("For people: what, where, why, and what to do.", minLength=1),
        )
    ),
}  # fmt: skip
