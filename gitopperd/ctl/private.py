"""Files with secrets: read only where nobody else can read them, as ssh does with its keys."""

from __future__ import annotations

import os

from gitopperd.ctl.errors import AskError

__all__ = ["OTHERS", "check_private", "read_token", "token_in"]

OTHERS = 0o077
"""Every permission of the group and of all others."""
LIMIT_BYTES = 4096


def read_token(path: str) -> str:
    """Return the token in the first line of `path`; a pipe will do, as of ``<(pass show gitopper)``.

    Raises:
        AskError: It can't be read, others may, or there is no token in it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - what is checked is what is read
            _refuse_if_open(path, os.fstat(file.fileno()))
            line = file.read(LIMIT_BYTES).partition(b"\n")[0]
    except OSError as exc:
        raise _unusable(f"can't read the token in {path}: {exc.strerror or exc}") from exc
    return token_in(line.decode("ascii", "replace"), path)


def token_in(text: str, origin: str) -> str:
    """Return the token in `text`; `origin` tells where it was found.

    Raises:
        AskError: There is none, or it can't be one: it would not fit into a header of HTTP.
    """
    token = text.strip()
    if not token:
        raise _unusable(f"there is no token in {origin}; `gitopperctl token create` on the host makes one")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise _unusable(f"what is in {origin} is no token: a token is one line of plain ASCII")
    return token


def check_private(path: str) -> None:
    """See to it that the key in `path` is there, and nobody else's to read.

    Raises:
        AskError: It is not.
    """
    try:
        _refuse_if_open(path, os.stat(path))  # noqa: PTH116 - the standard library's paths are strings here
    except OSError as exc:
        raise _unusable(f"can't read the key in {path}: {exc.strerror or exc}") from exc


def _refuse_if_open(path: str, status: os.stat_result) -> None:
    if status.st_mode & OTHERS:
        raise _unusable(f"{path} holds a secret, and others may read it; chmod 600 {path}")


def _unusable(message: str) -> AskError:
    return AskError("credentials", message)
