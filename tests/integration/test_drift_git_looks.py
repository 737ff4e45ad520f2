"""How a release is looked at: what is trusted, and what is remembered."""

from __future__ import annotations

import importlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import ondisk
from gitopper_plugins.dulwich.gitindex import dump, present, present_entries, unpacked
from libgitopper import CheckoutRequest
from tests.support.drifting import Host, plain_host, plugin, stage, told
from tests.support.upstream import git

__all__ = ["plain_host", "plugin", "stage"]  # fixtures

EDITED = [("web/a", "edited", "")]


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


def test_status_of_git_is_clean_after_a_look(host: Host) -> None:
    host.drift(thorough=True)
    assert git(host.release.path, "status", "--porcelain") == ""
