"""The way to a mapping, where somebody else may change it while root publishes there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitopper_plugins import bind, mountapi, symlink
from gitopper_plugins._mountinfo import MountTable
from libgitopper import Hooks, Mapping, PublishError, Release, Service
from libgitopper.testing.mount import Stage, contents
from tests.support.namespace import fork, in_mount_namespace, mount_tmpfs
from tests.support.ordinary import NOBODY

pytestmark = [pytest.mark.root, pytest.mark.parametrize("publish", ["bind", "symlink"])]

PRECIOUS = {"profile.d": "/", "profile.d/system.sh": "root's own"}


@pytest.fixture
def hooks() -> Hooks:
    hooks = Hooks()
    hooks.register(bind)
    hooks.register(symlink)
    return hooks


class Ground:
    """A host below /mnt with a directory of root's, and with a service whose user wants to be in it."""

    def __init__(self, hooks: Hooks, publish: str) -> None:
        mount_tmpfs(Path("/mnt"))
        self.hooks = hooks
        self.etc = Path("/mnt/etc")
        (self.etc / "profile.d").mkdir(parents=True)
        (self.etc / "profile.d" / "system.sh").write_text("root's own")
        self.stage = Stage(root=Path("/mnt"), publish=publish)
        self.conf = Path("/mnt/srv/web/conf")
        self.service = self.mapped(Mapping(link="web/etc", local=self.conf / "profile.d"))

    def mapped(self, *mappings: Mapping) -> Service:
        return self.stage.service(user="nobody", mappings=mappings)

    def release(self, generation: str) -> Release:
        """Write a release that belongs to the user."""
        release = self.stage.release(self.service, generation)
        give(release.path / "web/etc")
        return release

    def publish(self, generation: str) -> None:
        self.hooks.publish(self.service, self.release(generation))

    def made_by_the_user(self) -> None:
        """Let what leads to the mapping be there, and be the user's."""
        self.conf.mkdir(parents=True)
        give(self.conf.parent)

    def shown(self) -> str:
        return (self.service.mappings[0].local / "a").read_text()


