"""Releases as linked work trees, judged by stock git."""

from __future__ import annotations

import os
import pwd
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin
from gitopper_plugins.dulwich.worktree import RECORD
from libgitopper import CheckoutError, CheckoutRequest, Hooks, Release, Service, SourceError
from libgitopper.testing.git import Stage
from tests.support.gitserver import http_server
from tests.support.upstream import Upstream, git, import_history


@pytest.fixture
def plugin() -> Iterator[DulwichPlugin]:
    plugin = DulwichPlugin()
    yield plugin
    plugin.close()


@pytest.fixture
def stage(plugin: DulwichPlugin, tmp_path: Path) -> Stage:
    upstream = Upstream.create(tmp_path / "upstreams")
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    return Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)


def paths(release: Release) -> set[str]:
    found = {str(path.relative_to(release.path)) for path in release.path.rglob("*") if not path.is_dir()}
    return found - {".git"}


def index_bytes(release: Release) -> int:
    return Path(git(release.path, "rev-parse", "--git-path", "index")).stat().st_size


def test_release_from_a_repository_of_5000_files(stage: Stage) -> None:
    import_history(stage.upstream, 200, files=2500)
    with http_server(stage.upstream.path.parent) as server:
        here = evolve(stage, url=server.url())
        service = here.service("web/3", files=["part7/file7"])
        store = here.fetch()
        server.requests.clear()
        release = here.checkout(service, store=store)
        assert server.requests == ["POST /fleet.git/git-upload-pack"]
        assert git(release.path, "status", "--porcelain") == ""
        assert git(release.path, "log", "--oneline").count("\n") + 1 == stage.upstream.count() == 200
        assert git(release.path, "sparse-checkout", "list") == "web/3"
        mapped = git(stage.upstream.path, "ls-tree", "-r", "--name-only", "main", "web/3/", "part7/file7")
        assert paths(release) == set(mapped.split())
        assert index_bytes(release) < 60_000  # 251 entries are there, of 5,000
        blobs = git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
        assert blobs.split().count("blob") == 251


