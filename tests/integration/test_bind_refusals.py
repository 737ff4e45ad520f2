"""Publishing by bind mount, where something is in the way, or who publishes may not mount."""

from __future__ import annotations

import os
import shutil

import pytest
from attrs import evolve

from gitopper_plugins import mountapi, symlink
from libgitopper import Hooks, Mapping, PublishError
from libgitopper.testing.mount import Stage, contents
from tests.support.binding import depths, hooks, stage, texts
from tests.support.namespace import in_mount_namespace, mount_tmpfs

__all__ = ["hooks", "stage"]  # fixtures


@in_mount_namespace
def test_a_foreign_mount_is_not_mounted_over(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    local = service.mappings[1].local
    local.mkdir(parents=True)
    mount_tmpfs(local)
    (local / "precious").touch()
    with pytest.raises(PublishError, match=f"something else is mounted at {local}; unmount it"):
        hooks.publish(service, stage.release(service, "one"))
    assert depths(service) == [0, 1, 0]
    assert (local / "precious").exists()
    assert not os.path.lexists(service.live)


@in_mount_namespace
def test_a_mount_over_ours_is_refused_and_survives_the_withdrawal(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    local = service.mappings[0].local
    mount_tmpfs(local)
    assert hooks.observe(service).release is None
    with pytest.raises(PublishError, match="something else is mounted"):
        hooks.publish(service, stage.release(service, "two"))
    withdrawn = hooks.withdraw(service)
    assert str(local) in withdrawn.note
    assert depths(service) == [2, 0, 0]


@in_mount_namespace
def test_mounts_below_are_named_and_not_hidden(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    inner = service.mappings[0].local / "data" / "deep"
    inner.mkdir(parents=True)
    beside = stage.host / "etc" / "web-beside"
    beside.mkdir()
    mount_tmpfs(inner)
    mount_tmpfs(beside)
    with pytest.raises(PublishError, match=f"would be hidden: {inner}; unmount") as caught:
        hooks.publish(service, stage.release(service, "one"))
    assert str(beside) not in str(caught.value)
    assert depths(service) == [0, 0, 0]


@in_mount_namespace
def test_a_mount_inside_what_is_published_stops_the_swap(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    inner = service.mappings[0].local / "sub"
    mount_tmpfs(inner)
    with pytest.raises(PublishError, match=f"would be hidden: {inner}"):
        hooks.publish(service, stage.release(service, "two"))
    assert texts(service) == ["one"] * 3


@in_mount_namespace
def test_a_mount_inside_what_is_published_is_not_lost_with_it(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    inner = service.mappings[1].local / "sub"
    mount_tmpfs(inner)
    (inner / "precious").touch()
    with pytest.raises(PublishError, match=f"would be lost with it: {inner}; unmount them"):
        hooks.withdraw(service)
    assert (inner / "precious").exists()
    assert texts(service) == ["one"] * 3
    assert service.live.is_symlink()
    mountapi.detach(inner)
    assert hooks.withdraw(service).changed
    assert depths(service) == [0, 0, 0]


@in_mount_namespace
def test_a_mapping_goes_below_what_was_a_file(hooks: Hooks, stage: Stage) -> None:
    """The release that is shown has a file where the path of the new mapping leads through."""
    local = stage.host / "etc" / "app.conf"
    before = stage.service(mappings=(Mapping(link="app", local=local, file=True),))
    hooks.publish(before, stage.release(before, "one"))
    after = evolve(before, mappings=(Mapping(link="app/conf", local=local, file=True),))
    assert hooks.observe(after).partly
    hooks.publish(after, stage.release(after, "two"))
    assert texts(after) == ["two"]
    with pytest.raises(PublishError, match="has no 'app/conf'"):
        hooks.publish(after, stage.release(before, "three"))
    assert texts(after) == ["two"]


@in_mount_namespace
def test_a_symlink_in_the_way_says_where_it_points(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    local = service.mappings[0].local
    local.parent.mkdir(parents=True)
    local.symlink_to("/somewhere/else")
    with pytest.raises(PublishError, match=f"{local} is a symlink to /somewhere/else; remove it"):
        hooks.publish(service, stage.release(service, "one"))
    assert local.is_symlink()


@in_mount_namespace
def test_file_and_directory_are_not_mistaken_for_one_another(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    service.mappings[0].local.parent.mkdir(parents=True)
    service.mappings[0].local.touch()
    service.mappings[2].local.mkdir()
    with pytest.raises(PublishError) as caught:
        hooks.publish(service, stage.release(service, "one"))
    assert f"{service.mappings[0].local} is a file, and the mapping shows a directory" in str(caught.value)
    assert f"{service.mappings[2].local} is a directory, and the mapping shows a file" in str(caught.value)
    swapped = evolve(service, mappings=(evolve(service.mappings[1], file=True),))
    with pytest.raises(PublishError, match='is not a file in the repository; set "file"'):
        hooks.publish(swapped, stage.release(service, "one"))


@in_mount_namespace
def test_a_local_inside_another_services_mount_is_refused(hooks: Hooks, stage: Stage) -> None:
    outer = stage.service("web")
    release = stage.release(outer, "one")
    hooks.publish(outer, release)
    before = contents(release.path)
    inner = stage.service(
        "inner", mappings=(Mapping(link="x", local=outer.mappings[0].local / "new" / "x"),)
    )
    with pytest.raises(PublishError, match="lies inside a path that is published already"):
        hooks.publish(inner, stage.release(inner, "one"))
    assert contents(release.path) == before


@in_mount_namespace
def test_a_local_inside_another_services_link_is_refused(hooks: Hooks, stage: Stage) -> None:
    """By a name that no configuration can tell of: it would be made in the release, and go with it."""
    hooks.register(symlink)
    outer = stage.service("web", publish="symlink")
    release = stage.release(outer, "one")
    hooks.publish(outer, release)
    before = contents(release.path)
    alias = stage.host / "alias"
    alias.symlink_to(outer.mappings[0].local)
    inner = stage.service("inner", mappings=(Mapping(link="x", local=alias / "new" / "x"),))
    with pytest.raises(PublishError, match="lies inside a path that is published already"):
        hooks.publish(inner, stage.release(inner, "one"))
    assert contents(release.path) == before


@in_mount_namespace
def test_another_services_release_is_a_foreign_mount(hooks: Hooks, stage: Stage) -> None:
    web, webapp = stage.service("web"), stage.service("webapp")
    taken = evolve(webapp, mappings=(evolve(webapp.mappings[0], local=web.mappings[0].local),))
    hooks.publish(web, stage.release(web, "one"))
    with pytest.raises(PublishError, match="something else is mounted"):
        hooks.publish(taken, stage.release(taken, "two"))
    assert not hooks.withdraw(taken).changed
    assert texts(web) == ["one"] * 3


@in_mount_namespace
def test_links_of_a_former_publisher_are_known_to_make_way_and_others_are_not(
    hooks: Hooks, stage: Stage
) -> None:
    hooks.register(symlink)
    former = stage.service(publish="symlink")
    hooks.publish(former, stage.release(former, "one"))
    wanted = stage.service()
    release = stage.release(wanted, "two")
    hooks.judge(wanted, release, former)
    with pytest.raises(PublishError, match="is a symlink to"):
        hooks.judge(wanted, release, stage.service("webapp"))
    assert texts(former) == ["one"] * 3, "something was touched"


@in_mount_namespace
def test_a_release_that_lacks_a_path_is_judged_unfit_before_anything_makes_way(
    hooks: Hooks, stage: Stage
) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    broken = stage.release(service, "two")
    shutil.rmtree(broken.path / service.mappings[0].link)
    with pytest.raises(PublishError, match=f"has no {service.mappings[0].link!r}"):
        hooks.judge(service, broken, service)
    assert texts(service) == ["one"] * 3


def test_who_may_not_mount_is_told_of_symlinks(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service()
    release = stage.release(service, "one")

    def as_nobody() -> None:
        os.seteuid(65534)
        try:
            mountapi.has_beneath()
        finally:
            os.seteuid(0)

    with pytest.raises(PermissionError):
        as_nobody() if os.geteuid() == 0 else mountapi.has_beneath()

    def refused() -> bool:
        raise PermissionError(1, "Operation not permitted", "/")

    monkeypatch.setattr(mountapi, "has_beneath", refused)
    with pytest.raises(PublishError, match='publish = "symlink" needs no root') as caught:
        hooks.publish(service, release)
    assert not caught.value.retryable
    assert not stage.host.exists()


@in_mount_namespace
def test_a_kernel_without_the_calls_is_told_of_symlinks(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountapi, "MOUNT_SETATTR", 9999)
    service = stage.service()
    with pytest.raises(PublishError, match=r'5\.12 is needed.; use publish = "symlink"') as caught:
        hooks.publish(service, stage.release(service, "one"))
    assert not caught.value.retryable
    assert depths(service) == [0, 0, 0]
    assert not os.path.lexists(service.live)
