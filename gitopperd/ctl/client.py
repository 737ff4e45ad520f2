"""One question to one daemon: HTTP over TCP, TLS, a Unix socket or ssh, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlencode

from gitopperd.ctl.connect import Connector, Line
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.places import Target
from gitopperd.ctl.text import visible

__all__ = ["HEADERS", "Request", "ask", "check_status", "overdue"]

# Far more than the busiest host has to tell, and little enough for any machine.
ANSWER_LIMIT_BYTES = 16 << 20
# The longest patch, and six characters of JSON for each byte that is no text.
PATCH_LIMIT_BYTES = 100 << 20
HEADERS = {"Accept": "application/json", "Connection": "close", "User-Agent": "gitopperctl"}
PROBLEMS_LIMIT = 1000


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(item, kind) for item in value)


# What makes an answer gitopperd's: a member, and its type.
SHAPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "machines": ("machines", _is_list_of(str)),
    "services": ("services", _is_list_of(dict)),
    "service": ("service", lambda value: isinstance(value, str)),
    "audit": ("audit", _is_list_of(dict)),
    "reloaded": ("services", lambda value: isinstance(value, int)),
    "history": ("history", _is_list_of(dict)),
    "explanation": ("verdict", lambda value: isinstance(value, str)),
    "difference": ("patch", lambda value: isinstance(value, str)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to ask."""

    method: Literal["GET", "POST"]
    segments: tuple[str, ...]
    """The path, segment by segment, not encoded."""
    query: Mapping[str, str | None] | None = None
    """Not encoded; None for what is not asked."""
    shape: Literal[
        "machines", "services", "service", "audit", "reloaded", "history", "explanation", "difference"
    ]
    """What every right answer looks like."""

    @property
    def limit_bytes(self) -> int:
        """How long an answer may be."""
        return PATCH_LIMIT_BYTES if self.shape == "difference" else ANSWER_LIMIT_BYTES

    @property
    def path(self) -> str:
        """The path, each segment percent-encoded: a service's name can't lead to another path."""
        path = "".join("/" + quote(os.fsencode(segment), safe="") for segment in self.segments)
        asked = {name: value for name, value in (self.query or {}).items() if value is not None}
        return f"{path}?{urlencode(asked)}" if asked else path


def ask(target: Target, request: Request, connector: Connector) -> Answer:
    """Ask the daemon of `target`, and return its answer.

    Raises:
        AskError: There is no good answer.
    """
    try:
        with connector.line(target.places) as line:
            line.connection.request(request.method, request.path, headers={**HEADERS, **line.headers})
            response = line.connection.getresponse()
            return _checked(response, response.read(request.limit_bytes + 1), request, line)
    except TimeoutError as exc:
        raise overdue(request, connector.timeout_seconds) from exc


def overdue(request: Request, timeout_seconds: float) -> AskError:
    """Return the error for an answer that did not come in time."""
    message = f"no answer within {timeout_seconds:g} s; is the machine up? --timeout waits longer"
    if request.method == "POST":
        message += " (it may have been carried out all the same: look with `gitopperctl list service`)"
    return AskError("timeout", message)


def check_status(
    response: http.client.HTTPResponse,
    body: bytes,
    path: str,
    line: Line,
    limit_bytes: int = ANSWER_LIMIT_BYTES,
) -> Answer | None:
    """Return the object in the body of an answer with status 2xx; None where there is none.

    Raises:
        AskError: The daemon refused, or it is no daemon.
    """
    answer = _decoded(body) if len(body) <= limit_bytes else None
    if 200 <= response.status < 300:
        return answer
    error = answer.get("error") if answer is not None else None
    if response.status >= 400 and isinstance(error, dict) and isinstance(error.get("message"), str):
        message = visible(error["message"])
        if response.status == 401 and line.remedy:
            message += f" ({line.remedy})"
        listed = error.get("problems")
        problems = (
            [visible(str(item)) for item in listed[:PROBLEMS_LIMIT]] if isinstance(listed, list) else ()
        )
        raise AskError(str(error.get("code", response.status)), message, answer, problems)
    raise not_gitopperd(response, body, path)


def not_gitopperd(response: http.client.HTTPResponse, body: bytes, path: str) -> AskError:
    """Return the error for an answer that no gitopperd gives."""
    kind = response.getheader("Content-Type") or "no content type"
    said = visible(f"HTTP {response.status} {response.reason}, {kind}, {len(body)} bytes")
    return AskError(
        "bad-answer",
        f"what answers there is not gitopperd, or not one that knows {path} ({said});"
        " is it the right port?",
    )


def _checked(response: http.client.HTTPResponse, body: bytes, request: Request, line: Line) -> Answer:
    answer = check_status(response, body, request.path, line, request.limit_bytes)
    member, is_right = SHAPES[request.shape]
    if answer is None or not is_right(answer.get(member)):
        raise not_gitopperd(response, body, request.path)
    return answer


def _decoded(body: bytes) -> Answer | None:
    """Return the object in `body`; None where there is none."""
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity; JSON has no such thing, and whoever reads our -m would choke.
    raise ValueError(f"{constant} is not JSON")
