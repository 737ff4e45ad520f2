"""A release that a mount shows, or that a crash left hidden under one, is not deleted, and not half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import mountapi
from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Hooks
from libgitopper.testing.git import Stage
from tests.support.namespace import in_mount_namespace
from tests.support.upstream import Upstream, git


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    upstream = Upstream.create(tmp_path / "upstreams")
    return Stage(hooks=Hooks(), upstream=upstream, url=upstream.url, root=tmp_path)


@pytest.mark.parametrize("name", ["web", "app@a\\x2db"])
@in_mount_namespace
def test_a_release_is_deleted_once_no_mount_shows_or_hides_it(stage: Stage, name: str) -> None:
    """Whatever systemd allows in the name: the kernel escapes a backslash in what it tells of mounts."""
    plugin = DulwichPlugin()
    stage.hooks.register(plugin, name="dulwich")
    service = evolve(stage.service("web"), name=name)
    stage.upstream.commit({"web/a": "1", "web/sub/b": "1"})
    seen = stage.checkout(service)
    stage.upstream.commit({"web/a": "2"})
    store = stage.fetch()
    hidden = stage.checkout(service, store=store)
    local = stage.root / "local"
    local.mkdir()
    for release in (hidden, seen):
        tree = mountapi.clone(release.path / "web", readonly=False)
        mountapi.attach(tree, local)
        os.close(tree)

    store.discard(service, {seen.id})
    assert (local / "a").read_text() == "1"
    assert git(hidden.path, "status", "--porcelain") == ""
    assert (hidden.path / "web/sub/b").read_text() == "1"

    mountapi.detach(local)
    assert (local / "a").read_text() == "2"
    store.discard(service, {seen.id})
    assert hidden.path.is_dir()

    mountapi.detach(local)
    store.discard(service, {seen.id})
    assert [path.name for path in service.releases.iterdir()] == [seen.id]
    assert git(store.path, "worktree", "list").count("\n") == 1
    plugin.close()
