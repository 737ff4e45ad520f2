"""Publishing by symlink: what an operator meets, and what a crash leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gitopper_plugins import _placement, mountapi, symlink
from libgitopper import Hooks, Mapping, PublishError, Service
from libgitopper.testing.mount import Stage, contents
from tests.support.namespace import fork, in_mount_namespace, mount_tmpfs


@pytest.fixture
def hooks() -> Hooks:
    hooks = Hooks()
    hooks.register(symlink)
    return hooks


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(root=tmp_path, publish="symlink")


def texts(service: Service) -> list[str]:
    return [(m.local if m.file else m.local / "a").read_text() for m in service.mappings]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_one_rename_publishes_all_mappings(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append(texts(service))
        try:
            return replace(self, target)
        finally:
            seen.append(texts(service))

    monkeypatch.setattr(Path, "replace", watched)
    hooks.publish(service, stage.release(service, "two"))
    assert seen == [["one"] * 3, ["two"] * 3]


def test_what_would_be_in_the_way_is_told_before_anything_makes_way(hooks: Hooks, stage: Stage) -> None:
    """Below each mount there is something that it stands on, and that stays."""
    former = stage.service(publish="bind")
    wanted = stage.service()
    release = stage.release(wanted, "one")
    hooks.judge(wanted, release, former)
    for mapping in former.mappings:
        mapping.local.parent.mkdir(parents=True, exist_ok=True)
        mapping.local.touch() if mapping.file else mapping.local.mkdir()
    with pytest.raises(PublishError, match="is in the way; move it away") as caught:
        hooks.judge(wanted, release, former)
    assert all(str(mapping.local) in str(caught.value) for mapping in wanted.mappings)


def test_links_of_a_former_mount_directory_make_way(hooks: Hooks, stage: Stage) -> None:
    (stage.root / "elsewhere").mkdir()
    former = stage.service(mount=stage.root / "elsewhere")
    hooks.publish(former, stage.release(former, "one"))
    wanted = stage.service()
    release = stage.release(wanted, "two")
    hooks.judge(wanted, release, former)
    with pytest.raises(PublishError, match="is a symlink to"):
        hooks.judge(wanted, release, wanted)
    assert texts(former) == ["one"] * 3, "something was touched"
    hooks.withdraw(former)
    hooks.publish(wanted, release)
    assert texts(wanted) == ["two"] * 3


def test_a_path_below_a_former_one_is_judged_once_that_is_gone(hooks: Hooks, stage: Stage) -> None:
    former = stage.service(mappings=(Mapping(link="web/etc", local=stage.host / "etc"),))
    hooks.publish(former, stage.release(former, "one"))
    wanted = stage.service(mappings=(Mapping(link="web/etc", local=stage.host / "etc" / "sub"),))
    hooks.judge(wanted, stage.release(wanted, "two"), former)


def test_locals_lead_through_the_live_link(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    for mapping in service.mappings:
        assert mapping.local.readlink() == service.live / mapping.link


def test_all_obstacles_are_told_at_once_and_nothing_is_done(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    first, second, third = (mapping.local for mapping in service.mappings)
    first.mkdir(parents=True)
    third.symlink_to("/dev/null")
    before = contents(stage.root / "host")
    with pytest.raises(PublishError) as caught:
        hooks.publish(service, stage.release(service, "one"))
    message = str(caught.value)
    assert f"{first} is in the way; move it away" in message
    assert f"{third} is a symlink to /dev/null; remove it" in message
    assert str(second) not in message
    assert caught.value.retryable
    assert contents(stage.root / "host") == before
    assert not os.path.lexists(service.live)


def test_an_obstacle_that_appears_later_stops_the_swap_of_all(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    local = service.mappings[0].local
    local.unlink()
    local.mkdir()
    with pytest.raises(PublishError, match="in the way"):
        hooks.publish(service, stage.release(service, "two"))
    assert service.mappings[2].local.read_text() == "one"
    assert hooks.observe(service).release is None
    assert str(local) in hooks.observe(service).note


@in_mount_namespace
def test_a_mount_inside_what_is_published_stops_the_flip(hooks: Hooks, stage: Stage) -> None:
    """It is in the release, and would be gone from the path with that."""
    service = stage.service()
    first = stage.release(service, "one")
    hooks.publish(service, first)
    for local in (service.mappings[1].local / "sub", service.mappings[0].local):
        place = local.resolve()
        mount_tmpfs(place)
        (local / "precious").touch()
        with pytest.raises(PublishError, match=f"has mounts that would be hidden: {place}; unmount them"):
            hooks.publish(service, stage.release(service, "two"))
        assert (local / "precious").exists()
        mountapi.detach(place)
        assert service.live.resolve() == first.path.resolve()
    hooks.publish(service, stage.release(service, "two"))
    assert texts(service) == ["two"] * 3


def test_an_old_clone_in_the_place_of_the_live_link_is_kept(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    (service.live / ".git").mkdir(parents=True)
    with pytest.raises(PublishError, match="is not a link to a release; move it away"):
        hooks.publish(service, stage.release(service, "one"))
    assert (service.live / ".git").is_dir()
    assert not stage.host.exists()


def test_a_local_inside_another_services_release_is_refused(hooks: Hooks, stage: Stage) -> None:
    outer, name = stage.service("web"), "inner"
    release = stage.release(outer, "one")
    hooks.publish(outer, release)
    mapping = Mapping(link="x", local=outer.mappings[0].local / "x")
    inner = stage.service(name, mappings=(mapping,))
    before = contents(release.path)
    with pytest.raises(PublishError, match="lies inside a path that is published already"):
        hooks.publish(inner, stage.release(inner, "one"))
    assert contents(release.path) == before


def test_a_mapping_of_another_repository_path_never_dangles(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    moved = evolve(service, mappings=(evolve(service.mappings[0], link="web/new"), *service.mappings[1:]))
    release = stage.release(moved, "two")
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        try:
            return replace(self, target)
        finally:
            seen.append(texts(moved)[0])

    monkeypatch.setattr(Path, "replace", watched)
    hooks.publish(moved, release)
    assert seen == ["two", "two", "two"]  # to the release, the flip, through the live link
    assert hooks.observe(moved).release == release.id


@pytest.mark.parametrize("step", range(11))
def test_a_crash_at_any_step_is_repaired_by_the_next_publish(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """First publish of one mapping, swap of the others; killed after the step-th change of a link."""
    service = stage.service()
    fewer = evolve(service, mappings=service.mappings[1:])
    hooks.publish(fewer, stage.release(fewer, "one"))
    release = stage.release(service, "two")

    def killed() -> None:
        _kill_after(step)
        hooks.publish(service, release)

    _, status = os.waitpid(fork(killed), 0)
    # Five calls, each with a before and an after: two links are made, one renamed, two directories synced.
    assert os.waitstatus_to_exitcode(status) == (9 if step < 10 else 0)
    assert set(texts(fewer)) in ({"one"}, {"two"})
    assert hooks.publish(service, release).release == release.id
    assert set(texts(service)) == {"two"}
    assert names(service.mount) == [".gitopper", "web"]
    assert not list(stage.host.rglob("*.new"))
    assert not hooks.publish(service, release).changed


def _kill_after(steps: int) -> None:
    """Make this process end, without any clean-up, after so many changes of links, before or after one."""
    left = [steps]

    def moment() -> None:
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            moment()
            result = function(*args, **kwargs)
            moment()
            return result

        return wrapper

    for owner, name in ((Path, "replace"), (Path, "symlink_to"), (_placement, "fsync")):
        setattr(owner, name, counted(getattr(owner, name)))


def test_a_service_named_like_a_prefix_keeps_its_links(hooks: Hooks, stage: Stage) -> None:
    web, dotted = stage.service("web"), stage.service("web.app")
    hooks.publish(dotted, stage.release(dotted, "one"))
    hooks.publish(web, stage.release(web, "one"))
    hooks.withdraw(web)
    assert set(texts(dotted)) == {"one"}


def test_a_link_that_a_crash_left_pointing_into_a_release_is_withdrawn(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    release = stage.release(service, "one")
    hooks.publish(service, release)
    mapping = service.mappings[0]
    mapping.local.unlink()
    mapping.local.symlink_to(release.path / mapping.link)
    assert hooks.observe(service).release is None
    assert hooks.withdraw(service).note == ""
    assert not mapping.local.is_symlink()


def test_withdraw_leaves_what_became_somebody_elses(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    hooks.publish(service, stage.release(service, "one"))
    local = service.mappings[0].local
    local.unlink()
    local.mkdir()
    withdrawn = hooks.withdraw(service)
    assert withdrawn.changed
    assert str(local) in withdrawn.note
    assert local.is_dir()


def test_observe_does_not_believe_a_link_whose_release_is_gone(hooks: Hooks, stage: Stage) -> None:
    service = stage.service()
    release = stage.release(service, "one")
    hooks.publish(service, release)
    release.path.rename(release.path.with_name("elsewhere"))
    assert hooks.observe(service).release is None
