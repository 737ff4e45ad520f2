"""Reading objects of a store, from any thread, also while packs come and go."""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from attrs import define, field, frozen
from dulwich.errors import ChecksumMismatch
from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, sha_to_hex
from dulwich.pack import PackFileDisappeared

from libgitopper import CheckoutError

__all__ = ["BLOB", "COMMIT", "TAG", "TREE", "Entry", "Objects"]

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
_KINDS = {COMMIT: "commit", TREE: "tree", BLOB: "blob", TAG: "tag"}

# Enough for the trees of one reconcile; dulwich would keep up to 96 MB for each pack.
_DELTA_CACHE_BYTES = 4 * 1024 * 1024
_ATTEMPTS = 3
# What dulwich raises when it meets a file that is not what it should be.
_DAMAGE = (
    zlib.error, struct.error, BufferError, ValueError, IndexError, AssertionError, ChecksumMismatch, OSError
)  # fmt: skip

T = TypeVar("T")


@frozen
class Entry:
    """One entry of a tree."""

    name: bytes
    mode: int
    id: ObjectID


def _open(path: Path) -> DiskObjectStore:
    return DiskObjectStore(path / "objects", delta_base_cache_limit=_DELTA_CACHE_BYTES)


@define(eq=False)
class Objects:
    """The objects of one store.

    Each call takes a lock for the moment that it reads; none is held while anybody waits for a network.
    """

    path: Path
    """The bare git directory."""
    _store: DiskObjectStore = field(init=False)
    _lock: threading.RLock = field(init=False, factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        self._store = _open(self.path)

    def close(self) -> None:
        """Release the open files; reading opens them again."""
        with self._lock:
            self._store.close()

    def find(self, oid: ObjectID, kind: int) -> bytes | None:
        """The content of an object; None when it is not here, or of another kind.

        Raises:
            CheckoutError: it is here, and damaged.
        """
        try:
            with self._lock:
                found, data = self._store.get_raw(oid)
        except KeyError:
            return None
        except _DAMAGE as exc:
            raise CheckoutError(
                f"object {oid.decode()} in {self.path} can't be read: {type(exc).__name__}: {exc};"
                " if the disk is sound, move that store away, and it is fetched anew"
            ) from exc
        return data if found == kind else None

    def read(self, oid: ObjectID, kind: int) -> bytes:
        """The content of an object.

        Raises:
            CheckoutError: it is not here, or damaged.
        """
        data = self.find(oid, kind)
        if data is None:
            raise CheckoutError(f"{_KINDS[kind]} {oid.decode()} is not in {self.path}")
        return data

    def parents(self, commit: ObjectID) -> list[ObjectID]:
        """The parents of a commit; none for one that is not here."""
        data = self.find(commit, COMMIT)
        return [ObjectID(value) for key, value in _headers(data or b"") if key == b"parent"]

    def tree_of(self, commit: ObjectID) -> ObjectID:
        """The root tree of a commit.

        Raises:
            CheckoutError: the commit is not here.
        """
        return ObjectID(next(_headers(self.read(commit, COMMIT)))[1])

    def entries(self, tree: ObjectID) -> list[Entry]:
        """The entries of a tree, as they are: not checked in any way.

        Raises:
            CheckoutError: the tree is not here, or damaged.
        """
        data = self.read(tree, TREE)
        found = []
        position = 0
        while position < len(data):
            space, end = data.find(b" ", position), data.find(b"\0", position)
            if not position < space < end or end + 20 > len(data):
                raise CheckoutError(f"tree {tree.decode()} in {self.path} is malformed", retryable=False)
            oid = sha_to_hex(data[end + 1 : end + 21])  # type: ignore[arg-type]
            found.append(Entry(data[space + 1 : end], int(data[position:space], 8), oid))
            position = end + 21
        return found

    def missing(self, oids: Iterable[ObjectID]) -> list[ObjectID]:
        """Those of `oids` that are not here, each once, in order."""

        def look() -> list[ObjectID]:
            packs = self._store.packs
            return [
                oid
                for oid in dict.fromkeys(oids)
                if not any(oid in pack for pack in packs) and not self._store.contains_loose(oid)
            ]

        return self._afresh(look)

    def with_prefix(self, prefix: str, kind: int) -> list[ObjectID]:
        """The objects of `kind` whose id begins with `prefix` (hex, at least 2 digits)."""
        found = self._afresh(lambda: list(self._store.iter_prefix(prefix.encode())))
        return [oid for oid in found if self.find(oid, kind) is not None]

    def refresh(self) -> None:
        """See the packs that came, and let go of those that went."""
        with self._lock:
            self._store.packs  # noqa: B018 - reading it looks into the directory

    def _afresh(self, look: Callable[[], T]) -> T:
        """Look through all packs, and once more when `git gc` takes one away meanwhile."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                self.refresh()
                with contextlib.suppress(PackFileDisappeared):
                    return look()
        raise CheckoutError(f"the packs of {self.path} change all the time; is git gc running?")


def _headers(commit: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in commit.split(b"\n\n", 1)[0].split(b"\n"):
        key, _, value = line.partition(b" ")
        yield key, value
