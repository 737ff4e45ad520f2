"""A path whose directory is held open, so that nobody makes it lead elsewhere while it is used.

The daemon is often root, and on the way to a mapping may be directories of others. Who may write a
directory can put a symlink in the place of what is in it, at any moment, and what root makes or mounts
there ends up wherever that leads. So the way is gone once, name by name, and the directory at its end
is kept open. Whatever is renamed from then on, `Place.path` leads into that very directory, and what
its owner may do to the files in it, they may do anyway.

A symlink on the way is followed only where nobody but root and the daemon's own user can have put it
there, as ``/var/run``.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

__all__ = ["Place", "fsync", "held", "open_to"]

_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Changer = tuple[Callable[[int], str], int]
"""Somebody by number, and what tells who that is. Asked for an error only: names can be slow to find."""

LINKS_LIMIT = 40
"""As many symlinks as the kernel follows on one way; see path_resolution(7)."""


@contextlib.contextmanager
def held(paths: Iterable[Path]) -> Iterator[list[Place]]:
    """Hold the places of absolute `paths`, in their order, for as long as the block runs.

    A way that ends early, because there is no such directory, is no error: `Place.make_way` goes on from
    there. An `OSError` of the block tells of the paths that people know.

    Raises:
        OSError: a way leads through a symlink that somebody else can have put there, or can't be looked at.
    """
    places: list[Place] = []
    with contextlib.ExitStack() as ways:
        try:
            for path in paths:
                places.append(Place(path))
                ways.callback(places[-1].close)
                places[-1].approach()
            yield places
        except OSError as exc:
            known = (place.tell(exc.filename) for place in places)
            exc.filename = next(filter(None, known), exc.filename)
            raise


def open_to(directory: Path) -> str:
    """Tell who else may put another thing at `directory`, or into it; as ``everybody may change /srv``.

    Empty where only root and the daemon's own user may.
    """
    try:
        with held([directory / "a name in it"]) as [place]:
            return place.open_to
    except OSError as exc:
        return f"{exc.filename}: {exc.strerror}"


def fsync(directory: Path) -> None:
    """Have the names in `directory` on disk before going on."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class Place:
    """A name in a directory that is held open, or in one that can be made below such a directory."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._directory = os.open("/", _LOOK)
        # Who owns the top has everything anyway: root, by whatever number a user namespace shows it.
        self._ours = {0, os.geteuid(), os.fstat(self._directory).st_uid}
        self._ahead = deque(path.parent.parts[1:])
        """The names that lead from the directory that is held to the one that holds `_name`."""
        self._behind: list[str] = []
        self._links = 0
        self._open_at: tuple[Path, Changer] | None = None
        """Where somebody else can have changed the way so far, and who; None: only root and ourselves."""

    @property
    def path(self) -> Path:
        """What leads to this place, and nowhere else, until it is closed."""
        return self._held.joinpath(*self._ahead, self._name)

    @property
    def open_to(self) -> str:
        """Who else may change the way so far, or what is held, and where; empty for nobody."""
        found = self._open_at
        if not found and (changer := _changer(os.fstat(self._directory), self._ours)):
            found = self._so_far, changer
        if not found:
            return ""
        where, (tell, number) = found
        return f"{tell(number)} may change {where}"

    @property
    def _so_far(self) -> Path:
        """What is held, by the name that people know."""
        return Path("/", *self._behind)

    @property
    def _held(self) -> Path:
        return Path(f"/proc/self/fd/{self._directory}")

    def close(self) -> None:
        """Let go; `path` is of no use any more."""
        os.close(self._directory)

    def tell(self, path: object) -> str | None:
        """Return the name that people know for `path`, if it begins in the directory that is held."""
        if not isinstance(path, str | os.PathLike) or not Path(path).is_relative_to(self._held):
            return None
        return str(self._so_far / Path(path).relative_to(self._held))

    def approach(self) -> None:
        """Go on as far as there are directories."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            while self._ahead:
                self._step()

    def make_way(self) -> None:
        """Go on to the end, and make the directories that lack: 0755, and the daemon's own."""
        while self._ahead:
            try:
                self._step()
            except FileNotFoundError:
                self._make_directory(self._ahead[0])

    def make(self, *, file: bool) -> None:
        """Make something empty to mount on, and the way to it, where there is nothing."""
        self.make_way()
        if os.path.lexists(self.path):
            return
        if file:
            self._make_file()
        else:
            self._make_directory(self._name)

    def _step(self) -> None:
        name = self._ahead[0]
        with self._naming(name):
            try:
                entered = os.open(name, _LOOK, dir_fd=self._directory)
            except NotADirectoryError:
                self._follow(name)
                return
            self._judge(os.fstat(entered))
        os.close(self._directory)
        self._directory = entered
        self._ahead.popleft()
        if name == "..":
            del self._behind[-1:]
        else:
            self._behind.append(name)

    def _follow(self, name: str) -> None:
        """Go on by what the symlink `name` says; it is the error that it was met with if it is none."""
        link = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        if not stat.S_ISLNK(link.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        self._judge(link)
        # After the judgement: what may be followed, nobody can have replaced since.
        target = os.readlink(name, dir_fd=self._directory)
        if self._open_at:
            reason = (
                f"this is a symlink to {target}, and is not followed: {self.open_to};"
                " name the path that it leads to instead, or let nobody else write there"
            )
            raise OSError(errno.ELOOP, reason, name)
        self._links += 1
        if self._links > LINKS_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        self._ahead.popleft()
        self._ahead.extendleft(reversed(Path(target).parts))
        if target.startswith("/"):
            self._ahead.popleft()
            top = os.open("/", _LOOK)
            os.close(self._directory)
            self._directory, self._behind = top, []

    def _judge(self, entry: os.stat_result) -> None:
        """Note who else could put another thing in the place of `entry`, which the directory holds."""
        if self._open_at:
            return
        directory = os.fstat(self._directory)
        kept = directory.st_mode & stat.S_ISVTX and {directory.st_uid, entry.st_uid} <= self._ours
        if not kept and (changer := _changer(directory, self._ours)):
            self._open_at = self._so_far, changer

    def _make_directory(self, name: str) -> None:
        with self._naming(name):
            try:
                os.mkdir(name, 0o755, dir_fd=self._directory)
            except FileExistsError:
                # Another service has parents in common and was faster. It is looked at as any other.
                return
            made = os.open(name, _READ, dir_fd=self._directory)
            try:
                self._judge(os.fstat(made))
                # Who may have put another in its place had nothing in it opened to everybody.
                if not self._open_at or not os.listdir(made):  # noqa: PTH208 - by descriptor
                    os.fchmod(made, 0o755)
            finally:
                os.close(made)
        fsync(self._held)

    def _make_file(self) -> None:
        with self._naming(self._name):
            made = os.open(self._name, _MAKE, 0o644, dir_fd=self._directory)
        try:
            os.fchmod(made, 0o644)
        finally:
            os.close(made)
        fsync(self._held)

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            exc.filename = str(self._so_far / name)
            raise


def _changer(directory: os.stat_result, ours: Collection[int]) -> Changer | None:
    """Return who, other than the users `ours`, may put things into `directory`."""
    if directory.st_uid not in ours:
        return _user, directory.st_uid
    if directory.st_mode & stat.S_IWOTH:
        return _everybody, 0
    # An ordinary user has a group of their own, which a umask of 002 trusts.
    own_group = os.geteuid() != 0 and directory.st_gid == os.getegid()
    if directory.st_mode & stat.S_IWGRP and not own_group:
        return _group, directory.st_gid
    return None


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return f"group {grp.getgrgid(gid).gr_name}"
    except KeyError:
        return f"group {gid}"


def _everybody(_: int) -> str:
    return "everybody"