def test_edited_removed_and_foreign_files_show_in_git_status(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1", "web/b": "1", "other/c": "1"})
    release = stage.checkout(stage.service("web"))
    (release.path / "web/a").write_text("edited")
    (release.path / "web/b").unlink()
    (release.path / "web/new").write_text("")
    assert git(release.path, "status", "--porcelain").split("\n") == ["M web/a", " D web/b", "?? web/new"]


def test_the_record_of_a_checkout_is_one_file_with_its_index_until_git_writes_another(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1", "web/b": "1"})
    release = stage.checkout(stage.service("web"))
    index = Path(git(release.path, "rev-parse", "--absolute-git-dir"), "index")
    record = index.with_name(RECORD)
    written = record.read_bytes()
    assert index.samefile(record)
    (release.path / "web/a").write_text("edited")
    git(release.path, "add", "web/a")
    assert not index.samefile(record)
    assert record.read_bytes() == written != index.read_bytes()


def test_work_trees_are_listed_and_survive_gc_and_prune(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1", "other/b": "1"})
    one = stage.checkout(stage.service("web"))
    two = stage.checkout(evolve(stage.service("web"), name="second"))
    three = stage.checkout(stage.service("other"))
    assert one.id == two.id
    store = stage.fetch()
    listed = git(store.path, "worktree", "list", "--porcelain")
    for release in (one, two, three):
        assert f"worktree {release.path}\nHEAD {release.content.revision}\ndetached" in listed
    git(store.path, "worktree", "prune", "--expire=now")
    git(store.path, "gc", "--prune=now")
    git(store.path, "fsck")
    for release in (one, two, three):
        assert git(release.path, "status", "--porcelain") == ""


def test_gc_keeps_what_a_release_of_a_deleted_branch_needs(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    service = stage.service("web")
    release = stage.checkout(service)
    stage.upstream.delete("main")
    stage.upstream.commit({"other": "1"}, branch="elsewhere")
    store = stage.fetch("main", "elsewhere")
    git(store.path, "gc", "--prune=now")
    shutil.rmtree(stage.upstream.path)
    assert git(release.path, "status", "--porcelain") == ""
    assert git(release.path, "show", "HEAD:web/a") == "1"


def test_releases_of_the_last_few_revisions_can_be_made_again_without_upstream(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    service = stage.service("web")
    first = stage.checkout(service)
    stage.upstream.commit({"web/a": "2"})
    stage.checkout(service)
    shutil.rmtree(first.path)
    shutil.rmtree(stage.upstream.path)
    store = stage.fetch(offline=True)
    again = stage.checkout(service, first.content.revision, store=store)
    assert (again.path / "web/a").read_text() == "1"
    assert git(again.path, "status", "--porcelain") == ""


def test_names_that_are_not_utf8_nor_plain_are_checked_out(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    for name in (
        b"web/\xff\xfe",
        b"web/sp ace\n",
        b"web/[glob]*",
        "web/\u00fc".encode(),
        b"web/" + b"n" * 255,
    ):
        (Path(os.fsdecode(os.fsencode(stage.upstream.work) + b"/" + name))).write_text("odd")
    stage.upstream.commit()
    release = stage.checkout(stage.service("web"))
    assert git(release.path, "status", "--porcelain") == ""
    assert len(list((release.path / "web").iterdir())) == 6


def test_mapped_directory_with_glob_characters_is_told_right(stage: Stage) -> None:
    stage.upstream.commit({"we[b]*/a": "1", "web/a": "2"})
    release = stage.checkout(stage.service("we[b]*"))
    assert git(release.path, "status", "--porcelain") == ""
    assert paths(release) == {"we[b]*/a"}
    assert git(release.path, "sparse-checkout", "list") == "we[b]*"


def test_submodule_is_an_empty_directory(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    commit = git(stage.upstream.work, "rev-parse", "HEAD")
    git(stage.upstream.work, "update-index", "--add", "--cacheinfo", f"160000,{commit},web/module")
    git(stage.upstream.work, "commit", "--quiet", "--message=module")
    stage.upstream.push()
    release = stage.checkout(stage.service("web"))
    assert list((release.path / "web/module").iterdir()) == []
    assert git(release.path, "status", "--porcelain") == ""


def test_contents_come_verbatim(stage: Stage) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1\n"
    stage.upstream.commit({".gitattributes": "*.bin filter=lfs\n", "web/big.bin": "x"})
    git(stage.upstream.work, "config", "core.autocrlf", "false")
    (stage.upstream.work / ".gitattributes").unlink()
    stage.upstream.commit(
        {"web/big.bin": pointer, "web/crlf": b"a\r\nb\r\n", "web/empty": b"", "web/nul": b"\0" * 70000}
    )
    release = stage.checkout(stage.service("web"))
    assert (release.path / "web/big.bin").read_text() == pointer
    assert (release.path / "web/crlf").read_bytes() == b"a\r\nb\r\n"
    assert (release.path / "web/nul").read_bytes() == b"\0" * 70000
    assert git(release.path, "status", "--porcelain") == ""


def test_modes_do_not_depend_on_the_umask(stage: Stage) -> None:
    stage.upstream.write("web/run", "")
    (stage.upstream.work / "web/run").chmod(0o755)
    stage.upstream.commit({"web/sub/a": ""})
    former = os.umask(0o077)
    try:
        release = stage.checkout(stage.service("web"))
    finally:
        os.umask(former)
    modes = {
        p: (release.path / p).stat().st_mode & 0o7777
        for p in (".", "web", "web/sub", "web/sub/a", "web/run")
    }
    assert modes == {".": 0o755, "web": 0o755, "web/sub": 0o755, "web/sub/a": 0o644, "web/run": 0o755}
    assert all(
        parent.stat().st_mode & 0o755 == 0o755 for parent in (release.path.parent, stage.root / "mount")
    )


def test_overlapping_mappings_share_what_they_share(stage: Stage) -> None:
    stage.upstream.commit({"web/sub/a": "1", "web/b": "1", "webapp/c": "1"})
    release = stage.checkout(stage.service("web", "web/sub", files=["web/b"]))
    assert paths(release) == {"web/sub/a", "web/b"}
    assert git(release.path, "status", "--porcelain") == ""


def test_advance_over_many_commits_costs_no_request_and_keeps_status_clean(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1", "web/sub/b": "1", "conf/deep/x": "1"})
    service = stage.service("web/sub", "conf/deep")
    first = release = stage.checkout(service)
    for change in ({"web/a": "2"}, {"conf/y": "1"}, {"new/z": "1"}, {"web/a": None}):
        tip = stage.upstream.commit(change)
        release = stage.checkout(service)
        assert release.path == first.path
        assert git(release.path, "rev-parse", "HEAD") == tip
        assert git(release.path, "status", "--porcelain") == ""
    assert git(release.path, "log", "--oneline").count("\n") + 1 == 5


def test_advance_does_not_hide_an_edit(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    service = stage.service("web")
    release = stage.checkout(service)
    (release.path / "web/a").write_text("2")
    git(release.path, "status", "--porcelain")  # git writes what it found into its index
    stage.upstream.commit({"other": "1"})
    stage.checkout(service)
    assert git(release.path, "status", "--porcelain") == "M web/a"


def test_advance_in_a_later_second_does_not_hide_an_edit_in_that_of_the_checkout(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    service = stage.service("web")
    time.sleep(1 - time.time() % 1)  # a second begins
    release = stage.checkout(service)
    (release.path / "web/a").write_text("2")
    stage.upstream.commit({"other": "1"})
    time.sleep(1 - time.time() % 1)
    stage.checkout(service)
    assert git(release.path, "status", "--porcelain") == "M web/a"


def test_store_that_was_lost_is_told_of_its_releases_again(stage: Stage, plugin: DulwichPlugin) -> None:
    stage.upstream.commit({"web/a": "1", "web/b": "1"})
    service = stage.service("web")
    release = stage.checkout(service)
    (release.path / "web/b").write_text("edited")
    shutil.rmtree(stage.fetch().path)
    again = stage.checkout(service)
    assert again.path == release.path
    assert git(again.path, "status", "--porcelain") == "M web/b"
    assert git(stage.fetch().path, "worktree", "list").count("\n") == 1


@pytest.mark.root
def test_owner_is_the_user_below_the_mappings_and_root_above(stage: Stage) -> None:
    stage.upstream.commit({"web/conf/a": "1", "single/file": "1"})
    (stage.upstream.work / "web/conf/link").symlink_to("a")
    stage.upstream.commit()
    release = stage.checkout(evolve(stage.service("web/conf", files=["single/file"]), user="nobody"))
    nobody = pwd.getpwnam("nobody")
    owners = {
        str(p.relative_to(release.path)): (p.lstat().st_uid, p.lstat().st_gid)
        for p in release.path.rglob("*")
    }
    theirs, ours = (nobody.pw_uid, nobody.pw_gid), (0, 0)
    assert owners == {
        ".git": ours, "web": ours, "web/conf": theirs, "web/conf/a": theirs, "web/conf/link": theirs,
        "single": ours, "single/file": theirs,
    }  # fmt: skip
    assert git(release.path, "status", "--porcelain") == ""


def test_user_that_is_somebody_else_needs_root(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.upstream.commit({"web/a": "1"})
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(CheckoutError, match="only root can give files to user nobody"):
        stage.checkout(evolve(stage.service("web"), user="nobody"))


def test_blobs_that_are_missing_while_upstream_hangs_leave_nothing(stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    with http_server(stage.upstream.path.parent) as server:
        here = evolve(stage, url=server.url())
        store = here.fetch()
        server.hang = True
        service: Service = evolve(here.service("web"), timeout_seconds=0.5)
        with pytest.raises(SourceError, match=r"within 0\.5 s") as error:
            here.checkout(service, store=store)
        assert error.value.service == "web"
        assert not service.releases.exists()
        server.hang = False
        assert (here.checkout(service, store=store).path / "web/a").read_text() == "1"


def test_a_store_of_another_plugin_is_left_alone(plugin: DulwichPlugin, stage: Stage) -> None:
    stage.upstream.commit({"web/a": "1"})
    service = stage.service("web")
    store = stage.fetch()
    content = store.content(store.tips["main"], service)
    foreign = type("Foreign", (), {})()
    request = CheckoutRequest(service=service, store=foreign, content=content)
    assert plugin.gitopper_checkout(request) is None
