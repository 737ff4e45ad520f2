"""Roles in the tables of auth plugins: ``{ …, role = "operate", services = ["web*"] }``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from libgitopper import Grant, Role

__all__ = ["grant_of", "grant_problems", "role_problems", "services_problems", "unknown_keys"]


def grant_of(entry: Mapping[str, Any]) -> Grant:
    """Return the grant of an entry that `grant_problems` found nothing wrong with."""
    return Grant(role=Role.named(entry["role"]), services=tuple(entry.get("services", ("*",))))


def unknown_keys(table: Mapping[str, object], *known: str) -> list[str]:
    """Return a problem for each key of `table` that is not among `known`."""
    return [
        f"{key}: unknown key; remove it, or write one of: {', '.join(known)}"
        for key in table
        if key not in known
    ]


def grant_problems(entries: object, where: str, who: Sequence[str]) -> list[str]:
    """Return what is wrong with a list of tables: each has one key of `who`, a role, and maybe services."""
    if not isinstance(entries, list):
        return [f'{where}: not a list of tables; write [{{ {who[0]} = "…", role = "read" }}]']
    return [
        f"{where}[{number}]{problem}"
        for number, entry in enumerate(entries)
        for problem in _entry_problems(entry, who)
    ]


def role_problems(entry: Mapping[str, object]) -> list[str]:
    """Return what is wrong with ``role``."""
    if "role" not in entry:
        return ['role: missing; write role = "read", "operate" or "admin"']
    try:
        Role.named(str(entry["role"]))
    except ValueError as exc:
        return [f"role: {exc}"]
    return []


def services_problems(entry: Mapping[str, object]) -> list[str]:
    """Return what is wrong with ``services``. An empty list is a mistake: it would grant nothing."""
    services = entry.get("services", ["*"])
    if isinstance(services, list) and services and all(isinstance(s, str) and s for s in services):
        return []
    return ['services: not a list of names or globs; write ["nginx", "web*"]']


def _entry_problems(entry: object, who: Collection[str]) -> list[str]:
    first = next(iter(who))
    if not isinstance(entry, dict):
        return [f': not a table; write {{ {first} = "…", role = "read" }}']
    problems = (
        unknown_keys(entry, *who, "role", "services") + role_problems(entry) + services_problems(entry)
    )
    named = [entry[key] for key in who if key in entry]
    if len(named) != 1 or not isinstance(named[0], str) or not named[0]:
        return [f": say who it is by one of: {', '.join(who)}, a string", *(f".{p}" for p in problems)]
    return [f".{problem}" for problem in problems]
