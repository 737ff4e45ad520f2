"""What a store survives: damage, crashes of others, two processes at once."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin
from gitopper_plugins.dulwich.store import View
from libgitopper import CheckoutError, Hooks, SourceError, UnknownRevision
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream, git, import_history


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    plugin = DulwichPlugin()
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/index": "1", "other": "1"})
    yield Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=tmp_path)
    plugin.close()


def as_after_a_restart(stage: Stage) -> None:
    for plugin in stage.hooks.manager.get_plugins():
        plugin.close()


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("how", ["emptied", "cut", "flipped"])
def test_damaged_pack_is_dropped_and_fetched_again(stage: Stage, suffix: str, how: str) -> None:
    import_history(stage.upstream, 30)
    service = stage.service("web")
    release = stage.checkout(service)
    store = stage.fetch()
    as_after_a_restart(stage)
    for path in (store.path / "objects/pack").glob(f"*{suffix}"):
        data = path.read_bytes()
        middle = len(data) // 2
        path.chmod(0o644)
        path.write_bytes(
            {
                "emptied": b"",
                "cut": data[:middle],
                "flipped": data[:12] + bytes(byte ^ 0xFF for byte in data[12:]),
            }[how]
        )
    assert stage.fetch().tips["main"] == git(stage.upstream.path, "rev-parse", "main")
    git(store.path, "fsck")
    assert git(store.path, "rev-list", "--count", "main") == str(stage.upstream.count())
    assert stage.checkout(service).path == release.path
    assert git(release.path, "status", "--porcelain") == ""


@pytest.mark.parametrize("name", ["HEAD", "config", "config.worktree", "packed-refs"])
def test_file_of_the_skeleton_that_is_empty_after_a_power_loss_is_written_again(
    stage: Stage, name: str
) -> None:
    service = stage.service("web")
    release = stage.checkout(service)
    store = stage.fetch()
    as_after_a_restart(stage)
    (store.path / name).write_bytes(b"")
    assert stage.fetch().tips["main"] == git(stage.upstream.path, "rev-parse", "main")
    stage.checkout(service)
    assert git(release.path, "status", "--porcelain") == ""
    git(store.path, "fsck")


@pytest.mark.parametrize("lacks", [{".idx"}, {".idx", ".promisor"}, {".idx", ".pack"}])
def test_half_a_pack_that_a_crash_left_is_removed(stage: Stage, lacks: set[str]) -> None:
    store = stage.fetch()
    packs = store.path / "objects/pack"
    whole = sorted(packs.iterdir())
    for suffix in {".pack", ".promisor", ".idx"} - lacks:
        for name, seconds in (("a" * 40, 0), ("b" * 40, 1)):
            half = packs / f"pack-{name}{suffix}"
            half.touch()
            # The other one may be a pack that somebody's git is about to finish.
            os.utime(half, (1_600_000_000,) * 2 if seconds else None)
    as_after_a_restart(stage)
    stage.fetch()
    left = [path for path in sorted(packs.iterdir()) if path not in whole]
    assert {path.stem for path in left} == {f"pack-{'a' * 40}"}
    git(store.path, "fsck")


@pytest.mark.parametrize("left", [{".promisor", ".idx"}, {".idx"}])
def test_what_a_kill_left_of_a_pack_that_was_being_deleted_is_removed_at_once(
    stage: Stage, left: set[str]
) -> None:
    store = stage.fetch()
    packs = store.path / "objects/pack"
    whole = sorted(packs.iterdir())
    for suffix in left:
        (packs / f"pack-{'a' * 40}{suffix}").touch()
    as_after_a_restart(stage)
    stage.fetch()
    assert sorted(packs.iterdir()) == whole


def test_lock_files_of_a_killed_git_do_not_hold_up_anything(stage: Stage) -> None:
    service = stage.service("web")
    release = stage.checkout(service)
    store = stage.fetch()
    admin = Path(git(release.path, "rev-parse", "--absolute-git-dir"))
    for path in (
        store.path / "packed-refs.lock",
        store.path / "config.lock",
        admin / "index.lock",
        admin / "HEAD.lock",
    ):
        path.touch()
    tip = stage.upstream.commit({"other": "2"})
    assert stage.checkout(service).content.revision == tip
    assert git(release.path, "rev-parse", "HEAD") == tip


def test_another_process_in_the_store_is_waited_for_until_the_deadline(stage: Stage) -> None:
    store = stage.fetch()
    lock = os.open(store.path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(SourceError, match="another process"):
            stage.fetch(timeout_seconds=0.5)
    finally:
        os.close(lock)
    assert not stage.fetch().moved


def test_two_processes_with_one_store_and_one_mount_do_not_harm_each_other(stage: Stage) -> None:
    program = """
import sys
from pathlib import Path
from libgitopper import Hooks
from libgitopper.testing.git import Stage
from libgitopper.testing.upstream import Upstream
from gitopper_plugins.dulwich import plugin
hooks = Hooks()
hooks.register(plugin, name="dulwich")
path, work, root = map(Path, sys.argv[1:])
upstream = Upstream(path=path, work=work)
stage = Stage(hooks=hooks, upstream=upstream, url=upstream.url, root=root)
for _ in range(10):
    print(stage.checkout(stage.service("web")).path)
