"""Who is at the other end of the Unix socket, as the kernel tells: no secrets, nothing to configure.

Root and the daemon's own user may do all. Groups of the operator's may do what the config says:

    [auth.peercred]
    groups = [{ name = "ops", role = "operate" }, { name = "web", role = "operate", services = ["nginx"] }]
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping, Sequence
from typing import Any

from gitopper_plugins._grants import grant_of, grant_problems, unknown_keys
from libgitopper import AuthRequest, Grant, Identity, Role, UnixPeer, hookimpl

__all__ = ["gitopper_auth", "gitopper_auth_settings"]

NAME = "peercred"
UNMAPPED = 65534
"""What the kernel says for every user that our user namespace does not know (user_namespaces(7))."""


@hookimpl
def gitopper_auth(request: AuthRequest) -> Identity | None:
    """Recognise the user at the other end of a Unix socket."""
    peer = request.unix
    # Unmapped users are indistinguishable: in a namespace the daemon itself may be one of them.
    if request.plugin != NAME or peer is None or peer.uid == UNMAPPED:
        return None
    name = _user_name(peer.uid)
    if peer.uid in (0, os.geteuid()):
        return Identity(name=name, grants=(Grant(role=Role.ADMIN),))
    entries = request.settings.get("groups", ())
    grants = tuple(grant_of(entry) for entry in entries if _is_in(peer, entry["name"]))
    return Identity(name=name, grants=grants) if grants else None


@hookimpl
def gitopper_auth_settings(plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
    """Judge ``[auth.peercred]``."""
    if plugin != NAME:
        return None
    return unknown_keys(settings, "groups") + grant_problems(
        settings.get("groups", []), "groups", ("name",)
    )


def _user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _is_in(peer: UnixPeer, group: str) -> bool:
    """Tell whether the process is in `group`; a group that this host does not have has nobody in it.

    What counts is what the process has, as with the permissions of files: a service that gave its
    groups up has none here either.
    """
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return number != UNMAPPED and (number == peer.gid or number in peer.groups)
