"""TLS: what is trusted, what is shown, and what to do when the other side and we do not agree."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any

from gitopperd.ctl.errors import AskError
from gitopperd.ctl.places import Port, Tls
from gitopperd.ctl.private import check_private
from gitopperd.ctl.text import visible

__all__ = ["explain", "make_context", "secured", "speaks_tls"]

PROBE_SECONDS = 1.0
# X509_V_… of OpenSSL's x509_vfy.h; the standard library names none of them.
EXPIRED, NOT_YET_VALID = 10, 9
WRONG_NAME = {62, 64}
UNTRUSTED = {2, 18, 19, 20, 21}
NO_CHECK_TIME = 0x200000
# Words in the alerts of a server that wants another certificate of the client, or any at all.
ABOUT_CLIENT = ("CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE", "PEER_DID_NOT_RETURN_A_CERTIFICATE")
REFUSED_CLIENT = (
    "UNKNOWN_CA", "ALERT_BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE", "DECRYPT_ERROR", "ACCESS_DENIED",
)  # fmt: skip


def make_context(tls: Tls) -> ssl.SSLContext:
    """Return the context for a connection: TLS 1.2 or newer, certificate and name checked.

    Raises:
        AskError: One of our own files can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as exc:
        # Of a file without a certificate OpenSSL says no more than "no certificate or crl found".
        why = visible(str(exc.strerror or exc)) if isinstance(exc, OSError) else "not PEM"
        raise AskError("credentials", f"can't use the CA in {tls.ca}: {why}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        _show_certificate(context, tls.certificate, tls.key)
    return context


def secured(sock: socket.socket, port: Port, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Return `sock` after the handshake."""
    # A name may end with the dot of the root; no certificate does.
    return context.wrap_socket(sock, server_hostname=port.known_as.removesuffix("."))


def explain(exc: ssl.SSLError, port: Port) -> AskError:
    """Return what went wrong with `port`, and the remedy."""
    tls = port.tls or Tls()
    reason = exc.reason or ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        message = _why_unverified(exc, port, tls)
    elif reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        message = (
            "what listens there speaks no TLS, perhaps plain http: give the daemon a certificate,"
            " or (without a token) ask @http://…; is it the right port?"
        )
    elif tls.certificate is None and any(word in reason for word in ABOUT_CLIENT):
        message = "it wants a certificate of ours: --cert FILE, or certificate in ctl.toml"
    elif any(word in reason for word in (*ABOUT_CLIENT, *REFUSED_CLIENT)):
        message = (
            f"it refuses our certificate, {tls.certificate} ({_words(reason)});"
            " is it of the CA that the daemon knows (client_ca), and still valid?"
        )
    elif isinstance(exc, ssl.SSLEOFError):
        message = "it hung up in the middle of the TLS handshake; is it the right port?"
    else:
        message = f"TLS failed ({_words(reason) or visible(str(exc))})"
    return AskError("tls", message)


def speaks_tls(port: Port) -> bool:
    """Tell whether what listens there would rather speak TLS than what we said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is said on this connection, so whoever it is learns nothing.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError):
        _peer_certificate(port, context)
        return True
    return False


def _show_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    check_private(key or certificate)

    def no_password() -> str:
        # Without this, OpenSSL would ask on the terminal, once for each host.
        raise AskError(
            "credentials",
            f"the key in {key or certificate} has a password; `openssl pkey -in … -out …` removes it",
        )

    try:
        context.load_cert_chain(certificate, key, no_password)
    except OSError as exc:
        both = f"{certificate} with the key in {key}" if key else f"{certificate}, with its key in it"
        why = _words(exc.reason or "") if isinstance(exc, ssl.SSLError) else exc.strerror
        raise AskError("credentials", f"can't use our certificate {both}: {why}; both are PEM") from exc


def _why_unverified(exc: ssl.SSLCertVerificationError, port: Port, tls: Tls) -> str:
    code = exc.verify_code
    if code in WRONG_NAME:
        names = _names(_facts(port, tls))
        return (
            f"its certificate is not for {port.known_as}, but for {names};"
            " ask for the host by such a name, or give it a certificate with this one"
        )
    if code in {EXPIRED, NOT_YET_VALID}:
        return (
            f"its certificate {_when(code, _facts(port, tls))} (here it is now {_now()});"
            " renew it on that host, or set the clock"
        )
    trusted = f"the CA in {tls.ca}" if tls.ca else "a CA that this system trusts"
    if code in UNTRUSTED:
        return (
            f"its certificate is not signed by {trusted}: give the certificate of the CA that signed it"
            " (or, if it signed itself, that certificate) with --ca FILE, or ca in ctl.toml"
        )
    return f"its certificate is not accepted: {visible(exc.verify_message)}"


def _facts(port: Port, tls: Tls) -> Mapping[str, Any]:
    """Return what the certificate says, where all of it but its name and its dates is in order.

    For the error's text alone: nothing is sent on this connection. Empty where it can't be had.
    """
    # A context of its own: what is let pass here must not pass anywhere else.
    context = make_context(Tls(ca=tls.ca))
    context.check_hostname = False
    context.verify_flags |= NO_CHECK_TIME
    with contextlib.suppress(OSError):
        return _peer_certificate(port, context)
    return {}


def _peer_certificate(port: Port, context: ssl.SSLContext) -> Mapping[str, Any]:
    with (
        socket.create_connection((port.name, port.port), PROBE_SECONDS) as sock,
        secured(sock, port, context) as connection,
    ):
        return connection.getpeercert() or {}


def _names(facts: Mapping[str, Any]) -> str:
    names = [str(value) for kind, value in facts.get("subjectAltName", ()) if kind in {"DNS", "IP Address"}]
    return visible(", ".join(names)) or "no name at all (it needs subject alternative names)"


def _when(code: int, facts: Mapping[str, Any]) -> str:
    key, words = ("notAfter", "expired") if code == EXPIRED else ("notBefore", "is not valid yet")
    if key not in facts:
        return words
    return f"{words}: {'valid until' if code == EXPIRED else 'valid from'} {visible(str(facts[key]))}"


def _now() -> str:
    return time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime())


def _words(reason: str) -> str:
    """Return OpenSSL's SSLV3_ALERT_BAD_CERTIFICATE as words."""
    return visible(reason.lower().replace("_", " "))
