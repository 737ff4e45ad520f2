"""Credentials: read at each use, shown never."""

from __future__ import annotations

import base64
import re
import urllib.parse

from libgitopper import AuthError, Credentials

__all__ = ["TOKEN_USER", "basic", "without_userinfo"]

TOKEN_USER = "x-access-token"  # noqa: S105 - a user name
"""The user name that goes with a token that stands alone: GitHub wants it, others take any."""


def basic(credentials: Credentials) -> str | None:
    """The value of an http ``Authorization`` header; None when there is nothing to say.

    Raises:
        AuthError: the file can't be read, or is empty.
    """
    pair = _from_file(credentials) or _from_userinfo(credentials)
    return f"Basic {base64.b64encode(pair.encode()).decode()}" if pair else None


def _from_file(credentials: Credentials) -> str | None:
    if credentials.file is None:
        return None
    try:
        with credentials.file.open(encoding="utf-8") as file:
            line = file.readline().strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise AuthError(
            f"credentials file {credentials.file} can't be read: {why}; check its path, owner and mode"
        ) from exc
    if not line:
        raise AuthError(f"credentials file {credentials.file} is empty: write user:password, or a token")
    return line if ":" in line else f"{TOKEN_USER}:{line}"


def _from_userinfo(credentials: Credentials) -> str | None:
    if not credentials.userinfo:
        return None
    user, _, password = credentials.userinfo.partition(":")
    return f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"


def without_userinfo(url: str) -> str:
    """`url` as it may be shown: without what stands before the ``@`` of its host."""
    return re.sub(r"^(https?://)[^/?#]*@", r"\1", url)
