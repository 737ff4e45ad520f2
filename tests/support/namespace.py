"""Run tests in a mount namespace of their own, where what they mount reaches nobody.

A mount namespace belongs to a process, so each test forks: the child enters a fresh namespace,
runs the test, and tells how it ended. An ordinary user gets a user namespace too, where the kernel
allows it; there the test is root over its own mounts and nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest

__all__ = [
    "enter_mount_namespace",
    "fork",
    "in_child",
    "in_mount_namespace",
    "make_propagation",
    "mount_tmpfs",
]

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 14, 1 << 18, 1 << 19, 1 << 20
PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED}

T = TypeVar("T", bound="Callable[..., Any] | type")

_libc = ctypes.CDLL(None, use_errno=True)


def in_mount_namespace(test: T) -> T:
    """Decorate a test function, or a class (all its tests, inherited ones too)."""
    if not isinstance(test, type):
        return cast("T", in_child(test, enter_mount_namespace))
    for name in dir(test):
        if name.startswith("test_"):
            setattr(test, name, in_child(getattr(test, name), enter_mount_namespace))
    return test


def enter_mount_namespace(propagation: str = "private") -> None:
    """Move this process into a mount namespace of its own, with `propagation` from its former one.

    Raises:
        PermissionError: the kernel does not let this user.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _check(_libc.unshare(CLONE_NEWNS))
    else:
        _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUSER))
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    make_propagation(Path("/"), propagation, recursive=True)


def fork(body: Callable[[], None]) -> int:
    """Run `body` in a child process, which then ends with 0, or 1 when it raised; return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        body()
        code = 0
    except BaseException:  # noqa: BLE001 - it must not return into the test run
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def make_propagation(point: Path, propagation: str, *, recursive: bool = False) -> None:
    """Make the mount at `point` private, slave or shared."""
    _mount(None, point, None, PROPAGATION[propagation] | (MS_REC if recursive else 0))


def mount_tmpfs(point: Path) -> None:
    """Mount an empty file system at `point`."""
    _mount("tmpfs", point, "tmpfs", 0)


def _mount(source: str | None, point: Path, kind: str | None, flags: int) -> None:
    names = [name.encode() if name is not None else None for name in (source, str(point), kind)]
    _check(_libc.mount(*names, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def in_child(test: Callable[..., Any], prepare: Callable[[], None]) -> Callable[..., Any]:
    """Let `test` run in a forked child, after `prepare`; an OSError of that skips it."""

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        kind, text = _in_child(lambda: test(*args, **kwargs), prepare)
        if kind == "skipped":
            pytest.skip(text)
        if kind == "failed":
            pytest.fail(text, pytrace=False)

    return wrapper


def _in_child(test: Callable[[], Any], prepare: Callable[[], None]) -> tuple[str, str]:
    """Run `test` in a forked child; return ``passed``, ``skipped`` or ``failed``, and why."""
    reading, writing = os.pipe()

    def body() -> None:
        os.close(reading)
        with os.fdopen(writing, "wb") as report:
            pickle.dump(_outcome(test, prepare), report)

    child = fork(body)
    os.close(writing)
    with os.fdopen(reading, "rb") as report:
        told = report.read()
    _, status = os.waitpid(child, 0)
    if not told:
        return "failed", f"the process of the test ended without a word, with wait status {status}"
    outcome: tuple[str, str] = pickle.loads(told)
    return outcome


def _outcome(test: Callable[[], Any], prepare: Callable[[], None]) -> tuple[str, str]:
    try:
        prepare()
    except OSError as exc:
        return "skipped", f"no namespace for this user: {exc.strerror}"
    try:
        test()
    except pytest.skip.Exception as skip:
        return "skipped", str(skip)
    except BaseException:  # noqa: BLE001 - all of it is told in the report
        return "failed", traceback.format_exc()
    return "passed", ""
