"""``GET /explain/{service}``: why a commit did, or did not, touch a service."""

from __future__ import annotations

from aiohttp import web

from gitopperd.api.errors import answer
from gitopperd.api.inquiries import (
    INQUIRIES,
    MOST_FILES,
    code_of,
    commit_of,
    decision_member,
    deploy_member,
    file_members,
    instant,
    plan_member,
)
from gitopperd.api.queries import QUERY
from gitopperd.api.routes import Route
from libgitopper import Commit, Effect, Explanation, Role
from libgitopper.status import one_line

__all__ = ["ROUTES"]

MOST_DEPLOYS = 20
"""What was done with one commit; more are in the history."""


async def explain(request: web.Request) -> web.Response:
    """Why a commit did, or did not, touch a service; without a commit, the tip of its branch."""
    commit = commit_of(request[QUERY], "commit")
    return answer(_member(await request.app[INQUIRIES].explain(request.match_info["service"], commit)))


def _member(found: Explanation) -> dict[str, object]:
    return {
        "service": found.service,
        "verdict": one_line(found.verdict),
        "reasons": [code_of(reason) for reason in found.reasons],
        "hash": found.revision,
        "commit": _commit(found.commit) if found.commit else None,
        "standing": found.standing.value if found.standing else None,
        "changes": _effect(found.effect) if found.effect else None,
        "next": decision_member(found.decision) if found.decision else None,
        "came_with": found.came_with,
        "history": [deploy_member(deploy) for deploy in found.deploys[:MOST_DEPLOYS]],
        "deployed": found.deployed.revision if found.deployed else None,
        "published": found.published,
        "wanted": found.aim,
        "now": decision_member(found.now) if found.now else None,
        "trouble": found.trouble,
        "unsettled": one_line(found.unsettled),
    }


def _commit(commit: Commit) -> dict[str, object]:
    return {
        "author": commit.author,
        "time": instant(commit.at),
        "subject": commit.subject,
        "parents": list(commit.parents),
    }


def _effect(effect: Effect) -> dict[str, object]:
    plan = plan_member(effect.plan) if effect.plan else {"does": None, "reasons": [], "why": ""}
    return {
        **{name: plan[name] for name in ("does", "reasons", "why")},
        "files": file_members(effect.files[:MOST_FILES]),
        "files_total": len(effect.files),
        "trouble": effect.trouble,
    }


ROUTES = (
    Route(
        method="GET", path="/explain/{service}", handler=explain, access=Role.READ,
        summary="Why a commit did, or did not, touch a service.", query=("commit",),
    ),
)  # fmt: skip
