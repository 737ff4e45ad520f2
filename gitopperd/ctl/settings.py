"""How a host is asked: port, TLS, secrets. From flags, the environment and a file; the first wins."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gitopperd.ctl.errors import SettingsError

__all__ = [
    "Settings",
    "Token",
    "absolute",
    "from_environ",
    "meant",
    "number",
    "read_settings",
    "seconds",
    "switch",
]

UNITS_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}
DAY_SECONDS = 86400.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A bearer token, or the file that it is in."""

    text: str | None = field(default=None, repr=False)
    file: str | None = None
    origin: str
    """Where it comes from, for errors: a file, or a variable of the environment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What one of the places that settings come from says; None for what it does not say."""

    port: int | None = None
    tls: bool | None = None
    ca: str | None = None
    """PEM: the CAs that are trusted, instead of those of the system."""
    token: Token | None = None
    certificate: str | None = None
    """PEM: our own, with its chain."""
    key: str | None = None
    """PEM: its key; None where it is in the same file."""
    socket: str | None = None
    """Path of the Unix socket: here for @localhost, there for @ssh://…"""

    def over(self, below: Settings) -> Settings:
        """Return these settings, and those of `below` where these say nothing."""
        chosen = {
            item.name: getattr(below, item.name) if (mine := getattr(self, item.name)) is None else mine
            for item in fields(self)
        }
        if self.certificate is not None:
            # A certificate and its key are one thing.
            chosen["key"] = self.key
        return Settings(**chosen)


def absolute(value: object) -> str:
    """Read a path: absolute, or below the user's home.

    Raises:
        ValueError: It is neither.
    """
    path = os.path.expanduser(value) if isinstance(value, str) else ""  # noqa: PTH111
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f'{value!r} is not a path; write an absolute one, or one that begins with "~/"')
    return path


def switch(value: object) -> bool:
    """Read true or false.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, bool):
        return value
    raise ValueError(f"{value!r} is neither true nor false; write one of them, without quotes")


def number(value: object) -> int:
    """Read a port.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536:
        return value
    raise ValueError(f"{value!r} is not a port; write a number from 1 to 65535, without quotes")


def seconds(value: object) -> float:
    """Read a time to wait, as 10, "10s", "500ms" or "2m"; a day at most.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|m|s|ms|)", str(value), re.ASCII)
    if isinstance(value, bool) or match is None:
        raise ValueError(f'{value!r} is not a time; write "10s" or "2m"')
    found = float(match[1]) * UNITS_SECONDS[match[2]]
    if not 0 < found <= DAY_SECONDS:
        raise ValueError(f"{value!r}: it must be more than 0, and a day at most")
    return found


def _token(value: object) -> Token:
    if isinstance(value, str) and value.strip():
        return Token(text=value, origin="the settings")
    # What stands there may be half a token: it is not shown.
    raise ValueError('this is not a token; write token = "…", or token_file = "~/…"')


def _token_file(value: object) -> Token:
    path = absolute(value)
    return Token(file=path, origin=path)


READERS: Mapping[str, Callable[[object], Any]] = {
    "port": number,
    "tls": switch,
    "ca": absolute,
    "token": _token,
    "token_file": _token_file,
    "certificate": absolute,
    "key": absolute,
    "socket": absolute,
}

VARIABLES = {
    "GITOPPERCTL_TLS": "tls",
    "GITOPPERCTL_CA": "ca",
    "GITOPPERCTL_TOKEN": "token",
    "GITOPPERCTL_TOKEN_FILE": "token_file",
    "GITOPPERCTL_CERT": "certificate",
    "GITOPPERCTL_KEY": "key",
    "GITOPPERCTL_SOCKET": "socket",
}


def read_settings(
    table: Mapping[str, object], complain: Callable[[str, str], None], origin: str = ""
) -> Settings:
    """Read one table; `complain` is told each key that is wrong, and why (with the remedy).

    `origin` is where its token is said to come from.
    """
    found: dict[str, Any] = {}
    for key, value in table.items():
        if reader := READERS.get(key):
            try:
                found["token" if key == "token_file" else key] = reader(value)
            except ValueError as exc:
                complain(key, str(exc))
        else:
            complain(key, f"unknown key{_remedy(key, value)}")
    if "token" in table and "token_file" in table:
        complain("token", "there is a token_file, too; keep one of them")
    if "key" in table and "certificate" not in table:
        complain("key", "a key belongs to a certificate; write certificate, too")
    token = found.get("token")
    if isinstance(token, Token) and token.text is not None and origin:
        found["token"] = Token(text=token.text, origin=origin)
    return Settings(**found)


def from_environ(environ: Mapping[str, str]) -> Settings:
    """Return what the environment says; an empty variable says nothing.

    Raises:
        SettingsError: Something in it can't be used.
    """
    problems: list[str] = []
    table: dict[str, object] = {key: environ[name] for name, key in VARIABLES.items() if environ.get(name)}
    if "tls" in table:
        words = {"true": True, "false": False}
        table["tls"] = words.get(str(table["tls"]), table["tls"])
    names = {key: name for name, key in VARIABLES.items()}
    settings = read_settings(
        table, lambda key, said: problems.append(f"${names[key]}: {said}"), "$GITOPPERCTL_TOKEN"
    )
    if problems:
        raise SettingsError(problems)
    return settings


def meant(word: str, known: Iterable[str]) -> str:
    """Return which of `known` was probably meant by `word`, as the end of a sentence; or all of them."""
    from difflib import get_close_matches

    names = list(known)
    if close := get_close_matches(word, names, n=1):
        return f"; did you mean {close[0]}?"
    return f"; there is {', '.join(names)}" if names else ""


def _remedy(key: str, value: object) -> str:
    if isinstance(value, dict):
        return '; a name with dots stands in quotes, as [hosts."web1.example.net"]'
    return meant(key, READERS)
