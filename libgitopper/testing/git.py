"""The contracts of `gitopper_fetch` and `gitopper_checkout`, as tests to run on a plugin of your own.

    class TestMyFetch(FetchContract):
        @pytest.fixture
        def plugin(self):
            return my_package.my_plugin

`CheckoutContract` has the same fixture; one plugin implements both hooks, since a checkout works on
a store of the fetch. The tests make repositories with the ``git`` command, and judge by it. A plugin
that takes no ``file://`` upstreams overrides the fixture `address`.
"""

# ruff: noqa: S101, D102 - these are tests, though they are shipped, and their names are sentences

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from libgitopper import (
    CheckoutError,
    CheckoutRequest,
    Credentials,
    FetchRequest,
    Hooks,
    PluginError,
    Release,
    Service,
    Source,
    SourceError,
    Store,
    UnknownRevision,
)
from libgitopper import Mapping as PathMapping
from libgitopper.testing.contract import PluginContract, needs_root
from libgitopper.testing.upstream import Upstream, git

__all__ = ["CheckoutContract", "FetchContract", "GitContract", "Stage"]


@frozen(kw_only=True)
class Stage:
    """An upstream, a plugin, and the directories that a host would have."""

    hooks: Hooks
    upstream: Upstream
    url: str
    root: Path

    def fetch(
        self, *branches: str, offline: bool = False, url: str = "", timeout_seconds: float = 60.0
    ) -> Store:
        """Fetch `branches`, or main."""
        return self.hooks.fetch(
            FetchRequest(
                upstream=url or self.url,
                credentials=Credentials(),
                branches=frozenset(branches or ["main"]),
                stores=self.root / "stores",
                offline=offline,
                timeout_seconds=timeout_seconds,
            )
        )

    def service(self, *links: str, files: Collection[str] = (), **fields: Any) -> Service:
        """A service that maps the directories `links` and the `files`."""
        mappings = [
            PathMapping(link=link, local=Path("/nowhere") / link, file=link in files)
            for link in (*links, *files)
        ]
        return Service(
            name="web",
            source=Source(upstream=self.url, branch="main"),
            mappings=tuple(mappings),
            mount=self.root / "mount",
            **fields,
        )

    def checkout(
        self, service: Service, revision: str | None = None, *, store: Store | None = None
    ) -> Release:
        """Fetch, and check the tip (or `revision`) out."""
        store = store or self.fetch()
        content = store.content(revision or store.tips["main"], service)
        return self.hooks.checkout(CheckoutRequest(service=service, store=store, content=content))


class GitContract(PluginContract):
    """The fixtures that the contracts of a git plugin share."""

    @pytest.fixture
    def address(self) -> Callable[[Upstream], str]:
        """How the plugin is to reach an upstream: override this when not by ``file://``."""
        return lambda upstream: upstream.url

    @pytest.fixture
    def stage(self, hooks: Hooks, address: Callable[[Upstream], str], tmp_path: Path) -> Stage:
        """An upstream with one commit on main, and the plugin."""
        upstream = Upstream.create(tmp_path / "upstreams")
        upstream.commit({"web/index": "1", "web/sub/page": "1", "webapp/index": "1", "top": "1"})
        return Stage(hooks=hooks, upstream=upstream, url=address(upstream), root=tmp_path)


