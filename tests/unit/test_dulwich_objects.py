"""Objects are read within bounds: of memory, of time, and of what they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import objects as module
from gitopper_plugins.dulwich.layout import create
from gitopper_plugins.dulwich.objects import BLOB, COMMIT, TREE, Objects, TooLarge
from gitopper_plugins.dulwich.openpack import OpenPack
from gitopper_plugins.dulwich.packs import receive
from libgitopper import CheckoutError
from tests.support import rawpack as raw
from tests.support.upstream import git


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    path = tmp_path / "store.git"
    create(path, "file:///nowhere", "main")
    it = Objects(path)
    yield it
    it.close()


def bring(objects: Objects, *entries: bytes) -> None:
    receive(objects.path, [raw.build(entries)], promisor=False)


def oid(kind: int, data: bytes) -> ObjectID:
    return ObjectID(raw.object_id(kind, data).encode())


def chained(size: int, links: int) -> tuple[list[bytes], bytes]:
    """A file of `size` bytes and `links` deltas on top of it, and what the last one makes."""
    entries, data = [raw.whole(raw.BLOB, bytes(size))], bytes(size)
    for number in range(links):
        mark = b"%04d" % number
        change = raw.delta(size, size, raw.copy(0, size - 4), raw.insert(mark))
        entries.append(raw.ofs_delta(len(entries[-1]), change))
        data = bytes(size - 4) + mark
    return entries, data


@pytest.mark.parametrize("size", [100, 200_000])  # the one by dulwich, the other one delta after the other
def test_object_of_deltas_is_what_they_make(objects: Objects, size: int) -> None:
    entries, data = chained(size, 40)
    bring(objects, *entries)
    assert objects.read(oid(BLOB, data), BLOB) == data
    assert objects.size(oid(BLOB, data), size) == size


def test_object_beyond_its_limit_is_not_read(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(100_000)
    bring(objects, raw.whole(BLOB, data))
    monkeypatch.setattr(OpenPack, "resolved", lambda *_: pytest.fail("read"))
    with pytest.raises(TooLarge, match="has 100000 bytes, and may have 99999 at most") as error:
        objects.find(oid(BLOB, data), BLOB, 99_999)
    assert not error.value.retryable
    with pytest.raises(TooLarge):
        objects.size(oid(BLOB, data), 99_999)
    assert objects.find(oid(BLOB, data), COMMIT) is None  # nor is what it is not


@pytest.mark.parametrize("kind", [COMMIT, TREE])
def test_commits_and_trees_have_limits_of_their_own(
    objects: Objects, kind: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._MOST_BYTES, kind, 99)
    data = b"x" * 100
    bring(objects, raw.whole(kind, data))
    with pytest.raises(TooLarge):
        objects.find(oid(kind, data), kind)


def test_object_that_takes_more_work_than_it_is_worth_is_refused(objects: Objects) -> None:
    entries, data = chained(1000, 70)
    bring(objects, *entries)
    with pytest.raises(CheckoutError, match="takes too much to unpack") as error:
        objects.find(oid(BLOB, data), BLOB, 1000)
    assert not error.value.retryable
    assert objects.find(oid(BLOB, data), BLOB, 2000) == data


def test_object_on_top_of_something_huge_is_refused(objects: Objects) -> None:
    base = bytes(100_000)
    change = raw.delta(len(base), 10, raw.copy(0, 10))
    bring(objects, first := raw.whole(BLOB, base), raw.ofs_delta(len(first), change))
    with pytest.raises(CheckoutError, match="takes too much to unpack"):
        objects.find(oid(BLOB, bytes(10)), BLOB, 10)
    assert objects.find(oid(BLOB, bytes(10)), BLOB, 50_000) == bytes(10)


def test_loose_object_has_the_same_limits(objects: Objects) -> None:
    name = git(objects.path, "hash-object", "-w", "--stdin", stdin=b"x" * 100)
    it = ObjectID(name.encode())
    assert objects.size(it, 100) == 100
    assert objects.find(it, BLOB) == b"x" * 100
    assert objects.find(it, TREE) is None
    with pytest.raises(TooLarge):
        objects.find(it, BLOB, 99)


def test_object_that_is_not_here_has_no_size(objects: Objects) -> None:
    with pytest.raises(CheckoutError, match="is not in"):
        objects.size(oid(BLOB, b"nowhere"), 100)


def test_directory_of_too_many_entries_is_refused(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    names = [b"%d" % number for number in range(4)]
    for count in (3, 4):
        data = raw.tree(*(("100644", name, "1" * 40) for name in names[:count]))
        bring(objects, raw.whole(TREE, data))
        if count == 3:
            assert len(objects.entries(oid(TREE, data))) == 3
        else:
            with pytest.raises(CheckoutError, match="more than 3 entries; split that directory"):
                objects.entries(oid(TREE, data))


@pytest.mark.parametrize("mode", [b"", b"+100644", b"0x1ff", b"1_0", b" 100644", b"8", b"-1", b"1" * 12])
def test_mode_that_is_no_number_of_git_is_no_surprise(objects: Objects, mode: bytes) -> None:
    data = mode + b" name\0" + b"1" * 20
    bring(objects, raw.whole(TREE, data))
    with pytest.raises(CheckoutError, match="is malformed"):
        objects.entries(oid(TREE, data))


@pytest.mark.parametrize(
    "head",
    [b"", b"tree", b"tree x", b"tree " + b"\xff" * 40, b"parent " + b"1" * 40, b"tree " + b"A" * 40],
)
def test_commit_without_a_tree_is_no_surprise(objects: Objects, head: bytes) -> None:
    data = head + b"\nparent " + b"\x9c" * 40 + b"\nparent " + b"2" * 40 + b"\n\nsubject\n"
    bring(objects, raw.whole(COMMIT, data))
    with pytest.raises(CheckoutError, match="is malformed"):
        objects.tree_of(oid(COMMIT, data))
    assert objects.parents(oid(COMMIT, data))[-1:] == [b"2" * 40]
