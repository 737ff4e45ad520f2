"""TLS: the server's context, and what a client's certificate says."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any

from libgitopper import TlsPeer

__all__ = ["tls_peer"]


def tls_peer(connection: ssl.SSLObject | None) -> TlsPeer | None:
    """Return the client's certificate; None where the connection has none."""
    if connection is None or not (der := connection.getpeercert(binary_form=True)):
        return None
    # The standard library's stubs are too wide here: what it gives is pairs of strings.
    parsed: Any = connection.getpeercert() or {}
    subject = ",".join(f"{name}={value}" for part in parsed.get("subject", ()) for name, value in part)
    names = tuple(f"{kind}:{value}" for kind, value in parsed.get("subjectAltName", ()))
    return TlsPeer(subject=subject, names=names, fingerprint=hashlib.sha256(der).hexdigest())
