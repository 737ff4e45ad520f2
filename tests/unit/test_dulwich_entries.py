"""What a pack says of its entries, and what it takes to read them, before they are read."""

from __future__ import annotations

import contextlib
import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitopper_plugins.dulwich.packentry import (
    MAX_LINKS,
    DamagedError,
    EndlessError,
    chain,
    parse,
    result_size,
    unpacked,
    weight,
)
from tests.support import rawpack as raw
from tests.support.upstream import git

BASE = bytes(range(256)) * 8
NOBODY = "1" * 40
Reader: TypeAlias = Callable[[bytes], int]


def nowhere(_: bytes) -> int:
    raise KeyError


@given(st.integers(0, 2**70 - 1), st.integers(1, 4))
def test_size_and_kind_of_an_entry_are_read_as_they_were_written(size: int, kind: int) -> None:
    head = parse(raw.entry(kind, size, b"packed"))
    assert (head.kind, head.size, head.is_delta) == (kind, size, False)
    assert raw.entry(kind, size, b"packed")[head.packed_at :] == b"packed"


@given(st.integers(1, 2**60))
def test_distance_of_a_delta_is_read_as_it_was_written(distance: int) -> None:
    entry = raw.ofs_delta(distance, raw.delta(1, 2))
    head = parse(entry)
    assert (head.distance, head.is_delta) == (distance, True)
    assert zlib.decompress(entry[head.packed_at :]) == raw.delta(1, 2)


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_what_a_delta_makes_is_known_from_its_beginning(before: int, after: int) -> None:
    assert result_size(zlib.compress(raw.delta(before, after, raw.insert(b"x")))) == after


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_they_are_an_entry_or_an_error_of_ours(data: bytes) -> None:
    for read in (
        parse,
        result_size,
        lambda it: weight(it, 1 << 20),
        lambda it: weight(raw.sealed(it), 1 << 20),
    ):
        with contextlib.suppress(DamagedError):
            read(data)


@pytest.mark.parametrize("entry", [b"", b"\xb0", b"\xff" * 60, b"\x60" + b"\xff" * 60, b"\x00x", b"\x50x"])
def test_entry_without_an_end_or_a_kind_is_refused(entry: bytes) -> None:
    with pytest.raises(DamagedError):
        parse(entry)


def test_weight_of_a_pack_is_what_its_entries_stand_for() -> None:
    change = raw.delta(len(BASE), 3000, raw.copy(0, 2000), raw.copy(0, 1000))
    first = raw.whole(raw.BLOB, BASE)
    pack = raw.build([first, raw.ofs_delta(len(first), change)])
    assert weight(pack, 1 << 20) == len(BASE) + len(change) + 3000
    assert weight(pack, 100) >= 101


