"""What a release will consist of, and what it must not have.

A repository is not trusted: whoever can push could otherwise make a root process write outside
of the release, or publish a link to a file of the host. Refused, with the path in the message:

* names that are no plain names: ``.``, ``..`` or other dots and spaces alone, with a slash, ``.git`` in
  any spelling that some file system takes for it, or twice in one directory;
* symlinks that lead out of their mapping: absolute ones, those that climb above the mapped
  directory, and those with a ``..`` after a name, as ``a/../b``. With ``..`` at the front only, each
  link stays inside by itself, and so does any chain of them.
* names that Linux does not take, of more than 255 bytes, and paths of more than 4,095;
* trees that are too deep or too large to be meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator

from attrs import frozen
from dulwich.index import (
    validate_path_element_default,
    validate_path_element_hfs,
    validate_path_element_ntfs,
)
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich.objects import MAX_ENTRIES, Entry, Objects
from gitopper_plugins.dulwich.pkt import visible
from libgitopper import CheckoutError, Content, Service

__all__ = [
    "DIRECTORY",
    "FILE",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "SUBMODULE",
    "SYMLINK",
    "Item",
    "check_symlink",
    "checked",
    "inside",
    "items",
    "kind_of",
    "mapped_paths",
    "names_a_file",
    "plain_mode",
    "refused",
]

DIRECTORY, FILE, SYMLINK, SUBMODULE = 0o040000, 0o100000, 0o120000, 0o160000

MAX_DEPTH = 128
MAX_ITEMS = MAX_ENTRIES
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095
MAX_PATHS_BYTES = 64 * 1024 * 1024
"""Of all paths of a release together: they are held in memory."""
_SHOWN_BYTES = 200
# Nothing takes such a name for .git, git~1, or a directory itself. Most names are such.
_PLAIN = re.compile(rb"[A-FH-Za-fh-z0-9_-][A-Za-z0-9_.-]*")


def kind_of(mode: int) -> int:
    """The kind of an entry, as one of the constants above."""
    return mode & 0o170000


@frozen
class Item:
    """One path of a release, below a mapping or one itself."""

    path: bytes
    """Relative to the release."""
    mode: int
    """As git has it: 0o100644, 0o100755, or one of the other kinds."""
    id: ObjectID
    depth: int
    """How many directories lie between the mapping and this; 0 for what is directly in it."""


def mapped_paths(service: Service) -> dict[bytes, bool]:
    """Each mapped path of the repository, and whether it is a file; without those inside of others."""
    paths = {m.link.encode("utf-8", "surrogateescape"): m.file for m in service.mappings}
    return {path: file for path, file in paths.items() if not inside(path, paths)}


def inside(path: bytes, others: Collection[bytes]) -> bool:
    """True when `path` is below one of `others`."""
    return any(path.startswith(other + b"/") for other in others)


def items(objects: Objects, service: Service, content: Content) -> list[Item]:
    """All that the release of `content` has, parents first; local.

    Raises:
        CheckoutError: something of it is refused.
    """
    roots = {e.link.encode("utf-8", "surrogateescape"): e for e in content.entries}
    room = MAX_PATH_BYTES - len(os.fsencode(service.releases)) - len("/0123456789abcdef/")
    found: list[Item] = []
    size = 0
    for path in mapped_paths(service):
        for name in path.split(b"/"):
            _check_name(name, path)
        root = roots[path]
        top = Item(path, plain_mode(root.mode), ObjectID(root.id.encode()), 0)
        for item in _walk(objects, top, roots):
            found.append(item)
            size += len(item.path)
            if len(item.path) > room:
                raise refused(item.path, f"its path is longer than the {room} bytes that are left for it")
            if len(found) > MAX_ITEMS or size > MAX_PATHS_BYTES:
                raise _too_many(path)
    return found


def _walk(objects: Objects, top: Item, roots: Collection[bytes]) -> Iterator[Item]:
    waiting = [top]
    while waiting:
        item = waiting.pop()
        yield item
        if item.mode != DIRECTORY:
            continue
        depth = 0 if item.path in roots else item.depth
        for entry in checked(objects.entries(item.id), item.path):
            below = depth + 1 if kind_of(entry.mode) == DIRECTORY else depth
            waiting.append(Item(item.path + b"/" + entry.name, plain_mode(entry.mode), entry.id, below))
        # In a tree that is wide at every depth, those that wait are many more than those that were found.
        if len(waiting) > MAX_ITEMS:
            raise _too_many(top.path)


def _too_many(path: bytes) -> CheckoutError:
    return refused(path, f"it has more than {MAX_ITEMS} files, or their names are too long")


def checked(entries: list[Entry], path: bytes) -> Iterator[Entry]:
    """The entries of the directory `path`, each found to be safe.

    Raises:
        CheckoutError: one is refused.
    """
    if path.count(b"/") >= MAX_DEPTH:
        raise refused(path, f"it is more than {MAX_DEPTH} directories deep")
    names = set()
    for entry in entries:
        _check_name(entry.name, path)
        if entry.name in names:
            raise refused(path + b"/" + entry.name, "it is there twice")
        names.add(entry.name)
        if kind_of(entry.mode) not in (DIRECTORY, FILE, SYMLINK, SUBMODULE):
            raise refused(path + b"/" + entry.name, f"its mode is {entry.mode:o}, which git does not know")
        yield entry


def _check_name(name: bytes, path: bytes) -> None:
    if len(name) > MAX_NAME_BYTES:
        raise refused(path, f"the name {visible(name[:20])}… in it has more than {MAX_NAME_BYTES} bytes")
    if not name or b"/" in name or b"\0" in name or not names_a_file(name):
        raise refused(path, f"the name {visible(name)!r} in it is not safe")


def names_a_file(name: bytes) -> bool:
    """False for ``.``, ``..`` and whatever a file system could take for ``.git``; as git's own fsck."""
    if _PLAIN.fullmatch(name):
        return True
    if not validate_path_element_default(name) or not validate_path_element_ntfs(name):
        return False
    try:
        name.decode()
    except UnicodeDecodeError as exc:
        # Nobody knows what HFS+ makes of the rest: for git, the name ends there.
        name = name[: exc.start]
    return not name or validate_path_element_hfs(name)


