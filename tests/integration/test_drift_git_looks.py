"""How a release is looked at: what is trusted, what is remembered, and files that change meanwhile."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.gitindex import dump, present, present_entries, unpacked
from libgitopper import CheckoutError, CheckoutRequest
from libgitopper.testing.git import Stage
from tests.support.drifting import Host, plugin, stage, told
from tests.support.upstream import git

__all__ = ["plugin", "stage"]

EDITED = [("web/a", "edited", "")]


@pytest.fixture
def host(stage: Stage) -> Host:
    stage.upstream.commit(
        {"web/a": "1\n", "web/sub/b": "2\n", "web/sub/c": "3\n", "web/run": None, "web/link": None}
    )
    return Host.deploy(stage, stage.service("web"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths whose content is looked at."""
    seen: list[str] = []
    read = ondisk.read

    def watched(top: int, path: str, *, limit: int) -> ondisk.Contents:
        seen.append(path)
        return read(top, path, limit=limit)

    monkeypatch.setattr(ondisk, "read", watched)
    return seen


def record(host: Host) -> Path:
    return host.admin() / "gitopper-index"


def age_record(host: Host) -> None:
    """Write the record anew with the stat data of now, as if long after the files."""
    entries = []
    for entry in present_entries(record(host).read_bytes()):
        mode, oid, _ = unpacked(entry)
        now = (host.release.path / os.fsdecode(entry.name)).lstat()
        entries.append(present(entry.name, mode, oid, now))
    record(host).write_bytes(dump(entries))
    later = time.time_ns() + 10**9
    os.utime(record(host), ns=(later, later))


def test_files_whose_stat_is_in_the_record_are_not_read(host: Host, reads: list[str]) -> None:
    age_record(host)
    assert host.found() == []
    assert reads == []
    (host.web / "sub/b").touch()
    assert host.found() == []
    assert reads == ["web/sub/b"]


def test_files_as_young_as_the_record_are_read(host: Host, reads: list[str]) -> None:
    age_record(host)
    youngest = (host.web / "a").stat().st_mtime_ns
    os.utime(record(host), ns=(youngest, youngest))
    host.drift()
    assert "web/a" in reads


def test_edit_that_no_stat_tells_is_found_by_a_thorough_look_only(host: Host) -> None:
    (host.web / "a").write_text("x\n")
    age_record(host)
    assert host.found() == []
    assert told(host.drift(thorough=True).changes) == EDITED


def trust_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release is remembered however young it is: tests don't wait."""
    monkeypatch.setattr(importlib.import_module("gitopper_plugins.dulwich.drift"), "SETTLED_NS", -(10**12))


