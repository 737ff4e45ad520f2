"""Merging packs: their entries are copied as they are, without being unpacked.

A delta that names its base by a distance gets another distance; one that names it by its id becomes one
with a distance. For that each base must come before what is based on it; in a sound pack there is always
such an order. So merging costs about as much as copying, whatever the entries stand for.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from attrs import define, field, frozen
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.pack import OFS_DELTA, Pack, pack_object_header

from gitopper_plugins.dulwich.packentry import WINDOW_BYTES, Head, parse

__all__ = ["IndexRow", "merge"]

IndexRow = tuple[bytes, int, int]
"""Binary object id, offset in the pack, CRC-32 of the entry."""
_TRAILER_BYTES = 20
_BLOCK_BYTES = 1 << 20


def merge(bases: Sequence[Path], target: Path) -> tuple[Sequence[IndexRow], bytes]:
    """Write the objects of the packs at `bases` (paths without suffix), each once, as the pack `target`.

    Returns:
        The rows of its index, sorted, and its checksum.

    Raises:
        ValueError: a pack is not sound.
    """
    with target.open("w+b") as file:
        merger = _Merger(file)
        file.write(_header(0))
        for base in bases:
            with Pack(str(base), object_format=DEFAULT_OBJECT_FORMAT) as pack:
                merger.add(pack, base.with_suffix(".pack"))
        checksum = merger.finish()
    return sorted((oid, at, crc) for oid, (at, crc) in merger.placed.items()), checksum


@frozen
class _Piece:
    """An entry that is to be copied."""

    oid: bytes
    start: int
    end: int
    head: Head
    base: bytes | None
    """The binary id of what it is a delta of; None for a whole one."""


@define
class _Merger:
    file: IO[bytes]
    placed: dict[bytes, tuple[int, int]] = field(factory=dict)
    """Binary object id to offset and CRC-32 in the new pack."""

    def add(self, pack: Pack, path: Path) -> None:
        """Copy what is new of `pack`, each base before its deltas."""
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            waiting: defaultdict[bytes, list[_Piece]] = defaultdict(list)
            for piece in _pieces(pack, data):
                if piece.oid in self.placed:
                    continue
                if piece.base is None or piece.base in self.placed:
                    self._place(piece, data, waiting)
                else:
                    waiting[piece.base].append(piece)
        if waiting:
            raise ValueError(f"{path} has deltas without their bases")

    def _place(self, first: _Piece, data: mmap.mmap, waiting: defaultdict[bytes, list[_Piece]]) -> None:
        """Copy `first`, and all that waited for it."""
        ready = [first]
        while ready:
            piece = ready.pop()
            entry = self._entry(piece, data)
            self.placed[piece.oid] = (self.file.tell(), zlib.crc32(entry))
            self.file.write(entry)
            ready += waiting.pop(piece.oid, ())

    def _entry(self, piece: _Piece, data: mmap.mmap) -> bytes:
        if piece.base is None:
            return data[piece.start : piece.end]
        distance = self.file.tell() - self.placed[piece.base][0]
        header = pack_object_header(OFS_DELTA, distance, piece.head.size, DEFAULT_OBJECT_FORMAT)
        return bytes(header) + data[piece.start + piece.head.packed_at : piece.end]

    def finish(self) -> bytes:
        """Write the count and the checksum; return the checksum."""
        self.file.seek(0)
        self.file.write(_header(len(self.placed)))
        self.file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        while block := self.file.read(_BLOCK_BYTES):
            digest.update(block)
        self.file.write(digest.digest())
        self.file.flush()
        os.fsync(self.file.fileno())
        return digest.digest()


def _pieces(pack: Pack, data: mmap.mmap) -> Iterator[_Piece]:
    """The entries of a pack, in their order."""
    entries = sorted((offset, bytes(oid)) for oid, offset, _ in pack.index.iterentries())
    ids = dict(entries)
    ends = [offset for offset, _ in entries[1:]] + [len(data) - _TRAILER_BYTES]
    for (start, oid), end in zip(entries, ends, strict=True):
        head = parse(data[start : min(start + WINDOW_BYTES, end)])
        yield _Piece(oid, start, end, head, _base(head, start, ids))


def _base(head: Head, start: int, ids: Mapping[int, bytes]) -> bytes | None:
    if not head.is_delta:
        return None
    return ids[start - head.distance] if head.kind == OFS_DELTA else head.base


def _header(count: int) -> bytes:
    return b"PACK" + (2).to_bytes(4, "big") + count.to_bytes(4, "big")
