"""One GET, and one deadline for all of it: however slowly a server drips, it ends in time."""

from __future__ import annotations

import http.client
import ssl
import urllib.parse
from contextlib import closing

from attrs import frozen

from gitopper_plugins._channel import Channel, Deadline, dial, reason

__all__ = ["look"]

BODY_BYTES = 400
BODY_SECONDS = 0.5
PLAIN = ("text/plain", "application/json", "application/problem+json")
"""Types of bodies that a person can read in a line of text."""


@frozen(kw_only=True)
class _Url:
    """What a probe asks for."""

    tls: bool
    host: str
    port: int
    authority: str
    """Host and port as they are written: what the server is told."""
    target: str
    """Path and query."""

    @classmethod
    def parse(cls, text: str) -> _Url:
        """Read a URL.

        Raises:
            ValueError: it is none that can be probed; the text says what to write.
        """
        parts = urllib.parse.urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError('it is not an http address; write "http://127.0.0.1:9090/-/ready"')
        if "@" in parts.netloc:
            raise ValueError("it has a user in it; a probe sends no credentials, so leave them out")
        tls = parts.scheme == "https"
        return cls(
            tls=tls,
            host=parts.hostname,
            port=parts.port or (443 if tls else 80),
            authority=parts.netloc,
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        )

    @property
    def shown(self) -> str:
        """The URL, without its query: that may hold a secret."""
        path, query, _ = self.target.partition("?")
        return f"http{'s' if self.tls else ''}://{self.authority}{path}{'?…' if query else ''}"


def look(text: str, seconds: float) -> str:
    """Ask the server of a URL; return what is wrong, or nothing where it answers 2xx or 3xx.

    It is asked directly, and not followed elsewhere; a certificate must be good to the system's CAs.
    """
    try:
        url = _Url.parse(text)
    except ValueError as exc:
        return f"http: {exc}"
    try:
        return f"{url.shown} {answer}" if (answer := _get(url, Deadline.after(seconds))) else ""
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return f"{url.shown}: {_why(exc, seconds)}"


def _why(error: Exception, seconds: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"no TLS with it: {error.reason.lower().replace('_', ' ')}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "hung up without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"does not answer in HTTP ({type(error).__name__})"
    return reason(error, seconds)


def _get(url: _Url, deadline: Deadline) -> str:
    with closing(Channel(dial(url.host, url.port, deadline), deadline)) as channel:
        if url.tls:
            channel.sock.settimeout(deadline.remaining())
            context = ssl.create_default_context()
            channel.sock = context.wrap_socket(channel.sock, server_hostname=url.host)
        client = http.client.HTTPConnection(url.host, url.port)
        client.sock = channel
        client.auto_open = 0  # it must not connect by itself: that would know no deadline
        headers = {"Host": url.authority, "User-Agent": "gitopper", "Accept": "*/*", "Connection": "close"}
        client.request("GET", url.target, headers=headers)
        with client.getresponse() as response:
            if 200 <= response.status < 400:
                return ""
            words = _words(response, channel)
            return f"answers {response.status}{': ' if words else ''}{words}"


def _words(response: http.client.HTTPResponse, channel: Channel) -> str:
    """Return what the body says, as far as it came already."""
    if response.headers.get_content_type() not in PLAIN:
        return ""
    channel.deadline = Deadline(min(channel.deadline.at, Deadline.after(BODY_SECONDS).at))
    try:
        return response.read1(BODY_BYTES).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException, ValueError):
        return ""