def plain_mode(mode: int) -> int:
    """The mode as git would record it anew: old repositories have 0o100664 and the like."""
    if kind_of(mode) != FILE:
        return kind_of(mode)
    return 0o100755 if mode & 0o100 else 0o100644


def check_symlink(item: Item, target: bytes) -> None:
    """Refuse a symlink that could lead out of its mapping.

    Raises:
        CheckoutError: it could.
    """
    shown = visible(target[:_SHOWN_BYTES])
    if not target or b"\0" in target or len(target) > MAX_PATH_BYTES:
        raise refused(item.path, "it is a symlink without a proper target")
    if target.startswith(b"/"):
        remedy = "make it relative, or put the file itself there"
        raise refused(item.path, f"it is a symlink to {shown}, an absolute path; {remedy}")
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    climbs = next((at for at, part in enumerate(parts) if part != b".."), len(parts))
    if climbs > item.depth:
        remedy = "put the file itself there"
        raise refused(item.path, f"it is a symlink to {shown}, outside of the mapped directory; {remedy}")
    if b".." in parts[climbs:]:
        raise refused(item.path, f"it is a symlink to {shown}; write its target without .. after a name")


def refused(path: bytes, why: str) -> CheckoutError:
    """The error for what must not be in a release."""
    shown = visible(path[:_SHOWN_BYTES]) + ("…" if len(path) > _SHOWN_BYTES else "")
    shown = shown or "the top of the repository"
    return CheckoutError(f"{shown} is refused: {why}", retryable=False)