def give(top: Path) -> None:
    for path in (top, *top.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def as_the_user(act: Callable[[], object]) -> int:
    def body() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        act()

    return os.waitstatus_to_exitcode(os.waitpid(fork(body), 0)[1])


def swap(directory: Path, target: Path) -> None:
    """Put a symlink to `target` in the place of `directory`, as the user."""

    def act() -> None:
        directory.rename(directory.with_name("old"))
        directory.symlink_to(target)

    assert as_the_user(act) == 0


def before_first(call: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """Return `call`, with `act` done right before it the first time."""
    acts = [act]

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if acts:
            acts.pop()()
        return call(*args, **kwargs)

    return wrapper


@in_mount_namespace
def test_directories_made_for_a_mapping_are_roots(hooks: Hooks, publish: str) -> None:
    here = Ground(hooks, publish)
    here.publish("one")
    hooks.withdraw(here.service)
    made = [here.conf, here.conf.parent, *here.conf.iterdir()]
    assert {(path.stat().st_uid, path.stat().st_mode & 0o777) for path in made} == {(0, 0o755)}
    assert as_the_user(lambda: here.conf.rename(here.conf.with_name("old"))) != 0


@in_mount_namespace
def test_a_mapping_in_a_directory_of_the_user_works_as_any(hooks: Hooks, publish: str) -> None:
    here = Ground(hooks, publish)
    here.made_by_the_user()
    for generation in ("one", "two"):
        here.publish(generation)
        assert here.shown() == generation
    assert hooks.withdraw(here.service).changed
    assert not (here.conf / "profile.d" / "a").exists()


@in_mount_namespace
def test_a_symlink_of_the_user_on_the_way_is_not_followed(hooks: Hooks, publish: str) -> None:
    here = Ground(hooks, publish)
    here.made_by_the_user()
    here.publish("one")
    swap(here.conf, here.etc)
    release = here.release("two")
    reason = rf"{here.conf}: this is a symlink to {here.etc}, and is not followed: user nobody may change"
    for act in (
        lambda: hooks.publish(here.service, release),
        lambda: hooks.judge(here.service, release, here.stage.service(mappings=())),
        lambda: hooks.withdraw(here.service),
    ):
        with pytest.raises(PublishError, match=reason):
            act()
    assert contents(here.etc) == PRECIOUS
    assert MountTable.read().stack(here.etc / "profile.d") == ()
    here.conf.unlink()
    here.conf.with_name("old").rename(here.conf)
    assert here.shown() == "one"
    hooks.publish(here.service, release)
    assert here.shown() == "two"


@in_mount_namespace
def test_no_file_is_made_behind_a_symlink_of_the_user(hooks: Hooks, publish: str) -> None:
    here = Ground(hooks, publish)
    here.made_by_the_user()
    swap(here.conf, here.etc)
    for local in (here.conf / "new.sh", here.conf / "deep" / "er" / "new.sh"):
        service = here.mapped(Mapping(link="web/new.sh", local=local, file=True))
        with pytest.raises(PublishError, match="is not followed"):
            hooks.publish(service, here.stage.release(service, "one"))
    assert contents(here.etc) == PRECIOUS


@pytest.mark.parametrize("generation", ["first", "next"])
@in_mount_namespace
def test_what_is_swapped_after_the_look_is_too_late(hooks: Hooks, publish: str, generation: str) -> None:
    """Root holds the directory that it looked at, and what it does is done there."""
    here = Ground(hooks, publish)
    here.made_by_the_user()
    if generation == "next":
        here.publish("former")
        if publish == "symlink":
            (here.conf / "profile.d").unlink()  # else only the link to the live release would change

    def act() -> None:
        swap(here.conf, here.etc)

    release = here.release("one")
    bound = "attach_beneath" if generation == "next" else "attach"
    owner, name = (mountapi, bound) if publish == "bind" else (Path, "symlink_to")
    setattr(owner, name, before_first(getattr(owner, name), act))
    with pytest.raises(PublishError, match="was published, but then"):
        hooks.publish(here.service, release)
    assert contents(here.etc) == PRECIOUS
    assert MountTable.read().stack(here.etc / "profile.d") == ()
    assert (here.conf.with_name("old") / "profile.d" / "a").read_text() == "one"


@in_mount_namespace
def test_what_is_swapped_while_directories_are_made_is_seen(hooks: Hooks, publish: str) -> None:
    here = Ground(hooks, publish)
    here.made_by_the_user()
    here.conf.rmdir()
    mkdir = os.mkdir

    def watched(path: Any, *args: Any, **kwargs: Any) -> None:
        mkdir(path, *args, **kwargs)
        if path == "conf":
            here.conf.rmdir()
            assert as_the_user(lambda: here.conf.symlink_to(here.etc)) == 0

    os.mkdir = watched
    with pytest.raises(PublishError):
        hooks.publish(here.service, here.stage.release(here.service, "one"))
    assert contents(here.etc) == PRECIOUS


@in_mount_namespace
def test_a_directory_that_is_not_open_to_all_stays_so(hooks: Hooks, publish: str) -> None:
    """The user moves it to where one was made just now."""
    here = Ground(hooks, publish)
    here.made_by_the_user()
    here.conf.rmdir()
    closed = here.conf.with_name("closed")
    closed.mkdir(mode=0o700)
    (closed / "secret").touch()
    mkdir = os.mkdir

    def move() -> None:
        here.conf.rmdir()
        closed.rename(here.conf)

    def watched(path: Any, *args: Any, **kwargs: Any) -> None:
        mkdir(path, *args, **kwargs)
        if path == "conf":
            assert as_the_user(move) == 0

    os.mkdir = watched
    hooks.publish(here.service, here.release("one"))
    assert here.conf.stat().st_mode & 0o777 == 0o700


@in_mount_namespace
def test_who_owns_a_release_shows_no_other_directory_in_its_place(hooks: Hooks, publish: str) -> None:
    """Its owner may change what is in a mapped directory, and another mapping may be of a part of it."""
    here = Ground(hooks, publish)
    closed = Path("/mnt/closed")
    (closed / "part").mkdir(parents=True)
    (closed / "part" / "secret").write_text("root's own")
    closed.chmod(0o700)
    whole, part = Path("/mnt/host/whole"), Path("/mnt/host/part")
    service = here.mapped(Mapping(link="web", local=whole), Mapping(link="web/sub/part", local=part))
    release = here.stage.release(service, "one")
    give(release.path / "web")
    swap(release.path / "web" / "sub", closed)
    if publish == "bind":
        with pytest.raises(PublishError, match="is not followed"):
            hooks.publish(service, release)
    else:
        hooks.publish(service, release)
    assert as_the_user(lambda: (part / "secret").read_text()) != 0
