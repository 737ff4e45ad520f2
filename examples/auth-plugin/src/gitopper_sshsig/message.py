"""What is signed, and the headers that carry it: the part that client and plugin agree on."""

from __future__ import annotations

__all__ = ["NAMESPACE", "NONCE", "PRINCIPAL", "SIGNATURE", "TIME", "signed_text"]

NAMESPACE = "gitopper-request"
"""Keeps a signature that was made for something else, as a commit, from passing here."""

PRINCIPAL = "x-gitopper-principal"
TIME = "x-gitopper-time"
NONCE = "x-gitopper-nonce"
SIGNATURE = "x-gitopper-signature"


def signed_text(*, method: str, host: str, path: str, time: str, nonce: str) -> bytes:
    """Return the bytes to sign. `host` is the Host header; `path` is raw, with its query.

    What a header has that is no UTF-8 came as lone surrogates, and is signed as the bytes that it was.
    """
    return "\n".join((method, host.lower(), path, time, nonce, "")).encode(errors="surrogateescape")