class FetchContract(GitContract):
    """What every plugin that implements `gitopper_fetch` must do."""

    def test_first_fetch_brings_the_tips_of_the_branches_that_exist(self, stage: Stage) -> None:
        stage.upstream.commit({"web/index": "2"}, branch="main2")
        main = git(stage.upstream.path, "rev-parse", "main")
        store = stage.fetch("main", "absent")
        assert dict(store.tips) == {"main": main}
        assert store.moved

    def test_second_fetch_finds_that_nothing_moved(self, stage: Stage) -> None:
        first = stage.fetch()
        second = stage.fetch()
        assert not second.moved
        assert second.tips == first.tips

    def test_commit_moves_the_tip(self, stage: Stage) -> None:
        stage.fetch()
        tip = stage.upstream.commit({"web/index": "2"})
        store = stage.fetch()
        assert store.moved
        assert store.tips["main"] == tip

    def test_force_push_is_followed(self, stage: Stage) -> None:
        stage.upstream.commit({"web/index": "2"})
        stage.fetch()
        stage.upstream.rewind(1)
        tip = stage.upstream.commit({"web/index": "3"})
        assert stage.fetch().tips["main"] == tip

    def test_deleted_branch_is_absent_until_it_is_back(self, stage: Stage) -> None:
        tip = stage.fetch().tips["main"]
        stage.upstream.delete("main")
        gone = stage.fetch()
        assert "main" not in gone.tips
        assert gone.moved
        stage.upstream.push()
        assert stage.fetch().tips["main"] == tip

    def test_upstream_without_branches_has_no_tips(self, stage: Stage) -> None:
        stage.upstream.delete("main")
        store = stage.fetch()
        assert dict(store.tips) == {}

    def test_offline_before_the_first_fetch_is_an_error(self, stage: Stage) -> None:
        with pytest.raises(SourceError):
            stage.fetch(offline=True)

    def test_offline_answers_with_the_last_tips_though_upstream_is_gone(self, stage: Stage) -> None:
        tips = stage.fetch().tips
        shutil.rmtree(stage.upstream.path)
        store = stage.fetch(offline=True)
        assert store.tips == tips
        assert not store.moved

    def test_unreachable_upstream_is_an_error_and_harms_nothing(self, stage: Stage) -> None:
        tips = stage.fetch().tips
        hidden = stage.upstream.path.rename(stage.root / "hidden")
        with pytest.raises(SourceError):
            stage.fetch()
        assert stage.fetch(offline=True).tips == tips
        hidden.rename(stage.upstream.path)
        assert stage.fetch().tips == tips

    def test_an_address_of_another_kind_is_left_to_others(self, stage: Stage) -> None:
        with pytest.raises(PluginError):
            stage.fetch(url="gopher+carrier-pigeon://example.net/fleet")

    def test_content_names_what_is_at_the_mapped_paths(self, stage: Stage) -> None:
        store = stage.fetch()
        content = store.content(store.tips["main"], stage.service("web", "web/sub", files=["webapp/index"]))
        expected = [
            git(stage.upstream.path, "rev-parse", f"main:{link}")
            for link in ("web", "web/sub", "webapp/index")
        ]
        assert [entry.id for entry in content.entries] == expected
        assert [entry.mode for entry in content.entries] == [0o040000, 0o040000, 0o100644]

    def test_content_of_a_path_that_is_not_there_names_it(self, stage: Stage) -> None:
        store = stage.fetch()
        with pytest.raises(CheckoutError, match="web/nothing"):
            store.content(store.tips["main"], stage.service("web/nothing"))

    @pytest.mark.parametrize(("links", "files"), [(["top"], []), ([], ["web"])])
    def test_content_of_another_kind_names_the_path(
        self, stage: Stage, links: list[str], files: list[str]
    ) -> None:
        store = stage.fetch()
        with pytest.raises(CheckoutError, match=(links or files)[0]):
            store.content(store.tips["main"], stage.service(*links, files=files))

    def test_content_of_an_unknown_revision_is_an_error(self, stage: Stage) -> None:
        with pytest.raises(CheckoutError):
            stage.fetch().content("1" * 40, stage.service("web"))

    def test_resolve_completes_a_hash_of_the_branch(self, stage: Stage) -> None:
        old = stage.fetch().tips["main"]
        stage.upstream.commit({"web/index": "2"})
        store = stage.fetch()
        assert store.resolve(old[:8], "main") == old
        assert store.resolve(old, "main") == old

    @pytest.mark.parametrize("prefix", ["0" * 40, "abc", "", "main", "../x"])
    def test_resolve_refuses_what_names_no_commit(self, stage: Stage, prefix: str) -> None:
        with pytest.raises(UnknownRevision):
            stage.fetch().resolve(prefix, "main")

    def test_resolve_refuses_a_commit_of_another_branch(self, stage: Stage) -> None:
        other = stage.upstream.commit({"web/index": "2"}, branch="other")
        store = stage.fetch("main", "other")
        assert store.resolve(other[:8], "other") == other
        with pytest.raises(UnknownRevision):
            store.resolve(other, "main")


