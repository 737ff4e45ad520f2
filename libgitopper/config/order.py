"""The rules of ``after``: who is named runs on the same host, and no service waits for itself."""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from libgitopper.config.entries import Entry
from libgitopper.config.problems import Location, Problems, shown, text_of

__all__ = ["check_circles", "check_presence"]


def check_presence(
    entries: Sequence[Entry], hosts: Mapping[tuple[int, ...], str], problems: Problems
) -> None:
    """Check that who is named in ``after`` is a service, another one, and of the same host.

    Args:
        entries: the services, of all machines.
        hosts: indexes of all services of a host -> the name of that host.
        problems: takes what is wrong.
    """
    for entry in entries:
        if entry.name in entry.after:
            problems.add(_place(entry), f"{shown(entry.name)} is this very service; take it out")
    if not all(entry.name and entry.machines for entry in entries):
        return  # That was told. Who is named in an after may be one of those.
    known = {entry.name: entry for entry in reversed(entries) if entry.name}
    for entry, name in _absent(entries):
        problems.add(_place(entry), f"{shown(name)} is no service of this file; {_meant(name, known)}")
    told: set[tuple[Location, str]] = set()
    for indexes, host in hosts.items():
        for entry, name in _absent([entries[index] for index in indexes]):
            # Once, not again for each host of a fleet.
            if name in known and (entry.where, name) not in told:
                told.add((entry.where, name))
                other = f"{shown(name)} ({text_of(known[name].where)})"
                remedy = "take it out, or have it run there too"
                problems.add(
                    _place(entry), f"{other} does not run on {host}, as this service does; {remedy}"
                )


def _absent(group: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
    here = {entry.name for entry in group}
    return ((entry, name) for entry in group for name in entry.after if name not in here)


def check_circles(entries: Sequence[Entry], groups: Iterable[tuple[int, ...]], problems: Problems) -> None:
    """Check that no service waits for itself by way of others.

    Args:
        entries: the services, of all machines.
        groups: indexes of services that run on one host; not necessarily all of that host.
        problems: takes what is wrong.
    """
    for indexes in groups:
        here = {entry.name: entry for entry in (entries[index] for index in indexes) if entry.name}
        for cycle in _cycles(here):
            circle = ", which waits for ".join(map(shown, (*cycle[1:], cycle[0])))
            message = f"this service waits for {circle}; take one of them out of its after"
            problems.add(_place(here[cycle[0]]), message)


def _cycles(here: Mapping[str, Entry]) -> Iterator[list[str]]:
    """Find circles that share no service, each from the service that comes first in the file."""
    graph = {
        name: [other for other in entry.after if other in here and other != name]
        for name, entry in here.items()
    }
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as exc:
            # In its list, each one is waited for by the next; the last is the first again.
            cycle: list[str] = exc.args[1][:0:-1]
            first = cycle.index(min(cycle, key=list(graph).index))
            yield cycle[first:] + cycle[:first]
            for name in cycle:
                del graph[name]
        else:
            return


def _meant(name: str, known: Collection[str]) -> str:
    if close := difflib.get_close_matches(name[:64], known, n=1):
        return f"did you mean {shown(close[0])}?"
    return "name one that runs on the same host, or take it out"


def _place(entry: Entry) -> Location:
    return (*entry.where, "after")
