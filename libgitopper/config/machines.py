"""Which services a host runs: names of machines, and globs of them, against the names of a host."""

from __future__ import annotations

from collections.abc import Iterable, Set
from fnmatch import fnmatchcase

__all__ = ["is_glob", "runs_here"]


def is_glob(machine: str) -> bool:
    """Tell whether `machine` is a pattern rather than a name."""
    return any(character in machine for character in "*?[")


def runs_here(machines: Iterable[str], hosts: Set[str]) -> bool:
    """Tell whether one of `machines` means a host that answers to `hosts`.

    With a dot in it, a machine is compared with whole names. Without one it is compared with what
    stands before their first dot: ``web1`` and ``web*`` mean ``web1.example.net`` too. The other way
    round there is no match: a host that only knows itself as ``web1`` can't tell whether it is
    ``web1.example.net`` or ``web1.example.org``.
    """
    return any(_matches(_plain(machine), _plain(host)) for machine in machines for host in hosts)


def _matches(machine: str, host: str) -> bool:
    name = host if "." in machine else host.partition(".")[0]
    return name == machine or (is_glob(machine) and fnmatchcase(name, machine))


def _plain(name: str) -> str:
    # Names of hosts have no case, and a dot at the end only says that nothing follows.
    return name.lower().rstrip(".")
