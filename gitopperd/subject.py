"""The subject of a certificate as text, so that no value in it can pass for another attribute."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["subject_text"]

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


def subject_text(subject: Sequence[Rdn]) -> str:
    """Return a subject, as `ssl` gives it, as ``CN=web1,O=Example``, in the certificate's own order."""
    return ",".join(
        "+".join(f"{SHORT.get(key, key)}={_escaped(value)}" for key, value in rdn) for rdn in subject
    )


def _escaped(value: str) -> str:
    escaped = _SPECIAL.sub(lambda found: f"\\{found.group()}", value)
    return _UNPRINTABLE.sub(lambda found: f"\\{ord(found.group()):02X}", escaped)
