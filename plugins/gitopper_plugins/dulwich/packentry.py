"""What a pack says of an entry before it is unpacked (gitformat-pack(5)).

A pack of a few kilobytes can stand for terabytes: zlib makes one byte of a thousand, and a delta of seven
bytes copies sixteen megabytes. But each entry tells how large it is, and each delta what it makes, and
whoever unpacks them holds them to that.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable

from attrs import frozen
from dulwich.pack import OFS_DELTA, REF_DELTA

__all__ = [
    "WINDOW_BYTES",
    "DamagedError",
    "EndlessError",
    "Head",
    "Link",
    "chain",
    "parse",
    "result_size",
    "unpacked",
    "weight",
]

WINDOW_BYTES = 128
"""More than the head of any entry has, and the first two numbers of a delta."""
MAX_LINKS = 4095
"""Git makes no longer chains of deltas (``pack.depth``)."""
_MAX_DIGITS = 10
"""Of a number of variable length: seven bits each, so 1 ZiB."""
_HEADER_BYTES, _TRAILER_BYTES = 12, 20
_PIECE_BYTES, _READ_BYTES = 4096, 64 * 1024


class DamagedError(Exception):
    """This is not how a pack is made."""


class EndlessError(DamagedError):
    """An object takes more deltas than git ever makes."""


@frozen
class Head:
    """The head of an entry."""

    kind: int
    """A number as in `objects`, or one of the two kinds of delta."""
    size: int
    """How many bytes its packed part has, unpacked: of the object, or of the delta."""
    packed_at: int
    """Where the packed part begins, from the beginning of the entry."""
    distance: int = 0
    """`OFS_DELTA`: how far before this entry its base begins."""
    base: bytes = b""
    """`REF_DELTA`: the binary id of its base."""

    @property
    def is_delta(self) -> bool:
        """True when it needs another object to become one."""
        return self.kind in (OFS_DELTA, REF_DELTA)


def parse(raw: bytes) -> Head:
    """Read the head of the entry that `raw` begins with.

    Raises:
        DamagedError: it is none.
    """
    try:
        kind, (size, at) = raw[0] >> 4 & 7, _size(raw)
        if kind == OFS_DELTA:
            distance, at = _distance(raw, at)
            return Head(kind, size, at, distance=distance)
        if kind == REF_DELTA:
            return Head(kind, size, at + 20, base=bytes(raw[at : at + 20]))
    except IndexError:
        raise DamagedError("an entry ends early") from None
    if kind not in (1, 2, 3, 4):
        raise DamagedError(f"an entry is of kind {kind}")
    return Head(kind, size, at)


def _size(raw: bytes) -> tuple[int, int]:
    number, at = raw[0] & 15, 1
    while raw[at - 1] & 0x80:
        if at > _MAX_DIGITS:
            raise DamagedError("a size has no end")
        number |= (raw[at] & 0x7F) << (4 + 7 * (at - 1))
        at += 1
    return number, at


def _distance(raw: bytes, at: int) -> tuple[int, int]:
    start, number = at, raw[at] & 0x7F
    while raw[at] & 0x80:
        if at - start > _MAX_DIGITS:
            raise DamagedError("a distance has no end")
        at += 1
        number = (number + 1) << 7 | (raw[at] & 0x7F)
    return number, at + 1


def result_size(packed: bytes) -> int:
    """How large the object is that a delta makes; `packed` is the beginning of its packed part.

    Raises:
        DamagedError: it is no delta.
    """
    try:
        begin = zlib.decompressobj().decompress(packed, 2 * _MAX_DIGITS)
        _, at = _number(begin, 0)
        return _number(begin, at)[0]
    except (zlib.error, IndexError) as exc:
        raise DamagedError(f"a delta can't be read: {exc}") from exc


def _number(raw: bytes, at: int) -> tuple[int, int]:
    start, number = at, 0
    while True:
        number |= (raw[at] & 0x7F) << (7 * (at - start))
        at += 1
        if not raw[at - 1] & 0x80:
            return number, at


@frozen
class Link:
    """One entry on the way from an object to the whole one that its deltas begin with."""

    offset: int
    kind: int
    """As `Head.kind`."""
    packed_at: int
    """As `Head.packed_at`."""
    packed: int
    """Unpacked size of what the entry holds, in bytes."""
    size: int
    """Of the object that it stands for, in bytes."""


def chain(descriptor: int, offset: int, offset_of: Callable[[bytes], int]) -> list[Link]:
    """The entries that it takes to read the one at `offset` of a pack: that one first.

    Args:
        descriptor: the pack, open for reading.
        offset: where the entry begins.
        offset_of: tells where an object begins, by its binary id; KeyError for one that is not there.

    Raises:
        DamagedError: a base is missing, or something is no entry.
        EndlessError: there are too many.
    """
    links: list[Link] = []
    while len(links) <= MAX_LINKS:
        raw = os.pread(descriptor, WINDOW_BYTES, offset)
        head = parse(raw)
        size = result_size(raw[head.packed_at :]) if head.is_delta else head.size
        links.append(Link(offset, head.kind, head.packed_at, head.size, size))
        if not head.is_delta:
            return links
        offset = _base_of(head, offset, offset_of)
    raise EndlessError(f"it takes more than {MAX_LINKS} deltas")


def unpacked(descriptor: int, link: Link) -> bytes:
    """What the entry of `link` holds: an object or a delta; never more than its head says.

    Raises:
        DamagedError: it is not as long as that.
        zlib.error: it is not packed by zlib.
    """
    inflate, pieces = zlib.decompressobj(), []
    at, left = link.offset + link.packed_at, link.packed
    while not inflate.eof:
        # What does not shrink grows by a few bytes: most entries are read at once, and little beyond them.
        raw = os.pread(descriptor, min(left + WINDOW_BYTES, _READ_BYTES), at)
        if not raw:
            raise DamagedError("an entry ends early")
        piece = inflate.decompress(raw, left + 1)
        pieces.append(piece)
        at, left = at + len(raw), left - len(piece)
        if left < 0:
            raise DamagedError("an entry is larger than it says")
    if left:
        raise DamagedError("an entry is smaller than it says")
    return b"".join(pieces)


def _base_of(head: Head, offset: int, offset_of: Callable[[bytes], int]) -> int:
    if head.kind == REF_DELTA:
        try:
            return offset_of(head.base)
        except KeyError:
            raise DamagedError(f"a delta is based on {head.base.hex()}, which is not there") from None
    if not 0 < head.distance <= offset - _HEADER_BYTES:
        raise DamagedError("a delta is based on something outside of the pack")
    return offset - head.distance


def weight(pack: bytes, enough: int) -> int:
    """How many bytes the entries of a whole `pack` stand for; it stops counting beyond `enough`.

    Raises:
        DamagedError: it is no pack, or has not what its header says.
    """
    if pack[:4] != b"PACK" or len(pack) < _HEADER_BYTES + _TRAILER_BYTES:
        raise DamagedError("it is no pack")
    total, at, end = 0, _HEADER_BYTES, len(pack) - _TRAILER_BYTES
    for _ in range(int.from_bytes(pack[8:12], "big")):
        window = pack[at : min(at + WINDOW_BYTES, end)]
        head = parse(window)
        total += head.size + (result_size(window[head.packed_at :]) if head.is_delta else 0)
        if total > enough:
            return total
        at = _after(pack, at + head.packed_at, end, head.size)
    if at != end:
        raise DamagedError("it has more than its header says")
    return total


def _after(pack: bytes, at: int, end: int, size: int) -> int:
    """Where the packed part that begins at `at` ends."""
    inflate = zlib.decompressobj()
    while not inflate.eof:
        piece = pack[at : min(at + _PIECE_BYTES, end)]
        if not piece:
            raise DamagedError("an entry ends early")
        try:
            size -= len(inflate.decompress(piece, max(size, 0) + 1))
        except zlib.error as exc:
            raise DamagedError(f"an entry can't be unpacked: {exc}") from exc
        if size < 0 or inflate.unconsumed_tail:
            raise DamagedError("an entry is larger than it says")
        at += len(piece) - len(inflate.unused_data)
    if size:
        raise DamagedError("an entry is smaller than it says")
    return at
