"""The contracts of `gitopper_drift` and of comparing in a store, as tests to run on a plugin of your own.

    class TestMyDrift(DriftContract):
        @pytest.fixture
        def plugin(self):
            return my_package.my_plugin

The plugin also has the hooks of `libgitopper.testing.git`: drift is that of a release, which a
checkout made in a store of a fetch. ``git`` judges the patches.
"""

# ruff: noqa: S101, D102 - these are tests, though they are shipped, and their names are sentences

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from libgitopper import ChangeKind, Content, Drift, DriftRequest, FileChange, Release, Service, Store
from libgitopper.testing.contract import needs_root
from libgitopper.testing.git import GitContract, Stage
from libgitopper.testing.upstream import git

__all__ = ["ChangesContract", "DriftContract"]


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def _edit_twice(web: Path) -> None:
    lines = (web / "many").read_text().splitlines(keepends=True)
    (web / "many").write_text("".join(["first\n", *lines[:-1], "last"]))


ACTS: dict[str, tuple[Callable[[Path], object], dict[str, ChangeKind]]] = {
    "edit": (lambda web: (web / "index").write_bytes(b"2\r\n\xff"), {"web/index": ChangeKind.EDITED}),
    "edit to binary": (lambda web: (web / "index").write_bytes(b"\0"), {"web/index": ChangeKind.EDITED}),
    "edit in two places": (_edit_twice, {"web/many": ChangeKind.EDITED}),
    "add": (lambda web: (web / "a file").write_text("1"), {"web/a file": ChangeKind.ADDED}),
    "remove": (lambda web: (web / "sub/page").unlink(), {"web/sub/page": ChangeKind.REMOVED}),
    "make executable": (lambda web: (web / "index").chmod(0o755), {"web/index": ChangeKind.MODE}),
    "make a symlink": (
        lambda web: _replace(web / "index", lambda path: path.symlink_to("many")),
        {"web/index": ChangeKind.RETYPED},
    ),
    "make a file of a symlink": (
        lambda web: _replace(web / "link", lambda path: path.write_text("index")),
        {"web/link": ChangeKind.RETYPED},
    ),
    "lead a symlink elsewhere": (
        lambda web: _replace(web / "link", lambda path: path.symlink_to("many")),
        {"web/link": ChangeKind.EDITED},
    ),
    "make a file of a directory": (
        lambda web: _replace(web / "sub", lambda path: path.write_text("1")),
        {"web/sub": ChangeKind.RETYPED, "web/sub/page": ChangeKind.REMOVED},
    ),
}
"""What may be done to a release, and what is to be told of it."""


class ChangesContract(GitContract):
    """What `Store.changes` and `Store.patch` of every plugin that implements `gitopper_fetch` must do."""

    def test_equal_contents_have_no_changes_and_an_empty_patch(self, stage: Stage) -> None:
        store = stage.fetch()
        service = stage.service("web")
        first = store.content(store.tips["main"], service)
        stage.upstream.commit({"webapp/index": "2"})
        store = stage.fetch()
        second = store.content(store.tips["main"], service)
        assert list(store.changes(first, second)) == []
        assert store.patch(first, second, service) == b""

    def test_changes_name_each_file_with_its_kind(self, stage: Stage) -> None:
        store, before = _at_tip(stage)
        (stage.upstream.work / "web/sub/page").unlink()
        (stage.upstream.work / "web/sub/page").symlink_to("../index")
        stage.upstream.commit({"web/new": "1", "webapp/index": "2"})
        store, middle = _at_tip(stage)
        assert _kinds(store.changes(before, middle)) == {
            "web/new": ChangeKind.ADDED, "web/sub/page": ChangeKind.RETYPED
        }  # fmt: skip
        (stage.upstream.work / "web/new").chmod(0o755)
        stage.upstream.commit({"web/index": "2", "web/sub/page": None})
        store, after = _at_tip(stage)
        assert _kinds(store.changes(middle, after)) == {
            "web/index": ChangeKind.EDITED, "web/new": ChangeKind.MODE, "web/sub/page": ChangeKind.REMOVED
        }  # fmt: skip

    def test_against_nothing_every_file_is_added(self, stage: Stage) -> None:
        store, content = _at_tip(stage)
        changes = store.changes(None, content)
        assert [change.path for change in changes] == ["web/index", "web/sub/page"]
        assert {change.kind for change in changes} == {ChangeKind.ADDED}

    @pytest.mark.parametrize("data", ["2", "1\n2\n", "", b"\0\1\2", b"\xff", "long\n" * 5000])
    def test_git_makes_the_one_of_the_other_by_the_patch(
        self, stage: Stage, tmp_path: Path, data: str | bytes
    ) -> None:
        _, before = _at_tip(stage)
        stage.upstream.commit({"web/index": data, "web/n\u00e4me of\tits own": data, "web/sub/page": None})
        store, after = _at_tip(stage)
        patch = store.patch(before, after, stage.service("web"))
        assert _applied(stage, before.revision, patch, tmp_path) == _files(stage.upstream.work / "web")