def test_weight_is_told_without_unpacking_what_is_too_heavy() -> None:
    bomb = raw.entry(raw.BLOB, 1 << 60, b"not even packed")
    assert weight(raw.build([bomb]), 1000) == 1 << 60
    bomb = raw.ref_delta(NOBODY, raw.delta(1, 1 << 60))
    assert weight(raw.build([bomb]), 1000) > 1 << 60


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (raw.build([raw.whole(3, b"a")], count=2), "early"),
        (raw.build([raw.whole(3, b"a"), raw.whole(3, b"b")], count=1), "more than its header"),
        (raw.build([raw.entry(3, 1, zlib.compress(b"longer than it says"))]), "larger than it says"),
        (raw.build([raw.entry(3, 100, zlib.compress(b"shorter"))]), "smaller than it says"),
        (raw.build([raw.entry(3, 5, b"no zlib")]), "can't be unpacked"),
        (raw.build([raw.entry(6, 5, zlib.compress(b"\xff" * 40), b"\x01")]), "a delta can't be read"),
        (raw.build([raw.whole(3, b"a")], count=2**32 - 1), "early"),
        (b"PACK", "no pack"),
    ],
)
def test_pack_that_is_not_what_it_says_is_refused(pack: bytes, why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        weight(pack, 1 << 20)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_pack_of_git_has_a_weight(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    repository = tmp_path_factory.mktemp("repository")
    git(repository, "init", "--quiet", "--bare")
    chance = random.Random(seed)
    lines = [b"%d\n" % chance.getrandbits(60) for _ in range(100)]
    for _ in range(12):
        lines[chance.randrange(100)] = b"%d\n" % chance.getrandbits(60)
        data = b"".join(lines[: chance.randrange(100)])
        git(repository, "hash-object", "-w", "--stdin", stdin=data)
    git(repository, "repack", "-adkq", "--window=10", *(["--depth=50"] if seed % 2 else []))
    for path in repository.glob("objects/pack/*.pack"):
        assert weight(path.read_bytes(), 1 << 30) > 0


def chained(count: int) -> tuple[bytes, list[int]]:
    """A pack with a chain of `count` deltas, and where its entries begin."""
    entries, offsets, at = [raw.whole(raw.BLOB, BASE)], [12], 12
    for number in range(count):
        at += len(entries[-1])
        change = raw.delta(
            len(BASE), len(BASE), raw.copy(0, len(BASE) - 1), raw.insert(b"%d" % (number % 10))
        )
        entries.append(raw.ofs_delta(at - offsets[-1], change))
        offsets.append(at)
    return raw.build(entries), offsets


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Opens a pack, and returns its descriptor, until the test ends."""

    def opened(pack: bytes) -> int:
        (tmp_path / "it.pack").write_bytes(pack)
        descriptor = os.open(tmp_path / "it.pack", os.O_RDONLY)
        stack.callback(os.close, descriptor)
        return descriptor

    with contextlib.ExitStack() as stack:
        yield opened


def test_chain_leads_from_the_last_delta_to_the_whole_object(reader: Reader) -> None:
    pack, offsets = chained(5)
    links = chain(reader(pack), offsets[-1], nowhere)
    assert [link.offset for link in links] == offsets[::-1]
    assert {link.size for link in links} == {len(BASE)}
    assert links[-1].kind == raw.BLOB


def test_chain_that_is_longer_than_any_of_git_is_refused(reader: Reader) -> None:
    pack, offsets = chained(MAX_LINKS + 1)
    descriptor = reader(pack)
    assert len(chain(descriptor, offsets[MAX_LINKS], nowhere)) == MAX_LINKS + 1
    with pytest.raises(EndlessError, match="more than 4095 deltas"):
        chain(descriptor, offsets[-1], nowhere)


def test_deltas_in_a_circle_end(reader: Reader) -> None:
    one, other = raw.ref_delta("0" * 40, raw.delta(1, 1)), raw.ref_delta("1" * 40, raw.delta(1, 1))
    places = {b"\0" * 20: 12 + len(one), bytes.fromhex("1" * 40): 12}
    with pytest.raises(EndlessError, match="more than 4095 deltas"):
        chain(reader(raw.build([one, other])), 12, places.__getitem__)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (raw.ofs_delta(1, raw.delta(1, 1)), "outside of the pack"),
        (raw.ofs_delta(10**9, raw.delta(1, 1)), "outside of the pack"),
        (raw.ref_delta(NOBODY, raw.delta(1, 1)), "which is not there"),
    ],
)
def test_delta_of_nothing_is_refused(reader: Reader, entry: bytes, why: str) -> None:
    with pytest.raises(DamagedError, match=why):
        chain(reader(raw.build([entry])), 12, nowhere)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 129, 65_535, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("alphabet", [b"a", bytes(range(256))], ids=["shrinks", "grows"])
def test_what_an_entry_holds_is_read_whatever_its_size(reader: Reader, size: int, alphabet: bytes) -> None:
    data = bytes(random.Random(size).choices(alphabet, k=size))
    descriptor = reader(raw.build([raw.whole(raw.BLOB, data), raw.whole(raw.BLOB, b"the next one")]))
    (link,) = chain(descriptor, 12, nowhere)
    assert unpacked(descriptor, link) == data


@pytest.mark.parametrize("said", [0, 1, 999, 1001, 70_000])
def test_entry_that_is_not_as_long_as_it_says_is_not_read(reader: Reader, said: int) -> None:
    descriptor = reader(raw.build([raw.entry(raw.BLOB, said, zlib.compress(bytes(1000)))]))
    (link,) = chain(descriptor, 12, nowhere)
    with pytest.raises(
        DamagedError, match="larger than it says" if said < 1000 else "smaller than it says"
    ):
        unpacked(descriptor, link)


def test_entry_that_ends_early_is_not_read(reader: Reader) -> None:
    packed = zlib.compress(random.Random(0).randbytes(1000))
    descriptor = reader(b"PACK" + bytes(8) + raw.entry(raw.BLOB, 1000, packed[:-10]))
    (link,) = chain(descriptor, 12, nowhere)
    with pytest.raises(DamagedError, match="ends early"):
        unpacked(descriptor, link)
