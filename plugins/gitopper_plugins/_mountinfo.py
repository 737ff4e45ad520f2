"""What is mounted where, as the kernel tells in ``/proc/self/mountinfo`` (proc_pid_mountinfo(5))."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "MountTable", "escaped", "parse", "points_below"]

DELETED = "//deleted"
"""What the kernel appends to the root of a mount whose directory was deleted since."""

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_TO_ESCAPE = re.compile(rb"[ \t\n\\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """One line of mountinfo."""

    id: int
    parent: int
    """Id of the mount that this one stands on; it is not in the table for the root."""
    device: str
    """``major:minor`` of the file system."""
    root: str
    """Which path *inside* the file system is shown; ends with ``//deleted`` when it is gone."""
    point: str
    """Where it is shown, as an absolute path."""
    readonly: bool
    """Of this mount; the file system may be read-only on top of that."""
    shared: bool
    """True when mounts made on it propagate to its peers."""
    kind: str
    """Type of the file system, as ``ext4``."""


def parse(text: bytes) -> dict[int, Mount]:
    r"""Return the mounts of a mountinfo file by id, in its order; ``\040`` and the like decoded."""
    # Not splitlines(): a name may hold a carriage return, which the kernel does not escape.
    mounts = (_parse_line(line) for line in text.split(b"\n") if line)
    return {mount.id: mount for mount in mounts}


def _parse_line(line: bytes) -> Mount:
    number, parent, device, root, point, options, *rest = line.split(b" ")
    # Optional fields, any number of them, end with a lone hyphen.
    hyphen = rest.index(b"-")
    optional = rest[:hyphen]
    return Mount(
        id=int(number),
        parent=int(parent),
        device=device.decode(),
        root=_unescape(root),
        point=_unescape(point),
        readonly=b"ro" in options.split(b","),
        shared=any(field.startswith(b"shared:") for field in optional),
        kind=rest[hyphen + 1].decode(),
    )


def points_below(directory: str) -> set[str]:
    """Return what is a mount point below `directory`, relative to it.

    It is asked for each service, and hosts may have a thousand mounts: the table is searched first.
    """
    table = Path("/proc/self/mountinfo").read_bytes()
    start = f"{directory}/"
    if b" " + escaped(start) not in table:
        return set()
    points = (line.split(b" ", 5)[4] for line in table.split(b"\n") if line)
    return {path.removeprefix(start) for path in map(_unescape, points) if path.startswith(start)}


def escaped(path: str) -> bytes:
    """Return a path, or a part of one, as it stands in mountinfo."""
    return _TO_ESCAPE.sub(lambda match: b"\\%03o" % ord(match[0]), os.fsencode(path))


def _unescape(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field))


class MountTable:
    """All mounts of this mount namespace at one moment."""

    def __init__(self, mounts: Mapping[int, Mount]) -> None:
        self._mounts = mounts

    @classmethod
    def read(cls) -> MountTable:
        """Ask the kernel now."""
        return cls(parse(Path("/proc/self/mountinfo").read_bytes()))

    def of(self, path: Path) -> Mount:
        """Return the mount that a lookup of `path` ends on; a symlink at its end is not followed.

        Raises:
            OSError: there is no such path, or it was mounted after the table was read.
        """
        number = _mount_id(path)
        if number not in self._mounts:
            raise OSError(errno.EAGAIN, "mounts changed while they were looked at", str(path))
        return self._mounts[number]

    def stack(self, path: Path) -> tuple[Mount, ...]:
        """Return the mounts that stand exactly at `path`, the visible one last; often none."""
        here = str(_canonical(path))
        return tuple(reversed([mount for mount in self._upwards(path) if mount.point == here]))

    def parent(self, mount: Mount) -> Mount | None:
        """Return the mount that `mount` stands on."""
        return self._mounts.get(mount.parent)

    def below(self, path: Path) -> tuple[str, ...]:
        """Return the mount points strictly below `path`, sorted, each once."""
        prefix = f"{_canonical(path)}/"
        return tuple(sorted({m.point for m in self._mounts.values() if m.point.startswith(prefix)}))

    def procs(self) -> tuple[str, ...]:
        """Return where processes can be seen: each visible mount of a whole procfs."""
        points = (m.point for m in self._mounts.values() if (m.kind, m.root) == ("proc", "/"))
        return tuple(point for point in dict.fromkeys(points) if self._kind(point) == "proc")

    def showing(self, path: Path) -> tuple[str, ...]:
        """Return at which paths the directory `path`, or something below it, can be seen; itself first."""
        device, root = self.inside(path)
        found = {os.path.realpath(path): path}
        for mount in self._mounts.values():
            if mount.device == device and _within(mount.root, root):
                found.setdefault(mount.point, path / Path(mount.root).relative_to(root))
            elif mount.device == device and _within(root, mount.root):
                found.setdefault(str(mount.point / Path(root).relative_to(mount.root)), path)
        # The others are hidden below a mount, or deleted.
        return tuple(point for point, what in found.items() if _same(point, what))

    def _kind(self, point: str) -> str:
        try:
            return self.of(Path(point)).kind
        except OSError:
            return ""

    def inside(self, path: Path) -> tuple[str, str]:
        """Return the device that holds `path`, and the path inside its file system.

        That is what `Mount.device` and `Mount.root` of a bind mount of `path` say. The end of the
        path need not exist.
        """
        known = next(p for p in (path, *path.parents) if p.exists())
        real = Path(os.path.realpath(known))
        mount = self.of(real)
        root = Path(mount.root) / real.relative_to(mount.point) / path.relative_to(known)
        return mount.device, str(root)

    def _upwards(self, path: Path) -> Iterator[Mount]:
        if not os.path.lexists(path):
            return
        mount: Mount | None = self.of(path)
        while mount is not None:
            yield mount
            mount = self.parent(mount)


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _same(one: str, other: Path) -> bool:
    try:
        return other.samefile(one)
    except OSError:
        return False


def _canonical(path: Path) -> Path:
    """Resolve the directories that lead to `path`, not `path` itself: as mountinfo names it."""
    return Path(os.path.realpath(path.parent)) / path.name


def _mount_id(path: Path) -> int:
    # O_PATH opens nothing of the file itself: no permission on it is needed, no automount is triggered.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    finally:
        os.close(descriptor)
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("mnt_id:"))