class CheckoutContract(GitContract):
    """What every plugin that implements `gitopper_checkout` must do."""

    def test_release_has_the_mapped_paths_and_no_others(self, stage: Stage) -> None:
        release = stage.checkout(stage.service("web", files=["top"]))
        assert _files(release.path) == {"web/index": "1", "web/sub/page": "1", "top": "1"}

    def test_release_is_where_and_what_its_content_says(self, stage: Stage) -> None:
        service = stage.service("web")
        release = stage.checkout(service)
        assert release.id == release.content.release_id(service)
        assert release.path == service.releases / release.id

    def test_git_tells_the_truth_in_a_release(self, stage: Stage) -> None:
        stage.upstream.commit({"other/file": "1"})
        release = stage.checkout(stage.service("web", files=["webapp/index"]))
        assert git(release.path, "status", "--porcelain") == ""
        assert int(git(release.path, "rev-list", "--count", "HEAD")) == stage.upstream.count()
        assert git(release.path, "sparse-checkout", "list") == "web"
        assert git(release.path, "rev-parse", "HEAD") == release.content.revision

    def test_executable_bits_and_symlinks_are_as_in_git(self, stage: Stage) -> None:
        stage.upstream.write("web/run", "#!/bin/sh")
        (stage.upstream.work / "web/run").chmod(0o755)
        (stage.upstream.work / "web/sub/link").symlink_to("../run")
        stage.upstream.commit()
        release = stage.checkout(stage.service("web"))
        assert (release.path / "web/run").stat().st_mode & 0o777 == 0o755
        assert (release.path / "web/index").stat().st_mode & 0o777 == 0o644
        assert (release.path / "web/sub/link").readlink() == Path("../run")

    def test_checkout_of_what_is_there_changes_nothing(self, stage: Stage) -> None:
        service = stage.service("web")
        first = stage.checkout(service)
        inode = (first.path / "web/index").stat().st_ino
        second = stage.checkout(service)
        assert second == first
        assert (second.path / "web/index").stat().st_ino == inode

    def test_commit_elsewhere_moves_the_head_of_the_release_only(self, stage: Stage) -> None:
        service = stage.service("web")
        first = stage.checkout(service)
        inode = (first.path / "web/index").stat().st_ino
        tip = stage.upstream.commit({"webapp/index": "2", "web2/index": "1"})
        second = stage.checkout(service)
        assert second.path == first.path
        assert (second.path / "web/index").stat().st_ino == inode
        assert git(second.path, "rev-parse", "HEAD") == tip
        assert git(second.path, "status", "--porcelain") == ""

    def test_other_content_is_another_release_beside_the_first(self, stage: Stage) -> None:
        service = stage.service("web")
        first = stage.checkout(service)
        stage.upstream.commit({"web/index": "2"})
        second = stage.checkout(service)
        assert second.path != first.path
        assert (first.path / "web/index").read_text() == "1"
        assert (second.path / "web/index").read_text() == "2"

    def test_release_that_is_kept_needs_no_upstream(self, stage: Stage) -> None:
        service = stage.service("web")
        first = stage.checkout(service)
        stage.upstream.commit({"web/index": "2"})
        stage.checkout(service)
        shutil.rmtree(stage.upstream.path)
        store = stage.fetch(offline=True)
        again = stage.checkout(service, first.content.revision, store=store)
        assert again.path == first.path

    def test_discard_removes_all_but_what_is_kept(self, stage: Stage) -> None:
        service = stage.service("web")
        releases = []
        for number in range(3):
            stage.upstream.commit({"web/index": f"version {number}"})
            releases.append(stage.checkout(service))
        store = stage.fetch()
        store.discard(service, {releases[1].id})
        assert [release.path.exists() for release in releases] == [False, True, False]
        assert git(releases[1].path, "status", "--porcelain") == ""
        assert [path.name for path in service.releases.iterdir()] == [releases[1].id]

    def test_file_contents_that_upstream_can_not_give_are_an_error_and_leave_no_release(
        self, stage: Stage
    ) -> None:
        store = stage.fetch()
        shutil.rmtree(stage.upstream.path)
        service = stage.service("web")
        try:
            release = stage.checkout(service, store=store)
        except SourceError:
            assert not service.releases.is_dir() or not list(service.releases.iterdir())
        else:  # a plugin may well have brought them in with the fetch
            assert _files(release.path) == {"web/index": "1", "web/sub/page": "1"}

    @pytest.mark.parametrize("target", ["/etc/shadow", "../../etc", "../webapp/index", "sub/../../webapp"])
    def test_symlink_that_leads_out_is_refused_by_name(self, stage: Stage, target: str) -> None:
        (stage.upstream.work / "web/out").symlink_to(target)
        stage.upstream.commit()
        service = stage.service("web")
        with pytest.raises(CheckoutError, match="web/out"):
            stage.checkout(service)
        assert not list(service.releases.iterdir())

    def test_unknown_owner_is_refused_with_what_to_do(self, stage: Stage) -> None:
        service = evolve(stage.service("web"), user="nobody-of-that-name")
        with pytest.raises(CheckoutError, match="nobody-of-that-name"):
            stage.checkout(service)

    @needs_root
    def test_mapped_files_belong_to_the_user(self, stage: Stage) -> None:
        release = stage.checkout(evolve(stage.service("web/sub"), user="nobody"))
        assert (release.path / "web/sub").owner() == "nobody"
        assert (release.path / "web/sub/page").owner() == "nobody"
        assert release.path.owner() == "root"


def _files(release: Path) -> dict[str, str]:
    return {
        str(path.relative_to(release)): path.read_text()
        for path in release.rglob("*")
        if path.is_file() and path.name != ".git"
    }
