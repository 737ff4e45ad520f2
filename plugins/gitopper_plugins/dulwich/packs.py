"""Packs: taking them in, and keeping them few.

Each fetch brings one pack. A pack costs four open files, and each lookup asks every pack; so small
ones are merged now and then, in a way that copies each byte only a few times over the years
(pack sizes grow geometrically, as with `git repack --geometric`).

What upstream sends is not trusted: there is a limit to its size, and `indexing` knows how to look at it.

The order of steps is git's: ``.pack``, ``.promisor``, and ``.idx`` last, since that makes the pack visible.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias

from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import Pack

from gitopper_plugins.dulwich import indexing
from gitopper_plugins.dulwich.merging import merge
from gitopper_plugins.dulwich.pkt import GarbledError
from gitopper_plugins.dulwich.scratch import or_left, scratch, sync_directory
from libgitopper import Limits

__all__ = [
    "MAX_SMALL_PACKS",
    "MOST_SMALL_PACKS",
    "SCRATCH",
    "consolidate",
    "drop_damaged",
    "drop_halves",
    "receive",
]

log = logging.getLogger(__name__)

SCRATCH = "scratch-"
INDEX_TIMEOUT_SECONDS = 3600.0
MAX_SMALL_PACKS = 8
MOST_SMALL_PACKS = 12
"""More are merged at once, also while somebody waits for what was fetched."""
HALF_SECONDS = 3600.0
"""How old what has no index must be: it may be a pack that somebody's git is about to finish."""
SMALL_BYTES = 32 * 1024 * 1024
_EMPTY_PACK_BYTES = 32
Indexer: TypeAlias = Callable[[Path, Limits, float], None]
"""Writes the index of a pack beside it; see `exchange.Reader.index`."""


def receive(
    store: Path,
    chunks: Iterable[bytes],
    *,
    promisor: bool,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    timeout_seconds: float = INDEX_TIMEOUT_SECONDS,
    indexer: Indexer = indexing.index,
    judge: Callable[[Pack], None] = lambda _: None,
) -> bool:
    """Take in the pack that `chunks` bring. It is there as a whole, or not at all.

    Args:
        store: the bare git directory.
        chunks: what comes in.
        promisor: whether the pack lacks objects on purpose.
        limits: how much may come, and how large a file may be.
        timeout_seconds: longest that indexing may take.
        indexer: checks it, and writes its index.
        judge: raises to refuse the pack, once it is known what is in it.

    Returns:
        False when the pack is empty: nothing to take in.

    Raises:
        GarbledError: this is no sound pack, or too much.
        OSError: the disk is full, or refuses.
    """
    with scratch(store, SCRATCH) as aside:
        pack = aside / "incoming.pack"
        with pack.open("wb") as file:
            size = _write(file, chunks, limits.fetch_bytes)
        if size <= _EMPTY_PACK_BYTES:
            return False
        indexer(pack, limits, timeout_seconds)
        with Pack(str(pack.with_suffix("")), object_format=DEFAULT_OBJECT_FORMAT) as indexed:
            judge(indexed)
        _install(store, pack, promisor=promisor)
    return True


