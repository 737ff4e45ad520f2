"""Errors as the API shows them: one JSON shape, whatever went wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gitopperd.api.routes import IDENTITY, Handler
from gitopperd.plaintext import as_json
from gitopperd.work.daemon import UnknownService
from libgitopper import GitopperError, Role, UnknownRevision

__all__ = ["NOTE", "BadRequest", "answer", "error", "errors_as_json"]

log = logging.getLogger(__name__)


NOTE: web.ResponseKey[str] = web.ResponseKey("note", str)
"""On a response: what the audit shall tell of it."""


class BadRequest(GitopperError):  # noqa: N818 - it reads as what it is at the raise
    """A request that makes no sense; the text says what to send instead."""


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error as ``{"error": {"code", "message"}}``."""
    try:
        return await handler(request)
    except UnknownService as exc:
        return error(404, "unknown-service", str(_seen_by(request, exc)))
    except UnknownRevision as exc:
        return error(404, "unknown-revision", str(exc))
    except BadRequest as exc:
        return error(400, "bad-request", str(exc))
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


def _seen_by(request: web.Request, exc: UnknownService) -> UnknownService:
    """Return `exc` as the asker may see it: it names only services that they may read."""
    identity = request.get(IDENTITY)
    known = (name for name in exc.known if identity and identity.may(Role.READ, name))
    return UnknownService(exc.name, known)


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the one shape that every error has."""
    body = {"error": {"code": code, "message": message}}
    return answer(body, status=status, headers=headers, note=message)


def answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None, note: str = ""
) -> web.Response:
    """Return `body` as JSON that a person can read with curl: one line, UTF-8, with its line end.

    `note` is what the audit shall tell of it.
    """
    response = web.json_response(body, status=status, headers=headers, dumps=_dumps)
    response[NOTE] = note
    return response


def _dumps(value: Any) -> str:
    return f"{as_json(value)}\n"
