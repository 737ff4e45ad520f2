"""Packs: nothing damaged comes in, merges lose nothing, and few are left."""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from dulwich.object_format import DEFAULT_OBJECT_FORMAT
from dulwich.objects import Blob
from dulwich.pack import (
    REF_DELTA,
    Pack,
    SHA1Writer,
    create_delta,
    pack_object_header,
    write_pack_header,
    write_pack_object,
)

from gitopper_plugins.dulwich import indexing, packs
from gitopper_plugins.dulwich.layout import create
from gitopper_plugins.dulwich.merging import merge
from gitopper_plugins.dulwich.objects import BLOB, Objects, TooLarge
from gitopper_plugins.dulwich.packs import MAX_SMALL_PACKS, consolidate, receive
from gitopper_plugins.dulwich.pkt import GarbledError
from libgitopper import Limits
from tests.support import rawpack as raw
from tests.support.upstream import git


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store.git"
    create(path, "file:///nowhere", "main")
    return path


def packed(*blobs: bytes) -> bytes:
    """A pack with `blobs`, in full."""
    import io

    buffer = io.BytesIO()
    file = SHA1Writer(buffer)
    write_pack_header(file.write, len(blobs))
    for blob in blobs:
        write_pack_object(file.write, 3, [blob], DEFAULT_OBJECT_FORMAT)
    file.write_sha()
    return buffer.getvalue()


def packed_by_git(store: Path, blobs: list[bytes], *options: str) -> bytes:
    """A pack with `blobs`, as git makes it: with deltas."""
    scratch = store.parent / "scratch.git"
    git(store.parent, "init", "--quiet", "--bare", str(scratch))
    ids = [git(scratch, "hash-object", "-w", "--stdin", stdin=blob) for blob in blobs]
    base = scratch / "out"
    git(scratch, "pack-objects", "--window=50", *options, str(base), stdin="\n".join(ids).encode())
    (pack,) = scratch.glob("out-*.pack")
    data = pack.read_bytes()
    for path in scratch.glob("out-*"):
        path.unlink()
    return data


def everything(store: Path, blobs: list[bytes]) -> bool:
    objects = Objects(store)
    try:
        return all(objects.find(Blob.from_string(blob).id, BLOB) == blob for blob in blobs)
    finally:
        objects.close()


def pack_files(store: Path) -> list[Path]:
    return sorted((store / "objects/pack").glob("*.pack"))


def similar(count: int, seed: int) -> list[bytes]:
    """Texts that differ in little, so that git makes deltas of them."""
    chance = random.Random(seed)
    lines = [b"%d %d\n" % (number, chance.getrandbits(40)) for number in range(200)]
    return [b"".join([*lines[: at % 200], b"changed %d\n" % at, *lines[at % 200 :]]) for at in range(count)]


def test_pack_comes_in_with_its_index_and_nothing_else(store: Path) -> None:
    assert receive(store, [packed(b"one", b"two")], promisor=True)
    assert everything(store, [b"one", b"two"])
    assert {path.suffix for path in (store / "objects/pack").iterdir()} == {".pack", ".idx", ".promisor"}
    assert not list(store.glob("scratch-*"))


def test_empty_pack_is_nothing(store: Path) -> None:
    assert not receive(store, [packed()], promisor=False)
    assert not pack_files(store)


def test_pack_that_is_here_already_changes_nothing(store: Path) -> None:
    for _ in range(2):
        receive(store, [packed(b"one")], promisor=False)
    assert len(pack_files(store)) == 1


def test_pack_with_any_flipped_byte_is_refused(store: Path) -> None:
    data = packed(b"one" * 10, b"two" * 10)
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        with pytest.raises(GarbledError):
            receive(store, [broken], promisor=False)
    assert not pack_files(store)


def test_pack_that_is_cut_anywhere_is_refused(store: Path) -> None:
    data = packed(b"one" * 10, b"two" * 10)
    for length in range(33, len(data)):
        with pytest.raises(GarbledError):
            receive(store, [data[:length]], promisor=False)
    assert not pack_files(store)


