"""Git over smart http: one connection kept alive, and what the server can do asked for once.

An idle poll is one POST. Redirects are followed for the first request of a session only, as git
does, and credentials go to no other origin than the one that they were given for.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

from attrs import define, field, frozen

from gitopper_plugins.dulwich.access import Access, without_userinfo
from gitopper_plugins.dulwich.channel import Deadline
from gitopper_plugins.dulwich.connection import Connection, Origin
from gitopper_plugins.dulwich.failures import DeniedError, GarbledError, UnusableError
from gitopper_plugins.dulwich.pkt import readable
from gitopper_plugins.dulwich.protocol import Advertisement, Session, read_advertisement

__all__ = ["HttpTransport"]

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_DRAIN_BYTES = 64 * 1024


@frozen(kw_only=True)
class _Known:
    """What the last session learned: where the repository really is, and what its server can do."""

    base: str
    advertisement: Advertisement


@define(kw_only=True, eq=False)
class HttpTransport:
    """``http://`` and ``https://``."""

    upstream: str
    """Without credentials."""
    _known: _Known | None = None
    _idle: Connection | None = None
    _lock: threading.Lock = field(factory=threading.Lock)

    @contextlib.contextmanager
    def session(self, access: Access, deadline: Deadline) -> Iterator[Session]:
        """See `Transport`. The connection is kept for the next session when this one ends well."""
        talk = _Talk(upstream=self.upstream, authorization=access.authorization, deadline=deadline)
        talk.connection = self._take()
        try:
            session = _HttpSession(talk, self._known or self._learn(talk))
            yield session
        except BaseException:
            # Whatever went wrong, the next session begins afresh.
            self._known = None
            talk.drop()
            raise
        if session.advertisement.version != 2:
            self._known = None  # version 0 shows the refs only in its greeting
        self._give(talk.connection)

    def close(self) -> None:
        """Drop the connection that is kept."""
        if connection := self._take():
            connection.close()

    def _take(self) -> Connection | None:
        with self._lock:
            connection, self._idle = self._idle, None
        return connection

    def _give(self, connection: Connection | None) -> None:
        with self._lock:
            connection, self._idle = self._idle, connection
        if connection:
            connection.close()

    def _learn(self, talk: _Talk) -> _Known:
        base = self.upstream.rstrip("/")
        for _ in range(_MAX_REDIRECTS + 1):
            url = f"{base}/info/refs?service=git-upload-pack"
            with talk.exchange("GET", url) as response:
                if response.status in _REDIRECTS:
                    base = self._redirected(url, response.headers.get("Location", ""))
                    continue
                _check(self.upstream, response)
                kind = response.headers.get("Content-Type", "")
                if not _is_of_kind(response, "advertisement"):
                    raise UnusableError(
                        f"{self.upstream}: this is no git repository over smart http"
                        f" (it answers with {readable(kind) or 'nothing of a known type'}); check the URL"
                    )
                self._known = _Known(base=base, advertisement=read_advertisement(_stream(response)))
                return self._known
        raise UnusableError(f"{self.upstream}: redirected more than {_MAX_REDIRECTS} times")

    def _redirected(self, url: str, location: str) -> str:
        target = urllib.parse.urljoin(url, location)
        base, found, _ = target.partition("/info/refs")
        if not found or (url.startswith("https:") and not target.startswith("https:")):
            raise UnusableError(
                f"{self.upstream}: redirected to {readable(without_userinfo(target))}; refused"
            )
        return without_userinfo(base)


def _is_of_kind(response: http.client.HTTPResponse, kind: str) -> bool:
    said: str = response.headers.get("Content-Type", "")
    return said.split(";")[0].strip() == f"application/x-git-upload-pack-{kind}"


def _check(upstream: str, response: http.client.HTTPResponse) -> None:
    """Raise what stands for the status of `response`, unless that is 200."""
    said = f"{upstream}: the server says {response.status} {readable(response.reason)}"
    match response.status:
        case 200:
            return
        case 401 | 403:
            raise DeniedError(f"{said}; check the credentials, and that they may read this repository")
        case 404:
            raise UnusableError(
                f"{said}; check the URL (some servers say this when credentials are missing)"
            )
        case status if status in _REDIRECTS:
            raise UnusableError(f"{said} in the middle; set `upstream` to the new address")
    raise UnusableError(said)


@define(kw_only=True)
class _Talk:
    """The requests of one session, with its credentials and its deadline."""

    upstream: str
    authorization: str | None = field(repr=False)
    deadline: Deadline
    connection: Connection | None = None

    @contextlib.contextmanager
    def exchange(
        self, method: str, url: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        origin = Origin.of(url)
        target = url.partition("://")[2]
        target = target[target.index("/") :]
        headers = {}
        if self.authorization and origin == Origin.of(self.upstream):
            headers["Authorization"] = self.authorization
        if body is not None:
            headers["Content-Type"] = "application/x-git-upload-pack-request"
        response = self._send(origin, method, target, headers, body)
        with response:
            yield response
            # Read to the end, or the connection can't be used again.
            if not response.isclosed() and len(response.read(_DRAIN_BYTES)) == _DRAIN_BYTES:
                self.drop()
        if response.will_close:
            self.drop()

    def _send(
        self, origin: Origin, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        connection = self._connected(origin)
        kept = connection.used
        try:
            return connection.request(method, target, headers, body)
        except TimeoutError:
            raise
        except (http.client.RemoteDisconnected, ConnectionError):
            # A server may hang up on an idle connection at any time; that says nothing about now.
            if not kept:
                raise
        self.drop()
        return self._connected(origin).request(method, target, headers, body)

    def _connected(self, origin: Origin) -> Connection:
        connection = self.connection
        if connection and (connection.origin != origin or not connection.channel.idle()):
            self.drop()
            connection = None
        if connection is None:
            connection = self.connection = Connection.to(origin, self.deadline)
        connection.channel.deadline = self.deadline
        return connection

    def drop(self) -> None:
        if self.connection:
            self.connection.close()
            self.connection = None


@frozen
class _HttpSession:
    _talk: _Talk
    _known: _Known

    @property
    def advertisement(self) -> Advertisement:
        return self._known.advertisement

    @contextlib.contextmanager
    def ask(self, request: bytes) -> Iterator[BinaryIO]:
        url = f"{self._known.base}/git-upload-pack"
        with self._talk.exchange("POST", url, request) as response:
            _check(self._talk.upstream, response)
            if not _is_of_kind(response, "result"):
                raise GarbledError("what it sends is no answer to what it was asked")
            yield _stream(response)


def _stream(response: http.client.HTTPResponse) -> BinaryIO:
    return cast(BinaryIO, response)
