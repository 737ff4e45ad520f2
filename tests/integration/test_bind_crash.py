"""Publishing by bind mount, killed or failing at every system call, in each way of swapping.

The kills are real: a child process in the same mount namespace publishes, and ends on the spot
before or after one of its calls, with no clean-up of any kind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gitopper_plugins import _placement, mountapi
from libgitopper import Hooks, PublishError, Service
from libgitopper.testing.mount import Stage
from tests.support.binding import depths, hooks, stage
from tests.support.namespace import fork, in_mount_namespace, make_propagation, mount_tmpfs

__all__ = ["hooks", "stage"]  # fixtures

CALLS = ("clone", "attach", "attach_beneath", "attach_through_peer", "detach")
KILLED = 9


def texts(service: Service) -> list[str]:
    """What each mapping shows; each is checked to be of one piece."""
    shown = []
    for mapping in service.mappings:
        local = mapping.local
        files = [local] if mapping.file else [local / "a", local / "b", local / "sub" / "c"]
        [text] = {file.read_text() for file in files}
        shown.append(text)
    return shown


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def kernel(way: str, stage: Stage) -> None:
    """Set the stage for one `way` of swapping: which calls the kernel has, and how mounts propagate."""
    mount_tmpfs(stage.root)
    if way == "peer":
        make_propagation(stage.root, "shared")
    if way != "beneath":
        mountapi.has_beneath = lambda: False
        mountapi.attach_beneath = _unknown


def _unknown(tree: int, target: str | os.PathLike[str]) -> None:
    raise OSError(errno.EINVAL, "Invalid argument", str(target))


def kill_at(moment: int) -> None:
    """End this process at the given moment: before the first call is 0, after it 1, and so on."""
    passed = iter(range(1_000_000))

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if next(passed) == moment:
                os._exit(KILLED)
            result = call(*args, **kwargs)
            if next(passed) == moment:
                os._exit(KILLED)
            return result

        return wrapper

    for name in CALLS:
        setattr(mountapi, name, counted(getattr(mountapi, name)))
    for owner, name in ((Path, "symlink_to"), (Path, "replace"), (_placement, "fsync")):
        setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.parametrize("then", ["the same", "another", "the former"])
@pytest.mark.parametrize("way", ["beneath", "peer", "on top"])
@in_mount_namespace
def test_killed_at_every_moment_of_a_swap(hooks: Hooks, stage: Stage, way: str, then: str) -> None:
    kernel(way, stage)
    service = stage.service()
    one, two, three = (stage.release(service, text) for text in ("one", "two", "three"))
    following = {"the same": two, "another": three, "the former": one}[then]
    moment, ended = 0, KILLED
    while ended == KILLED:
        hooks.withdraw(service)
        hooks.publish(service, one)

        def killed() -> None:
            kill_at(moment)  # noqa: B023 - run before the next turn
            hooks.publish(service, two)

        ended = os.waitstatus_to_exitcode(os.waitpid(fork(killed), 0)[1])
        where = f"moment {moment}"
        shown = texts(service)
        assert set(shown) <= {"one", "two"}, where
        observed = hooks.observe(service).release
        if observed is not None:
            assert shown == [{one.id: "one", two.id: "two"}[observed]] * 3, where
        published = hooks.publish(service, following)
        assert published.release == following.id, where
        assert texts(service) == [{one.id: "one", two.id: "two", three.id: "three"}[following.id]] * 3, (
            where
        )
        if following is not one:
            assert names(service.mount) == [".gitopper", "web"], where
        if way != "on top":
            # To go back to what is visible anyway nothing is moved, and what the crash hid stays hidden.
            assert max(depths(service)) <= (2 if following is one else 1), where
        assert not hooks.publish(service, following).changed, where
        moment += 1
    hooks.withdraw(service)
    assert names(service.mount) == [".gitopper"]
    assert depths(service) == [0, 0, 0]
    assert ended == 0
    # Three mappings, each cloned, attached and mostly detached, and three calls for the link.
    assert moment > 2 * (3 * 2 + 3)


@pytest.mark.parametrize("way", ["beneath", "peer", "on top"])
@in_mount_namespace
def test_killed_at_every_moment_of_the_first_publish(hooks: Hooks, stage: Stage, way: str) -> None:
    kernel(way, stage)
    service = stage.service()
    one = stage.release(service, "one")
    moment, ended = 0, KILLED
    while ended == KILLED:

        def killed() -> None:
            kill_at(moment)  # noqa: B023 - run before the next turn
            hooks.publish(service, one)

        ended = os.waitstatus_to_exitcode(os.waitpid(fork(killed), 0)[1])
        assert hooks.observe(service).release == (
            one.id if depths(service) == [1, 1, 1] and service.live.is_symlink() else None
        )
        assert hooks.publish(service, one).release == one.id
        assert texts(service) == ["one"] * 3
        assert depths(service) == [1, 1, 1]
        hooks.withdraw(service)
        assert depths(service) == [0, 0, 0]
        moment += 1
    assert ended == 0
    assert moment > 2 * (3 * 2 + 3)


@in_mount_namespace
def test_killed_while_a_mapping_is_brought_back_it_leaves_nothing(hooks: Hooks, stage: Stage) -> None:
    kernel("beneath", stage)
    service = stage.service()
    one = stage.release(service, "one")
    hooks.publish(service, one)
    moment, ended = 0, KILLED
    while ended == KILLED:
        mountapi.detach(service.mappings[0].local)

        def killed() -> None:
            kill_at(moment)  # noqa: B023 - run before the next turn
            hooks.publish(service, one)

        ended = os.waitstatus_to_exitcode(os.waitpid(fork(killed), 0)[1])
        hooks.publish(service, one)
        assert texts(service) == ["one"] * 3
        assert names(service.mount) == [".gitopper", "web"], f"moment {moment}"
        moment += 1
    assert ended == 0


@pytest.mark.parametrize("failing", ["clone", "attach_beneath", "attach_through_peer", "attach"])
@in_mount_namespace
def test_a_call_that_fails_for_the_last_mapping_changes_nothing(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    kernel({"attach_through_peer": "peer", "attach": "on top"}.get(failing, "beneath"), stage)
    service = stage.service()
    one, two, three = (stage.release(service, text) for text in ("one", "two", "three"))
    hooks.publish(service, one)
    working = getattr(mountapi, failing)

    def fails(*args: Any, **kwargs: Any) -> Any:
        about = str(next(a for a in args if isinstance(a, Path)))
        if about.endswith("conf"):
            raise OSError(errno.ENOSPC, "No space left on device", about)
        return working(*args, **kwargs)

    monkeypatch.setattr(mountapi, failing, fails)
    for _ in range(3):
        with pytest.raises(PublishError, match="conf: No space left on device"):
            hooks.publish(service, two)
        assert texts(service) == ["one"] * 3
        assert hooks.observe(service).release == one.id
    assert max(depths(service)) <= 2
    monkeypatch.setattr(mountapi, failing, working)
    hooks.publish(service, three)
    assert texts(service) == ["three"] * 3
    if failing != "attach":
        assert depths(service) == [1, 1, 1]


@in_mount_namespace
def test_a_failure_while_an_older_attempt_is_cleared_away_is_undone(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service(readonly=True)
    one, two, three = (stage.release(service, text) for text in ("one", "two", "three"))
    hooks.publish(service, one)
    working = mountapi.attach_beneath
    for release, failing in ((two, 2), (three, 1)):

        def fails(tree: int, target: Path, last: str = service.mappings[failing].local.name) -> None:
            if target.name == last:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            working(tree, target)

        monkeypatch.setattr(mountapi, "attach_beneath", fails)
        with pytest.raises(PublishError, match="No space left"):
            hooks.publish(service, release)
        assert texts(service) == ["one"] * 3
        assert hooks.observe(service).release == one.id
    monkeypatch.setattr(mountapi, "attach_beneath", working)
    assert depths(service) == [3, 2, 2]
    assert hooks.publish(service, three).release == three.id
    assert texts(service) == ["three"] * 3
    assert depths(service) == [1, 1, 1]


@in_mount_namespace
def test_a_first_publish_that_fails_half_way_is_undone(
    hooks: Hooks, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = stage.service()
    working = mountapi.attach

    def fails(tree: int, target: Path) -> None:
        if target.name == service.mappings[2].local.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        working(tree, target)

    monkeypatch.setattr(mountapi, "attach", fails)
    with pytest.raises(PublishError, match="No space left"):
        hooks.publish(service, stage.release(service, "one"))
    assert depths(service) == [0, 0, 0]
    assert not os.path.lexists(service.live)
    assert names(service.mount) == [".gitopper"]


@in_mount_namespace
def test_a_hidden_release_that_is_gone_is_never_uncovered(hooks: Hooks, stage: Stage) -> None:
    service = evolve(stage.service(), mappings=stage.service().mappings[:1])
    one, two, three = (stage.release(service, text) for text in ("one", "two", "three"))
    hooks.publish(service, one)
    local = service.mappings[0].local
    tree = mountapi.clone(two.path / "web/etc", readonly=False)
    mountapi.attach_beneath(tree, local)
    os.close(tree)
    two.path.rename(two.path.with_name(".gone"))
    seen = []
    working = mountapi.detach

    def watched(target: str | os.PathLike[str]) -> None:
        working(target)
        seen.append(Path(target, "a").read_text())

    mountapi.detach = watched
    assert hooks.publish(service, three).release == three.id
    assert seen == ["three"]


@in_mount_namespace
def test_where_mounts_pile_up_the_operator_is_told(hooks: Hooks, stage: Stage) -> None:
    kernel("on top", stage)
    service = stage.service()
    releases = [stage.release(service, str(number)) for number in range(4)]
    assert hooks.publish(service, releases[0]).note == ""
    notes = [hooks.publish(service, release).note for release in releases[1:]]
    assert notes[-1].startswith("this kernel can't replace a mount in place here: 4 lie on one another")
    assert texts(service) == ["3"] * 3
    # Back to the one before: it lies right below, so the pile shrinks.
    hooks.publish(service, releases[2])
    assert texts(service) == ["2"] * 3
    assert depths(service) == [3, 3, 3]
    hooks.withdraw(service)
    assert depths(service) == [0, 0, 0]


@in_mount_namespace
def test_without_the_flag_a_shared_mount_is_swapped_in_place(hooks: Hooks, stage: Stage) -> None:
    kernel("peer", stage)
    before = len(Path("/proc/self/mountinfo").read_text().splitlines())
    service = stage.service()
    for number in range(20):
        assert hooks.publish(service, stage.release(service, str(number))).note == ""
        assert texts(service) == [str(number)] * 3
        assert depths(service) == [1, 1, 1]
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == before + 3
