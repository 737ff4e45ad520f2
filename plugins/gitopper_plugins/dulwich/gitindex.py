"""Git's index file, written by hand (gitformat-index(5)): version 3, with sparse directories.

Entries are kept as they are on disk, beside their names: all that is ever done with them is to sort
them, to write them, and to take some over from one index into the next.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator

from attrs import frozen
from dulwich.objects import ObjectID

__all__ = [
    "IndexEntry",
    "distrusted",
    "dump",
    "left_out",
    "present",
    "present_entries",
    "stat_data",
    "unpacked",
]

_FIXED = struct.Struct(">10L20sH")
_EXTENDED = 0x4000
_SKIP_WORKTREE = 0x4000
_U32 = 0xFFFFFFFF
_MTIME_AT, _TIMES_BYTES, _OWNER_AT, _OWNER_BYTES = 8, 24, 28, 12
_NO_STAT = (0,) * 6, (0,) * 3


@frozen
class IndexEntry:
    """One entry."""

    name: bytes
    """Full path; with a slash at its end for a directory that is left out."""
    packed: bytes
    """As it is in the file."""


def present(name: bytes, mode: int, oid: ObjectID, stat: os.stat_result | None) -> IndexEntry:
    """An entry for what is on disk; without `stat` git looks at the content before it trusts it."""
    if stat is None:
        return _entry(name, mode, oid, *_NO_STAT, skip=False)
    times = (*divmod(stat.st_ctime_ns, 10**9), *divmod(stat.st_mtime_ns, 10**9))
    size = stat.st_size if mode & 0o170000 != 0o160000 else 0
    return _entry(
        name, mode, oid, (*times, stat.st_dev, stat.st_ino), (stat.st_uid, stat.st_gid, size), skip=False
    )


def left_out(name: bytes, mode: int, oid: ObjectID) -> IndexEntry:
    """An entry for what is not on disk: a file, or a whole directory (its name ends with a slash)."""
    return _entry(name, mode, oid, *_NO_STAT, skip=True)


def _entry(
    name: bytes, mode: int, oid: ObjectID, times: tuple[int, ...], owner: tuple[int, ...], *, skip: bool
) -> IndexEntry:
    numbers = [n & _U32 for n in (*times, mode, *owner)]
    flags = min(len(name), 0xFFF) | (_EXTENDED if skip else 0)
    packed = _FIXED.pack(*numbers, bytes.fromhex(oid.decode()), flags)
    if skip:
        packed += struct.pack(">H", _SKIP_WORKTREE)
    packed += name
    return IndexEntry(name, packed + b"\0" * (8 - len(packed) % 8))


def distrusted(entry: IndexEntry, index_ns: int) -> IndexEntry:
    """Take the stat data from an entry that is not older than its index, written at `index_ns`.

    A file can be changed again in the same tick of the clock, to the same size: then its stat data
    is what it was. Git looks at such a file's content, for as long as the index is as old
    (gitformat-index(5), "racy git"); in an index that is written later, nothing would tell it to.
    """
    seconds, nanoseconds = struct.unpack_from(">LL", entry.packed, _MTIME_AT)
    if seconds * 10**9 + nanoseconds < index_ns:
        return entry
    packed = bytearray(entry.packed)
    for at, size in ((0, _TIMES_BYTES), (_OWNER_AT, _OWNER_BYTES)):
        packed[at : at + size] = bytes(size)
    return IndexEntry(entry.name, bytes(packed))


def stat_data(stat: os.stat_result) -> tuple[int, ...]:
    """What an index keeps of `stat` to know a file again, without its device: that may change at a boot."""
    times = (*divmod(stat.st_ctime_ns, 10**9), *divmod(stat.st_mtime_ns, 10**9))
    return tuple([n & _U32 for n in (*times, stat.st_ino, stat.st_uid, stat.st_gid, stat.st_size)])


def unpacked(entry: IndexEntry) -> tuple[int, ObjectID, tuple[int, ...]]:
    """Mode, object id and `stat_data` of an entry; where there is none of it, zeros, which no file has."""
    numbers = _FIXED.unpack_from(entry.packed)
    return numbers[6], ObjectID(numbers[10].hex().encode()), (*numbers[:4], numbers[5], *numbers[7:10])


def dump(entries: Iterable[IndexEntry]) -> bytes:
    """The index file with `entries`; of two with one name the later is taken."""
    ordered = sorted({entry.name: entry for entry in entries}.values(), key=lambda entry: entry.name)
    body = b"DIRC" + struct.pack(">LL", 3, len(ordered)) + b"".join(entry.packed for entry in ordered)
    body += b"sdir" + struct.pack(">L", 0)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def present_entries(index: bytes) -> Iterator[IndexEntry]:
    """The entries for what is on disk, of an index that `dump` made.

    Raises:
        ValueError: it did not, or it is damaged.
    """
    if hashlib.sha1(index[:-20], usedforsecurity=False).digest() != index[-20:]:
        raise ValueError("damaged index")
    version, count = struct.unpack_from(">LL", index, 4)
    if version != 3:
        raise ValueError(f"index of version {version}")
    position = 12
    for _ in range(count):
        high = index[position + 60]  # of the flags: the rest of them is the length of the name
        extended, length = high & _EXTENDED >> 8, (high & 0x0F) << 8 | index[position + 61]
        start = position + (64 if extended else 62)
        end = start + length if length < 0xFFF else index.index(b"\0", start)
        following = position + (end - position) // 8 * 8 + 8
        if not extended:
            yield IndexEntry(index[start:end], index[position:following])
        position = following
