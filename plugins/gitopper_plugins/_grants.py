"""Roles in the tables of auth plugins: ``{ …, role = "operate", services = ["web*"] }``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libgitopper import Grant, Role

__all__ = ["grant_of", "grant_problems"]


def grant_of(entry: Mapping[str, Any]) -> Grant:
    """Return the grant of an entry that `grant_problems` found nothing wrong with."""
    return Grant(role=Role.named(entry["role"]), services=tuple(entry.get("services", ("*",))))


def grant_problems(entries: object, where: str, who: Sequence[str]) -> list[str]:
    """Return what is wrong with a list of tables: each has one key of `who`, a role, and maybe services."""
    if not isinstance(entries, list):
        return [f'{where}: not a list of tables; write [{{ {who[0]} = "…", role = "read" }}]']
    return [
        f"{where}[{number}]{problem}"
        for number, entry in enumerate(entries)
        for problem in _entry_problems(entry, who)
    ]


def _entry_problems(entry: object, who: Sequence[str]) -> list[str]:
    if not isinstance(entry, dict):
        return [f': not a table; write {{ {who[0]} = "…", role = "read" }}']
    problems = [
        f".{key}: unknown key; remove it, or write one of: {', '.join((*who, 'role', 'services'))}"
        for key in entry
        if key not in (*who, "role", "services")
    ]
    named = [key for key in who if key in entry]
    if len(named) != 1 or not isinstance(entry[named[0]], str) or not entry[named[0]]:
        problems.append(f": say who it is by exactly one of: {', '.join(who)}, a string")
    if "role" not in entry:
        problems.append('.role: missing; write role = "read", "operate" or "admin"')
    else:
        try:
            Role.named(str(entry["role"]))
        except ValueError as exc:
            problems.append(f".role: {exc}")
    services = entry.get("services", ["*"])
    if not isinstance(services, list) or not services or not all(isinstance(s, str) for s in services):
        problems.append('.services: not a list of names or globs; write ["nginx", "web*"]')
    return problems
