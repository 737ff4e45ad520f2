"""Which way leads to an upstream."""

from __future__ import annotations

import urllib.parse

from gitopper_plugins.dulwich.access import without_userinfo
from gitopper_plugins.dulwich.http import HttpTransport
from gitopper_plugins.dulwich.transport import CommandTransport, GitTransport, Transport, parse_ssh

__all__ = ["transport_for"]

GIT_PORT = 9418


def transport_for(upstream: str) -> Transport | None:
    """The way to `upstream`; None when its kind of address is not known here."""
    shown = without_userinfo(upstream)
    try:
        url = urllib.parse.urlsplit(upstream)
        host, port, path = url.hostname, url.port, urllib.parse.unquote(url.path)
        address = parse_ssh(upstream)
    except ValueError:  # brackets without an end, a port that is no number
        return None
    if url.scheme in ("http", "https") and host:
        return HttpTransport(upstream=shown)
    if url.scheme == "git" and host:
        return GitTransport(host=host, port=port or GIT_PORT, path=path)
    if url.scheme == "file" and url.netloc in ("", "localhost"):
        return CommandTransport(upstream=shown, path=path)
    if upstream.startswith("/"):
        return CommandTransport(upstream=shown, path=upstream)
    return CommandTransport(upstream=shown, ssh=address) if address else None
