"""Files of a release that change while they are looked at, and symlinks that are not followed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from dulwich.objects import ObjectID

from gitopper_plugins.dulwich import ondisk
from libgitopper import CheckoutError
from tests.support.drifting import Host, plain_host, plugin, stage, told

__all__ = ["plain_host", "plugin", "stage"]  # fixtures


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
