"""What stands at the place of a mapping, and what has to be done there to show a release."""

from __future__ import annotations

import enum
import os
import stat
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from gitopper_plugins._mountinfo import DELETED, Mount, MountTable
from gitopper_plugins._place import Place
from libgitopper import Mapping, Release, Service

__all__ = ["Ground", "How", "Spot", "shows", "wrong_source"]


class How(enum.Enum):
    """A way of getting a release shown at a place."""

    ATTACH = "on a place that has no mount"
    SWAP = "under the mount that is visible, which is then removed"
    UNCOVER = "it is there, under the mount that is visible, which is removed: a crash came between"
    CLEAR = "a swap, after the removal of what hides an older attempt; that one is seen for a moment"
    ON_TOP = "over the mount that is visible, which stays: nothing better can be done here"


def shows(service: Service, local: Path, source: Path) -> bool:
    """Tell whether `local` is a mount of `source`, read-only as configured. Three or four cheap calls."""
    try:
        there, wanted = local.lstat(), source.lstat()
        if (there.st_dev, there.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        # A release on a read-only file system can't be shown writable.
        return _readonly(local) == service.readonly or _readonly(source)
    # Not a directory: what is mapped now lies below what was a file in that release, or `local` below one.
    except (FileNotFoundError, NotADirectoryError):
        return False


def wrong_source(mapping: Mapping, release: Release) -> list[str]:
    """Return what is wrong with what `mapping` is to show of `release`."""
    try:
        mode = (release.path / mapping.link).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return [f"release {release.id} has no {mapping.link!r}"]
    wanted, test = ("file", stat.S_ISREG) if mapping.file else ("directory", stat.S_ISDIR)
    if test(mode):
        return []
    return [f'{mapping.link!r} is not a {wanted} in the repository; set "file" of its mapping right']


def _readonly(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


class Ground:
    """The mounts of this host at one moment, as one service looks at them."""

    def __init__(self, service: Service, table: MountTable) -> None:
        self._service = service
        self._table = table
        self._device, self._releases = table.inside(service.releases)

    def ours(self, mount: Mount) -> bool:
        """Tell whether `mount` shows (or showed: deleted counts) a part of a release of this service."""
        return mount.device == self._device and mount.root.startswith(f"{self._releases}/")

    def alive(self, mount: Mount) -> bool:
        """Tell whether `mount` shows a release of this service that is still on disk."""
        if not self.ours(mount) or mount.root.endswith(DELETED):
            return False
        release = Path(mount.root).relative_to(self._releases).parts[0]
        # Ids are letters and digits; a name with more in it is of something half made, or half deleted.
        return release.isalnum() and (self._service.releases / release).is_dir()

    def stack(self, local: Path) -> tuple[Mount, ...]:
        """Return the mounts that stand at `local`, the visible one last."""
        return self._table.stack(local)

    def spot(self, mapping: Mapping, release: Release, place: Place) -> Spot:
        """Return how things stand at `place`, that of `mapping`, with `release` to come."""
        stack = self.stack(place.path)
        return Spot(ground=self, mapping=mapping, release=release, place=place, stack=stack)

    def is_source(self, mount: Mount, source: Path) -> bool:
        """Tell whether `mount`, visible or not, shows `source`, read-only as configured."""
        same = (mount.device, mount.root) == self._table.inside(source)
        return same and (mount.readonly == self._service.readonly or self._table.of(source).readonly)

    def is_visible(self, local: Path, source: Path) -> bool:
        """Tell whether `local` shows `source`, as `shows`."""
        return shows(self._service, local, source)

    def below(self, local: Path) -> tuple[str, ...]:
        """Return the mount points below `local`."""
        return self._table.below(local)

    def on_shared(self, mount: Mount) -> bool:
        """Tell whether what is mounted where `mount` is propagates to peers."""
        parent = self._table.parent(mount)
        return parent is not None and parent.shared

    def in_release(self, path: Path) -> bool:
        """Tell whether `path` would be made inside a release, mounted or linked there, of any service."""
        real = os.path.realpath(next(p for p in path.parents if p.exists()))
        places = (self._table.of(Path(real)).root, real)
        return any("/.gitopper/releases/" in f"{place}/" for place in places)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """The place of one mapping, as it stands, and the release that it is to show."""

    ground: Ground
    mapping: Mapping
    release: Release
    place: Place
    stack: tuple[Mount, ...]
    """The mounts that stand there, the visible one last. More than one: a crash, or no better way."""

    @property
    def local(self) -> Path:
        """Where it is, for people; calls are made with the path of `place`."""
        return self.mapping.local

    @property
    def source(self) -> Path:
        """What it is to show."""
        return self.release.path / self.mapping.link

    @property
    def done(self) -> bool:
        """True when it shows that already. Showing it anew would leave services with a stale copy."""
        return bool(self.stack) and self.ground.is_visible(self.place.path, self.source)

    def how(self, *, beneath: bool) -> tuple[How, int]:
        """Return how to get the release seen here, and how many visible mounts to remove for it.

        `beneath`: the kernel knows the flag.
        """
        if not self.stack:
            return How.ATTACH, 0
        if self._release_is_next():
            return How.UNCOVER, 1
        stale = self._stale()
        if stale and self.swappable(len(self.stack) - stale, beneath=beneath):
            return How.CLEAR, stale
        if self.swappable(len(self.stack), beneath=beneath):
            return How.SWAP, 1
        return How.ON_TOP, 0

    def swappable(self, depth: int, *, beneath: bool) -> bool:
        """Tell whether a mount can be put under the visible one, `depth` of them being there.

        Without the flag it arrives by propagation, and under the lowest: right only for just one.
        """
        return beneath or (depth == 1 and self.ground.on_shared(self.stack[0]))

    def _release_is_next(self) -> bool:
        """Tell whether the wanted release is right under the visible mount."""
        return len(self.stack) > 1 and self.ground.is_source(self.stack[-2], self.source)

    def _stale(self) -> int:
        """Return how many mounts to remove to get to the lowest that may be seen, all between included."""
        below = reversed(self.stack[:-1])
        return sum(1 for _ in takewhile(self.ground.alive, below))

    def obstacles(self) -> list[str]:
        """Return what keeps the release from being shown here, each with what to do about it."""
        return [*wrong_source(self.mapping, self.release), *self._in_the_way()]

    def _in_the_way(self) -> list[str]:
        local, path = self.local, self.place.path
        if path.is_symlink():
            target = path.readlink()
            return [f'{local} is a symlink to {target}; remove it, or change "local" to what it points at']
        if self.stack and not self.ground.ours(self.stack[-1]):
            return [f'something else is mounted at {local}; unmount it, or change "local"']
        if below := self.ground.below(path):
            points = ", ".join(below)
            return [f"{local} has mounts below it that would be hidden: {points}; unmount them"]
        if self.ground.in_release(path):
            return [f'{local} lies inside a path that is published already; change "local"']
        return self._wrong_kind()

    def _wrong_kind(self) -> list[str]:
        path = self.place.path
        if not path.exists() or path.is_dir() != self.mapping.file:
            return []
        found, wanted = ("directory", "file") if self.mapping.file else ("file", "directory")
        return [f"{self.local} is a {found}, and the mapping shows a {wanted} there; move it away"]