def _write(file: IO[bytes], chunks: Iterable[bytes], limit: int) -> int:
    """Write `chunks` to the disk, and return how many bytes they were."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise GarbledError(
                f"it sends more than {limit} bytes at a time; allow more with `max_fetch` if that is meant"
            )
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return size


def _install(store: Path, pack: Path, *, promisor: bool) -> str:
    """Move `pack` with its index into the store, and return the name that it has there."""
    with pack.open("rb") as file:
        file.seek(-20, os.SEEK_END)
        name = f"pack-{file.read().hex()}"
    target = store / "objects" / "pack" / name
    if target.with_suffix(".idx").exists():
        return name  # the same bytes are here
    pack.chmod(0o444)
    pack.with_suffix(".idx").chmod(0o444)
    # What they hold is on the disk; their names need not be yet. A power loss may take these: an index
    # without its pack is cleared at the next start, and a store without its tip fetches it.
    pack.rename(target.with_suffix(".pack"))
    if promisor:
        target.with_suffix(".promisor").touch(0o644)
    pack.with_suffix(".idx").rename(target.with_suffix(".idx"))
    return name


def consolidate(store: Path, most: int = MAX_SMALL_PACKS) -> bool:
    """Merge small packs into one when there are more than `most`; True when packs went away.

    The caller holds the lock of the store, and sees to it that readers look for the packs anew.
    """
    small = sorted(_small_packs(store))
    if len(small) <= most:
        return False
    sizes = [size for size, _ in small]
    chosen = [base for _, base in small[: _rolled_up(sizes)]]
    promisor = any(base.with_suffix(".promisor").exists() for base in chosen)
    with scratch(store, SCRATCH) as aside:
        merged = aside / "merged.pack"
        rows, checksum = merge(chosen, merged)
        indexing.write_index(merged.with_suffix(".idx"), rows, checksum)
        name = _install(store, merged, promisor=promisor)
    sync_directory(store / "objects" / "pack")  # from here on nothing else has what they hold
    for base in chosen:
        if base.name != name:
            _delete(base)
    log.debug("merged %d packs of %s", len(chosen), store)
    return True


def drop_damaged(store: Path) -> None:
    """Delete the packs that are not what they were written as. Costs reading all of them.

    Raises:
        OSError: one can't be opened, so nobody can tell; it stays.
        MemoryError: the same, of a host that is short of memory.
    """
    for index in (store / "objects" / "pack").glob("*.idx"):
        base = index.with_suffix("")
        try:
            with Pack(str(base), object_format=DEFAULT_OBJECT_FORMAT) as pack:
                pack.index.check()
                pack.data.check()
        except OSError as exc:
            if not isinstance(exc, FileNotFoundError):
                raise
            _delete(base)
        except MemoryError:
            raise
        except Exception:
            log.exception("pack %s is damaged", base)
            _delete(base)


def drop_halves(store: Path) -> None:
    """Delete what a crash left of packs that were being deleted, or taken in.

    The one has an index without its pack, which goes whatever its age, since nobody writes that first; the
    other has no index. Nobody reads these, and the same pack would replace them; but what is fetched next
    may be another one.
    """
    packs = store / "objects" / "pack"
    for index in packs.glob("pack-*.idx"):
        if not index.with_suffix(".pack").exists():
            with or_left(index):
                _delete(index.with_suffix(""))
    before = time.time() - HALF_SECONDS
    for path in packs.glob("pack-*"):
        with or_left(path), contextlib.suppress(FileNotFoundError):
            if not path.with_suffix(".idx").exists() and path.stat().st_mtime < before:
                path.unlink()


def _small_packs(store: Path) -> Iterator[tuple[int, Path]]:
    """Size in bytes and path without suffix of each pack that may be merged."""
    for index in (store / "objects" / "pack").glob("*.idx"):
        with contextlib.suppress(FileNotFoundError):
            size = index.with_suffix(".pack").stat().st_size
            if size < SMALL_BYTES and not index.with_suffix(".keep").exists():
                yield size, index.with_suffix("")


def _rolled_up(sizes: Sequence[int]) -> int:
    """How many of the smallest to merge, so that each one left is twice as large as all before it."""
    count = 2
    for position in range(2, len(sizes)):
        if sizes[position] < 2 * sum(sizes[:position]):
            count = position + 1
    return count


def _delete(base: Path) -> None:
    # The index last: one without its pack is no one's, and cleared at the next start. A pack without its
    # index could be what a git is about to take in.
    for suffix in (".pack", ".rev", ".bitmap", ".promisor", ".idx"):
        with contextlib.suppress(FileNotFoundError):
            base.with_suffix(suffix).unlink()
