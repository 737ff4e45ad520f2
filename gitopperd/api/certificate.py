"""What a client's certificate says: its subject as text, in which no value passes for another attribute."""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from collections.abc import Sequence
from typing import Any

from libgitopper import TlsPeer

__all__ = ["subject_text", "tls_peer"]

# The names of RFC 4514, section 3, and what OpenSSL calls them.
SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
# RFC 4514, section 2.4: a common name "x,O=Example" must not read as two attributes.
_SPECIAL = re.compile(r'[,+"\\<>;]|^[ #]| $')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

Rdn = Sequence[tuple[str, str]]


def tls_peer(connection: ssl.SSLObject | None) -> TlsPeer | None:
    """Return the client's certificate; None where the connection has none that is good now."""
    if connection is None or not (der := connection.getpeercert(binary_form=True)):
        return None
    # The standard library's stubs are too wide here: what it gives is pairs of strings.
    parsed: Any = connection.getpeercert() or {}
    if not parsed or ssl.cert_time_to_seconds(parsed["notAfter"]) < time.time():
        return None  # verified when the connection was made, which may be long ago
    names = tuple(f"{kind}:{value}" for kind, value in parsed.get("subjectAltName", ()))
    return TlsPeer(
        subject=subject_text(parsed.get("subject", ())),
        names=names,
        fingerprint=hashlib.sha256(der).hexdigest(),
    )


def subject_text(subject: Sequence[Rdn]) -> str:
    """Return a subject, as `ssl` gives it, as ``CN=web1,O=Example``, in the certificate's own order."""
    return ",".join(
        "+".join(f"{SHORT.get(key, key)}={_escaped(value)}" for key, value in rdn) for rdn in subject
    )


def _escaped(value: str) -> str:
    escaped = _SPECIAL.sub(lambda found: f"\\{found.group()}", value)
    return _UNPRINTABLE.sub(lambda found: f"\\{ord(found.group()):02X}", escaped)
