"""TLS: the server's context, which follows its files, and what a client's certificate says."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

from attrs import frozen

from gitopperd.listener.der import not_after
from libgitopper import Api, GitopperError

__all__ = ["Tls", "TlsError", "TlsFiles"]

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the files are looked at. Three calls of stat; no inotify that a rename would escape."""
WARN_BEFORE = timedelta(days=14)
TELL_AGAIN = timedelta(days=1)

# For TLS 1.2; 1.3 has only good ones. Forward secrecy, and authenticated encryption.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

Stamp = tuple[int, int, int, int]


class TlsError(GitopperError):
    """Certificate, key or CA can't be used; the text names the file and what to do."""


@frozen(kw_only=True)
class TlsFiles:
    """Where the server's TLS comes from; all PEM."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, api: Api) -> TlsFiles | None:
        """Return the files that ``[api]`` names; None where it names none."""
        if api.certificate is None or api.key is None:
            return None
        return cls(certificate=api.certificate, key=api.key, client_ca=api.client_ca)

    @property
    def all(self) -> tuple[Path, ...]:
        """Return each of them."""
        return tuple(path for path in (self.certificate, self.key, self.client_ca) if path)


@frozen(kw_only=True)
class Loaded:
    """What one state of the files gave."""

    files: TlsFiles
    context: ssl.SSLContext
    expires: datetime


class Tls:
    """The TLS of one listener, always that of the files as they are now.

    A connection takes the context of the moment at which it comes. So going over to another certificate
    is one assignment of a context that is complete, and connections that are open keep what they have.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._wanted = files
        """What the config names: other files than are in use, while they can't be used yet."""
        self._now = now
        self._look_seconds = look_seconds
        self._loaded: Loaded | None = None
        self._stamps: tuple[Stamp | None, ...] = ()
        """Of the files as they are in use."""
        self._doubtful: dict[TlsFiles, tuple[Stamp | None, ...]] = {}
        self._refused: dict[TlsFiles, tuple[Stamp | None, ...]] = {}
        self._told_next = now()
        # Files that are bad are no reason to end: this host's services need the daemon more than its API.
        self.go_over(files)

    @property
    def context(self) -> ssl.SSLContext | None:
        """The context for a new connection; None as long as the files could not be used."""
        return self._loaded.context if self._loaded else None

    @property
    def expires(self) -> datetime | None:
        """When the server's certificate expires."""
        return self._loaded.expires if self._loaded else None

    def use(self, files: TlsFiles) -> None:
        """Go over to `files`, which may be others than before.

        Raises:
            TlsError: they can't be used; nothing has changed then.
        """
        # Stamps first: what changes while it is read is read again at the next look.
        stamps = _stamps(files)
        self._loaded = load(files)
        self._stamps = stamps
        self._told_next = self._now()
        self._tell_expiry()

    def go_over(self, files: TlsFiles) -> None:
        """Use `files` if they can be used; if not, tell what is wrong with them, and wait for them."""
        self._wanted, stamps = files, _stamps(files)
        try:
            self.use(files)
        except TlsError as exc:
            self._refused[files] = stamps
            log.error("%s; %s", exc, self._what_stays)  # noqa: TRY400 - the text says it all

    async def watch(self) -> None:
        """Look at the files until cancelled."""
        while True:
            await asyncio.sleep(self._look_seconds)
            self.look()

    def look(self) -> None:
        """Take the files as they are now, if they have changed; a bad pair is told once, and not used."""
        self._tell_expiry()
        # Until what the config names can be used, what is in use goes on being renewed.
        in_use = (self._loaded.files,) if self._loaded else ()
        for files in dict.fromkeys((self._wanted, *in_use)):
            if self._take(files):
                return

    def _take(self, files: TlsFiles) -> bool:
        """Use `files` where they have changed, and can be used; return whether they are in use since."""
        stamps = _stamps(files)
        if stamps in (self._stamps, self._refused.get(files)):
            return False
        try:
            self.use(files)
        except TlsError as exc:
            self._doubt(files, stamps, exc)
            return False
        log.info("%s: another certificate is in use, until %s", files.certificate, self.expires)
        return True

    def _doubt(self, files: TlsFiles, stamps: tuple[Stamp | None, ...], exc: TlsError) -> None:
        # Certificate and key are seldom written in one instant: only what stays wrong is worth a line.
        if stamps == self._doubtful.get(files):
            self._refused[files] = stamps
            log.error("%s; %s", exc, self._what_stays)
        self._doubtful[files] = stamps

    @property
    def _what_stays(self) -> str:
        return (
            "until then, the certificate of before stays in use"
            if self._loaded
            else "until then, nobody is answered"
        )

    def _tell_expiry(self) -> None:
        now = self._now()
        if self._loaded is None or now < self._told_next:
            return
        self._told_next = now + TELL_AGAIN
        left = self._loaded.expires - now
        if left <= timedelta(0):
            log.error("%s expired at %s: clients refuse it", self._loaded.files.certificate, self.expires)
        elif left < WARN_BEFORE:
            log.warning("%s expires at %s: renew it", self._loaded.files.certificate, self.expires)


def load(files: TlsFiles) -> Loaded:
    """Make a context of `files`.

    Raises:
        TlsError: a file can't be read, or is not what it should be.
    """
    # Read by ourselves first: OpenSSL's error would not say which of the files it is about.
    certificate, *_ = (_read(path) for path in files.all)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # Each renegotiation costs us far more than the client that asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, password=lambda: _no_passphrase(files.key))
    except (ssl.SSLError, OSError) as exc:
        raise TlsError(_why(exc, files)) from exc
    if files.client_ca is not None:
        _ask_clients(context, files.client_ca)
    return Loaded(files=files, context=context, expires=_expiry(certificate, files.certificate))


def _ask_clients(context: ssl.SSLContext, authorities: Path) -> None:
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, OSError) as exc:
        raise TlsError(
            f"{authorities}: holds no CA certificate ({exc}); write one or more in PEM there"
        ) from exc
    # Who shows none may still have a token; who shows one that is not good is not let in.
    context.verify_mode = ssl.CERT_OPTIONAL
    # TLS 1.3: a resumed session would not have its certificate verified again.
    context.num_tickets = 0


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace")
    except OSError as exc:
        raise TlsError(
            f"{path}: {exc.strerror or exc}; see certificate, key and client_ca in [api]"
        ) from exc


def _expiry(text: str, path: Path) -> datetime:
    found = _CERTIFICATE.search(text)
    try:
        return not_after(ssl.PEM_cert_to_DER_cert(found.group() if found else ""))
    except ValueError as exc:
        raise TlsError(f"{path}: {exc}; write the server's certificate first, then its chain") from exc


def _why(exc: OSError, files: TlsFiles) -> str:
    reason = getattr(exc, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return f"{files.key} is not the key of {files.certificate}; write the pair that belongs together"
    told = reason.lower().replace("_", " ") or exc.strerror or str(exc)
    return f"{files.certificate} and {files.key} are no certificate and key in PEM: {told}; write them anew"


def _no_passphrase(key: Path) -> NoReturn:
    # Without this, OpenSSL would ask on the terminal.
    raise TlsError(f"{key} is encrypted, and nobody is here to type; write it without a passphrase")


def _stamps(files: TlsFiles) -> tuple[Stamp | None, ...]:
    return tuple(_stamp(path) for path in files.all)


def _stamp(path: Path) -> Stamp | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    # The inode changes with a rename; the ctime even where a copy kept the old one's mtime.
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
