"""Connections for http and https: to the server, or through a proxy that the environment names."""

from __future__ import annotations

import http
import http.client
import os
import socket
import ssl
import urllib.parse
from collections.abc import Mapping

from attrs import define, field, frozen

from gitopper_plugins.dulwich.access import authorization, without_userinfo
from gitopper_plugins.dulwich.channel import Channel, Deadline, dial
from gitopper_plugins.dulwich.failures import UnusableError
from gitopper_plugins.dulwich.pkt import readable

__all__ = ["Connection", "Origin"]

HEADERS = {"User-Agent": "git/2 (gitopper)", "Git-Protocol": "version=2", "Accept": "*/*"}


@frozen
class Origin:
    """Where a connection goes; credentials are bound to it."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of `url`.

        Raises:
            UnusableError: it is no http URL.
        """
        try:
            parts = urllib.parse.urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in ("http", "https") or not host:
            raise UnusableError(f"{readable(without_userinfo(url))}: not an http address", retryable=False)
        return cls(scheme, host, port or (443 if scheme == "https" else 80))

    @property
    def bracketed(self) -> str:
        """The host, as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def netloc(self) -> str:
        """Host and port, without a port that goes without saying."""
        default = 443 if self.scheme == "https" else 80
        return self.bracketed if self.port == default else f"{self.bracketed}:{self.port}"


@define
class Connection:
    """One connection, through a proxy if the environment names one (``https_proxy``, ``no_proxy``)."""

    origin: Origin
    channel: Channel
    client: http.client.HTTPConnection
    prefix: str = ""
    """What stands before a path in a request: a proxy for plain http wants the whole URL."""
    extra: Mapping[str, str] = field(factory=dict, repr=False)
    used: bool = False

    @classmethod
    def to(cls, origin: Origin, deadline: Deadline) -> Connection:
        """Connect.

        Raises:
            OSError: it fails; also TimeoutError, and ssl.SSLError.
            UnusableError: the proxy refuses, or can't be reached.
        """
        proxy = _Proxy.of(origin)
        sock = proxy.dial(origin, deadline) if proxy else dial(origin.host, origin.port, deadline)
        channel = Channel(sock, deadline)
        try:
            if origin.scheme == "https":
                if proxy:
                    _tunnel(channel, origin, proxy.headers)
                _encrypt(channel, origin)
        except BaseException:
            channel.close()
            raise
        client = http.client.HTTPConnection(origin.host, origin.port)
        client.sock = channel
        client.auto_open = 0  # it must not connect by itself: that would know no deadline
        if proxy and origin.scheme == "http":
            return cls(origin, channel, client, f"http://{origin.netloc}", proxy.headers)
        return cls(origin, channel, client)

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        """Send a request, and return the answer once its headers are here."""
        self.used = True
        everything = {"Host": self.origin.netloc, **HEADERS, **self.extra, **headers}
        with self.channel.together():
            self.client.request(method, self.prefix + target, body=body, headers=everything)
        return self.client.getresponse()

    def close(self) -> None:
        """Hang up."""
        self.client.close()
        self.channel.close()


@frozen
class _Proxy:
    origin: Origin
    headers: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, origin: Origin) -> _Proxy | None:
        """The proxy for `origin`, if the environment names one."""
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return None
        import urllib.request

        url = urllib.request.getproxies_environment().get(origin.scheme)
        if not url or urllib.request.proxy_bypass(origin.netloc):
            return None
        url = url if "://" in url else f"http://{url}"
        try:
            userinfo = urllib.parse.urlsplit(url).netloc.rpartition("@")[0]
            place = Origin.of(url)
        except (UnusableError, ValueError):
            # Not shown: there may be a password in it, wherever.
            why = f"{origin.scheme}_proxy of the environment is not the address of an http proxy"
            raise UnusableError(f"{origin.netloc} can't be reached: {why}", retryable=False) from None
        auth = authorization(urllib.parse.unquote(userinfo))
        return cls(place, {"Proxy-Authorization": auth} if auth else {})

    def dial(self, origin: Origin, deadline: Deadline) -> socket.socket:
        """Connect to the proxy, on the way to `origin`."""
        try:
            return dial(self.origin.host, self.origin.port, deadline)
        except TimeoutError:
            raise
        except OSError as exc:
            where = f"its proxy {self.origin.netloc} can't be reached"
            raise UnusableError(f"{origin.netloc}: {where}: {exc.strerror or exc}") from exc


def _encrypt(channel: Channel, origin: Origin) -> None:
    channel.sock.settimeout(channel.deadline.remaining())
    channel.sock = ssl.create_default_context().wrap_socket(channel.sock, server_hostname=origin.host)


def _tunnel(channel: Channel, origin: Origin, headers: Mapping[str, str]) -> None:
    """Ask a proxy to connect us to `origin` (RFC 9110, 9.3.6)."""
    where = f"{origin.bracketed}:{origin.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", *(f"{k}: {v}" for k, v in headers.items())]
    channel.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    with http.client.HTTPResponse(channel, method="CONNECT") as response:  # type: ignore[arg-type]
        response.begin()
        if response.status != http.HTTPStatus.OK:
            raise UnusableError(
                f"the proxy does not connect to {where}: {response.status} {readable(response.reason)}"
            )
