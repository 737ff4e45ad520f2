"""The plugin: who signed this request?"""

from __future__ import annotations

import base64
import binascii
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gitopper_sshsig.message import NAMESPACE, NONCE, PRINCIPAL, SIGNATURE, TIME, signed_text
from libgitopper import AccessDenied, AuthRequest, CommandError, Grant, Identity, Role, hookimpl, run

__all__ = ["SshSig", "plugin"]

NAME = "sshsig"
WINDOW_SECONDS = 60.0
VERIFY_SECONDS = 5.0


class SshSig:
    """Recognises requests by their ssh signature. Asked from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        """Return who signed the request; None when it bears no signature."""
        if request.plugin != NAME or SIGNATURE not in request.headers:
            return None
        principal = request.headers.get(PRINCIPAL, "")
        nonce, sent = request.headers.get(NONCE, ""), request.headers.get(TIME, "")
        _check_time(sent)
        text = signed_text(
            method=request.method,
            host=request.headers.get("host", ""),
            path=request.path,
            time=sent,
            nonce=nonce,
        )
        signers = request.settings["allowed_signers"]
        _verify(text, request.headers[SIGNATURE], principal, signers)
        # Only now: an unsigned request must not use up the nonce of a signed one.
        self._use(f"{principal} {nonce}")
        grants = tuple(
            Grant(role=Role.named(entry["role"]), services=tuple(entry.get("services", ("*",))))
            for entry in request.settings["signers"]
            if fnmatchcase(principal, entry["principal"])
        )
        return Identity(name=f"ssh:{principal}", grants=grants)

    @hookimpl
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        """Judge ``[auth.sshsig]`` when the configuration is read."""
        if plugin != NAME:
            return None
        problems = [
            f"{key}: unknown key; remove it"
            for key in settings
            if key not in ("allowed_signers", "signers")
        ]
        signers = settings.get("allowed_signers")
        if not isinstance(signers, str) or not Path(signers).is_file():
            wrong = "missing" if signers is None else f"{signers!r} is no file"
            problems.append(f"allowed_signers: {wrong}; name a file in the format of ssh-keygen(1)")
        entries = settings.get("signers")
        if not isinstance(entries, list) or not entries:
            problems.append(
                'signers: missing; write [{ principal = "alice@example.net", role = "operate" }]'
            )
            return problems
        return problems + [p for n, entry in enumerate(entries) for p in _entry_problems(entry, n)]

    def _use(self, nonce: str) -> None:
        now = time.time()
        with self._lock:
            self._seen = {key: at for key, at in self._seen.items() if now - at < 2 * WINDOW_SECONDS}
            if nonce in self._seen:
                raise AccessDenied("this signed request was already used; sign each one anew")
            self._seen[nonce] = now


def _check_time(sent: str) -> None:
    try:
        age = time.time() - int(sent)
    except ValueError:
        raise AccessDenied(f"the header {TIME} is no time in seconds") from None
    if abs(age) > WINDOW_SECONDS:
        raise AccessDenied("the signature is too old, or the clocks differ by more than a minute")


def _verify(text: bytes, signature: str, principal: str, signers: str) -> None:
    if not principal or principal.startswith("-"):
        raise AccessDenied(f"the header {PRINCIPAL} names nobody")
    try:
        armored = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise AccessDenied(f"the header {SIGNATURE} is not base64") from None
    with tempfile.NamedTemporaryFile() as file, tempfile.TemporaryFile() as message:
        file.write(armored)
        file.flush()
        message.write(text)
        message.seek(0)
        argv = [
            "ssh-keygen",
            "-Y",
            "verify",
            "-f",
            signers,
            "-I",
            principal,
            "-n",
            NAMESPACE,
            "-s",
            file.name,
        ]
        try:
            run(argv, timeout_seconds=VERIFY_SECONDS, stdin=message).check()
        except CommandError as exc:
            raise AccessDenied("the signature is not good") from exc


def _entry_problems(entry: object, number: int) -> list[str]:
    if not isinstance(entry, dict) or not isinstance(entry.get("principal"), str):
        return [
            f'signers[{number}]: not a table with a principal; write {{ principal = "…", role = "read" }}'
        ]
    try:
        Role.named(str(entry.get("role")))
    except ValueError as exc:
        return [f"signers[{number}].role: {exc}"]
    services = entry.get("services", ["*"])
    # A text is a sequence, too: "web*" would be w, e, b, and *, which is every service.
    if not isinstance(services, list) or not all(isinstance(glob, str) for glob in services):
        return [f'signers[{number}].services: not a list of names or globs; write ["web*", "db"]']
    return []


plugin = SshSig()
