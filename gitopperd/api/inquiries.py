"""What the routes that look into a service have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from aiohttp import web

from gitopperd.api.errors import BadRequest
from gitopperd.work.inquiries import Inquiries
from libgitopper import Decision, Deploy, FileChange, Plan, Reason

__all__ = [
    "INQUIRIES",
    "code_of",
    "commit_of",
    "decision_member",
    "deploy_member",
    "file_members",
    "instant",
    "plan_member",
]

INQUIRIES = web.AppKey("inquiries", Inquiries)

MOST_FILES = 100
"""Of each deploy, so many files are named."""
_HASH = re.compile(r"[0-9A-Fa-f]{4,64}")


def commit_of(query: Mapping[str, str], name: str) -> str | None:
    """Return the hash, or the first digits of one, that a parameter has; None where it is not given.

    Raises:
        BadRequest: it is none.
    """
    text = query.get(name)
    if text is not None and not _HASH.fullmatch(text):
        raise BadRequest(f"{name}: {text[:70]!r} is not a hash; write 4 or more of its hexadecimal digits")
    return text


def instant(time: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if time else None


def code_of(reason: Reason) -> str:
    """Return a reason as programs know it, as ``frozen-empty``."""
    return reason.name.lower().replace("_", "-")


def file_members(files: Iterable[FileChange]) -> list[dict[str, str]]:
    """Return changed files as the API shows them."""
    return [{"path": file.path, "kind": file.kind.value, "detail": file.detail} for file in files]


def deploy_member(deploy: Deploy) -> dict[str, object]:
    """Return an entry of the history as the API shows it."""
    return {
        "time": instant(deploy.at),
        "from": deploy.before,
        "to": deploy.after,
        "release": deploy.release,
        "asked": deploy.asked,
        "why": deploy.why,
        "files": file_members(deploy.files[:MOST_FILES]),
        "files_total": deploy.files_total,
        "seconds": dict(deploy.seconds),
        "result": deploy.result.value,
        "error": deploy.error,
        "tries": deploy.tries,
        "last": instant(deploy.last),
    }


def plan_member(plan: Plan) -> dict[str, object]:
    """Return a plan as the API shows it."""
    return {
        "does": plan.verb.value,
        "reasons": [code_of(reason) for reason in plan.reasons],
        "why": plan.why,
        "to": plan.target.revision if plan.target else None,
        "note": plan.note,
        "until": instant(plan.until),
    }


def decision_member(decision: Decision) -> dict[str, object]:
    """Return what a pass would do as the API shows it."""
    member = plan_member(decision.waits or decision.plan)
    if (rejection := decision.rejection) is not None:
        member |= {
            "does": "wait",
            "reasons": [code_of(Reason.REJECTED)],
            "why": Reason.REJECTED.value,
            "note": f"{rejection.revision} failed its {rejection.step}: {rejection.reason}",
        }
    return member
