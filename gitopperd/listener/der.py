"""As much of X.509 as the standard library keeps to itself: when a certificate in a file expires."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["not_after"]

_VERSION = 0xA0
_UTC_TIME = 0x17
_GENERALIZED_TIME = 0x18


def not_after(der: bytes) -> datetime:
    """Return when the certificate `der` expires.

    Source: RFC 5280, section 4.1: a Certificate is a sequence whose first element is
    ``{[0] version, serial, signature, issuer, {notBefore, notAfter}, …}``.

    Raises:
        ValueError: it is no certificate.
    """
    try:
        (_, certificate), *_ = _elements(der)
        (_, signed), *_ = _elements(certificate)
        fields = [content for tag, content in _elements(signed) if tag != _VERSION]
        return _time(*_elements(fields[3])[1])
    except (IndexError, ValueError) as exc:
        raise ValueError("no certificate in it can be read") from exc


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Return tag and content of each element (X.690; DER has definite lengths only)."""
    found, at = [], 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year, from 1950 on
        text = ("19" if text >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
