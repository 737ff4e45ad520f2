"""A view of the host in which a release is published already: a mount namespace of this process alone.

Nothing of it is seen by others, and nothing is made on the host. Where a mapping's place is missing, or is
of another kind than what is to stand there, the nearest directory above it is *mirrored*: a file system
in memory takes its place, in which each entry of the directory is the real one, mounted. (An overlay would
copy each file that is opened to be written, a log of gigabytes too, and can't lie on many others.)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from gitopper_plugins import mountapi

__all__ = ["Refused", "View", "enter"]

MIRROR_LIMIT_BYTES = 16 * 1024 * 1024


class Refused(Exception):  # noqa: N818 - it reads as what it is at the raise
    """This process may have no namespaces of its own; the text tells why."""


def enter() -> bool:
    """Move this process into a mount namespace of its own, and its children into a PID namespace.

    Who has no right to that gets it in a user namespace, as themselves: uid and gid stay what they
    are. Returns whether that had to be.

    Raises:
        Refused: the kernel, or a limit that this process runs under, forbids both.
    """
    try:
        own_users = _unshare()
        # Before anything is mounted: until then this namespace is a peer of the host's.
        mountapi.make_private()
    except OSError as exc:
        raise Refused(exc.strerror or str(exc)) from exc
    return own_users


def _unshare() -> bool:
    wanted = mountapi.CLONE_NEWNS | mountapi.CLONE_NEWPID
    try:
        mountapi.unshare(wanted)
    except PermissionError:
        uid, gid = os.geteuid(), os.getegid()
        mountapi.unshare(wanted | mountapi.CLONE_NEWUSER)
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        return True
    return False


class View:
    """The namespace that this process has entered, in the making.

    Raises `OSError` where something can't be done, with the path that it is about.
    """

    def __init__(self, protected: Sequence[Path]) -> None:
        """`protected` are paths of which nothing may be changed, whatever else is done in here."""
        self._protected = protected
        self._mirrors: dict[int, int] = {}
        """The mirrors, by the number of their file systems."""

    def show(self, places: Iterable[tuple[Path, Path]]) -> None:
        """Show each source at its place, read-only."""
        # First of all: what is mounted from now on may cover the sources.
        candidates = [(_candidate(source), local) for source, local in places]
        for path in self._protected:
            _attach(mountapi.clone(path, readonly=True, recursive=True), path)
        for (tree, is_directory), local in candidates:
            _attach(tree, self._place(local, is_directory=is_directory))
        self._finish()

    def _place(self, local: Path, *, is_directory: bool) -> Path:
        """Return a path that can be mounted on, and that `local` leads to."""
        real = Path(os.path.realpath(local))
        with suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISDIR(real.stat().st_mode) == is_directory:
                return real
        around = next(parent for parent in real.parents if parent.is_dir())
        in_the_way = around / real.relative_to(around).parts[0]
        if around.stat().st_dev not in self._mirrors or os.path.lexists(in_the_way):
            self._mirror(around, without=in_the_way.name)
        (real if is_directory else real.parent).mkdir(mode=0o755, parents=True, exist_ok=True)
        if not is_directory:
            real.touch(mode=0o644)
        return real

    def _mirror(self, around: Path, *, without: str) -> None:
        """Put a mirror of a directory in its place, but for the entry `without`."""
        below = os.open(around, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        about = os.fstat(below)
        mode = stat.S_IMODE(about.st_mode)
        tree = mountapi.new_tmpfs(size_bytes=MIRROR_LIMIT_BYTES, mode=mode, about=around)
        with suppress(OSError):  # in a user namespace only our own ids can be given
            os.chown(".", about.st_uid, about.st_gid, dir_fd=tree)
        mountapi.attach(tree, around)
        for name in [entry.name for entry in os.scandir(below) if entry.name != without]:
            with suppress(FileNotFoundError):  # it is gone meanwhile
                _mirror_entry(name, below, tree)
        os.close(below)
        if around == Path("/"):
            mountapi.make_root(tree)
        self._mirrors[around.stat().st_dev] = tree

    def _finish(self) -> None:
        for tree in self._mirrors.values():
            around = Path("/proc/self/fd", str(tree)).readlink()
            if any(around.is_relative_to(path) for path in self._protected):
                mountapi.set_readonly(tree, around)
            os.close(tree)


def _candidate(source: Path) -> tuple[int, bool]:
    """Return a read-only mount of what is at `source`, and whether that is a directory."""
    real = Path(os.path.realpath(source))
    return mountapi.clone(real, readonly=True), real.is_dir()


def _attach(tree: int, path: Path) -> None:
    mountapi.attach(tree, path)
    os.close(tree)


def _mirror_entry(name: str, below: int, tree: int) -> None:
    """Show the entry `name` of the directory `below`, with all that is mounted there, in `tree`."""
    mode = os.lstat(name, dir_fd=below).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(name, dir_fd=below), name, dir_fd=tree)
        return
    entry = mountapi.clone(name, recursive=True, directory=below)
    if stat.S_ISDIR(mode):
        os.mkdir(name, dir_fd=tree)
    else:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=tree))
    mountapi.attach(entry, name, directory=tree)
    os.close(entry)
