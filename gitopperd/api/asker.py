"""What is known of whoever sent a request, before anybody is asked who it is."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from gitopperd.api.certificate import tls_peer
from libgitopper import AuthRequest, UnixPeer

__all__ = ["comes_from_another_site", "facts", "is_local", "local_trouble", "origin_of"]

# struct ucred: pid, uid, gid (unix(7)).
_UCRED = struct.Struct("3i")
# Linux 4.13; Python has no name for it. asm-generic/socket.h.
_SO_PEERGROUPS = 59
_GROUP = struct.Struct("I")
_MOST_GROUPS = 256
"""What fits into the 1024 bytes that Python's getsockopt takes."""

_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


def facts(request: web.Request) -> AuthRequest:
    """Return what an auth plugin may know of `request`, without its name and settings."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    unix = unix_peer(request.get_extra_info("socket"))
    return AuthRequest(
        plugin="",
        settings={},
        method=request.method,
        path=request.raw_path,
        headers=headers,
        peer=None if unix else _address_of(request),
        unix=unix,
        tls=tls_peer(request.get_extra_info("ssl_object")),
    )


def unix_peer(sock: socket.socket | None) -> UnixPeer | None:
    """Return who is at the other end of a Unix socket; None for any other socket."""
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return UnixPeer(pid=pid, uid=uid, gid=gid, groups=_peer_groups(sock))


def _peer_groups(sock: socket.socket) -> frozenset[int]:
    """Return the supplementary groups that the peer had when it connected."""
    # ERANGE for a process in more groups than fit: then it is in none, as far as we know.
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GROUP.size)
        return frozenset(number for (number,) in _GROUP.iter_unpack(raw))
    return frozenset()


def origin_of(request: web.Request) -> str:
    """Return where `request` comes from, for the audit log."""
    unix = unix_peer(request.get_extra_info("socket"))
    return f"unix uid {unix.uid} pid {unix.pid}" if unix else (_address_of(request) or "unknown")


def _address_of(request: web.Request) -> str | None:
    """Return the client's IP address; an IPv4 one as such, also if an IPv6 socket took it."""
    return request.remote.removeprefix("::ffff:") if request.remote else None


def comes_from_another_site(headers: Mapping[str, str]) -> bool:
    """Tell whether a browser sent this on behalf of a page that is not ours.

    Browsers name the page's origin in every request that can change something (Fetch standard,
    "Origin"); a page of ours would have our own Host in it. Programs send none.
    """
    if "origin" not in headers:
        return False
    _, _, site = headers["origin"].partition("://")
    return not site or site.lower() != headers.get("host", "").lower()


def is_local(asked: AuthRequest) -> bool:
    """Tell whether it came over the Unix socket or loopback."""
    if asked.unix is not None:
        return True
    try:
        return asked.peer is not None and ipaddress.ip_address(asked.peer).is_loopback
    except ValueError:
        return False


def local_trouble(headers: Mapping[str, str]) -> str | None:
    """Return why a request over loopback is not to be taken for one of this host's own; None: it is.

    A proxy on this host brings strangers to loopback. So does a browser on this host, for a page
    whose name an attacker lets point here (DNS rebinding): then the Host header has that name.
    """
    if any(name in headers for name in _PROXY_HEADERS):
        return "it came through a proxy, so being on loopback says nothing of who asks"
    name = _host_name(headers.get("host", ""))
    if not name or _is_address(name) or name == "localhost" or name.endswith(".localhost"):
        return None
    ours = socket.gethostname().lower()
    if name in (ours, ours.partition(".")[0]):
        return None
    return "the Host header names a host that this one does not go by; use localhost or an IP address"


def _host_name(host: str) -> str:
    """Return the name in a Host header, in lower case and without port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
