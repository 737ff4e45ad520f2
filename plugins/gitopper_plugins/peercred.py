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

from gitopper_plugins._grants import grant_of, grant_problems
from libgitopper import AuthRequest, Grant, Identity, Role, hookimpl

__all__ = ["gitopper_auth", "gitopper_auth_settings"]

NAME = "peercred"


@hookimpl
def gitopper_auth(request: AuthRequest) -> Identity | None:
    """Recognise the user at the other end of a Unix socket."""
    if request.plugin != NAME or request.unix is None:
        return None
    uid = request.unix.uid
    name = _user_name(uid)
    if uid in (0, os.geteuid()):
        return Identity(name=name, grants=(Grant(role=Role.ADMIN),))
    groups = _groups(uid, request.unix.gid)
    grants = tuple(
        grant_of(entry) for entry in request.settings.get("groups", ()) if entry["name"] in groups
    )
    return Identity(name=name, grants=grants) if grants else None


@hookimpl
def gitopper_auth_settings(plugin: str, settings: Mapping[str, Any]) -> Sequence[str] | None:
    """Judge ``[auth.peercred]``."""
    if plugin != NAME:
        return None
    problems = [f"{key}: unknown key; remove it, or write groups" for key in settings if key != "groups"]
    return problems + grant_problems(settings.get("groups", []), "groups", ("name",))


def _user_name(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _groups(uid: int, gid: int) -> frozenset[str]:
    """Names of the groups of a user; of its primary group alone where the user has no entry."""
    try:
        user = pwd.getpwuid(uid)
        ids = os.getgrouplist(user.pw_name, gid)
    except KeyError:
        ids = [gid]
    names = set()
    for number in ids:
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(names)
