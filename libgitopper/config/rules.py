"""Rules between the services of one host: what they must not share, and what must not be nested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path

from attrs import frozen

from libgitopper.config.entries import Entry
from libgitopper.config.machines import Roster
from libgitopper.config.order import check_circles, check_presence
from libgitopper.config.problems import Location, Problems, shown, text_of
from libgitopper.model import Source

__all__ = ["check_hosts"]


@frozen
class Clash:
    """Two things of one host that can't both be."""

    where: Location
    message: str
    other: Location | None = None
    """What it clashes with, where that is another service's."""


def check_hosts(entries: Sequence[Entry], hosts: Set[str], mount: Path | None, problems: Problems) -> None:
    """Check the services of this host, those of every host that is named, and those that share a glob.

    So a clash on another host is found on any. Services of different globs that mean the same host are
    found on that host only.

    Args:
        entries: the services, of all machines.
        hosts: the names that this host answers to.
        mount: the global mount, which has the stores; None when it is bad.
        problems: takes what is wrong.
    """
    roster = Roster([entry.machines for entry in entries])
    groups: dict[tuple[int, ...], str] = {}
    for names in (hosts, *({name} for name in roster.named)):
        groups.setdefault(roster.of(names), " and ".join(sorted(names)))
    check_presence(entries, groups, problems)
    # The services of one glob are some of those of each host that it means: enough for a clash.
    for glob in roster.globs:
        groups.setdefault(roster.sharing(glob), glob)
    check_circles(entries, groups, problems)
    groups |= {(index,): "" for index in range(len(entries))}
    said: set[Clash] = set()
    for group, host in groups.items():
        for clash in _clashes([entries[index] for index in group], mount):
            if clash not in said:
                said.add(clash)
                both = f" (both run on {host})" if clash.other else ""
                problems.add(clash.where, clash.message + both)


def _clashes(group: Sequence[Entry], mount: Path | None) -> Iterator[Clash]:
    for rule in RULES:
        yield from rule(group, mount)


def _names(group: Sequence[Entry], _mount: Path | None) -> Iterator[Clash]:
    first: dict[str, Entry] = {}
    for entry in group:
        if entry.name and (other := first.setdefault(entry.name, entry)) is not entry:
            what = f"{shown(entry.name)} is {text_of(other.where)} already"
            remedy = "a host has a service once; put all its dirs into one entry"
            yield Clash((*entry.where, "service"), f"{what}; {remedy}", other.where)


def _credentials(group: Sequence[Entry], _mount: Path | None) -> Iterator[Clash]:
    first: dict[str, tuple[Entry, Source]] = {}
    for entry in group:
        if not (source := entry.source):
            continue
        other, known = first.setdefault(source.upstream, (entry, source))
        if source.credentials != known.credentials:
            what = f"{shown(source.upstream)} has other credentials than in {text_of(other.where)}"
            remedy = "services of one upstream share one store; give both the same"
            yield Clash((*entry.where, "upstream"), f"{what}; {remedy}", other.where)


def _locals(group: Sequence[Entry], _mount: Path | None) -> Iterator[Clash]:
    """No path is mapped twice, and none lies inside another one."""
    mapped = [(entry, found) for entry in group for found in entry.mappings]
    first: dict[Path, int] = {}
    for rank, (_, found) in enumerate(mapped):
        first.setdefault(found.value.local, rank)
    for rank, (entry, found) in enumerate(mapped):
        local = found.value.local
        for outer in (local, *local.parents):
            at = first.get(outer, rank)
            if at == rank:
                continue
            other_entry, other = mapped[at]
            same = outer == local
            what = f"is {text_of(other.where)} already" if same else f"lies inside {shown(str(outer))}"
            place = "" if same else f" ({text_of(other.where)})"
            remedy = "map a path once" if same else "keep it in that directory of the repository"
            foreign = other.where if other_entry is not entry else None
            yield Clash(found.where, f"{shown(str(local))} {what}{place}; {remedy}", foreign)


def _locals_and_mounts(group: Sequence[Entry], mount: Path | None) -> Iterator[Clash]:
    """What is published does not hide the releases that it comes from, nor lie among them."""
    mounts = {entry.mount: entry for entry in reversed(group) if entry.mount}
    directories = sorted({*mounts, *([mount] if mount else [])})
    for entry in group:
        for found in entry.mappings:
            local = found.value.local
            for directory in directories:
                inside, around = local.is_relative_to(directory), directory.is_relative_to(local)
                if inside or around:
                    what = "lies inside" if inside else "is around"
                    message = f"{shown(str(local))} {what} the mount {shown(str(directory))}"
                    owner = mounts.get(directory)
                    foreign = owner.where if owner not in (None, entry) and directory != mount else None
                    yield Clash(found.where, f"{message}; write a mount apart from every local", foreign)


def _mounts(group: Sequence[Entry], mount: Path | None) -> Iterator[Clash]:
    """No mount leads through the link to a live release."""
    links = {entry.mount / entry.name: entry for entry in group if entry.mount and entry.name}
    places: list[tuple[Location, Path, Entry | None]] = [
        ((*entry.where, "mount"), entry.mount, entry)
        for entry in group
        if entry.mount and entry.mount != mount
    ]
    if mount:
        places.append((("global", "mount"), mount, None))
    for where, directory, entry in places:
        for path in (directory, *directory.parents):
            if owner := links.get(path):
                what = f"{shown(str(directory))} leads through {shown(str(path))}, the link to a release"
                foreign = owner.where if owner is not entry and entry else None
                yield Clash(where, f"{what} ({text_of(owner.where)}); write another directory", foreign)


RULES: tuple[Callable[[Sequence[Entry], Path | None], Iterator[Clash]], ...] = (
    _names,
    _credentials,
    _locals,
    _locals_and_mounts,
    _mounts,
)
