"""A disk that is full, or read-only: what was there stays, nothing half made is left, and it says so."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins.dulwich import DulwichPlugin
from libgitopper import CheckoutError, Hooks, SourceError
from libgitopper.testing.git import Stage
from tests.support.namespace import in_mount_namespace
from tests.support.upstream import Upstream, git


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    upstream = Upstream.create(tmp_path / "upstreams")
    upstream.commit({"web/a": os.urandom(300_000), "web/b": "1"})
    return Stage(hooks=Hooks(), upstream=upstream, url=upstream.url, root=tmp_path)


def on_small_disk(stage: Stage) -> tuple[Stage, Path]:
    """The stage with its stores and releases on a disk of 2 MB of their own."""
    plugin = DulwichPlugin()
    hooks = Hooks()
    hooks.register(plugin, name="dulwich")
    disk = stage.root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    return evolve(stage, hooks=hooks, root=disk), disk


def fill(disk: Path, *, leave_bytes: int) -> Path:
    """Write a file that leaves little room."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    ballast.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - leave_bytes))
    return ballast


@in_mount_namespace
def test_full_disk_leaves_no_half_made_release_and_heals_when_there_is_room(stage: Stage) -> None:
    here, disk = on_small_disk(stage)
    service = here.service("web")
    first = here.checkout(service)
    stage.upstream.commit({"web/a": os.urandom(300_000)})
    store = here.fetch()
    for leave_bytes in (400_000, 8192):
        ballast = fill(disk, leave_bytes=leave_bytes)
        with pytest.raises((CheckoutError, SourceError), match="No space left"):
            here.checkout(service, store=store)
        assert [path.name for path in service.releases.iterdir()] == [first.id]
        ballast.unlink()
    assert git(first.path, "status", "--porcelain") == ""
    second = here.checkout(service, store=store)
    assert git(second.path, "status", "--porcelain") == ""


@in_mount_namespace
def test_full_disk_stops_a_fetch_and_the_store_stays_as_it_was(stage: Stage) -> None:
    here, disk = on_small_disk(stage)
    tips = here.fetch().tips
    stage.upstream.commit({f"web/{number}": "x" for number in range(200)})
    ballast = fill(disk, leave_bytes=0)
    with pytest.raises(SourceError) as caught:
        here.fetch()
    # The disk of this host, and not that of the server.
    told = "the store of {} can't be written: No space left on device; free some space below {}/stores"
    assert str(caught.value) == told.format(here.url, disk)
    assert here.fetch(offline=True).tips == tips
    ballast.unlink()
    assert here.fetch().moved
    git(here.fetch().path, "fsck")


@in_mount_namespace
def test_read_only_disk_is_an_error_that_names_the_place(stage: Stage) -> None:
    here, disk = on_small_disk(stage)
    service = here.service("web")
    first = here.checkout(service)
    store = here.fetch()
    stage.upstream.commit({"web/b": "2"})
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    assert here.checkout(service, store=store) == first
    with pytest.raises(SourceError, match="Read-only file system"):
        here.fetch()