class DriftContract(GitContract):
    """What every plugin that implements `gitopper_drift` must do."""

    @pytest.fixture
    def service(self, stage: Stage) -> Service:
        """The service whose release is looked at."""
        (stage.upstream.work / "web/link").symlink_to("index")
        stage.upstream.commit({"web/many": "line\n" * 50})
        return stage.service("web")

    @pytest.fixture
    def release(self, stage: Stage, service: Service) -> Release:
        """Its release, as it was made."""
        return stage.checkout(service)

    def test_release_as_it_was_made_has_no_drift(
        self, stage: Stage, service: Service, release: Release
    ) -> None:
        for thorough in (False, True):
            drift = _drift(stage, service, release, thorough=thorough)
            assert (drift.changes, drift.patch, drift.complete) == ((), b"", True)

    def test_touch_is_no_drift(self, stage: Stage, service: Service, release: Release) -> None:
        os.utime(release.path / "web/index", (1, 1))
        os.utime(release.path / "web/sub", (1, 1))
        assert _drift(stage, service, release).changes == ()

    def test_edit_that_keeps_size_and_mtime_is_found(
        self, stage: Stage, service: Service, release: Release
    ) -> None:
        file = release.path / "web/index"
        before = file.stat()
        file.write_text("2")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert _kinds(_drift(stage, service, release).changes) == {"web/index": ChangeKind.EDITED}

    @pytest.mark.parametrize("act", ACTS)
    def test_what_was_done_is_told_and_the_patch_does_it_again(
        self, stage: Stage, service: Service, release: Release, tmp_path: Path, act: str
    ) -> None:
        former = os.umask(0o022)
        try:
            do, expected = ACTS[act]
            do(release.path / "web")
        finally:
            os.umask(former)
        drift = _drift(stage, service, release)
        assert _kinds(drift.changes) == expected
        assert drift.complete
        after = _files(release.path / "web")
        assert _applied(stage, release.content.revision, drift.patch, tmp_path) == after
        assert _drift(stage, service, release).changes == drift.changes

    def test_bits_beyond_those_of_git_are_told_before_the_first_diff(
        self, stage: Stage, service: Service, release: Release, tmp_path: Path
    ) -> None:
        (release.path / "web/index").chmod(0o600)
        (release.path / "web/new").write_text("1")
        drift = _drift(stage, service, release)
        assert _kinds(drift.changes)["web/index"] is ChangeKind.MODE
        preamble, _, _ = drift.patch.partition(b"diff --git")
        assert b"web/index" in preamble
        assert b"0600" in preamble
        assert "new" in _applied(stage, release.content.revision, drift.patch, tmp_path)

    def test_empty_directories_do_not_count(self, stage: Stage, service: Service, release: Release) -> None:
        (release.path / "web/empty/too").mkdir(parents=True)
        assert _drift(stage, service, release).changes == ()

    def test_fifo_is_told_and_not_waited_for(
        self, stage: Stage, service: Service, release: Release
    ) -> None:
        (release.path / "web/index").unlink()
        os.mkfifo(release.path / "web/index")
        os.mkfifo(release.path / "web/fifo")
        assert _kinds(_drift(stage, service, release).changes) == {
            "web/fifo": ChangeKind.ADDED, "web/index": ChangeKind.RETYPED
        }  # fmt: skip

    def test_no_symlink_is_followed(
        self, stage: Stage, service: Service, release: Release, tmp_path: Path
    ) -> None:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/page").write_text("hidden words")
        shutil.rmtree(release.path / "web/sub")
        (release.path / "web/sub").symlink_to(tmp_path / "secret")
        drift = _drift(stage, service, release)
        assert _kinds(drift.changes)["web/sub"] is ChangeKind.RETYPED
        assert b"hidden words" not in drift.patch

    def test_nothing_is_written(self, stage: Stage, service: Service, release: Release) -> None:
        (release.path / "web/index").write_text("2")
        paths = [release.path, *release.path.rglob("*")]
        before = [path.lstat().st_ctime_ns for path in paths]
        _drift(stage, service, release)
        assert [path.lstat().st_ctime_ns for path in paths] == before

    def test_upstream_is_not_needed(self, stage: Stage, service: Service, release: Release) -> None:
        shutil.rmtree(stage.upstream.path)
        (release.path / "web/index").write_text("2")
        assert _kinds(_drift(stage, service, release).changes) == {"web/index": ChangeKind.EDITED}

    @needs_root
    def test_owner_counts(self, stage: Stage, service: Service, release: Release) -> None:
        os.chown(release.path / "web/index", 65534, 65534)
        assert _kinds(_drift(stage, service, release).changes) == {"web/index": ChangeKind.OWNER}


def _drift(stage: Stage, service: Service, release: Release, *, thorough: bool = False) -> Drift:
    store = stage.fetch(offline=True)
    request = DriftRequest(service=service, store=store, release=release, thorough=thorough)
    drift = stage.hooks.drift(request)
    assert drift is not None
    return drift


def _at_tip(stage: Stage) -> tuple[Store, Content]:
    store = stage.fetch()
    return store, store.content(store.tips["main"], stage.service("web"))


def _kinds(changes: Sequence[FileChange]) -> dict[str, ChangeKind]:
    return {change.path: change.kind for change in changes}


def _applied(stage: Stage, revision: str, patch: bytes, scratch: Path) -> dict[str, tuple[str, bytes]]:
    """Clone, apply `patch` to `revision`, and return what is below ``web`` then."""
    clone = scratch / "clone"
    (scratch / "patch").write_bytes(patch)
    git(scratch, "clone", "--quiet", "--no-checkout", str(stage.upstream.path), str(clone))
    git(clone, "checkout", "--quiet", revision)
    git(clone, "apply", "--whitespace=nowarn", str(scratch / "patch"))
    return _files(clone / "web")


def _files(top: Path) -> dict[str, tuple[str, bytes]]:
    """Name to kind and content, as far as git knows of it."""
    found = {}
    for path in top.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path.relative_to(top))] = ("symlink", os.fsencode(path.readlink()))
        elif stat.S_ISREG(mode):
            kind = "program" if mode & 0o100 else "file"
            found[str(path.relative_to(top))] = (kind, path.read_bytes())
    return found
