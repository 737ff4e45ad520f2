"""Files and directories of a release that can not be read, are gone, or have no end."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins.dulwich import ondisk
from libgitopper import CheckoutError
from tests.support.drifting import Host, plain_host, plugin, stage, told

__all__ = ["plain_host", "plugin", "stage"]  # fixtures


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