def test_release_without_drift_is_remembered_and_its_record_not_read_again(
    host: Host, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_at_once(monkeypatch)
    record(host).unlink()
    assert host.found() == []
    assert sorted(reads) == ["web/a", "web/sub/b", "web/sub/c"]
    assert host.found() == []
    assert len(reads) == 3
    assert host.drift(thorough=True).changes == ()
    assert len(reads) == 6


def test_what_changed_a_moment_ago_is_not_remembered(host: Host, reads: list[str]) -> None:
    record(host).unlink()
    for count in (3, 6):
        assert host.found() == []
        assert len(reads) == count


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda web: (web / "sub/b").write_text("x\n"),
    "addition": lambda web: (web / "sub/new").write_text(""),
    "removal": lambda web: (web / "sub/b").unlink(),
    "bits": lambda web: (web / "sub/b").chmod(0o600),
    "bits of a directory": lambda web: (web / "sub").chmod(0o700),
    "exchange": lambda web: (
        (web / "sub/b").rename(web / "x"),
        (web / "sub/c").rename(web / "sub/b"),
        (web / "x").rename(web / "sub/c"),
    ),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_after_it_was_remembered_is_found(
    host: Host, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    trust_at_once(monkeypatch)
    assert host.found() == []
    CHANGES[change](host.web)
    first = host.found()
    assert first
    assert host.found() == first


def lose_record(host: Host) -> None:
    record(host).unlink()


def damage_record(host: Host) -> None:
    data = bytearray(record(host).read_bytes())
    data[40] ^= 1
    record(host).write_bytes(data)


def empty_record(host: Host) -> None:
    record(host).write_bytes(b"")


def prune_admin(host: Host) -> None:
    shutil.rmtree(host.admin())


def make_store_anew(host: Host) -> None:
    shutil.rmtree(host.store.path)
    host.store = host.stage.fetch()


@pytest.mark.parametrize("lose", [lose_record, damage_record, empty_record, prune_admin, make_store_anew])
def test_without_its_record_a_release_is_compared_by_content(
    host: Host, lose: Callable[[Host], None], reads: list[str]
) -> None:
    lose(host)
    assert host.found() == []
    assert sorted(reads) == ["web/a", "web/sub/b", "web/sub/c"]
    (host.web / "a").write_text("x\n")
    found = host.drift()
    assert told(found.changes) == EDITED
    assert b"-1\n+x\n" in found.patch


def test_advance_of_the_release_changes_nothing(host: Host) -> None:
    host.stage.upstream.commit({"other": "1"})
    host = Host.deploy(host.stage, host.service)
    assert host.found() == []
    (host.web / "a").write_text("x\n")
    host.stage.upstream.commit({"other": "2"})
    host = Host.deploy(host.stage, host.service)
    assert host.found() == EDITED


def test_fresh_release_in_the_place_of_one_that_drifted_has_none(host: Host) -> None:
    (host.web / "a").write_text("x\n")
    content = evolve(host.release.content, generation=1)
    request = CheckoutRequest(service=host.service, store=host.store, content=content)
    fresh = Host(host.stage, host.service, host.store, host.stage.hooks.checkout(request))
    assert fresh.release.path != host.release.path
    assert fresh.found() == []
    assert host.found() == EDITED


def test_symlink_in_place_of_a_directory_is_not_followed(host: Host, tmp_path: Path) -> None:
    (tmp_path / "secret/sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (tmp_path / "secret" / name).write_text("secret")
    shutil.rmtree(host.web / "sub")
    (host.web / "sub").symlink_to(tmp_path / "secret/sub")
    assert b"secret\n" not in host.drift().patch
    shutil.rmtree(host.web)
    host.web.symlink_to(tmp_path / "secret")
    found = host.drift()
    assert told(found.changes) == [
        ("web", "retyped", "a symlink instead of a directory"),
        ("web/a", "removed", ""), ("web/sub/b", "removed", ""), ("web/sub/c", "removed", ""),
    ]  # fmt: skip
    assert b"+secret" not in found.patch


def test_symlink_slipped_in_while_it_is_looked_at_is_not_followed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/b").write_text("secret")
    (host.web / "sub/b").write_text("edited")
    read = ondisk.read

    def slow(top: int, path: str, *, limit: int) -> ondisk.Contents:
        if not (host.web / "sub").is_symlink():
            (host.web / "sub").rename(tmp_path / "aside")
            (host.web / "sub").symlink_to(tmp_path / "secret")
        return read(top, path, limit=limit)

    monkeypatch.setattr(ondisk, "read", slow)
    found = host.drift()
    assert ("web/sub", "retyped", "a symlink instead of a directory") in told(found.changes)
    assert b"+secret" not in found.patch


@pytest.mark.parametrize("becomes", ["gone", "fifo", "directory"])
def test_file_that_changes_under_our_hands_is_looked_at_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    (host.web / "a").write_text("x\n")
    read = ondisk.read
    make: dict[str, Callable[[Path], object]] = {"gone": str, "fifo": os.mkfifo, "directory": Path.mkdir}

    def slow(top: int, path: str, *, limit: int) -> ondisk.Contents:
        if (host.web / "a").is_file():
            (host.web / "a").unlink()
            make[becomes](host.web / "a")
        return read(top, path, limit=limit)

    monkeypatch.setattr(ondisk, "read", slow)
    kind = "removed" if becomes == "gone" else "retyped"
    assert [change.kind.value for change in host.drift().changes] == [kind]


def test_edit_that_is_taken_back_under_our_hands_is_no_drift(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.web / "a").write_text("x\n")
    read = ondisk.read

    def slow(top: int, path: str, *, limit: int) -> ondisk.Contents:
        found = read(top, path, limit=limit)
        (host.web / "a").write_text("1\n")
        return found

    monkeypatch.setattr(ondisk, "read", slow)
    assert host.found() == []


def test_files_that_never_rest_are_an_error(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> ondisk.Contents:
        raise ondisk.Moved

    monkeypatch.setattr(ondisk, "read", never)
    (host.web / "a").write_text("x\n")
    with pytest.raises(CheckoutError, match="come and go all the time") as error:
        host.drift()
    assert error.value.retryable


def refuse(monkeypatch: pytest.MonkeyPatch, refused: str, code: int) -> None:
    """Have opening of `refused` fail, as it would for somebody who is not root."""
    opening = os.open

    def checked(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if path == refused:
            raise OSError(code, os.strerror(code), path)
        return opening(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", checked)


def test_unreadable_file_is_told_and_leaves_the_patch_incomplete(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.web / "a").chmod(0)
    (host.web / "sub/b").touch()
    (host.web / "new").write_text("1")
    refuse(monkeypatch, "a", errno.EACCES)
    found = host.drift()
    assert told(found.changes) == [
        ("web/a", "mode", "0000 instead of 0644; it can't be read: Permission denied"),
        ("web/new", "added", ""),
    ]
    assert not found.complete
    assert b"# web/a: mode 0000 instead of 0644; it can't be read: Permission denied\n" in found.patch
    refuse(monkeypatch, "new", errno.EIO)
    assert b"# web/new: it can't be read: Input/output error\n" in host.drift().patch


def test_unreadable_directory_is_told_and_what_is_in_it_not_taken_for_removed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.web / "sub").chmod(0)
    (host.web / "new").mkdir()
    refuse(monkeypatch, "sub", errno.EACCES)
    found = host.drift()
    assert told(found.changes) == [
        ("web/sub", "mode", "0000 instead of 0755; it can't be read: Permission denied"),
    ]
    assert not found.complete
    (host.web / "sub").chmod(0o755)
    refuse(monkeypatch, "new", errno.EIO)
    assert [(path, kind) for path, kind, _ in host.found()] == [("web/new", "added"), ("web/sub", "edited")]


class Listed:
    """An entry of a directory whose stat fails."""

    def __init__(self, entry: os.DirEntry[str], code: int) -> None:
        self.name, self.code = entry.name, code

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise OSError(self.code, os.strerror(self.code))


def list_with_errors(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    scandir = os.scandir

    @contextlib.contextmanager
    def listed(directory: int) -> Iterator[Iterator[os.DirEntry[str] | Listed]]:
        with scandir(directory) as entries:
            yield (Listed(entry, code) if entry.name == name else entry for entry in entries)

    monkeypatch.setattr(os, "scandir", listed)


def test_file_that_goes_while_its_directory_is_listed_is_gone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_with_errors(monkeypatch, "b", errno.ENOENT)
    assert host.found() == [("web/sub/b", "removed", "")]


def test_directory_that_is_listed_but_not_passed_through_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_with_errors(monkeypatch, "b", errno.EACCES)
    assert host.found() == [("web/sub", "edited", "it can't be read: Permission denied")]


def test_directory_that_is_replaced_while_it_is_listed_is_looked_at_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "sub", errno.ENOTDIR)
    with pytest.raises(CheckoutError, match="come and go all the time"):
        host.drift()


def test_directories_without_end_are_told(host: Host) -> None:
    deep = host.web
    former = Path.cwd()
    os.chdir(deep)
    try:
        for _ in range(300):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(former)
    found = host.drift()
    assert [(change.path.count("/d"), change.detail) for change in found.changes] == [
        (129, "a directory; it can't be read: it is more than 128 directories deep")
    ]
    assert not found.complete


def test_too_many_files_are_an_error_that_says_what_to_do(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ondisk, "MAX_ITEMS", 3)
    with pytest.raises(CheckoutError, match="too many; see who writes below"):
        host.drift()


def test_release_that_is_gone_is_an_error(host: Host) -> None:
    shutil.rmtree(host.release.path)
    with pytest.raises(CheckoutError, match="can't be read: No such file"):
        host.drift()


@pytest.mark.parametrize("size", [1 << 20, (16 << 20) + 1])
def test_large_file_is_compared_whatever_its_size(host: Host, size: int) -> None:
    host.stage.upstream.commit({"web/large": b"x" * size})
    host = Host.deploy(host.stage, host.service)
    assert told(host.drift(thorough=True).changes) == []
    with (host.web / "large").open("r+b") as file:
        file.write(b"y")
    found = host.drift()
    assert told(found.changes) == [("web/large", "edited", "")]
    assert found.complete == (size <= 16 << 20)


def test_file_that_grows_while_it_is_read_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"x" * 10)
    status = (tmp_path / "log").stat()
    with (tmp_path / "log").open("ab") as log:
        log.write(b"y" * 10)
    monkeypatch.setattr(os, "fstat", lambda fd: status)
    with ondisk.open_top(tmp_path) as top:
        for limit in (5, 15):
            content = ondisk.read(top, "log", limit=limit)
            assert (content.id, content.data) == (ObjectID(b"0" * 40), None)
        assert ondisk.read(top, "log", limit=20).data == b"x" * 10 + b"y" * 10


def test_status_of_git_is_clean_after_a_look(host: Host) -> None:
    host.drift(thorough=True)
    assert git(host.release.path, "status", "--porcelain") == ""
