"""Looking at files that belong to somebody else, and that change meanwhile.

Each directory is opened from the one above, and no symlink is followed: whoever owns a directory could
else have a root process read any file of the host. What is no plain file is never opened, so
nothing blocks. Nothing is written.
"""

# ruff: noqa: PTH115 - descriptors, which pathlib does not know

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import define, field, frozen
from dulwich.objects import ObjectID

from gitopper_plugins._mountinfo import points_below
from gitopper_plugins.dulwich.tree import DIRECTORY, MAX_DEPTH, MAX_ITEMS, kind_of

__all__ = [
    "Contents",
    "Moved",
    "Survey",
    "TooMany",
    "identify",
    "mount_points",
    "open_top",
    "read",
    "survey",
]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1024 * 1024
_NO_ID = ObjectID(b"0" * 40)
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


class Moved(Exception):  # noqa: N818 - it reads as what happened
    """Something is no longer what it was a moment ago; look again."""


class TooMany(Exception):  # noqa: N818 - it reads as what was found
    """There are more files than anybody wants to compare."""


@define
class Survey:
    """What is below some paths."""

    device: int
    """Only this file system is looked at."""
    found: list[tuple[str, os.stat_result]] = field(factory=list)
    """Path and stat of all that is there, directories before what is in them."""
    unreadable: dict[str, str] = field(factory=dict)
    """Directories that could not be looked into, and why."""
    foreign: set[str] = field(factory=set)
    """Directories on which another file system is mounted; not looked into."""


@frozen
class Contents:
    """The content of a file, or the target of a symlink."""

    id: ObjectID
    """The id that git gives it."""
    size: int
    """In bytes."""
    data: bytes | None = field(repr=False)
    """None where it is larger than asked for."""


@contextlib.contextmanager
def open_top(path: Path) -> Iterator[int]:
    """A descriptor of the directory `path`, whose own path is trusted."""
    descriptor = os.open(path, _OPEN | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def survey(top: int, paths: Iterable[str]) -> Survey:
    """Look at `paths` and all below them, relative to the directory `top`.

    Raises:
        Moved: a directory was replaced meanwhile.
        TooMany: see `tree.MAX_ITEMS`.
    """
    seen = Survey(os.fstat(top).st_dev)
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            _look_at(seen, top, path)
    return seen


def _look_at(seen: Survey, top: int, path: str) -> None:
    with _parent(top, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        seen.found.append((path, status))
        if kind_of(status.st_mode) == DIRECTORY:
            _enter(seen, parent, name, path, status)


def _enter(seen: Survey, parent: int, name: str, path: str, status: os.stat_result) -> None:
    if status.st_dev != seen.device:
        seen.foreign.add(path)
        return
    if path.count("/") > MAX_DEPTH:
        seen.unreadable[path] = f"it is more than {MAX_DEPTH} directories deep"
        return
    try:
        descriptor = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=parent)
    except OSError as exc:
        if exc.errno in _GONE:
            raise Moved from exc
        seen.unreadable[path] = _why(exc)
        return
    try:
        _list(seen, descriptor, path)
    except PermissionError as exc:  # listed, but not to be passed through
        seen.unreadable[path] = _why(exc)
    finally:
        os.close(descriptor)


def _list(seen: Survey, directory: int, path: str) -> None:
    found = seen.found
    with os.scandir(directory) as entries:
        for entry in itertools.islice(entries, MAX_ITEMS + 1):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            below = f"{path}/{entry.name}"
            found.append((below, status))
            if status.st_mode & 0o170000 == DIRECTORY:
                _enter(seen, directory, entry.name, below, status)
    if len(found) > MAX_ITEMS:
        raise TooMany


def read(top: int, path: str, *, limit: int) -> Contents:
    """The plain file, or the target of the symlink, at `path` below the directory `top`.

    Content of more than `limit` bytes is only hashed. What changes while it is hashed has no id that
    any file has.

    Raises:
        Moved: neither is there.
        OSError: it can't be read.
    """
    try:
        with _parent(top, path) as (parent, name):
            if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return _held(os.fsencode(os.readlink(name, dir_fd=parent)))
            # Not blocking: it may have become a fifo in this moment.
            descriptor = os.open(name, _OPEN | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=parent)
            try:
                return _read_file(descriptor, limit)
            finally:
                os.close(descriptor)
    except OSError as exc:
        if exc.errno in (*_GONE, errno.EINVAL):  # EINVAL: no symlink any more
            raise Moved from exc
        raise


def identify(top: int, path: str) -> tuple[os.stat_result, ObjectID]:
    """The stat of the plain file or symlink at `path`, and the id that git gives its content.

    Raises:
        Moved: neither is there.
        OSError: it can't be read.
    """
    with _parent(top, path) as (parent, name):
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return status, read(top, path, limit=0).id


def _read_file(descriptor: int, limit: int) -> Contents:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Moved
    if status.st_size > limit:
        return _hashed(descriptor, status.st_size)
    chunks, size = [], 0
    while size <= limit and (chunk := os.read(descriptor, _CHUNK_BYTES)):
        chunks.append(chunk)
        size += len(chunk)
    return _held(b"".join(chunks)) if size <= limit else Contents(_NO_ID, size, None)


def _held(data: bytes) -> Contents:
    digest = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
    return Contents(ObjectID(digest.hexdigest().encode()), len(data), data)


def _hashed(descriptor: int, size: int) -> Contents:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    left = size
    while chunk := os.read(descriptor, _CHUNK_BYTES):
        digest.update(chunk)
        left -= len(chunk)
    return Contents(_NO_ID if left else ObjectID(digest.hexdigest().encode()), size, None)


@contextlib.contextmanager
def _parent(top: int, path: str) -> Iterator[tuple[int, str]]:
    """The directory that `path` is in, and its name there."""
    *above, name = path.split("/")
    with contextlib.ExitStack() as opened:
        directory = top
        for part in above:
            directory = os.open(part, _OPEN | os.O_DIRECTORY | os.O_PATH, dir_fd=directory)
            opened.callback(os.close, directory)
        yield directory, name


def _why(exc: OSError) -> str:
    return exc.strerror or str(exc)


def mount_points(top: int) -> set[str]:
    """What is mounted on files or directories below `top`; also from the same file system.

    Where `local` is a symlink, whoever mounts something below it mounts it in the release; and a plain
    bind mount shares with the release what is mounted below it, as under systemd.
    """
    return points_below(os.readlink(f"/proc/self/fd/{top}"))
