"""Hostile packs: counts, deltas and sizes that are not what they say, and those that say too much."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from attrs import frozen

from tests.proof.hostileground import ANY, LIMITS, MIB, Ground, Repository
from tests.support import rawpack as raw

__all__ = ["PackCase", "bomb_cases", "pack_cases"]

FILE, DIRECTORY = "100644", "40000"


@frozen
class PackCase:
    """One hostile pack: it brings the commit `tip`."""

    name: str
    make: Callable[[], tuple[str, bytes]]
    """Returns tip and pack."""
    reason: str = ""
    """A part of the reason for which it is refused; empty where it is deployed."""

    def on(self, here: Ground) -> None:
        """See `Trial`."""
        here.serve(*self.make())
        here.hold(here.attempt(), self.reason)


def fleet(content: str, more: Sequence[bytes] = ()) -> tuple[str, list[bytes]]:
    """A commit with the one file `content`, an id; the entries of it and `more`."""
    it = Repository()
    tip = it.of_web(it.tree((FILE, b"it", content)))
    return tip, [*more, *it.entries]


def packed(name: str, change: Callable[[list[bytes]], bytes], reason: str) -> PackCase:
    """A case whose pack is made by `change` of the entries of a sound one."""

    def make() -> tuple[str, bytes]:
        data = b"sound %s\n" % name.encode()
        tip, entries = fleet(raw.object_id(raw.BLOB, data), [raw.whole(raw.BLOB, data)])
        return tip, change(entries)

    return PackCase(name, make, reason)


def of_deltas(name: str, entries: Callable[[bytes], list[bytes]], reason: str = "") -> PackCase:
    """A case whose file is the first 1,000 bytes of a base of 2,000, as `entries` have it for that base."""

    def make() -> tuple[str, bytes]:
        base = name.encode().ljust(100) + bytes(range(190)) * 10
        tip, pieces = fleet(raw.object_id(raw.BLOB, base[:1000]), entries(base))
        return tip, raw.build(pieces)

    return PackCase(name, make, reason)


def pack_cases() -> Iterator[PackCase]:
    """What is not what it says."""
    yield packed("sound", raw.build, "")
    for count in (0, 1, 3, 5, 1000, 2**31, 2**32 - 1):
        reason = "more than its header" if count < 4 else "ends early"
        yield packed(f"{count} objects, it says", partial(raw.build, count=count), reason)
    yield packed(
        "version 3", lambda it: raw.sealed(raw.build(it)[:-20].replace(b"\0\0\0\2", b"\0\0\0\3", 1)), ""
    )
    yield packed(
        "version 9",
        lambda it: raw.sealed(raw.build(it)[:-20].replace(b"\0\0\0\2", b"\0\0\0\t", 1)),
        "damaged",
    )
    yield packed("another magic", lambda it: raw.sealed(b"KCAP" + raw.build(it)[4:-20]), "no pack")
    yield packed("no checksum", lambda it: raw.build(it)[:-20], "damaged")
    yield packed("a wrong checksum", lambda it: raw.build(it)[:-1] + b"\0", "damaged")
    yield packed("junk at its end", lambda it: raw.sealed(raw.build(it)[:-20] + b"junk" * 10), "more than")
    yield packed("an entry twice", lambda it: raw.build([*it, *it]), "")
    yield packed("nothing", lambda _: b"", "lacks commit")
    yield packed("an empty pack", lambda _: raw.build([]), "lacks commit")
    yield packed("half of it", lambda it: raw.build(it[: len(it) // 2]), "lacks commit")
    yield packed(
        "kinds 0 and 5", lambda it: raw.build([*it, raw.entry(0, 1, b""), raw.entry(5, 1, b"")]), "of kind"
    )
    yield packed("no zlib", lambda it: raw.build([*it, raw.entry(3, 4, b"rubbish")]), "damaged")
    yield packed(
        "larger than it says", lambda it: raw.build([*it, raw.entry(3, 1, zlib.compress(b"xx"))]), "larger"
    )
    yield packed(
        "smaller than it says", lambda it: raw.build([*it, raw.entry(3, 9, zlib.compress(b"x"))]), "smaller"
    )
    yield packed(
        "2^60 bytes, it says",
        lambda it: raw.build([*it, raw.entry(3, 1 << 60, zlib.compress(b"x"))]),
        "can't",
    )
    yield packed("a size without an end", lambda it: raw.build([*it, b"\xb0" + b"\xff" * 100]), "no end")
    yield from delta_cases()


def on_a_base_before(distance: int, change: bytes) -> PackCase:
    """A delta on what is `distance` bytes before it: not where its base is."""
    return of_deltas(
        f"a base {distance} before",
        lambda it: [raw.whole(raw.BLOB, it), raw.ofs_delta(distance, change)],
        "damaged",
    )


def delta_cases() -> Iterator[PackCase]:
    """Deltas that are sound, and deltas that are not."""

    def ofs(base: bytes, change: bytes) -> list[bytes]:
        first = raw.whole(raw.BLOB, base)
        return [first, raw.ofs_delta(len(first), change)]

    def ref(base: bytes, change: bytes) -> list[bytes]:
        return [raw.ref_delta(raw.object_id(raw.BLOB, base), change), raw.whole(raw.BLOB, base)]

    for name, make in (("ofs", ofs), ("ref", ref)):
        changes: dict[str, tuple[bytes, str]] = {
            "sound": (raw.delta(2000, 1000, raw.copy(0, 1000)), ""),
            "another base size": (raw.delta(1999, 1000, raw.copy(0, 1000)), "damaged"),
            "a copy from beyond": (raw.delta(2000, 1000, raw.copy(1500, 1000)), "damaged"),
            "a copy from far beyond": (raw.delta(2000, 1000, raw.copy(2**32 - 1, 1000)), "damaged"),
            "more than it says": (raw.delta(2000, 999, raw.copy(0, 1000)), "damaged"),
            "less than it says": (raw.delta(2000, 1001, raw.copy(0, 1000)), "damaged"),
            "an instruction of 0": (raw.delta(2000, 1000, b"\0", raw.copy(0, 1000)), "damaged"),
            "an insert without data": (raw.delta(2000, 1000, raw.copy(0, 999), b"\x7f"), "damaged"),
            "no instructions": (raw.delta(2000, 1000), "damaged"),
            "nothing": (b"", "damaged"),
            "2^60 bytes": (raw.delta(2000, 1 << 60, raw.copy(0, 1000)), "can't be indexed"),
        }
        for what, (change, reason) in changes.items():
            yield of_deltas(f"{name} delta: {what}", partial(make, change=change), reason)
    change = raw.delta(2000, 1000, raw.copy(0, 1000))
    for distance in (0, 1, 5, 10**6, 2**62):
        yield on_a_base_before(distance, change)
    yield of_deltas("a base that is nowhere", lambda _: [raw.ref_delta("1" * 40, change)], "damaged")

    def circle(base: bytes, *others: str) -> list[bytes]:
        oid = raw.object_id(raw.BLOB, base[:1000])
        return [raw.ref_delta(other, change) for other in (*others, oid)]

    yield of_deltas("a delta of itself", circle, "damaged")
    yield of_deltas("deltas in a circle", lambda it: circle(it, "1" * 40), "damaged")


def bomb_cases() -> Iterator[PackCase]:
    """Small packs that stand for much."""
    zeros = bytes(64 * MIB)
    yield PackCase("a file of zeros, 64 times the limit", lambda: _one_file(zeros), "max_file")
    yield PackCase("a file one byte too large", lambda: _one_file(bytes(LIMITS.file_bytes + 1)), "max_file")
    yield PackCase("a file as large as may be", lambda: _one_file(bytes(LIMITS.file_bytes)))
    yield PackCase("a delta of seven bytes for 16 MiB", lambda: _multiplied(1), "max_file")
    yield PackCase("deltas that make 16 TiB", lambda: _multiplied(5), "can't be indexed")
    yield PackCase("2,000 deltas of a megabyte", lambda: _long_chain(2000), ANY)
    yield PackCase("4,200 deltas", lambda: _long_chain(4200, 4000), "more than 4095 deltas")
    yield PackCase("30,000 deltas of one base", _flat, ANY)
    yield PackCase("a release of ten files, each as large as may be", _many_files, "max_release")
    yield PackCase("one file 10,000 times", _same_file, "max_release")
    yield PackCase("a directory of 70 MiB", _long_directory, "may have 67108864 at most")
    yield PackCase("a stranger beside, 64 MiB", lambda: _beside(zeros))


def _one_file(data: bytes) -> tuple[str, bytes]:
    tip, entries = fleet(raw.object_id(raw.BLOB, data), [raw.whole(raw.BLOB, data)])
    return tip, raw.build(entries)


def _multiplied(times: int) -> tuple[str, bytes]:
    """16 MiB less a byte, each delta sixteen times that of the one before; only the first one is real."""
    block = 0xFFFFFF
    first = raw.whole(raw.BLOB, bytes(block // 16 + 1)[: block // 16])
    size, entries = block // 16, [first]
    for _ in range(times):
        change = raw.delta(size, size * 16, *[raw.copy(0, min(size, block))] * 16)
        entries.append(raw.ofs_delta(len(entries[-1]), change))
        size *= 16
    content = raw.object_id(raw.BLOB, bytes(size)) if times == 1 else "1" * 40
    tip, pieces = fleet(content, entries)
    return tip, raw.build(pieces)


def _long_chain(count: int, size: int = LIMITS.file_bytes) -> tuple[str, bytes]:
    data, entries = bytes(size), [raw.whole(raw.BLOB, bytes(size))]
    for number in range(count):
        mark = b"%d" % number
        change = raw.delta(size, size, raw.copy(0, size - len(mark)), raw.insert(mark))
        entries.append(raw.ofs_delta(len(entries[-1]), change))
        data = bytes(size - len(mark)) + mark
    tip, pieces = fleet(raw.object_id(raw.BLOB, data), entries)
    return tip, raw.build(pieces)


def _flat() -> tuple[str, bytes]:
    base = bytes(LIMITS.file_bytes)
    oid, entries = raw.object_id(raw.BLOB, base), [raw.whole(raw.BLOB, base)]
    for number in range(30_000):
        mark = b"%d" % number
        change = raw.delta(len(base), len(base), raw.copy(0, len(base) - len(mark)), raw.insert(mark))
        entries.append(raw.ref_delta(oid, change))
    tip, pieces = fleet(oid, entries)
    return tip, raw.build(pieces)


def _many_files() -> tuple[str, bytes]:
    it = Repository()
    files = [(FILE, b"%d" % number, it.blob(bytes([number]) * LIMITS.file_bytes)) for number in range(10)]
    return it.of_web(it.tree(*files)), it.pack()


def _same_file() -> tuple[str, bytes]:
    it = Repository()
    blob = it.blob(b"x" * 1000)
    return it.of_web(it.tree(*((FILE, b"%05d" % number, blob) for number in range(10_000)))), it.pack()


def _long_directory() -> tuple[str, bytes]:
    it = Repository()
    row = b"100644 " + b"n" * 249 + b"%06d\0" + bytes.fromhex(it.blob())
    return it.of_web(it.add(raw.TREE, b"".join(row % number for number in range(250_000)))), it.pack()


def _beside(data: bytes) -> tuple[str, bytes]:
    it = Repository()
    return it.of_web(it.tree((FILE, b"it", it.blob())), (FILE, b"large", it.blob(data))), it.pack()
