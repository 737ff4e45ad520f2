"""The shapes of the API's answers, as JSON Schema; each written once, for the OpenAPI description.

No schema forbids further members: docs/reference/rest.md promises that names and types stay, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libgitopper import ChangeKind, Compared, Reason, Result, Standing, State, Verb

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


def _or_null(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


REASONS = _list({"enum": [reason.name.lower().replace("_", "-") for reason in Reason]})

SCHEMAS: Mapping[str, Schema] = {
    "Service": _object(
        {
            "reason": _told("Why it is frozen, as an operator wrote it."),
            "until": _told("When it thaws by itself.", TIME),
            "by": _told("Who froze it."),
            "waits": _told("What a commit that is not deployed yet waits for."),
            "upstream_hash": _told("The tip of its branch; of one service only."),
            "behind": _told("How many commits it lacks; 1000 for more. Of one service only.", COUNT),
            "behind_touching": _told("How many of these change its paths. Of one service only.", COUNT),
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
    "File": _object(
        path=_told("In the repository; bytes that are no UTF-8 as lone surrogates."),
        kind=_told("How it differs.", enum=[kind.value for kind in ChangeKind]),
        detail=_told("What can't be seen from the kind, as 0600 instead of 0644."),
    ),
    "Deploy": _object(
        time=_told("When it began.", TIME),
        **{"from": _or_null(_told("The commit that it started from; null for the first."))},
        to=_told("The commit that it was to bring."),
        release=_told("Name of the directory that it published, or was to publish."),
        asked=_told("Who or what asked for it, as poll, or pull by alice."),
        why=_told("The reasons of the planner."),
        files=_told("What it changed; the first 100.", _list(ref("File"))),
        files_total=_told("How many files that is.", COUNT),
        seconds=_told("By step, in their order, how long each took; the last one is where it ended.",
                      {"type": "object", "additionalProperties": {"type": "number"}}),
        result=_told("How it ended.", enum=[result.value for result in Result]),
        error=_told("Why it failed; empty where it did not."),
        tries=_told("How often it was tried, and ended in the same way.", COUNT),
        last=_or_null(_told("When the last of several tries began.", TIME)),
    ),
    "History": _object(service=TEXT, history=_list(ref("Deploy"))),
    "Decision": _object(
        does=_told("What a pass does.", enum=[verb.value for verb in Verb]),
        reasons=REASONS,
        why=_told("The same in words."),
        to=_or_null(_told("The commit that it brings the service to.")),
        note=_told("What it waits for, or what failed."),
        until=_or_null(_told("When what it waits for is over.", TIME)),
    ),
    "Explanation": _object(
        service=TEXT,
        verdict=_told("All of it in one line."),
        reasons=REASONS,
        hash=_or_null(_told("The commit; null where none is known.")),
        commit=_or_null(_told("The commit as it was written; null where it is not in the store.", _object(
            author=TEXT, time=TIME, subject=TEXT, parents=_list(TEXT)
        ))),
        standing=_or_null(_told("Where it stands to what is deployed.",
                                enum=[*(standing.value for standing in Standing), None])),
        changes=_or_null(_told("What it changes for the service, compared with its first parent.", _object(
            does=_or_null(_told("What a pass does for it.", enum=[*(verb.value for verb in Verb), None])),
            reasons=REASONS, why=TEXT, files=_list(ref("File")), files_total=COUNT,
            trouble=_told("Why it can't be deployed."),
        ))),
        next=_or_null(ref("Decision")),
        came_with=_or_null(_told("The later commit with which it was deployed.")),
        history=_list(ref("Deploy")),
        deployed=_or_null(_told("The commit that is deployed.")),
        published=_or_null(_told("The commit whose files are published, taken or not.")),
        wanted=_or_null(_told("The commit that the service should be at.")),
        now=_or_null(ref("Decision")),
        trouble=_told("Why a pass would fail at once; empty where it would not."),
        unsettled=_told("What is not in order whatever a pass does: upstream, or drift."),
    ),
    "Difference": _object(
        service=TEXT,
        kind=_told("What is compared.", enum=[kind.value for kind in Compared]),
        **{"from": _or_null(_told("A commit; null for nothing at all."))},
        to=_or_null(_told("A commit; null for the files that are there.")),
        changes=_told("What differs; the first 10,000.", _list(ref("File"))),
        changes_total=COUNT,
        patch=_told("For git apply; bytes that are no UTF-8 as lone surrogates."),
        patch_bytes=_told("How long the patch is; one of more than 16 MiB is left out.", COUNT),
        complete=_told("False where the patch lacks something.", {"type": "boolean"}),
        time=_or_null(_told("When drift that is kept was found.", TIME)),
        healed=_told("Whether drift that is kept was healed.", {"type": "boolean"}),
        kept=_told("How many patches of drift are kept.", COUNT),
    ),
    "Reloaded": _object(
        {"note": _told("What is still published though the configuration has no service for this host.")},
        services=_told("How many services this host runs now.", COUNT),
    ),
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
