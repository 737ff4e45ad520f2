"""What `@HOST` means: `@name[:port]`, `@https://…`, `@unix:/path`, `@ssh://[user@]name[:port]`."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "SYSTEM_SOCKET",
    "Address",
    "Host",
    "Ssh",
    "Tcp",
    "Unix",
    "default_sockets",
    "group_of",
    "is_name",
    "parse_host",
]

SYSTEM_SOCKET = "/run/gitopper/gitopperd.sock"
# Underscores are not in RFC 1123, and common all the same.
LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# Of ssh's own: nothing that a ProxyCommand's shell would take apart.
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tcp:
    """A port of a machine; `name` is ASCII: a host name or a numeric address, without brackets."""

    name: str
    port: int | None = None
    """None: the one that the settings say."""
    tls: bool | None = None
    """None: as the settings say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unix:
    """A Unix socket of this machine."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, kw_only=True, slots=True)
class Ssh:
    """A machine that ssh leads to; `name` may be an alias of the user's own ssh configuration."""

    name: str
    port: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.name}" if self.user else self.name


Address = Tcp | Unix | Ssh


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A daemon to ask."""

    label: str
    """As it was written, without the @: how answers and errors name it."""
    address: Address
    socket_first: bool = False
    """True for this machine: the Unix socket is tried before `address`."""

    @property
    def name(self) -> str | None:
        """The name that the settings know it by; None for a Unix socket."""
        if self.socket_first:
            return "localhost"
        return None if isinstance(self.address, Unix) else self.address.name


def parse_host(text: str) -> Host:
    """Parse `@…`.

    Raises:
        ValueError: It can't be read; the text says what is wrong, and what to write.
    """
    label = text.removeprefix("@")
    if label.startswith("unix:") and not label.removeprefix("unix:").isdigit():
        return Host(label=label, address=Unix(path=_socket_path(label.removeprefix("unix:"))))
    scheme, separator, rest = label.partition("://")
    if separator:
        return Host(label=label, address=_with_scheme(scheme, rest))
    name, port = _split(label)
    if name == "localhost" and port is None:
        # By number: the daemon listens there, and the name may mean ::1 first.
        return Host(label=label, address=Tcp(name="127.0.0.1"), socket_first=True)
    return Host(label=label, address=Tcp(name=name, port=port))


def group_of(text: str) -> str | None:
    """Return the group that `@@…` names; None for what is no group.

    Raises:
        ValueError: It begins like one, and can't be the name of one.
    """
    if not text.startswith("@@"):
        return None
    if not is_name(text[2:]):
        raise ValueError(f"{text!r} is not a group; write one such as @@web")
    return text[2:]


def is_name(text: str) -> bool:
    """Tell whether a group may be called `text`."""
    return GROUP.fullmatch(text) is not None


def default_sockets(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> tuple[str, ...]:
    """Return where a gitopperd of this machine has its socket: the user's own comes first."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and (os.geteuid() if uid is None else uid) != 0:
        return (f"{runtime}/gitopper/gitopperd.sock", SYSTEM_SOCKET)
    return (SYSTEM_SOCKET,)


def _with_scheme(scheme: str, rest: str) -> Address:
    if "/" in rest.removesuffix("/"):
        raise ValueError(f"{rest!r} has a path, and a host has none; write @https://web1:8443")
    rest = rest.removesuffix("/")
    if scheme == "ssh":
        user, at, place = rest.rpartition("@")
        if at and not USER.fullmatch(user):
            raise ValueError(f"{user!r} is not the name of a user; write one such as @ssh://ops@web1")
        name, port = _split(place)
        return Ssh(name=name, port=port, user=user or None)
    if scheme not in {"http", "https"}:
        raise ValueError(f"{scheme!r} is not a way to a host; write @https://web1, @http:// or @ssh://")
    name, port = _split(rest)
    return Tcp(name=name, port=port, tls=scheme == "https")


def _socket_path(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path; write @unix:/run/gitopper/gitopperd.sock")
    if "\0" in path:
        raise ValueError("a path holds no NUL character")
    return path


def _split(label: str) -> tuple[str, int | None]:
    if label.startswith("["):
        name, bracket, rest = label[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{label!r} is not an IPv6 address in brackets; write @[::1] or @[::1]:8000")
        return _ipv6(name), _port(rest[1:]) if rest else None
    if label.count(":") > 1:
        raise ValueError(f"{label!r} has several colons; write an IPv6 address in brackets, as @[::1]:8000")
    name, colon, rest = label.partition(":")
    return _name(name), _port(rest) if colon else None


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv6 address; write one in the brackets, as @[::1]") from None
    return text


def _name(text: str) -> str:
    """Check a host name or IPv4 address, and return it in ASCII (IDNA for other scripts)."""
    if not text:
        raise ValueError("the name is missing; write @localhost, or @web1.example.net:8000")
    try:
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    labels = name.removesuffix(".").split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is not a host name; write one such as @web1 or @web1.example.net:8000")
    return name


def _port(text: str) -> int:
    # str.isdigit alone would take digits of other scripts, and five digits are enough for any port.
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536:
        return int(text)
    raise ValueError(f"{text!r} is not a port; write a number from 1 to 65535")
