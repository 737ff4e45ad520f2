"""``GET /diff/{service}``: deployed against upstream, against the files that are there, or two revisions.

A role more than to read is asked for: it shows what stands in files, and some have secrets in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gitopperd.api.errors import BadRequest, answer
from gitopperd.api.inquiries import INQUIRIES, commit_of, file_members, instant
from gitopperd.api.queries import QUERY, whole_number
from gitopperd.api.routes import Route
from libgitopper import Compared, Difference, Role

__all__ = ["KINDS", "MOST_PATCH_BYTES", "ROUTES"]

KINDS = {kind.value: kind for kind in Compared if kind is not Compared.REVISIONS}
MOST_KEPT = 1000
MOST_FILES = 10_000
MOST_PATCH_BYTES = 16 * 1024 * 1024
"""What is kept of drift is not longer. A longer patch is left out; what it changes is told all the same."""


async def diff(request: web.Request) -> web.Response:
    """What differs, as a patch; drift where there is any, else what would come, if nothing is asked for."""
    name, inquiries = request.match_info["service"], request.app[INQUIRIES]
    query = request[QUERY]
    before, after = commit_of(query, "from"), commit_of(query, "to")
    kind, number = _kind(query), whole_number(query, "number", 1, MOST_KEPT)
    if before is None and after is None:
        return answer(_member(await inquiries.compare(name, kind, number)))
    if kind is not None:
        raise BadRequest("from and to go without a kind")
    return answer(_member(await inquiries.revisions(name, before, after)))


def _kind(query: Mapping[str, str]) -> Compared | None:
    text = query.get("kind")
    if text is not None and text not in KINDS:
        raise BadRequest(f"kind: {text[:40]!r} is none of {', '.join(KINDS)}")
    if "number" in query and text != Compared.KEPT_DRIFT.value:
        raise BadRequest(f"number goes with kind={Compared.KEPT_DRIFT.value}")
    return KINDS[text] if text is not None else None


def _member(found: Difference) -> dict[str, object]:
    fits = len(found.patch) <= MOST_PATCH_BYTES
    return {
        "service": found.service,
        "kind": found.kind.value,
        "from": found.before,
        "to": found.after,
        "changes": file_members(found.changes[:MOST_FILES]),
        "changes_total": len(found.changes),
        # Bytes that are no UTF-8 become lone surrogates, which JSON can hold, and which lead back to them.
        "patch": found.patch.decode(errors="surrogateescape") if fits else "",
        "patch_bytes": len(found.patch),
        "complete": found.complete and fits,
        "time": instant(found.at),
        "healed": found.healed,
        "kept": found.kept,
    }


ROUTES = (
    Route(
        method="GET", path="/diff/{service}", handler=diff, access=Role.OPERATE,
        summary="What differs, as a patch: drift, what would come, or two revisions.",
        query=("kind", "number", "from", "to"),
    ),
)  # fmt: skip
