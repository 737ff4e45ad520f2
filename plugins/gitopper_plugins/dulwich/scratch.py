"""Directories that are being built, removed, or were left by a crash.

Whatever this plugin makes is built aside in a *scratch* directory and renamed into place. The
builder holds a lock on its scratch directory; the kernel drops the lock with the process. So a
scratch directory without a lock is what a crash left, and `sweep` may take it away. What can't be
removed, as it is immutable, or something is mounted in it, is left in the same way: whoever sweeps
next tries again, and nobody fails because of it.
"""

# ruff: noqa: PTH105, PTH108, PTH123, PTH208 - descriptors, which pathlib does not know

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gitopper_plugins.dulwich.channel import Deadline
from libgitopper import make_directory, sync_filesystem

__all__ = [
    "hold",
    "make_directory",
    "or_left",
    "remove_tree",
    "replace_file",
    "scratch",
    "sweep",
    "sync_directory",
    "sync_filesystem",
    "write_file",
]

log = logging.getLogger(__name__)

_LOCK_POLL_SECONDS = 0.02
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A fresh, locked directory (mode 0700) named `prefix` and something random; gone when the block ends.

    What is to stay is renamed out of it, or the directory itself is renamed to its final name.
    """
    path, lock = _create(parent, prefix)
    try:
        yield path
    finally:
        # The lock goes in any case: held on, it would pass for work that never ends.
        try:
            with or_left(path):
                remove_tree(path)
        finally:
            os.close(lock)


def _create(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # A sweeper may come before we hold the lock: then the directory is gone, or doomed.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(path, _DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_at(path, lock):
                return path, lock
            os.close(lock)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def hold(directory: Path, deadline: Deadline) -> Iterator[bool]:
    """Keep every other thread and process that does the same out of `directory`, until the block ends.

    Yields False when somebody else holds it until the deadline.
    """
    lock = os.open(directory, _DIRECTORY)
    try:
        yield _locked(lock, deadline)
    finally:
        os.close(lock)


def _locked(lock: int, deadline: Deadline) -> bool:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                time.sleep(min(_LOCK_POLL_SECONDS, deadline.remaining()))
            except TimeoutError:
                return False
        else:
            return True


def sweep(parent: Path, prefix: str) -> None:
    """Remove the scratch directories below `parent` that no living process is working on."""
    names = os.listdir(parent) if parent.is_dir() else ()
    for path in [parent / name for name in names if name.startswith(prefix)]:
        with or_left(path), contextlib.suppress(FileNotFoundError, NotADirectoryError, BlockingIOError):
            lock = os.open(path, _DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log.info("clearing %s, a leftover", path)
                remove_tree(path)
            finally:
                os.close(lock)


@contextlib.contextmanager
def or_left(path: Path) -> Iterator[None]:
    """Where `path` can't be removed in this block, tell so, and leave it to who comes next."""
    try:
        yield
    except OSError as exc:
        log.warning(
            "%s can't be removed now, and is left: %s; `lsattr -R` and `findmnt` tell what is in the way;"
            " once that is gone, a later deploy or start removes it", path, exc
        )  # fmt: skip


def remove_tree(path: Path) -> None:
    """Remove a directory with all below it, however deep, following no symlink; no error when it is gone.

    Subdirectories are moved up beside each other before they are emptied, so neither the depth
    nor the length of a path matters, and each step works on an open directory: nobody can
    slip in a symlink.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        _empty(top, top)
        while waiting := os.listdir(top):
            for name in waiting:
                _remove_child(top, name)
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()


def _remove_child(top: int, name: str) -> None:
    child = os.open(name, _DIRECTORY, dir_fd=top)
    try:
        _empty(child, top)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=top)


def _empty(directory: int, top: int) -> None:
    """Unlink the files of `directory`; move its subdirectories up to `top` unless it is `top`."""
    if not os.fstat(directory).st_mode & stat.S_IWUSR:
        os.fchmod(directory, 0o700)
    for name in os.listdir(directory):
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            if directory != top:
                os.rename(name, secrets.token_hex(8), src_dir_fd=directory, dst_dir_fd=top)
        except FileNotFoundError:
            continue


def write_file(path: Path | bytes, data: bytes, mode: int) -> None:
    """Make the file `path`, which is not there yet, with `data` and just this mode, whatever the umask."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Give `path` the content `data`, atomically: after a crash it has this, or what it had before.

    Which one, is not known before its directory, or its file system, is synced. Without `sync` that has to
    come first: until then a power loss may leave a file that is cut short. The caller sees to it that
    nobody else does the same at the same time.
    """
    _clear_leftovers(path)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, 0o644)
            file.write(data)
            if sync:
                file.flush()
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _clear_leftovers(path: Path) -> None:
    """Remove what a crash, or a disk that failed, left of an earlier `replace_file`."""
    ours = re.compile(rf"\.{re.escape(path.name)}-[a-z0-9_]{{8}}")  # as `tempfile` names them
    for name in os.listdir(path.parent):
        if ours.fullmatch(name):
            with or_left(path.with_name(name)):
                path.with_name(name).unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Bring the names in `path` to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
