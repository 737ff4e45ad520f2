"""Client certificates: what the TLS library verified against ``client_ca`` of ``[api]``, to a role.

    [auth.mtls]
    clients = [
      { subject = "CN=web1,O=Example", role = "read" },
      { name = "DNS:ops.example.net", role = "operate", services = ["web*"] },
      { fingerprint = "ab:cd:…", role = "admin" },
    ]

A certificate that none of them names is nobody's: the next plugin is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gitopper_plugins._grants import grant_of, grant_problems, unknown_keys
from libgitopper import AuthRequest, Identity, TlsPeer, hookimpl

__all__ = ["gitopper_auth", "gitopper_auth_settings"]

NAME = "mtls"
WHO = ("subject", "name", "fingerprint")

_SUBJECT = re.compile(r"[A-Za-z][A-Za-z0-9.]*=.+")
_NAME = re.compile(r"(DNS|email|URI|IP Address):.+")
_FINGERPRINT = re.compile(r"[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2}){31}")


@hookimpl
def gitopper_auth(request: AuthRequest) -> Identity | None:
    """Recognise a client by its certificate."""
    if request.plugin != NAME or request.tls is None:
        return None
    peer = request.tls
    clients = request.settings.get("clients", ())
    grants = tuple(grant_of(entry) for entry in clients if _is_of(peer, entry))
    return Identity(name=f"certificate {_shown(peer)}", grants=grants) if grants else None


@hookimpl
def gitopper_auth_settings(plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
    """Judge ``[auth.mtls]``."""
    if plugin != NAME:
        return None
    clients = settings.get("clients", [])
    problems = unknown_keys(settings, "clients") + grant_problems(clients, "clients", WHO)
    if isinstance(clients, list):
        for number, entry in enumerate(clients):
            problems += [f"clients[{number}].{problem}" for problem in _who_problems(entry)]
    return problems


def _is_of(peer: TlsPeer, entry: Mapping[str, str]) -> bool:
    if "fingerprint" in entry:
        return entry["fingerprint"].replace(":", "").lower() == peer.fingerprint
    if "name" in entry:
        return _folded(entry["name"]) in map(_folded, peer.names)
    return entry["subject"] == peer.subject


def _folded(name: str) -> str:
    """Return a subject alternative name as it is compared: DNS knows no case."""
    return name.lower() if name.startswith("DNS:") else name


def _shown(peer: TlsPeer) -> str:
    return peer.subject or next(iter(peer.names), "") or peer.fingerprint


def _who_problems(entry: object) -> list[str]:
    if not isinstance(entry, dict):
        return []  # told already
    shapes = (
        ("subject", _SUBJECT, 'not a subject; write "CN=web1,O=Example", as the certificate has it'),
        (
            "name",
            _NAME,
            'no alternative name; write "DNS:…", "email:…", "URI:…" or "IP Address:…"',
        ),
        (
            "fingerprint",
            _FINGERPRINT,
            "no SHA-256 fingerprint; write its 64 hex digits, with or without :",
        ),
    )
    return [
        f"{key}: {problem}"
        for key, shape, problem in shapes
        if isinstance(entry.get(key), str) and entry[key] and not shape.fullmatch(entry[key])
    ]
