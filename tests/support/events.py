"""A client of ``GET /events``: reads in a thread, so that a test can wait for what it wants to see."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from tests.support.daemon import Daemon, wait_until

__all__ = ["Watching", "watching"]

Seen = dict[str, Any]


class Watching:
    """What a client has seen so far."""

    def __init__(self, response: HTTPResponse) -> None:
        self.response = response
        self.events: list[Seen] = []
        self.comments = 0
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kind = ""
        with contextlib.suppress(OSError, ValueError):  # reset, or closed by the test
            for raw in self.response:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    event = json.loads(line.removeprefix("data: "))
                    assert event["kind"] == kind
                    self.events.append(event)
        self.ended.set()

    def kinds(self, service: str | None = None) -> list[str]:
        """The kinds of the events so far; with `service`, of its events."""
        return [event["kind"] for event in self.events if service in (None, event["service"])]

    def find(self, kind: str, **details: object) -> Seen | None:
        """Return the first event of that kind with those details."""
        for event in self.events:
            if event["kind"] == kind and details.items() <= event["details"].items():
                return event
        return None

    def wait_for(self, kind: str, **details: object) -> Seen:
        """Wait until there is one."""
        wait_until(
            lambda: self.find(kind, **details) is not None,
            lambda: f"no {kind} {details} among {self.events}",
        )
        found = self.find(kind, **details)
        assert found is not None
        return found


@contextlib.contextmanager
def watching(daemon: Daemon, *, tcp: bool = False) -> Iterator[Watching]:
    """Watch while the block runs; every event from its first line on is seen."""
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    with contextlib.closing(connection):
        if not tcp:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            connection.sock.connect(str(daemon.home / "gitopperd.sock"))
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("Content-Type") == "text/event-stream"
        stream: Any = response.fp
        sock = stream.raw._sock  # for a shutdown that wakes the reader
        seen = Watching(response)
        wait_until(lambda: seen.comments > 0, "no first comment")
        try:
            yield seen
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            seen.ended.wait(10)
            response.close()
