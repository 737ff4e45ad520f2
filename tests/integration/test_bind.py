"""Publishing by bind mount: real mounts, each test in a mount namespace of its own."""

from __future__ import annotations

import os
import pwd
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from gitopper_plugins import bind, mountapi, symlink
from gitopper_plugins._mountinfo import MountTable
from libgitopper import Hooks, Mapping, PublishError, Service
from libgitopper.testing.mount import Stage, contents
from tests.support.namespace import (
    enter_mount_namespace,
    fork,
    in_mount_namespace,
    make_propagation,
    mount_tmpfs,
)


@pytest.fixture
def hooks() -> Hooks:
    hooks = Hooks()
    hooks.register(bind)
    return hooks


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(root=tmp_path, publish="bind")


def texts(service: Service) -> list[str]:
    return [(m.local if m.file else m.local / "a").read_text() for m in service.mappings]


def depths(service: Service) -> list[int]:
    table = MountTable.read()
    return [len(table.stack(m.local)) for m in service.mappings]


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


@pytest.mark.root
@in_mount_namespace
def test_an_unknown_user_is_named(hooks: Hooks, stage: Stage) -> None:
    service = stage.service(user="no-such-user")
    with pytest.raises(PublishError, match="'no-such-user' does not exist") as caught:
        hooks.publish(service, stage.release(service, "one"))
    assert caught.value.retryable
    assert not stage.host.exists()


@pytest.mark.root
@in_mount_namespace
def test_directories_made_on_the_way_belong_to_the_user(hooks: Hooks, stage: Stage) -> None:
    service = stage.service(user="nobody")
    hooks.publish(service, stage.release(service, "one"))
    hooks.withdraw(service)
    made = {
        p for m in service.mappings for p in (m.local, *m.local.parents) if p.is_relative_to(stage.host)
    }
    assert len(made) == 8
    assert {p.stat().st_uid for p in made} == {pwd.getpwnam("nobody").pw_uid}


@pytest.mark.root
@in_mount_namespace
def test_services_in_namespaces_of_their_own_follow(hooks: Hooks, stage: Stage) -> None:
    """As under systemd with PrivateTmp and the like: a slave of the host's shared mounts."""
    mount_tmpfs(stage.root)
    make_propagation(stage.root, "shared")
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    ask, asked = os.pipe()
    answer, answered = os.pipe()

    def follower() -> None:
        os.close(asked)
        enter_mount_namespace("slave")
        while os.read(ask, 1):
            try:
                told = [*texts(service), *map(str, depths(service))]
            except FileNotFoundError:
                told = ["no files", *map(str, depths(service))]
            os.write(answered, ",".join(told).encode())

    child = fork(follower)
    os.close(ask)
    os.close(answered)

    def told() -> str:
        os.write(asked, b"?")
        return os.read(answer, 1000).decode()

    assert told() == "one,one,one,1,1,1"
    for number in range(5):
        hooks.publish(service, stage.release(service, str(number)))
        assert told() == ",".join([str(number)] * 3 + ["1"] * 3)
    last = stage.release(service, "last")
    hooks.publish(service, last)
    hooks.publish(evolve(service, readonly=True), last)
    assert told() == "last,last,last,1,1,1"
    hooks.withdraw(service)
    assert told() == "no files,0,0,0"
    os.close(asked)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.root
@pytest.mark.parametrize("flag", [True, False])
@in_mount_namespace
def test_services_are_published_at_the_same_time(hooks: Hooks, stage: Stage, flag: bool) -> None:
    """From several threads, as the daemon does; with the kernel's flag, and by propagation."""
    mount_tmpfs(stage.root)
    make_propagation(stage.root, "shared")
    if not flag:
        mountapi.has_beneath = lambda: False
    services = [stage.service(f"web{number}") for number in range(4)]

    def publish_all(service: Service) -> None:
        for number in range(25):
            release = stage.release(service, str(number))
            assert hooks.publish(service, release).release == release.id
            assert texts(service) == [str(number)] * 3

    with ThreadPoolExecutor(len(services)) as threads:
        list(threads.map(publish_all, services))
    for service in services:
        assert texts(service) == ["24"] * 3
        assert depths(service) == [1, 1, 1]
