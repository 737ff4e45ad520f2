"""Run tests as an ordinary user, also where the tests run as root."""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gitopper_plugins
import libgitopper
from gitopper_plugins import mountapi
from tests.support.namespace import enter_mount_namespace, in_child, mount_tmpfs

__all__ = ["NOBODY", "as_ordinary_user", "become_nobody", "without_namespaces"]

NOBODY = 65534
PR_SET_DUMPABLE = 4

T = TypeVar("T", bound=type)


def as_ordinary_user(tests: T) -> T:
    """Decorate a class of tests (those that it inherits, too) that have the fixture `place`.

    That is a directory in which the user may do as they like. As root, each runs in a mount namespace
    of its own, in which Python can be reached by everybody, wherever it is installed.
    """
    return _each(tests, become_nobody)


def without_namespaces(tests: T) -> T:
    """Do as `as_ordinary_user`, where the user can't have namespaces, either."""

    def prepare() -> None:
        become_nobody()
        _allow_no_namespaces()

    return _each(tests, prepare)


def _each(tests: T, prepare: Callable[[], None]) -> T:
    for name in [name for name in dir(tests) if name.startswith("test_")]:
        setattr(tests, name, in_child(_elsewhere(getattr(tests, name)), prepare))
    return tests


def _elsewhere(test: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(test)
    def wrapper(self: object, place: Path, **kwargs: Any) -> None:
        # The directories of tests belong to who runs them.
        test(self, place=place if os.access(place, os.W_OK) else Path("/mnt"), **kwargs)

    return wrapper


def become_nobody() -> None:
    """Where this process is root's: become an ordinary user, who may do as they like in /mnt."""
    if os.geteuid() != 0:
        return
    enter_mount_namespace()
    _reveal(_needed())
    mount_tmpfs(Path("/mnt"))
    Path("/mnt").chmod(0o777)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # Who has become another user does not own what is below /proc/self any more.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)


def _allow_no_namespaces() -> None:
    """Enter a user namespace that may have none below it; what is executed in it has no rights there."""
    uid, gid = os.geteuid(), os.getegid()
    mountapi.unshare(mountapi.CLONE_NEWUSER)
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _needed() -> Iterator[Path]:
    yield from (
        Path(sys.executable),
        Path(sys.executable).resolve(),
        Path(sys.base_prefix),
        Path(sys.prefix),
    )
    yield from (Path(package.__path__[0]) for package in (libgitopper, gitopper_plugins))


def _reveal(paths: Iterable[Path]) -> None:
    """Let everybody reach `paths`: what keeps them out is replaced by a directory with just the ways."""
    ways = defaultdict(set)
    for path in paths:
        for directory in path.parents:
            if not directory.stat().st_mode & 0o001:
                ways[directory].add(directory / path.relative_to(directory).parts[0])
    for directory in sorted(ways):  # from the top: what is below comes along with it
        shown = [(child, mountapi.clone(child, recursive=True)) for child in sorted(ways[directory])]
        mount_tmpfs(directory)
        directory.chmod(0o755)
        for child, tree in shown:
            is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
            child.mkdir() if is_directory else child.touch()
            mountapi.attach(tree, child)
            os.close(tree)
