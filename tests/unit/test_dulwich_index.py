"""The index file, as git reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich.objects import ObjectID
from hypothesis import given
from hypothesis import strategies as st

from gitopper_plugins.dulwich.gitindex import (
    IndexEntry,
    distrusted,
    dump,
    left_out,
    present,
    present_entries,
)
from tests.support.upstream import git

OID = ObjectID(b"ab" * 20)
NAMES = st.binary(min_size=1, max_size=5000).filter(lambda name: b"\0" not in name)


@given(st.dictionaries(NAMES, st.booleans(), max_size=6))
def test_entries_that_are_present_are_read_as_they_were_written(names: dict[bytes, bool]) -> None:
    stat = Path("/").stat()
    entries = [
        present(name, 0o100644, OID, stat) if here else left_out(name, 0o100644, OID)
        for name, here in names.items()
    ]
    expected = sorted((e for e in entries if names[e.name]), key=lambda entry: entry.name)
    assert list(present_entries(dump(entries))) == expected


def test_git_reads_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("")
    blob = ObjectID(git(tmp_path, "hash-object", "-w", "a").encode())
    entries = [
        left_out(b"z" * 4200, 0o100755, blob),
        present(b"a", 0o100644, blob, (tmp_path / "a").lstat()),
        present(b"a.b/c", 0o120000, blob, None),
    ]
    (tmp_path / ".git/index").write_bytes(dump(entries))
    assert git(tmp_path, "ls-files", "--stage", "-t").split("\n") == [
        f"H 100644 {blob.decode()} 0\ta",
        f"H 120000 {blob.decode()} 0\ta.b/c",
        f"S 100755 {blob.decode()} 0\t{'z' * 4200}",
    ]


def test_of_two_entries_with_one_name_the_later_is_taken() -> None:
    entries = [left_out(b"a", 0o100644, OID), present(b"a", 0o100755, OID, None)]
    assert list(present_entries(dump(entries))) == entries[1:]


@pytest.mark.parametrize("data", [b"", b"DIRC", b"\0" * 100])
def test_damaged_index_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(present_entries(data))


def test_index_with_a_flipped_byte_is_an_error() -> None:
    data = bytearray(dump([IndexEntry(b"a", present(b"a", 0o100644, OID, None).packed)]))
    data[20] ^= 1
    with pytest.raises(ValueError):
        list(present_entries(bytes(data)))


def test_stat_data_as_young_as_its_index_is_not_trusted(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("")
    stat = file.lstat()
    entry = present(b"a", 0o100644, OID, stat)
    assert distrusted(entry, stat.st_mtime_ns + 1) == entry
    assert distrusted(entry, stat.st_mtime_ns) == present(b"a", 0o100644, OID, None)
