"""One question to one daemon: HTTP over TCP or a Unix socket, with the standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from gitopperd.ctl.hosts import Endpoint, Tcp, Unix
from gitopperd.ctl.text import visible

__all__ = ["Answer", "AskError", "Request", "ask", "overdue"]

Answer = Mapping[str, Any]
# Far more than the busiest host has to tell, and little enough for any machine.
ANSWER_LIMIT_BYTES = 16 << 20
HEADERS = {"Accept": "application/json", "Connection": "close", "User-Agent": "gitopperctl"}


class AskError(Exception):
    """A daemon could not be asked, or refused; the text says what to do, not which host it was.

    `code` is the daemon's (``not-found``), or one of ``unreachable``, ``timeout``, ``bad-answer``.
    """

    def __init__(self, code: str, message: str, answer: Answer | None = None) -> None:
        super().__init__(message)
        self.code = code
        self._answer = answer

    def as_answer(self) -> Answer:
        """Return what the daemon answered, or the like of it where it did not."""
        return self._answer or {"error": {"code": self.code, "message": str(self)}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to ask."""

    method: Literal["GET", "POST"]
    segments: tuple[str, ...]
    """The path, segment by segment, not encoded."""
    member: Literal["machines", "services", "service"]
    """The member that every right answer has."""

    @property
    def path(self) -> str:
        """The path, each segment percent-encoded: a service's name can't lead to another path."""
        return "".join("/" + quote(os.fsencode(segment), safe="") for segment in self.segments)


def ask(endpoints: Sequence[Endpoint], request: Request, *, timeout_seconds: float) -> Answer:
    """Ask the first of `endpoints` that takes a connection, and return its answer.

    Once a connection stands, the next endpoint is not tried, whatever happens: a POST that failed
    half-way may have been carried out. The timeout holds for each wait, not for all of them.

    Raises:
        AskError: There is no good answer.
    """
    try:
        with contextlib.closing(_connect(endpoints, timeout_seconds)) as connection:
            connection.request(request.method, request.path, headers=HEADERS)
            response = connection.getresponse()
            return _checked(response, response.read(ANSWER_LIMIT_BYTES + 1), request)
    except TimeoutError as exc:
        raise overdue(request, timeout_seconds) from exc
    except (OSError, http.client.HTTPException, ValueError) as exc:
        reason = visible(str(exc)) or type(exc).__name__
        raise AskError("bad-answer", f"what listens there does not speak HTTP properly: {reason}") from exc


def overdue(request: Request, timeout_seconds: float) -> AskError:
    """Return the error for an answer that did not come in time."""
    message = f"no answer within {timeout_seconds:g} s; is the machine up? --timeout waits longer"
    if request.method == "POST":
        message += " (it may have been carried out all the same: look with `gitopperctl list service`)"
    return AskError("timeout", message)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _connect(endpoints: Sequence[Endpoint], timeout_seconds: float) -> http.client.HTTPConnection:
    failures: list[tuple[Endpoint, OSError]] = []
    for endpoint in endpoints:
        connection = _connection(endpoint, timeout_seconds)
        try:
            connection.connect()
        except TimeoutError:
            # The time is up for the other places too.
            raise
        except OSError as exc:
            failures.append((endpoint, exc))
        else:
            return connection
    raise _unreachable(failures) from failures[-1][1]


def _connection(endpoint: Endpoint, timeout_seconds: float) -> http.client.HTTPConnection:
    match endpoint:
        case Unix(path=path):
            return _UnixConnection(path, timeout_seconds)
        case Tcp(name=name, port=port):
            return http.client.HTTPConnection(name, port, timeout=timeout_seconds)


def _unreachable(failures: Sequence[tuple[Endpoint, OSError]]) -> AskError:
    tried = "; ".join(f"{endpoint}: {exc.strerror or exc}" for endpoint, exc in failures)
    if any(isinstance(exc, PermissionError) for _, exc in failures):
        remedy = "this user may not use that socket: try sudo, or ask whoever runs the machine"
    elif isinstance(failures[-1][1], socket.gaierror):
        remedy = "is the name right?"
    else:
        remedy = "is gitopperd running there?"
    return AskError("unreachable", visible(f"can't connect ({tried}); {remedy}"))


def _checked(response: http.client.HTTPResponse, body: bytes, request: Request) -> Answer:
    answer = _decoded(body)
    if answer is not None and response.status >= 400:
        error = answer.get("error")
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            raise AskError(str(error.get("code", response.status)), visible(error["message"]), answer)
    if answer is not None and 200 <= response.status < 300 and _has(answer, request.member):
        return answer
    kind = response.getheader("Content-Type") or "no content type"
    said = visible(f"HTTP {response.status} {response.reason}, {kind}, {len(body)} bytes")
    raise AskError(
        "bad-answer",
        f"what answers there is not gitopperd, or not one that knows {request.path} ({said}); "
        "is it the right port?",
    )


def _decoded(body: bytes) -> Answer | None:
    """Return the object in `body`; None where there is none."""
    if len(body) > ANSWER_LIMIT_BYTES:
        return None
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity; JSON has no such thing, and whoever reads our -m would choke.
    raise ValueError(f"{constant} is not JSON")


def _has(answer: Answer, member: str) -> bool:
    value = answer.get(member)
    match member:
        case "machines":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "services":
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
        case _:
            return isinstance(value, str)
