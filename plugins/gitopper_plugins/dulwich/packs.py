"""Packs: taking them in, and keeping them few.

Each fetch brings one pack. A pack costs four open files, and each lookup asks every pack; so small
ones are merged now and then, in a way that copies each byte only a few times over the years
(pack sizes grow geometrically, as with `git repack --geometric`). A merge copies the compressed
entries as they are and adjusts the distances between deltas and their bases; so it costs
about as much as copying the files.

The order of steps is git's: ``.pack``, ``.promisor``, and ``.idx`` last, since that makes the pack visible.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import define, field
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import (
    OFS_DELTA,
    REF_DELTA,
    Pack,
    PackData,
    UnresolvedDeltas,
    pack_object_header,
    write_pack_index_v2,
)

from gitopper_plugins.dulwich.pkt import GarbledError
from gitopper_plugins.dulwich.scratch import scratch, sync_directory
from gitopper_plugins.dulwich.transport import git_environment
from libgitopper import CommandError, run

__all__ = ["SCRATCH", "consolidate", "drop_damaged", "index_pack", "receive"]

log = logging.getLogger(__name__)

SCRATCH = "scratch-"
# Above this, indexing is left to git, or to a process of its own: it would hold up our threads.
LARGE_BYTES = 512 * 1024
INDEX_TIMEOUT_SECONDS = 3600.0
MAX_SMALL_PACKS = 8
SMALL_BYTES = 32 * 1024 * 1024
_EMPTY_PACK_BYTES = 32


def receive(store: Path, chunks: Iterable[bytes], *, promisor: bool) -> bool:
    """Take in the pack that `chunks` bring. It is there as a whole, or not at all.

    Returns:
        False when the pack is empty: nothing to take in.

    Raises:
        GarbledError: this is no sound pack.
        OSError: the disk is full, or refuses.
    """
    with scratch(store, SCRATCH) as aside:
        pack = aside / "incoming.pack"
        with pack.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        if size <= _EMPTY_PACK_BYTES:
            return False
        if size > LARGE_BYTES:
            _index_elsewhere(store, pack)
        else:
            index_pack(pack)
        _install(store, pack, promisor=promisor)
    return True


def index_pack(pack: Path) -> None:
    """Check `pack` and write its index beside it.

    Raises:
        GarbledError: it is damaged, or needs objects that it does not have.
    """
    try:
        with PackData(pack, DEFAULT_OBJECT_FORMAT) as data:
            data.check()
            _write_index(pack, data.sorted_entries(), data.get_stored_checksum())
    except (AssertionError, ValueError, BufferError, zlib.error, UnresolvedDeltas) as exc:
        raise GarbledError(f"the pack is damaged: {type(exc).__name__}: {exc}") from exc
    except Exception as exc:
        if type(exc).__module__.partition(".")[0] != "dulwich":
            raise
        raise GarbledError(f"the pack is damaged: {type(exc).__name__}: {exc}") from exc


def _index_elsewhere(store: Path, pack: Path) -> None:
    argv = [sys.executable, "-m", "gitopper_plugins.dulwich.packs", str(pack)]
    if git := shutil.which("git"):
        index = str(pack.with_suffix(".idx"))
        argv = [git, f"--git-dir={store}", "index-pack", "--no-rev-index", "-o", index, str(pack)]
    try:
        run(argv, timeout_seconds=INDEX_TIMEOUT_SECONDS, env=git_environment()).check()
    except CommandError as exc:
        raise GarbledError(f"the pack can't be indexed: {exc}") from exc


def _write_index(pack: Path, entries: Sequence[tuple[bytes, int, int | None]], checksum: bytes) -> None:
    with pack.with_suffix(".idx").open("wb") as file:
        write_pack_index_v2(file, entries, checksum)
        file.flush()
        os.fsync(file.fileno())


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
    pack.rename(target.with_suffix(".pack"))
    if promisor:
        target.with_suffix(".promisor").touch(0o644)
    sync_directory(target.parent)
    pack.with_suffix(".idx").rename(target.with_suffix(".idx"))
    sync_directory(target.parent)
    return name


def consolidate(store: Path) -> bool:
    """Merge small packs into one when there are too many; True when packs went away.

    The caller holds the lock of the store, and sees to it that readers look for the packs anew.
    """
    small = sorted(_small_packs(store))
    if len(small) <= MAX_SMALL_PACKS:
        return False
    sizes = [size for size, _ in small]
    chosen = [base for _, base in small[: _rolled_up(sizes)]]
    promisor = any(base.with_suffix(".promisor").exists() for base in chosen)
    with scratch(store, SCRATCH) as aside:
        merged = aside / "merged.pack"
        _merge(chosen, merged)
        name = _install(store, merged, promisor=promisor)
    for base in chosen:
        if base.name != name:
            _delete(base)
    log.debug("merged %d packs of %s", len(chosen), store)
    return True


def drop_damaged(store: Path) -> None:
    """Delete the packs that are not what they were written as. Costs reading all of them."""
    for index in (store / "objects" / "pack").glob("*.idx"):
        base = index.with_suffix("")
        try:
            with Pack(str(base), object_format=DEFAULT_OBJECT_FORMAT) as pack:
                pack.index.check()
                pack.data.check()
        except Exception:
            log.exception("pack %s is damaged", base)
            _delete(base)


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
    for suffix in (".idx", ".rev", ".bitmap", ".promisor", ".pack"):
        with contextlib.suppress(FileNotFoundError):
            base.with_suffix(suffix).unlink()


def _merge(bases: Sequence[Path], target: Path) -> None:
    """Write the objects of the packs at `bases`, each once, as one pack with its index."""
    with target.open("w+b") as file:
        merger = _Merger(file)
        merger.start()
        for base in bases:
            with Pack(str(base), object_format=DEFAULT_OBJECT_FORMAT) as pack:
                merger.add(pack, base.with_suffix(".pack"))
        checksum = merger.finish()
    _write_index(target, sorted((oid, at, crc) for oid, (at, crc) in merger.placed.items()), checksum)


@define
class _Merger:
    """Copies packs behind each other into `file`, leaving out what is already there."""

    file: IO[bytes]
    placed: dict[bytes, tuple[int, int]] = field(factory=dict)
    """Binary object id to offset and CRC-32 in the new pack."""

    def start(self) -> None:
        self.file.write(_pack_header(0))

    def add(self, pack: Pack, path: Path) -> None:
        """Copy what is new of `pack`, in its order: there, a base stands before its deltas."""
        entries = sorted((offset, oid) for oid, offset, _ in pack.index.iterentries())
        ids = dict(entries)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            ends = [offset for offset, _ in entries[1:]] + [len(data) - 20]
            for (offset, oid), end in zip(entries, ends, strict=True):
                if oid not in self.placed:
                    self._place(oid, self._entry(pack, data[offset:end], offset, ids))

    def _place(self, oid: bytes, entry: bytes) -> None:
        self.placed[oid] = (self.file.tell(), zlib.crc32(entry))
        self.file.write(entry)

    def _entry(self, pack: Pack, raw: bytes, offset: int, ids: Mapping[int, bytes]) -> bytes:
        kind, size, body = _split(raw)
        if kind == REF_DELTA:
            # Its base may stand anywhere, even in a circle once duplicates are left out: written in full.
            kind, whole = pack.get_raw(ids[offset])  # type: ignore[arg-type]
            header = pack_object_header(kind, None, len(whole), DEFAULT_OBJECT_FORMAT)
            return bytes(header) + zlib.compress(whole)
        if kind != OFS_DELTA:
            return raw
        distance, body = _distance(body)
        base, _ = self.placed[ids[offset - distance]]
        moved = self.file.tell() - base
        return bytes(pack_object_header(OFS_DELTA, moved, size, DEFAULT_OBJECT_FORMAT)) + body

    def finish(self) -> bytes:
        """Write the count and the checksum; returns the checksum."""
        self.file.seek(0)
        self.file.write(_pack_header(len(self.placed)))
        self.file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while block := self.file.read(1 << 20):
            digest.update(block)
        self.file.write(digest.digest())
        self.file.flush()
        os.fsync(self.file.fileno())
        return digest.digest()


def _pack_header(count: int) -> bytes:
    return b"PACK" + (2).to_bytes(4, "big") + count.to_bytes(4, "big")


def _split(raw: bytes) -> tuple[int, int, bytes]:
    """Type, size, and the rest of a pack entry (gitformat-pack(5))."""
    kind, size, shift, position = (raw[0] >> 4) & 7, raw[0] & 15, 4, 1
    while raw[position - 1] & 0x80:
        size |= (raw[position] & 0x7F) << shift
        shift += 7
        position += 1
    return kind, size, raw[position:]


def _distance(body: bytes) -> tuple[int, bytes]:
    """How far before a delta its base stands, and the rest."""
    distance, position = body[0] & 0x7F, 1
    while body[position - 1] & 0x80:
        distance = ((distance + 1) << 7) | (body[position] & 0x7F)
        position += 1
    return distance, body[position:]


if __name__ == "__main__":
    index_pack(Path(sys.argv[1]))
