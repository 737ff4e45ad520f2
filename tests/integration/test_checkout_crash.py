"""`kill -9` at every step of a fetch and of a checkout: what is there is whole, and the next pass works.

A step is a call that touches the file system, as Python's audit events tell.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import Hooks, Store
from libgitopper.testing.git import Stage
from tests.support.upstream import Upstream, git, import_history

STEPS = {
    "open", "os.chmod", "os.chown", "os.link", "os.listdir", "os.mkdir", "os.remove", "os.rename",
    "os.rmdir", "os.symlink",
    "os.truncate", "tempfile.mkdtemp", "subprocess.Popen",
}  # fmt: skip
MOST_STEPS = 1000


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Run `work` in a process that is killed at its `step`-th step; True when it came to that."""
    child = os.fork()
    if child == 0:
        left = step

        def count(event: str, _arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child of pytest must not run on
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the child ended with status {status}"
    return status == signal.SIGKILL


@contextlib.contextmanager
def fresh(stage: Stage) -> Iterator[Stage]:
    """The stage as a new process sees it."""
    plugin = DulwichPlugin()
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    try:
        yield evolve(stage, hooks=hooks)
    finally:
        plugin.close()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/a": "1", "web/sub/b": "1", "other/c": "1"})
    (upstream.work / "web/link").symlink_to("a")
    upstream.commit({"web/a": "2"})
    return Stage(hooks=Hooks(), upstream=upstream, url=upstream.url, root=tmp_path)


def leftovers(stage: Stage) -> list[str]:
    """What a crash may leave, and a later pass must have cleared."""
    names = [".new-*", "scratch-*", "tmp*", "*.lock"]
    places = [stage.root / "stores", stage.root / "mount"]
    return [str(path) for place in places for name in names for path in place.rglob(name)]


def test_kill_at_every_step_of_the_first_fetch(stage: Stage) -> None:
    def first_fetch() -> None:
        with fresh(place) as here:
            here.fetch()

    for step in range(1, MOST_STEPS):
        place = evolve(stage, root=stage.root / str(step))
        if not killed_at(step, first_fetch):
            break
        with fresh(place) as again:
            store = again.fetch()
        assert dict(store.tips) == {"main": git(stage.upstream.path, "rev-parse", "main")}
        assert leftovers(place) == []
        git(store.path, "fsck")
    assert step > 20


def test_kill_at_every_step_of_a_later_fetch_with_a_merge_of_packs(stage: Stage) -> None:
    store: Store | None = None
    with fresh(stage) as here:
        for commit in import_history(stage.upstream, 8, branch="later"):
            git(stage.upstream.path, "update-ref", "refs/heads/main", commit)
            store = here.fetch()
    assert store is not None
    merges = 0

    def fetch() -> None:
        with fresh(stage) as here:
            here.fetch()

    for step in range(1, MOST_STEPS):
        import_history(stage.upstream, 1)
        before = packs(store.path)
        if not killed_at(step, fetch):
            break
        with fresh(stage) as again:
            known = again.fetch(offline=True).tips["main"]
            assert git(store.path, "cat-file", "-t", known) == "commit"
            assert again.fetch().tips["main"] == git(stage.upstream.path, "rev-parse", "main")
        assert leftovers(stage) == []
        merges += packs(store.path) <= before
    assert step > 20
    assert merges > 2
    git(store.path, "fsck", "--strict")
    assert git(store.path, "rev-list", "--count", "main") == str(stage.upstream.count())


def packs(store: Path) -> int:
    return len(list((store / "objects" / "pack").glob("*.pack")))


def test_kill_at_every_step_of_a_checkout(stage: Stage) -> None:
    service = stage.service("web")

    def checkout() -> None:
        with fresh(stage) as later:
            later.checkout(service, store=later.fetch(offline=True))

    with fresh(stage) as here:
        store = here.fetch()
        content = store.content(store.tips["main"], service)
        path = service.releases / content.release_id(service)
        for step in range(1, MOST_STEPS):
            if not killed_at(step, checkout):
                break
            if path.exists():
                assert git(path, "status", "--porcelain") == ""
            release = here.checkout(service, store=store)
            assert (release.path / "web/sub/b").read_text() == "1"
            assert git(release.path, "status", "--porcelain") == ""
            assert git(store.path, "worktree", "list").count("\n") == 1
            store.discard(service, set())
            assert not list(service.releases.iterdir())
            assert not list((store.path / "worktrees").iterdir())
    assert step > 40
    with fresh(stage) as after:  # what is aside in the store is cleared when a process opens it
        after.fetch()
    assert leftovers(stage) == []


def test_kill_at_every_step_of_an_advance(stage: Stage) -> None:
    service = stage.service("web")

    def advance() -> None:
        with fresh(stage) as later:
            later.checkout(service, store=later.fetch(offline=True))

    with fresh(stage) as here:
        release = here.checkout(service)
        for step in range(1, MOST_STEPS):
            tip = stage.upstream.commit({"other/c": str(step)})
            store = here.fetch()
            if not killed_at(step, advance):
                break
            assert (release.path / "web/sub/b").read_text() == "1"
            assert here.checkout(service, store=store).path == release.path
            assert git(release.path, "rev-parse", "HEAD") == tip
            assert git(release.path, "status", "--porcelain") == ""
    assert step > 10


def test_kill_at_every_step_of_a_discard(stage: Stage) -> None:
    service = stage.service("web")

    def discard() -> None:
        with fresh(stage) as later:
            later.fetch(offline=True).discard(service, {kept.id})

    with fresh(stage) as here:
        kept = here.checkout(service)
        for step in range(1, MOST_STEPS):
            stage.upstream.commit({"web/a": f"step {step}"})
            store = here.fetch()
            gone = here.checkout(service, store=store)
            killed = killed_at(step, discard)
            if gone.path.exists():
                assert git(gone.path, "status", "--porcelain") == ""
            store.discard(service, {kept.id})
            assert [path.name for path in service.releases.iterdir()] == [kept.id]
            assert git(store.path, "worktree", "list").count("\n") == 1
            # What git does not list, too.
            assert [path.name[:16] for path in (store.path / "worktrees").iterdir()] == [kept.id]
            if not killed:
                break
    assert step > 10
