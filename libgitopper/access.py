"""Who asks, and what they may: the values that auth plugins take and give.

Nothing here knows a web framework: a plugin that is written against these values outlives it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import Attribute, field, frozen

from libgitopper.valid import is_one_line, is_texts

__all__ = ["AuthRequest", "Grant", "Identity", "Role", "TlsPeer", "UnixPeer"]


class Role(enum.IntEnum):
    """What an identity may do. Each role includes those before it."""

    READ = 1
    """Lists, events, history, metrics."""
    OPERATE = 2
    """Freeze, unfreeze, rollback, pull, retry; see what is in files."""
    ADMIN = 3
    """Reload the configuration, read the audit log, and what else concerns the daemon."""

    @classmethod
    def named(cls, name: str) -> Role:
        """Return the role that the config calls `name`: read, operate or admin.

        Raises:
            ValueError: there is no such role.
        """
        try:
            return cls[name.upper()]
        except (AttributeError, KeyError):
            raise ValueError(f'{name!r} is no role; write "read", "operate" or "admin"') from None


def _is_role(_grant: Grant, _role: Attribute[Role], given: Role) -> None:
    if not isinstance(given, Role):
        raise TypeError(f"Grant.role is {given!r}, and must be a Role; Role.named() reads one")


def _are_grants(_identity: Identity, _grants: Attribute[tuple[Grant, ...]], given: object) -> None:
    if not isinstance(given, tuple) or not all(isinstance(grant, Grant) for grant in given):
        raise TypeError(f"Identity.grants is {given!r}, and must be a tuple of Grant")


@frozen(kw_only=True)
class Grant:
    """A role, for the services whose name matches one of some globs."""

    role: Role = field(validator=_is_role)
    services: tuple[str, ...] = field(default=("*",), validator=is_texts)
    """Globs, as ``("web*", "db")``."""

    def covers(self, role: Role, service: str | None) -> bool:
        """Tell whether this grants `role` for `service`; None asks for any service at all."""
        if role > self.role:
            return False
        return service is None or any(fnmatchcase(service, glob) for glob in self.services)

    @property
    def unlimited(self) -> bool:
        """True when it holds for every service."""
        return "*" in self.services


@frozen(kw_only=True)
class Identity:
    """Somebody whom an auth plugin knows."""

    name: str = field(validator=is_one_line)
    """For the audit log, as ``token:deploy`` or ``uid 0 (root)``; one line, and never a secret."""
    grants: tuple[Grant, ...] = field(validator=_are_grants)

    def may(self, role: Role, service: str | None = None) -> bool:
        """Tell whether this identity has `role` for `service`; None asks for any service at all."""
        return any(grant.covers(role, service) for grant in self.grants)

    def may_everywhere(self, role: Role) -> bool:
        """Tell whether this identity has `role` without a limit to some services."""
        return any(grant.role >= role and grant.unlimited for grant in self.grants)


@frozen(kw_only=True)
class UnixPeer:
    """The process at the other end of a Unix socket, as the kernel tells."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    """Ids of its supplementary groups."""


@frozen(kw_only=True)
class TlsPeer:
    """The client's certificate, verified by the TLS library against the configured CA."""

    subject: str
    """As ``CN=web1,O=Example``: attributes in the order of the certificate."""
    names: tuple[str, ...]
    """Subject alternative names, as ``DNS:web1.example.net`` or ``email:ops@example.net``."""
    fingerprint: str
    """SHA-256 of the certificate, 64 lower-case hex digits."""


@frozen(kw_only=True)
class AuthRequest:
    """One request to the API, as an auth plugin sees it."""

    plugin: str
    """Name of the plugin that is asked, as in ``plugins`` of ``[auth]``. A plugin that goes by another
    name answers None."""
    settings: Mapping[str, Any]
    """The plugin's own table of the config, ``[auth.<plugin>]``, as written; empty where there is none."""
    method: str
    """Upper case."""
    path: str
    """Raw, as it came: percent-encoded, with its query."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case; values of a header that came several times are joined by ``, ``."""
    peer: str | None = None
    """IP address of the client; None over a Unix socket."""
    unix: UnixPeer | None = None
    """Over a Unix socket."""
    tls: TlsPeer | None = None
    """When the client showed a certificate."""
