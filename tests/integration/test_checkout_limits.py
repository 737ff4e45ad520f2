"""What a repository may ask of a host: sizes of files and releases, names, and what others do meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin, ondisk
from libgitopper import CheckoutError, CheckoutRequest, Hooks, Limits, Release, Service
from libgitopper.testing.git import Stage
from tests.support import rawpack as raw
from tests.support.upstream import Upstream, git

KIB = 1024


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    plugin, hooks = DulwichPlugin(), Hooks()
    hooks.register(plugin, name="dulwich")
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/index": "1", "other": "1"})
    yield Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)
    plugin.close()


def limited(stage: Stage, **limits: int) -> Service:
    return evolve(stage.service("web"), limits=Limits(**limits))


def refused(stage: Stage, service: Service) -> str:
    with pytest.raises(CheckoutError) as error:
        stage.checkout(service)
    assert not error.value.retryable
    assert not list(service.releases.glob(".new-*"))
    return str(error.value)


def packs(stage: Stage) -> list[Path]:
    return sorted((stage.fetch().path / "objects/pack").glob("*.pack"))


def test_file_that_is_too_large_is_refused_by_its_name_and_not_kept(stage: Stage) -> None:
    service = limited(stage, file_bytes=100 * KIB)
    stage.checkout(service)
    stage.upstream.commit({"web/index": "2", "web/sub/large": os.urandom(100 * KIB + 1)})
    stage.fetch()
    before = packs(stage)
    why = "web/sub/large is refused: it has 102401 bytes, more than `max_file` allows, which is 102400"
    assert refused(stage, service) == why
    assert packs(stage) == before  # nothing of it fills the disk
    # Nor is it sent a second time, to be refused a second time.
    shutil.rmtree(stage.upstream.path)
    store = stage.fetch(offline=True)
    content = store.content(store.tips["main"], service)
    with pytest.raises(CheckoutError, match="max_file"):
        stage.hooks.checkout(CheckoutRequest(service=service, store=store, content=content))


def test_file_as_large_as_it_may_be_is_checked_out(stage: Stage) -> None:
    data = os.urandom(100 * KIB)
    stage.upstream.commit({"web/large": data})
    release = stage.checkout(limited(stage, file_bytes=100 * KIB))
    assert (release.path / "web/large").read_bytes() == data


def test_limit_that_is_raised_lets_the_file_pass(stage: Stage) -> None:
    stage.upstream.commit({"web/large": os.urandom(50 * KIB)})
    assert "max_file" in refused(stage, limited(stage, file_bytes=10 * KIB))
    assert stage.checkout(limited(stage, file_bytes=50 * KIB)).path.is_dir()


def test_release_that_is_too_large_is_refused(stage: Stage) -> None:
    stage.upstream.commit({f"web/{number}": "x" * 10 * KIB for number in range(10)})
    why = refused(stage, limited(stage, release_bytes=100 * KIB))
    assert why.startswith("the release is refused: its files have 102401 bytes, more than `max_release`")
    assert stage.checkout(limited(stage, release_bytes=100 * KIB + 1)).path.is_dir()


def test_what_is_too_large_beside_the_mapping_is_no_matter(stage: Stage) -> None:
    stage.upstream.commit({"other": os.urandom(500 * KIB), "web/index": "2"})
    release = stage.checkout(limited(stage, file_bytes=KIB, release_bytes=KIB))
    assert git(release.path, "status", "--porcelain") == ""


def test_patch_with_a_file_that_is_too_large_says_so(stage: Stage) -> None:
    service = stage.service("web")
    store = stage.fetch()
    before = store.content(store.tips["main"], service)
    stage.upstream.commit({"web/large": bytes(17 << 20)})
    store = stage.fetch()
    after = store.content(store.tips["main"], service)
    with pytest.raises(CheckoutError, match="longer than 16777216 bytes; use `git diff`"):
        store.patch(before, after, service)


def commit_tree(stage: Stage, *entries: tuple[str, bytes, str]) -> None:
    data = raw.tree(*sorted(entries, key=lambda entry: entry[1]))
    made = git(stage.upstream.path, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=data)
    commit = git(stage.upstream.path, "commit-tree", made, "-m", "hostile")
    git(stage.upstream.path, "update-ref", "refs/heads/main", commit)


def test_old_modes_beside_the_mapping_leave_git_status_clean(stage: Stage) -> None:
    web = git(stage.upstream.path, "rev-parse", "main:web")
    blob = git(stage.upstream.path, "rev-parse", "main:other")
    modes = ("100664", "100600", "104755", "120000")
    beside = [(mode, b"old%d" % number, blob) for number, mode in enumerate(modes)]
    commit_tree(stage, ("40000", b"web", web), *beside)
    release = stage.checkout(stage.service("web"))
    assert git(release.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("name", [b"web/index", b"..", b".git", b"web"])
def test_name_beside_the_mapping_that_could_be_taken_for_something_in_it_is_refused(
    stage: Stage, name: bytes
) -> None:
    web = git(stage.upstream.path, "rev-parse", "main:web")
    commit_tree(
        stage, ("40000", b"web", web), ("100644", name, git(stage.upstream.path, "rev-parse", "main:other"))
    )
    assert "is refused" in refused(stage, stage.service("web"))


@pytest.mark.parametrize(("levels", "taken"), [(15, True), (20, False)])
def test_path_that_linux_does_not_take_is_refused_before_anything_is_written(
    stage: Stage, levels: int, taken: bool
) -> None:
    below = raw.tree(("100644", b"x", git(stage.upstream.path, "rev-parse", "main:other")))
    for _ in range(levels):
        made = git(stage.upstream.path, "hash-object", "-t", "tree", "-w", "--stdin", stdin=below)
        below = raw.tree(("40000", b"n" * 200, made))
    made = git(stage.upstream.path, "hash-object", "-t", "tree", "-w", "--stdin", stdin=below)
    commit_tree(stage, ("40000", b"web", made))
    if taken:
        assert stage.checkout(stage.service("web")).path.is_dir()
    else:
        assert "its path is longer than the" in refused(stage, stage.service("web"))


def forgotten(stage: Stage, service: Service) -> Release:
    """A release that its store has to be told of again, as after the store was made anew."""
    release = stage.checkout(service)
    shutil.rmtree(git(release.path, "rev-parse", "--absolute-git-dir"))
    return release


def test_owner_who_swaps_a_directory_for_a_symlink_shows_nothing_of_the_host(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service("web")
    release = forgotten(stage, service)
    outside = stage.root / "outside"
    (release.path / "web").rename(outside)
    (release.path / "web").symlink_to(outside)
    seen: list[object] = []
    look = ondisk.identify
    monkeypatch.setattr(ondisk, "identify", lambda *it: seen.append(look(*it)))
    stage.checkout(service)
    assert seen == []  # what is there was not looked at through the symlink
    assert "web" in git(release.path, "status", "--porcelain")


@pytest.mark.timeout(20)
def test_owner_who_swaps_a_file_for_a_fifo_in_the_last_moment_holds_nobody_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service("web")
    release = forgotten(stage, service)
    file, stat = release.path / "web/index", os.stat

    def swap(path: Any, **how: Any) -> os.stat_result:
        found = stat(path, **how)
        if path == "index" and file.is_file():
            file.unlink()
            os.mkfifo(file)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", swap)
        worker = threading.Thread(target=stage.checkout, args=(service,), daemon=True)
        worker.start()
        worker.join(10)
        assert not worker.is_alive()
    assert file.is_fifo()
