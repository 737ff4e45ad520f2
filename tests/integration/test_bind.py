"""Publishing by bind mount: real mounts, each test in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from libgitopper import Hooks, Mapping
from libgitopper.testing.mount import Stage, contents
from tests.support.binding import depths, hooks, stage, texts
from tests.support.namespace import in_mount_namespace

__all__ = ["hooks", "stage"]  # fixtures


@in_mount_namespace
def test_each_place_has_one_mount_after_many_swaps(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    for number in range(20):
        hooks.publish(service, stage.release(service, str(number)))
    assert texts(service) == ["19"] * 3
    assert depths(service) == [1, 1, 1]


@in_mount_namespace
def test_what_stood_there_is_under_the_mount_untouched(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    local = service.mappings[0].local
    local.mkdir(parents=True)
    (local / "precious").write_text("somebody's")
    service.mappings[2].local.write_text("somebody's too")
    for generation in ("one", "two"):
        hooks.publish(service, stage.release(service, generation))
        assert not (local / "precious").exists()
    hooks.withdraw(service)
    assert contents(local) == {"precious": "somebody's"}
    assert service.mappings[2].local.read_text() == "somebody's too"


@in_mount_namespace
def test_what_was_made_to_mount_on_stays_empty(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    hooks.withdraw(service)
    assert [contents(m.local) for m in service.mappings] == [{}, {}, {"": ""}]


@in_mount_namespace
def test_readonly_is_readonly_and_the_release_itself_is_not(hooks: Hooks, stage: Stage) -> None:
    service = stage.service(readonly=True)
    release = stage.release(service, "one")
    hooks.publish(service, release)
    with pytest.raises(OSError, match="Read-only"):
        (service.mappings[0].local / "new").touch()
    with pytest.raises(OSError, match="Read-only"):
        service.mappings[2].local.write_text("changed")
    (release.path / "new").touch()


@pytest.mark.parametrize("readonly", [True, False])
@in_mount_namespace
def test_a_change_of_readonly_is_seen_and_swapped(hooks: Hooks, stage: Stage, readonly: bool) -> None:
    before, after = (stage.service(readonly=flag) for flag in (not readonly, readonly))
    release = stage.release(before, "one")
    hooks.publish(before, release)
    assert hooks.observe(after).release is None
    # A file that is open for writing does not stop it, as it would stop a remount.
    with (release.path / "web/etc/a").open("a"):
        assert hooks.publish(after, release).changed
    assert hooks.observe(after).release == release.id
    assert depths(after) == [1, 1, 1]
    read_only = [bool(os.statvfs(m.local).f_flag & os.ST_RDONLY) for m in after.mappings]
    assert read_only == [readonly] * 3


@in_mount_namespace
def test_a_release_that_was_deleted_is_recognised_and_replaced(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    first = stage.release(service, "one")
    hooks.publish(service, first)
    shutil.rmtree(first.path)
    assert hooks.observe(service).release is None
    hooks.publish(service, stage.release(service, "two"))
    assert texts(service) == ["two"] * 3
    assert depths(service) == [1, 1, 1]


@in_mount_namespace
def test_a_release_that_was_deleted_can_be_withdrawn(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    shutil.rmtree(service.mount / ".gitopper")
    assert hooks.withdraw(service).changed
    assert depths(service) == [0, 0, 0]


@in_mount_namespace
def test_a_release_made_anew_under_the_same_id_is_not_taken_for_the_old_one(
    hooks: Hooks, stage: Stage
) -> None:
    service = stage.service()
    release = stage.release(service, "one")
    hooks.publish(service, release)
    release.path.rename(release.path.with_name("old"))
    shutil.copytree(release.path.with_name("old"), release.path)
    assert hooks.observe(service).release is None
    assert hooks.publish(service, release).changed
    assert depths(service) == [1, 1, 1]


@in_mount_namespace
def test_paths_that_the_kernel_escapes(hooks: Hooks, tmp_path: Path) -> None:
    root = tmp_path / "with space, tab\tand \\ back"
    root.mkdir()
    stage = Stage(root=root, publish="bind")
    service = stage.service("größe")
    for generation in ("one", "two"):
        hooks.publish(service, stage.release(service, generation))
    assert texts(service) == ["two"] * 3
    assert depths(service) == [1, 1, 1]
    hooks.withdraw(service)
    assert depths(service) == [0, 0, 0]


@in_mount_namespace
def test_a_path_that_leads_through_a_symlink(hooks: Hooks, stage: Stage) -> None:
    real, through = stage.root / "real", stage.root / "through"
    real.mkdir()
    through.symlink_to(real)
    service = stage.service(
        mappings=(Mapping(link="etc", local=through / "etc"),), mount=through, name="web"
    )
    for generation in ("one", "two"):
        hooks.publish(service, stage.release(service, generation))
    assert (real / "etc" / "a").read_text() == "two"
    assert depths(service) == [1]
