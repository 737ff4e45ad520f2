"""Reading objects of a store, from any thread, also while packs come and go.

Nothing is read before it is known how much memory and time that takes: whoever made a pack may mean harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, frozen
from dulwich.errors import ChecksumMismatch
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, hex_to_sha, sha_to_hex
from dulwich.pack import Pack, PackFileDisappeared, UnresolvedDeltas

from gitopper_plugins.dulwich.openpack import OpenPack
from gitopper_plugins.dulwich.packentry import DamagedError, EndlessError, Link
from libgitopper import CheckoutError, Limits

__all__ = ["BLOB", "COMMIT", "MAX_ENTRIES", "TAG", "TREE", "Entry", "Objects", "TooLarge"]

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
_KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}

# Enough for the trees of one reconcile; dulwich would keep up to 96 MB for each pack.
_DELTA_CACHE_BYTES = 4 * 1024 * 1024
_ATTEMPTS = 3
# What dulwich raises when it meets a file that is not what it should be.
_DAMAGE = (
    zlib.error, struct.error, BufferError, ValueError, IndexError, AssertionError, ChecksumMismatch,
    UnresolvedDeltas, DamagedError, OSError,
)  # fmt: skip

_KEPT_TREES, _KEPT_ENTRIES = 512, 8192
"""How many trees are kept in memory, and how many entries of them; some 200 bytes each."""
_KEPT_ROOTS = 64
"""Of how many commits it is kept which tree is theirs."""
_KEPT_LISTS = 8
"""How many of what was made of trees are kept: those at which all services begin are used all the time."""
MAX_ENTRIES = 200_000
"""How many entries of one directory are read."""
_MOST_BYTES = {COMMIT: 1 << 20, TREE: 64 << 20, TAG: 1 << 20, BLOB: Limits().file_bytes}
"""The largest objects that are read; a directory of `MAX_ENTRIES` long names is smaller. For files a
service may say otherwise."""
# Deltas that make more than so many times the largest object on the way to one are no honest ones.
_MOST_WORK = 64
# Up to this, dulwich's cache of bases pays; beyond, one delta at a time takes less memory.
_LIGHT_BYTES = 4 * 1024 * 1024
_ID = re.compile(rb"[0-9a-f]{40}")
_MODE = re.compile(rb"[0-7]{1,11}")

T = TypeVar("T")


class TooLarge(CheckoutError):  # noqa: N818 - it reads as what it is at the raise
    """An object is larger than it may be; it was not read."""

    def __init__(self, oid: ObjectID, size: int, limit: int) -> None:
        self.oid, self.size, self.limit = oid, size, limit
        super().__init__(
            f"object {oid.decode()} has {size} bytes, and may have {limit} at most", retryable=False
        )


@frozen
class Entry:
    """One entry of a tree."""

    name: bytes
    mode: int
    id: ObjectID


def _open(path: Path) -> DiskObjectStore:
    return DiskObjectStore(path / "objects", delta_base_cache_limit=_DELTA_CACHE_BYTES)


def _drop_oldest(kept: dict[Any, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]


@define(eq=False)
class Objects:
    """The objects of one store.

    Each call takes a lock for the moment that it reads; none is held while anybody waits for a network.
    """

    path: Path
    """The bare git directory."""
    _store: DiskObjectStore = field(init=False)
    _packs: Sequence[Pack] = field(init=False, default=())
    """As of the last look into the directory."""
    _recent: OpenPack | None = field(init=False, default=None)
    """The pack that had what was read last."""
    _trees: dict[ObjectID, list[Entry]] = field(init=False, factory=dict)
    """Trees that were read last, as each service of an upstream begins at the same one."""
    _roots: dict[ObjectID, ObjectID] = field(init=False, factory=dict)
    """The trees of commits that were read last."""
    _lists: dict[tuple[ObjectID, bytes], Mapping[bytes, Any]] = field(init=False, factory=dict)
    """What was made of the trees that all services begin at; see `listed`."""
    _lock: threading.RLock = field(init=False, factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        self._store = _open(self.path)

    def close(self) -> None:
        """Release the open files; reading opens them again."""
        with self._lock:
            self._packs = ()
            self._turn_to(None)
            self._trees.clear()
            self._roots.clear()
            self._lists.clear()
            self._store.close()

    def find(self, oid: ObjectID, kind: int, limit: int | None = None) -> bytes | None:
        """The content of an object; None when it is not here, or of another kind.

        Args:
            oid: its id.
            kind: what it should be.
            limit: the most bytes that it may have; None for what anybody needs of its kind.

        Raises:
            CheckoutError: it is here, and damaged, or `TooLarge`.
        """
        limit = _MOST_BYTES[kind] if limit is None else limit
        return self._reading(oid, lambda: self._find(oid, kind, limit))

    def size(self, oid: ObjectID, limit: int) -> int:
        """How many bytes an object has, without reading it.

        Raises:
            CheckoutError: it is not here, or damaged, or `TooLarge`: it has more than `limit`.
        """
        size = self._reading(oid, lambda: self._size(oid))
        if size is None:
            raise CheckoutError(f"object {oid.decode()} is not in {self.path}")
        if size > limit:
            raise TooLarge(oid, size, limit)
        return size

    def _reading(self, oid: ObjectID, look: Callable[[], T]) -> T | None:
        try:
            return self._afresh(look, first=False)
        except KeyError:
            return None
        except EndlessError as exc:
            raise CheckoutError(f"object {oid.decode()} can't be read: {exc}", retryable=False) from exc
        except _DAMAGE as exc:
            raise CheckoutError(
                f"object {oid.decode()} in {self.path} can't be read: {type(exc).__name__}: {exc};"
                " if the disk is sound, move that store away, and it is fetched anew"
            ) from exc

    def _find(self, oid: ObjectID, kind: int, limit: int) -> bytes | None:
        opened, offset = self._place_of(oid)
        if opened is None:
            found, data = self._store.get_raw(oid)  # somebody wrote it here: it was not sent
            if found == kind and len(data) > limit:
                raise TooLarge(oid, len(data), limit)
            return data if found == kind else None
        links = opened.links(offset)
        if links[-1].kind != kind:
            return None
        _check_bounds(oid, links, limit)
        if len(links) > 1 and sum(link.packed + link.size for link in links) <= _LIGHT_BYTES:
            data = opened.pack.get_raw(hex_to_sha(oid))[1]
        else:
            data = opened.resolved(links)
        # The index of a pack is what somebody says of it; the id is what was asked for, and signed.
        if not has_id(oid, kind, data):
            raise DamagedError("its content is not that of its id")
        return data

    def _size(self, oid: ObjectID) -> int:
        opened, offset = self._place_of(oid)
        return len(self._store.get_raw(oid)[1]) if opened is None else opened.links(offset)[0].size

    def _place_of(self, oid: ObjectID) -> tuple[OpenPack | None, int]:
        """The pack that has `oid`, and where; looked for again when those that are known have not."""
        sha = hex_to_sha(oid)
        for look_again in (True, False):
            # What is read together mostly came together.
            recent = (self._recent.pack,) if self._recent else ()
            for pack in (*recent, *self._packs):
                try:
                    offset = pack.index.object_offset(sha)
                except KeyError:
                    continue
                return self._turn_to(pack), offset
            if look_again:
                self.refresh()
        return None, 0

    def _turn_to(self, pack: Pack | None) -> OpenPack | None:
        """Have `pack`, and no other, open for reading."""
        if self._recent and self._recent.pack is not pack:
            self._recent.close()
            self._recent = None
        if pack is not None and self._recent is None:
            self._recent = OpenPack.of(pack)
        return self._recent

    def read(self, oid: ObjectID, kind: int, limit: int | None = None) -> bytes:
        """The content of an object; see `find`.

        Raises:
            CheckoutError: it is not here, or damaged, or `TooLarge`.
        """
        data = self.find(oid, kind, limit)
        if data is None:
            raise CheckoutError(f"{_KINDS[kind]} {oid.decode()} is not in {self.path}")
        return data

    def parents(self, commit: ObjectID) -> list[ObjectID]:
        """The parents of a commit; none for one that is not here."""
        data = self.find(commit, COMMIT)
        found = (_ID.fullmatch(value) for key, value in _headers(data or b"") if key == b"parent")
        return [ObjectID(oid[0]) for oid in found if oid]

    def tree_of(self, commit: ObjectID) -> ObjectID:
        """The root tree of a commit.

        Raises:
            CheckoutError: the commit is not here, or names none.
        """
        root = self.root_of(commit)
        if root is None:
            raise CheckoutError(f"commit {commit.decode()} is not in {self.path}")
        return root

    def root_of(self, commit: ObjectID) -> ObjectID | None:
        """The root tree of a commit; None when the commit is not here.

        Raises:
            CheckoutError: it is damaged, or names none.
        """
        with self._lock:
            if known := self._roots.get(commit):
                return known
        data = self.find(commit, COMMIT)
        if data is None:
            return None
        key, value = next(_headers(data))
        if key != b"tree" or not _ID.fullmatch(value):
            raise CheckoutError(f"commit {commit.decode()} in {self.path} is malformed", retryable=False)
        with self._lock:
            self._roots[commit] = ObjectID(value)
            _drop_oldest(self._roots, _KEPT_ROOTS)
        return ObjectID(value)

    def entries(self, tree: ObjectID) -> list[Entry]:
        """The entries of a tree, as they are: not checked in any way.

        Raises:
            CheckoutError: the tree is not here, or damaged, or has more than `MAX_ENTRIES`.
        """
        with self._lock:
            known = self._trees.get(tree)
        if known is None:
            known = self._parsed(tree)
            self._keep(tree, known)
        return known

    def _keep(self, tree: ObjectID, entries: list[Entry]) -> None:
        """Keep a tree at hand; of those that are, the ones that came first go."""
        if len(entries) > _KEPT_ENTRIES:
            return
        with self._lock:
            self._trees[tree] = entries
            while len(self._trees) > _KEPT_TREES or sum(map(len, self._trees.values())) > _KEPT_ENTRIES:
                del self._trees[next(iter(self._trees))]

    def listed(
        self, tree: ObjectID, prefix: bytes, make: Callable[[list[Entry]], Mapping[bytes, T]]
    ) -> Mapping[bytes, T]:
        """What `make` makes of the entries of a tree at `prefix`: always the same, so it is kept."""
        with self._lock:
            if known := self._lists.pop((tree, prefix), None):
                self._lists[tree, prefix] = known  # what was used last goes last
        if known is None:
            known = make(self.entries(tree))
            if len(known) <= _KEPT_ENTRIES:
                with self._lock:
                    self._lists[tree, prefix] = known
                    _drop_oldest(self._lists, _KEPT_LISTS)
        return known

    def _parsed(self, tree: ObjectID) -> list[Entry]:
        data = self.read(tree, TREE)
        found: list[Entry] = []
        position = 0
        while position < len(data):
            space, end = data.find(b" ", position), data.find(b"\0", position)
            if not _MODE.fullmatch(data, position, max(space, 0)) or not space < end < len(data) - 20:
                raise CheckoutError(f"tree {tree.decode()} in {self.path} is malformed", retryable=False)
            if len(found) == MAX_ENTRIES:
                why = f"tree {tree.decode()} has more than {MAX_ENTRIES} entries; split that directory"
                raise CheckoutError(why, retryable=False)
            oid = sha_to_hex(data[end + 1 : end + 21])  # type: ignore[arg-type]
            found.append(Entry(data[space + 1 : end], int(data[position:space], 8), oid))
            position = end + 21
        return found

    def missing(self, oids: Iterable[ObjectID]) -> list[ObjectID]:
        """Those of `oids` that are not here, each once, in order."""

        def look() -> list[ObjectID]:
            return [
                oid
                for oid in dict.fromkeys(oids)
                if not any(oid in pack for pack in self._packs) and not self._store.contains_loose(oid)
            ]

        return self._afresh(look)

    def with_prefix(self, prefix: str, kind: int) -> list[ObjectID]:
        """The objects of `kind` whose id begins with `prefix` (hex, at least 2 digits)."""
        found = self._afresh(lambda: list(self._store.iter_prefix(prefix.encode())))
        return [oid for oid in found if self.find(oid, kind) is not None]

    def refresh(self) -> None:
        """See the packs that came, and let go of those that went."""
        with self._lock:
            self._packs = self._store.packs
            recent = self._recent
            # By identity: to compare packs is to open them, and one may be gone.
            if recent and not any(pack is recent.pack for pack in self._packs):
                self._turn_to(None)

    def _afresh(self, look: Callable[[], T], *, first: bool = True) -> T:
        """Look, and once more when `git gc` takes a pack away meanwhile; `first` look for new packs."""
        with self._lock:
            for attempt in range(_ATTEMPTS):
                if first or attempt:
                    self.refresh()
                with contextlib.suppress(PackFileDisappeared, FileNotFoundError):
                    return look()
        raise CheckoutError(f"the packs of {self.path} change all the time; is git gc running?")


def has_id(oid: ObjectID, kind: int, data: bytes) -> bool:
    """True when `data` is what `oid` names."""
    digest = hashlib.sha1(b"%b %d\0" % (_KINDS[kind].encode(), len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.hexdigest().encode() == oid


def _check_bounds(oid: ObjectID, links: Sequence[Link], limit: int) -> None:
    if links[0].size > limit:
        raise TooLarge(oid, links[0].size, limit)
    # Honest deltas are smaller than what they make, and lead from one version of a file to the next.
    sizes = [link.size for link in links]
    longest = max((link.packed for link in links[:-1]), default=0)
    if longest > limit or max(sizes) > 2 * limit or sum(sizes) > _MOST_WORK * limit:
        why = f"object {oid.decode()} is packed in a way that takes too much to unpack"
        raise CheckoutError(why, retryable=False)


def _headers(commit: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in commit.split(b"\n\n", 1)[0].split(b"\n"):
        key, _, value = line.partition(b" ")
        yield key, value