@pytest.mark.parametrize("with_git", [True, False])
def test_large_pack_is_indexed_by_another_process(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_git: bool,
) -> None:
    monkeypatch.setattr(indexing, "LARGE_BYTES", 100)
    monkeypatch.setattr(indexing, "index_pack", lambda _: pytest.fail("indexed in this process"))
    blobs = similar(30, 1)
    data = packed_by_git(store, blobs)
    with monkeypatch.context() as patch:
        if not with_git:
            patch.setenv("PATH", "/nonexistent")
        receive(store, [data], promisor=False)
        with pytest.raises(GarbledError):
            receive(store, [data[:-30], b"x" * 30], promisor=False)
    assert everything(store, blobs)
    git(store, "fsck", "--strict")


def test_large_pack_is_indexed_by_a_git_that_knows_no_reverse_index(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One before 2.31, which ends with its usage at an option for them."""
    old = tmp_path / "programs" / "git"
    old.parent.mkdir()
    refusal = "case $* in *-rev-index*) echo 'usage: git index-pack' >&2; exit 129;; esac"
    old.write_text(f'#!/bin/sh\n{refusal}\nexec {shutil.which("git")} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setattr(indexing, "LARGE_BYTES", 100)
    blobs = similar(30, 1)
    data = packed_by_git(store, blobs)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(old.parent))
        receive(store, [data], promisor=False)
    assert everything(store, blobs)
    assert not list(store.rglob("*.rev"))


def test_few_packs_are_left_alone(store: Path) -> None:
    for number in range(MAX_SMALL_PACKS):
        receive(store, [packed(b"%d" % number)], promisor=False)
    assert not consolidate(store)
    assert len(pack_files(store)) == MAX_SMALL_PACKS


@pytest.mark.parametrize("deltas", [["--delta-base-offset"], []])
def test_merge_keeps_every_object_whatever_kind_of_delta(store: Path, deltas: list[str]) -> None:
    blobs = []
    for number in range(MAX_SMALL_PACKS + 1):
        these = similar(8, seed=number % 3)[number % 4 :]  # with many duplicates between the packs
        blobs += these
        receive(store, [packed_by_git(store, these, *deltas)], promisor=number == 3)
    assert consolidate(store)
    assert len(pack_files(store)) < MAX_SMALL_PACKS
    assert everything(store, blobs)
    assert any((store / "objects/pack").glob("*.promisor"))
    git(store, "fsck", "--strict", "--full")
    for pack in pack_files(store):
        git(store, "verify-pack", "-v", str(pack.with_suffix(".idx")))


def test_merge_of_deltas_that_would_be_a_circle_without_their_duplicates(store: Path) -> None:
    one, two = similar(2, seed=5)
    receive(store, [delta_pack(one, two)], promisor=False)  # two as a delta of one
    receive(store, [delta_pack(two, one)], promisor=False)  # one as a delta of two
    for number in range(MAX_SMALL_PACKS):
        receive(store, [packed(b"%d" % number)], promisor=False)
    assert consolidate(store)
    assert everything(store, [one, two])
    git(store, "fsck", "--strict", "--full")


def delta_pack(base: bytes, result: bytes) -> bytes:
    """A pack with `result` as a delta that names `base`, and `base` behind it."""
    import io

    buffer = io.BytesIO()
    file = SHA1Writer(buffer)
    write_pack_header(file.write, 2)
    delta = b"".join(create_delta(base, result))
    name = bytes.fromhex(Blob.from_string(base).id.decode())
    file.write(
        bytes(pack_object_header(REF_DELTA, name, len(delta), DEFAULT_OBJECT_FORMAT)) + zlib.compress(delta)
    )
    write_pack_object(file.write, 3, [base], DEFAULT_OBJECT_FORMAT)
    file.write_sha()
    return buffer.getvalue()


def test_packs_stay_few_and_each_byte_is_copied_a_few_times_only(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = 0

    def counted(bases: Sequence[Path], target: Path) -> object:
        nonlocal copied
        copied += sum(base.with_suffix(".pack").stat().st_size for base in bases)
        return merge(bases, target)

    monkeypatch.setattr(packs, "merge", counted)
    brought = 0
    for number in range(400):
        data = packed(b"%d" % number * 20)
        brought += len(data)
        receive(store, [data], promisor=False)
        consolidate(store)
        assert len(pack_files(store)) <= MAX_SMALL_PACKS
    assert copied < 8 * brought
    assert everything(store, [b"%d" % number * 20 for number in range(400)])


def test_kept_packs_are_not_merged(store: Path) -> None:
    for number in range(MAX_SMALL_PACKS + 1):
        receive(store, [packed(b"%d" % number)], promisor=False)
    kept = pack_files(store)[0]
    kept.with_suffix(".keep").touch()
    consolidate(store)
    assert kept.exists()


def test_reader_finds_everything_while_packs_are_merged_away(store: Path) -> None:
    blobs = [b"%d" % number for number in range(40)]
    objects = Objects(store)
    for blob in blobs:
        receive(store, [packed(blob)], promisor=False)
        consolidate(store)
        assert objects.missing([Blob.from_string(blob).id]) == []
        assert objects.find(Blob.from_string(blobs[0]).id, BLOB) == blobs[0]
    objects.close()


def test_more_than_upstream_may_send_is_refused_before_it_is_written(store: Path) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 60_000
            yield bytes(60_000)

    with pytest.raises(GarbledError, match=r"more than 1000000 bytes at a time; .* `max_fetch`"):
        receive(store, endless(), promisor=False, limits=Limits(fetch_bytes=1_000_000))
    assert sent <= 1_060_000
    assert not list(store.glob("scratch-*"))


@pytest.mark.parametrize("git_is_there", [True, False])
def test_small_pack_that_stands_for_much_is_unpacked_by_another_process_within_limits(
    store: Path, monkeypatch: pytest.MonkeyPatch, git_is_there: bool
) -> None:
    if not git_is_there:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(indexing, "index_pack", lambda _: pytest.fail("indexed in this process"))
    receive(store, [raw.bomb(20_000_000)], promisor=False)
    monkeypatch.setattr(indexing, "INDEX_MEMORY_BYTES", 60 << 20)
    with pytest.raises(GarbledError, match="60 MiB of memory are not enough for it"):
        receive(store, [raw.bomb(400_000_000)], promisor=False, limits=Limits(file_bytes=1024))
    assert len(pack_files(store)) == 1


def test_pack_that_takes_too_long_is_given_up(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "LARGE_BYTES", 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)  # Python takes longer to start
    with pytest.raises(GarbledError, match=r"0.001 s are not enough for it; see `timeout`"):
        receive(store, [packed(b"one")], promisor=False, timeout_seconds=0.001)
    assert not list(store.glob("scratch-*"))


def test_pack_that_is_refused_leaves_nothing(store: Path) -> None:
    def judge(pack: Pack) -> None:
        assert len(pack) == 1
        raise TooLarge(Blob.from_string(b"one").id, 3, 2)

    with pytest.raises(TooLarge):
        receive(store, [packed(b"one")], promisor=False, judge=judge)
    assert not pack_files(store)
    assert not list(store.glob("scratch-*"))


def test_merge_unpacks_nothing_whatever_the_deltas_stand_for(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, entries, blobs = bytes(range(256)) * 100, [], []
    for number in range(50):  # each before its base: the order in which they come is the wrong one
        blobs.append(base + b"%d" % number)
        before = base if number == 49 else base + b"%d" % (number + 1)
        change = raw.delta(len(before), len(blobs[-1]), raw.copy(0, len(base)), raw.insert(b"%d" % number))
        entries.append(raw.ref_delta(raw.object_id(raw.BLOB, before), change))
    entries.append(raw.whole(3, base))
    receive(store, [raw.build(entries)], promisor=False)
    for number in range(MAX_SMALL_PACKS + 1):
        receive(store, [packed(b"%d" % number)], promisor=False)
    with monkeypatch.context() as patched:
        patched.setattr(Pack, "get_raw", lambda *_: pytest.fail("unpacked"))
        assert consolidate(store)
    assert sum(path.stat().st_size for path in pack_files(store)) < 20_000
    assert everything(store, [*blobs, base])
    git(store, "fsck", "--strict")


def test_pack_with_a_delta_of_nothing_is_not_merged(store: Path) -> None:
    for number in range(MAX_SMALL_PACKS + 1):
        receive(store, [packed(b"%d" % number)], promisor=False)
    first = pack_files(store)[0]
    change = raw.delta(1, 1, raw.copy(0, 1))
    first.chmod(0o644)
    first.write_bytes(raw.build([raw.ref_delta("1" * 40, change)]))
    with pytest.raises(ValueError, match="deltas without their bases"):
        consolidate(store)
    assert len(pack_files(store)) == MAX_SMALL_PACKS + 1
