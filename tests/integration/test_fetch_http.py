"""Fetching over http, from a real `git http-backend`: what a poll costs, and what older servers give."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Limits, SourceError, Store
from tests.support.drifting import plugin
from tests.support.gitserver import HttpServer, http_server
from tests.support.httpfetch import fetch, snapshot, stores
from tests.support.upstream import Upstream, git, import_history

__all__ = ["plugin", "stores"]  # fixtures


def test_poll_that_finds_nothing_is_one_request_on_a_kept_connection_and_writes_nothing(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    fetch(plugin, server, stores)
    before = snapshot(stores)
    server.requests.clear()
    for _ in range(5):
        assert not fetch(plugin, server, stores).moved
    assert server.requests == ["POST /fleet.git/git-upload-pack"] * 5
    assert server.connections == 1
    assert snapshot(stores) == before


def test_commit_is_fetched_in_two_requests(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    fetch(plugin, server, stores)
    server.requests.clear()
    tip = upstream.commit({"web/index": "2"})
    assert fetch(plugin, server, stores).tips["main"] == tip
    assert server.requests == ["POST /fleet.git/git-upload-pack"] * 2


def test_connection_that_the_server_closed_meanwhile_is_no_error(
    plugin: DulwichPlugin, upstream: Upstream, stores: Path
) -> None:
    with http_server(upstream.path.parent) as server:
        fetch(plugin, server, stores)
    with http_server(upstream.path.parent, port=server.port) as again:
        assert not fetch(plugin, again, stores).moved
        assert again.requests == ["POST /fleet.git/git-upload-pack"]


def test_server_that_hangs_up_on_a_kept_connection_is_asked_once_more_on_a_new_one(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    fetch(plugin, server, stores)
    server.hang_ups = 1
    assert not fetch(plugin, server, stores).moved
    server.hang_ups = 2
    with pytest.raises(SourceError):
        fetch(plugin, server, stores)
    assert server.hang_ups == 0
    assert not fetch(plugin, server, stores).moved


def test_store_lacks_file_contents_and_stock_git_knows_why(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    store = fetch(plugin, server, stores)
    objects = git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    assert set(objects.split()) == {"commit", "tree"}
    git(store.path, "fsck")
    git(store.path, "gc")
    git(store.path, "fsck")
    assert git(store.path, "cat-file", "blob", "main:web/index") == "1"  # fetched when asked for


def kinds_and_sizes(store: Store) -> list[tuple[str, int]]:
    listed = git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectsize)")
    return [(kind, int(size)) for kind, size in (line.split() for line in listed.splitlines())]


def test_small_files_come_along_with_the_commits_that_change_them(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    fetch(plugin, server, stores)
    upstream.commit({"web/index": "small", "web/large": "x" * 20_000})
    store = fetch(plugin, server, stores)
    assert [size for kind, size in kinds_and_sizes(store) if kind == "blob"] == [len("small")]
    git(store.path, "fsck")


def test_small_files_that_are_too_many_are_left_out_at_the_next_try(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    limits = Limits(fetch_bytes=100_000)
    fetch(plugin, server, stores, limits=limits)
    upstream.commit({f"web/{number}": secrets.token_hex(7000) for number in range(20)})
    with pytest.raises(SourceError, match="more than 100000 bytes"):
        fetch(plugin, server, stores, limits=limits)
    store = fetch(plugin, server, stores, limits=limits)
    assert "blob" not in dict(kinds_and_sizes(store))
    upstream.commit({"web/index": "small"})
    store = fetch(plugin, server, stores, limits=limits)
    assert "blob" in dict(kinds_and_sizes(store)), "they come along again"


def test_server_that_takes_no_other_filter_is_asked_for_no_files_at_all(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    git(upstream.path, "config", "uploadpackfilter.allow", "false")
    git(upstream.path, "config", "uploadpackfilter.blob:none.allow", "true")
    fetch(plugin, server, stores)
    for number, requests in ((2, 5), (3, 2)):  # it is tried once only, and from the greeting on again
        server.requests.clear()
        tip = upstream.commit({"web/index": f"small {number}"})
        store = fetch(plugin, server, stores)
        assert store.tips["main"] == tip
        assert "blob" not in dict(kinds_and_sizes(store))
        assert len(server.requests) == requests


def test_server_without_filters_gives_a_full_clone_and_a_warning(
    plugin: DulwichPlugin,
    server: HttpServer,
    stores: Path,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    git(upstream.path, "config", "uploadpack.allowFilter", "false")
    store = fetch(plugin, server, stores)
    assert "full clone" in caplog.text
    assert "blob" in git(store.path, "cat-file", "--batch-all-objects", "--batch-check=%(objecttype)")
    git(store.path, "gc")
    git(store.path, "fsck")


def test_server_without_protocol_2_is_served_too(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    server.protocol = False
    fetch(plugin, server, stores)
    server.requests.clear()
    assert not fetch(plugin, server, stores).moved
    assert server.requests == ["GET /fleet.git/info/refs?service=git-upload-pack"]
    tip = upstream.commit({"web/index": "2"})
    assert fetch(plugin, server, stores).tips["main"] == tip
    assert git(upstream.path, "rev-list", "--count", "main") == git(
        stores.glob("*.git").__next__(), "rev-list", "--count", "main"
    )


def test_server_that_learns_protocol_2_meanwhile_is_followed(
    plugin: DulwichPlugin, server: HttpServer, stores: Path
) -> None:
    server.protocol = False
    fetch(plugin, server, stores)
    server.protocol = True
    fetch(plugin, server, stores)
    assert not fetch(plugin, server, stores).moved
    assert server.requests[-1].startswith("POST")


def test_repository_made_anew_is_followed(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    old = fetch(plugin, server, stores).tips["main"]
    upstream.work.rename(upstream.work.with_name("former-work"))
    upstream.path.rename(upstream.path.with_name("former"))
    upstream.init()
    tip = upstream.commit({"web/index": "anew"}, message="root of another history")
    store = fetch(plugin, server, stores)
    assert store.moved
    assert store.tips["main"] == tip != old
    assert git(store.path, "rev-list", "--count", "main") == "1"
    git(store.path, "fsck")


def test_force_push_deep_in_history_brings_little(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    commits = import_history(upstream, 120)
    store = fetch(plugin, server, stores)
    git(upstream.path, "update-ref", "refs/heads/main", commits[59])
    tip = import_history(upstream, 1)[-1]
    assert fetch(plugin, server, stores).tips["main"] == tip
    newest = max((store.path / "objects" / "pack").glob("*.pack"), key=lambda p: p.stat().st_mtime_ns)
    objects = int.from_bytes(newest.read_bytes()[8:12], "big")
    assert objects < 150  # 5 are new, and what lies between them and a commit that was offered; all are 350


def test_file_descriptors_and_packs_stay_few_over_300_fetches_and_git_stays_content(
    plugin: DulwichPlugin, server: HttpServer, stores: Path, upstream: Upstream
) -> None:
    commits = import_history(upstream, 300, branch="later", files=7)
    descriptors, store = [], None
    for number, commit in enumerate(commits):
        git(upstream.path, "update-ref", "refs/heads/main", commit)
        store = fetch(plugin, server, stores)
        assert store.moved
        if number % 10 == 0:
            descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
    assert store is not None
    packs = list((store.path / "objects" / "pack").glob("*.pack"))
    assert len(packs) < 20
    assert max(descriptors[15:]) - descriptors[0] < 60
    assert git(store.path, "rev-list", "--count", "main") == str(upstream.count())
    git(store.path, "fsck", "--strict")
    git(store.path, "gc")
    git(store.path, "fsck", "--strict")
    import_history(upstream, 1)
    assert fetch(plugin, server, stores).moved
