"""Which services a host runs: names of machines, and globs of them, against the names of a host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from fnmatch import fnmatchcase

__all__ = ["Roster", "is_glob", "runs_here"]


class Roster:
    """Which of many services a host runs: a look-up for each host, and a comparison for each glob.

    In a large fleet every service compared with every host would be what takes the time.
    """

    def __init__(self, services: Sequence[Iterable[str]]) -> None:
        """Take the machines of each service."""
        self._named: dict[str, list[int]] = defaultdict(list)
        self._globs: dict[str, list[int]] = defaultdict(list)
        for index, machines in enumerate(services):
            for machine in machines:
                kind = self._globs if is_glob(machine) else self._named
                kind[_plain(machine)].append(index)

    @property
    def named(self) -> list[str]:
        """Every machine that is a name, sorted."""
        return sorted(self._named)

    @property
    def globs(self) -> list[str]:
        """Every machine that is a glob, sorted."""
        return sorted(self._globs)

    def sharing(self, glob: str) -> tuple[int, ...]:
        """Return the indexes of services that run where `glob` matches: with it, or with ``*``; sorted."""
        return tuple(sorted({*self._globs.get(_plain(glob), ()), *self._globs.get("*", ())}))

    def of(self, hosts: Set[str]) -> tuple[int, ...]:
        """Return the indexes of the services of a host, sorted; as `runs_here` would tell for each."""
        found: set[int] = set()
        for host in map(_plain, hosts):
            for name in (host, _short(host)):
                found.update(self._named.get(name, ()))
            for glob, indexes in self._globs.items():
                if _matches(glob, host):
                    found.update(indexes)
        return tuple(sorted(found))


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
    name = host if "." in machine else _short(host)
    return name == machine or (is_glob(machine) and fnmatchcase(name, machine))


def _short(host: str) -> str:
    return host.partition(".")[0]


def _plain(name: str) -> str:
    # Names of hosts have no case, and a dot at the end only says that nothing follows.
    return name.lower().rstrip(".")
