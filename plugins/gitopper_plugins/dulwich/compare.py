"""Which files differ between two contents, from tree objects alone.

Subtrees with the same id are not looked into, so the cost grows with what differs. A repository is
not trusted: what a checkout would refuse is refused here, with the same words.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from attrs import frozen
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.objects import Objects
from gitopper_plugins.dulwich.tree import (
    DIRECTORY,
    FILE,
    MAX_ITEMS,
    SUBMODULE,
    SYMLINK,
    checked,
    inside,
    kind_of,
    plain_mode,
    refused,
)
from libgitopper import ChangeKind, Content, FileChange

__all__ = ["Difference", "Version", "compare", "described", "files", "name_of_kind", "roots"]

_NAMES = {
    DIRECTORY: "a directory", FILE: "a file", SYMLINK: "a symlink", SUBMODULE: "a submodule",
    0o010000: "a fifo", 0o140000: "a socket", 0o020000: "a character device", 0o060000: "a block device",
}  # fmt: skip


@frozen
class Version:
    """What stands at a path."""

    mode: int
    """As git would record it: 0o100644, 0o100755, or one of the kinds in `tree`."""
    id: ObjectID


@frozen
class Difference:
    """One path where two contents differ; one side may be a directory, never both."""

    path: bytes
    before: Version | None
    after: Version | None

    @property
    def blobs(self) -> list[ObjectID]:
        """The file contents that it takes to show it."""
        sides = [side for side in (self.before, self.after) if side]
        return [side.id for side in sides if kind_of(side.mode) in (FILE, SYMLINK)]


def compare(objects: Objects, before: Content | None, after: Content) -> list[Difference]:
    """The paths that differ, sorted.

    Raises:
        CheckoutError: a tree is not here or damaged, or has what a checkout refuses.
    """
    old, new = roots(before), roots(after)
    found: dict[bytes, Difference] = {}
    for path in old.keys() & new.keys():
        _add(found, _between(objects, path, old[path], new[path]))
    # Mapped on one side only. Still, one may be inside of the other.
    here = _files_below(objects, {path: old[path] for path in old.keys() - new.keys()})
    there = _files_below(objects, {path: new[path] for path in new.keys() - old.keys()})
    pairs = ((path, here.get(path), there.get(path)) for path in here.keys() | there.keys())
    _add(found, (Difference(*pair) for pair in pairs if pair[1] != pair[2]))
    return [found[path] for path in sorted(found)]


def files(objects: Objects, content: Content) -> dict[bytes, Version]:
    """All that `content` has, directories left out.

    Raises:
        CheckoutError: see `compare`.
    """
    return _files_below(objects, roots(content))


def roots(content: Content | None) -> dict[bytes, Version]:
    """What `content` has at its mapped paths, without those that are inside of others."""
    entries = content.entries if content else ()
    found = {
        entry.link.encode("utf-8", "surrogateescape"): Version(
            plain_mode(entry.mode), ObjectID(entry.id.encode())
        )
        for entry in entries
    }
    return {path: version for path, version in found.items() if not inside(path, found)}


def _files_below(objects: Objects, tops: dict[bytes, Version]) -> dict[bytes, Version]:
    found: dict[bytes, Difference] = {}
    for path, version in tops.items():
        _add(found, _between(objects, path, None, version))
    return {path: difference.after for path, difference in found.items() if difference.after}


def _add(found: dict[bytes, Difference], more: Iterable[Difference]) -> None:
    for difference in more:
        found[difference.path] = difference
        if len(found) > MAX_ITEMS:
            raise refused(difference.path, f"it is one of more than {MAX_ITEMS} files that differ")


def _between(
    objects: Objects, top: bytes, before: Version | None, after: Version | None
) -> Iterator[Difference]:
    waiting = [(top, before, after)]
    while waiting:
        path, old, new = waiting.pop()
        if old == new:
            continue
        kinds = {kind_of(side.mode) if side else None for side in (old, new)}
        if kinds - {DIRECTORY, None}:
            yield Difference(path, old, new)
        here, there = _children(objects, path, old), _children(objects, path, new)
        names = here.keys() | there.keys()
        waiting.extend((path + b"/" + name, here.get(name), there.get(name)) for name in names)
        if len(waiting) > 2 * MAX_ITEMS:
            raise refused(top, f"more than {MAX_ITEMS} files of it differ")


def _children(objects: Objects, path: bytes, version: Version | None) -> dict[bytes, Version]:
    if version is None or version.mode != DIRECTORY:
        return {}
    entries = checked(objects.entries(version.id), path)
    return {entry.name: Version(plain_mode(entry.mode), entry.id) for entry in entries}


def described(difference: Difference) -> FileChange:
    """The difference as an operator is told of it."""
    path = os.fsdecode(difference.path)
    old, new = difference.before, difference.after
    if old is None:
        return FileChange(path=path, kind=ChangeKind.ADDED)
    if new is None:
        return FileChange(path=path, kind=ChangeKind.REMOVED)
    if kind_of(old.mode) != kind_of(new.mode):
        detail = f"{name_of_kind(new.mode)} instead of {name_of_kind(old.mode)}"
        return FileChange(path=path, kind=ChangeKind.RETYPED, detail=detail)
    detail = f"{new.mode & 0o777:04o} instead of {old.mode & 0o777:04o}" if new.mode != old.mode else ""
    if old.id == new.id:
        return FileChange(path=path, kind=ChangeKind.MODE, detail=detail)
    return FileChange(path=path, kind=ChangeKind.EDITED, detail=detail and f"mode {detail}")


def name_of_kind(mode: int) -> str:
    """What the file system has at a path, in words."""
    return _NAMES.get(kind_of(mode), "something")
