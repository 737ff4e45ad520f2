"""Credentials: read at each use, shown never."""

from __future__ import annotations

import os
import urllib.parse

from gitopper_plugins.dulwich.access import Access, authorization
from libgitopper import AuthError, Credentials

__all__ = ["TOKEN_USER", "access", "basic"]

TOKEN_USER = "x-access-token"  # noqa: S105 - a user name
"""The user name that goes with a token that stands alone: GitHub wants it, others take any."""


def access(credentials: Credentials) -> Access:
    """What a session shows of itself, with `credentials`.

    Raises:
        AuthError: a file of theirs can't be read, or is empty.
    """
    key = credentials.ssh_key
    if key and not os.access(key, os.R_OK):
        raise AuthError(f"ssh key {key} can't be read: check the path and its owner")
    user = urllib.parse.unquote((credentials.userinfo or "").partition(":")[0])
    return Access(
        authorization=basic(credentials), user=user or None, ssh_key=None if key is None else str(key)
    )


def basic(credentials: Credentials) -> str | None:
    """The value of an http ``Authorization`` header; None when there is nothing to say.

    Raises:
        AuthError: the file can't be read, or is empty.
    """
    return authorization(_from_file(credentials) or _from_userinfo(credentials))


def _from_file(credentials: Credentials) -> str:
    if credentials.file is None:
        return ""
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


def _from_userinfo(credentials: Credentials) -> str:
    if not credentials.userinfo:
        return ""
    user, _, password = credentials.userinfo.partition(":")
    return f"{urllib.parse.unquote(user)}:{urllib.parse.unquote(password)}"
