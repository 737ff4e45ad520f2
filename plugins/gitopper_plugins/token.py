"""Bearer tokens: ``Authorization: Bearer gitopper_…``, against the hashes in a file.

    [auth.token]
    file = "/etc/gitopper/tokens.toml"

`gitopperctl token` writes that file; a change counts from the next request on.
"""

from __future__ import annotations

import hmac
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from gitopper_plugins._grants import unknown_keys
from gitopper_plugins.tokenfile import (
    PREFIX,
    Token,
    TokenFileError,
    default_file,
    hash_of,
    open_file,
    parse,
)
from libgitopper import AccessDenied, AuthRequest, Identity, hookimpl

__all__ = ["TokenAuth", "plugin"]

log = logging.getLogger(__name__)

NAME = "token"
SETTLED_NANOSECONDS = 100_000_000
"""The clock of a file system ticks in steps of some milliseconds; a file that changed a moment ago can
change again without a trace in its times, so it is read again until it is older than this."""

_Stamp = tuple[int, ...]


@frozen(kw_only=True)
class _Loaded:
    """What a file held when it had `stamp`; None where that could not be used."""

    stamp: _Stamp | None
    tokens: tuple[Token, ...]
    trouble: str = ""


class TokenAuth:
    """Knows the bearers of tokens. Safe to use from several threads."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._loaded: dict[Path, _Loaded] = {}

    @hookimpl
    def gitopper_auth(self, request: AuthRequest) -> Identity | None:
        """Recognise a token of ours; one of another make is left to other plugins."""
        if request.plugin != NAME or (token := _bearer(request.headers)) is None:
            return None
        known = self._known(Path(request.settings.get("file") or default_file()))
        found = _matching(known, hash_of(token))
        if found is None:
            raise AccessDenied("this token is not valid here")
        if found.expires is not None and found.expired(self._now()):
            when = f"{found.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            raise AccessDenied(
                f"the token has expired ({when}); make another with gitopperctl token create"
            )
        return Identity(name=f"token:{found.name}", grants=(found.grant,))

    @hookimpl
    def gitopper_auth_settings(self, plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
        """Judge ``[auth.token]``; the file itself is looked at when it is used: it may come later."""
        if plugin != NAME:
            return None
        problems = unknown_keys(settings, "file")
        file = settings.get("file", "/")
        if not isinstance(file, str) or not file.startswith("/") or "\0" in file:
            # Not shown: somebody may have written a token here.
            problems.append('file: not the absolute path of a file; write "/etc/gitopper/tokens.toml"')
        return problems

    def _known(self, path: Path) -> tuple[Token, ...]:
        with self._lock:
            loaded = self._loaded.get(path)
            if loaded is None or loaded.stamp is None or loaded.stamp != _stamp_of(path):
                loaded = self._load(path, loaded.trouble if loaded else "")
                self._loaded[path] = loaded
        if loaded.trouble:
            raise AccessDenied("tokens can't be checked now; the daemon's log says why")
        return loaded.tokens

    def _load(self, path: Path, trouble_before: str) -> _Loaded:
        """Read the file; what is wrong with it is logged once, not at every request."""
        try:
            with open_file(path) as descriptor:
                stamp = _settled(os.fstat(descriptor))
                tokens = parse(path, descriptor)
        except TokenFileError as exc:
            if str(exc) != trouble_before:
                log.error("no token is good now: %s", exc)  # noqa: TRY400 - the text tells all
            return _Loaded(stamp=None, tokens=(), trouble=str(exc))
        if trouble_before:
            log.info("%s is good again: %d tokens", path, len(tokens))
        return _Loaded(stamp=stamp, tokens=tokens)


def _bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of ours that came (RFC 6750, section 2.1); None where none did."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip(" ")
    return token if scheme.lower() == "bearer" and token.startswith(PREFIX) else None


def _matching(tokens: Sequence[Token], sha256: str) -> Token | None:
    """Return the token with that hash. All are compared, each in constant time."""
    found = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, sha256):
            found = token
    return found


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except (OSError, ValueError):
        return None


def _stamp(found: os.stat_result) -> _Stamp:
    # With the time of the last change of owner and mode: a file that others may write now is refused.
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _settled(found: os.stat_result) -> _Stamp | None:
    """Return the stamp of a file that has not changed just now; None for one that has."""
    return _stamp(found) if time.time_ns() - found.st_ctime_ns > SETTLED_NANOSECONDS else None


plugin = TokenAuth()
