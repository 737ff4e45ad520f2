"""The events of one daemon as they happen: server-sent events, read line by line.

The format is the WHATWG's: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

from gitopperd.ctl.client import ANSWER_LIMIT_BYTES, HEADERS, check_status, not_gitopperd
from gitopperd.ctl.connect import Connector
from gitopperd.ctl.errors import Answer, AskError
from gitopperd.ctl.places import Target

__all__ = ["SILENCE_SECONDS", "events_of"]

PATH = "/events"
SILENCE_SECONDS = 60.0
"""Longer than any daemon is silent: it sends a comment now and then."""
LINE_LIMIT_BYTES = 1 << 20


def events_of(target: Target, connector: Connector) -> Iterator[Answer | None]:
    """Yield None once the daemon listens to us, and then each event.

    Raises:
        AskError: It does not, or no longer; the iterator has no other end.
        TimeoutError: It was silent for too long.
    """
    with connector.line(target.places) as line:
        headers = {**HEADERS, **line.headers, "Accept": "text/event-stream"}
        line.connection.request("GET", PATH, headers=headers)
        response = line.connection.getresponse()
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip()
        if response.status != 200 or kind != "text/event-stream":
            body = response.read(ANSWER_LIMIT_BYTES + 1)
            check_status(response, body, PATH, line)
            raise not_gitopperd(response, body, PATH)
        if line.connection.sock is not None:
            line.connection.sock.settimeout(SILENCE_SECONDS)
        yield None
        yield from _events(response)
    raise AskError("unreachable", "it ended the connection")


def _events(response: http.client.HTTPResponse) -> Iterator[Answer]:
    data: list[str] = []
    while raw := response.readline(LINE_LIMIT_BYTES):
        if not raw.endswith(b"\n"):
            break  # The stream ended, or is no stream of events.
        name, _, value = raw.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        if name == "data":
            data.append(value.removeprefix(" "))
        elif not name and not value and data:
            yield _event("\n".join(data))
            data = []


def _event(data: str) -> Answer:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise AskError("bad-answer", "what it sent is not an event of gitopperd")
    return value
