"""Packs and objects made byte by byte, since git itself would not make most of what is in the tests."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence

__all__ = [
    "BLOB", "COMMIT", "TREE", "bomb", "build", "commit", "copy", "delta", "entry", "insert", "object_id",
    "ofs_delta", "ref_delta", "sealed", "tree", "whole",
]  # fmt: skip

COMMIT, TREE, BLOB, TAG = 1, 2, 3, 4
OFS_DELTA, REF_DELTA = 6, 7
_NAMES = {COMMIT: b"commit", TREE: b"tree", BLOB: b"blob", TAG: b"tag"}


def object_id(kind: int, data: bytes) -> str:
    """The id of an object, hex."""
    return hashlib.sha1(b"%s %d\0" % (_NAMES[kind], len(data)) + data).hexdigest()


def tree(*entries: tuple[str, bytes, str]) -> bytes:
    """A tree with `entries` of mode, name and id, as they are."""
    return b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)


def commit(
    root: str,
    *parents: str,
    subject: bytes = b"hostile",
    author: bytes = b"Test",
    seconds: int = 1_700_000_000,
) -> bytes:
    """A commit of the tree `root`."""
    lines = [b"tree " + root.encode(), *(b"parent " + parent.encode() for parent in parents)]
    who = author + b" <test@example.net> %d +0000" % seconds
    return b"\n".join([*lines, b"author " + who, b"committer " + who, b"", subject, b""])


def entry(kind: int, size: int, packed: bytes, base: bytes = b"") -> bytes:
    """An entry of a pack, which says that it has `size` bytes."""
    head, rest = bytearray([kind << 4 | size & 15]), size >> 4
    while rest:
        head[-1] |= 0x80
        head.append(rest & 0x7F)
        rest >>= 7
    return bytes(head) + base + packed


def whole(kind: int, data: bytes, level: int = 9) -> bytes:
    """An entry with a whole object."""
    return entry(kind, len(data), zlib.compress(data, level))


def ofs_delta(distance: int, change: bytes) -> bytes:
    """An entry with a delta of what begins `distance` bytes before it."""
    digits = [distance & 0x7F]
    while distance := (distance >> 7):
        distance -= 1
        digits.insert(0, 0x80 | distance & 0x7F)
    return entry(OFS_DELTA, len(change), zlib.compress(change, 9), bytes(digits))


def ref_delta(base: str, change: bytes) -> bytes:
    """An entry with a delta of the object `base`."""
    return entry(REF_DELTA, len(change), zlib.compress(change, 9), bytes.fromhex(base))


def delta(before: int, after: int, *instructions: bytes) -> bytes:
    """A delta that says that it makes `after` bytes of `before`."""
    return _varint(before) + _varint(after) + b"".join(instructions)


def copy(start: int, length: int) -> bytes:
    """The instruction to copy `length` bytes (up to 16 MiB) of the base."""
    said = start.to_bytes(4, "little") + length.to_bytes(3, "little")
    mask = sum(1 << at for at, byte in enumerate(said) if byte)
    return bytes([0x80 | mask, *(byte for byte in said if byte)])


def insert(data: bytes) -> bytes:
    """The instruction to add `data`, of up to 127 bytes."""
    return bytes([len(data)]) + data


def _varint(number: int) -> bytes:
    digits = bytearray([number & 0x7F])
    while number := number >> 7:
        digits[-1] |= 0x80
        digits.append(number & 0x7F)
    return bytes(digits)


def build(entries: Sequence[bytes], count: int | None = None) -> bytes:
    """A pack with `entries`; `count` is what its header says, where that is not the truth."""
    said = len(entries) if count is None else count
    return sealed(b"PACK" + (2).to_bytes(4, "big") + said.to_bytes(4, "big") + b"".join(entries))


def sealed(body: bytes | Iterable[bytes]) -> bytes:
    """What makes `body` a pack with a good checksum."""
    body = body if isinstance(body, bytes) else b"".join(body)
    return body + hashlib.sha1(body).digest()


def bomb(size: int) -> bytes:
    """A small pack with a delta that says that it makes `size` bytes."""
    base = bytes(10_000)
    change = delta(len(base), size, *[copy(0, len(base))] * (size // len(base)))
    first = whole(BLOB, base)
    return build([first, ofs_delta(len(first), change)])