"""
    argv = [
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        str(stage.upstream.path),
        str(stage.upstream.work),
        str(stage.root),
    ]
    processes = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(3)
    ]
    for number in range(6):
        stage.upstream.commit({"web/index": f"{number % 2}\n"})
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        for path in set(out.split()):
            assert git(Path(path), "status", "--porcelain") == ""


def test_short_hash_of_several_commits_is_ambiguous_until_it_is_longer(stage: Stage) -> None:
    commits = import_history(stage.upstream, 1500)
    first: dict[str, str] = {}
    one, other = next(
        (first[commit[:4]], commit) for commit in commits if first.setdefault(commit[:4], commit) != commit
    )
    store = stage.fetch()
    with pytest.raises(UnknownRevision, match=r"stands for \d commits of main"):
        store.resolve(one[:4], "main")
    assert store.resolve(one[:12].upper(), "main") == one
    assert store.resolve(other[:12], "main") == other


def test_branch_that_can_not_be_one_is_refused(stage: Stage) -> None:
    with pytest.raises(SourceError, match="can't be the name of a branch"):
        stage.fetch("main\n0000 evil")


@pytest.mark.parametrize("back_as", ["main", "trunk"])
def test_branch_that_went_and_is_back_brings_only_what_is_new(stage: Stage, back_as: str) -> None:
    """By its name, or by another one, as where somebody renamed it: its history is here still."""
    import_history(stage.upstream, 30)
    store = stage.fetch()
    before = set((store.path / "objects/pack").glob("*.pack"))
    git(stage.upstream.work, "pull", "--quiet", "origin", "main")
    stage.upstream.delete("main")
    assert not stage.fetch().tips
    as_after_a_restart(stage)
    tip = stage.upstream.commit({"web/index": "2"}, branch=back_as)
    assert stage.fetch(back_as).tips == {back_as: tip}
    (pack,) = set((store.path / "objects/pack").glob("*.pack")) - before
    assert int.from_bytes(pack.read_bytes()[8:12], "big") <= 4  # a commit, two trees, a file
    assert git(store.path, "rev-list", "--count", back_as) == str(stage.upstream.count(back_as))
    git(store.path, "fsck", "--strict")
    git(store.path, "pack-refs", "--all")
    assert stage.fetch(back_as, offline=True).tips == {back_as: tip}


def test_place_that_something_else_has_taken_is_named(stage: Stage) -> None:
    (stage.root / "stores").write_text("a file")
    with pytest.raises(SourceError, match=r"the store of .* can't be written: .*stores: File exists"):
        stage.fetch()


def test_threads_that_start_at_once_on_nothing_all_succeed(stage: Stage) -> None:
    service = stage.service("web")
    failures: list[BaseException] = []

    def work(here: Stage) -> None:
        try:
            for _ in range(2):
                here.checkout(evolve(service, mount=here.root / "mount"))
        except BaseException as exc:  # noqa: BLE001 - told below
            failures.append(exc)

    for number in range(15):
        here = evolve(stage, root=stage.root / str(number))
        threads = [threading.Thread(target=work, args=(here,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_second_process_at_work_in_the_releases_is_waited_for_and_named(stage: Stage) -> None:
    service = evolve(stage.service("web"), timeout_seconds=0.5)
    release = stage.checkout(service)
    lock = os.open(service.releases, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert stage.checkout(service) == release  # nothing to do needs no lock
        stage.upstream.commit({"other": "2"})
        with pytest.raises(CheckoutError, match="another process"):
            stage.checkout(service)
        stage.fetch().discard(service, set())
        assert release.path.exists()
    finally:
        os.close(lock)
    stage.fetch().discard(service, set())
    assert not release.path.exists()


def test_branches_that_can_not_be_read_are_an_error_that_names_their_file(stage: Stage) -> None:
    store = stage.fetch()
    as_after_a_restart(stage)
    refs = store.path / "packed-refs"
    refs.rename(store.path / "aside")
    refs.mkdir()
    with pytest.raises(SourceError, match=r"can't be read: .*packed-refs: Is a directory"):
        stage.fetch(offline=True)


def test_a_want_of_descriptors_is_no_damage(stage: Stage) -> None:
    import_history(stage.upstream, 30)
    store = stage.fetch()
    packs = set((store.path / "objects/pack").glob("*.pack"))
    assert isinstance(store, View)
    refs = store.shared.refs()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    for spare in range(12):
        as_after_a_restart(stage)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free() + spare, most))
        try:
            stage.fetch()
        except (SourceError, CheckoutError) as exc:
            failed += "Too many open files" in str(exc)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
        assert packs <= set((store.path / "objects/pack").glob("*.pack"))
        assert store.shared.refs() == refs
    assert failed > 3
    assert not stage.fetch().moved


def lowest_free() -> int:
    """The number that the next descriptor will have."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor
