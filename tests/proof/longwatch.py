"""What a running daemon takes of the host: measured from outside, by what the kernel and the disk tell."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ASIDE", "cpu_seconds", "descendants", "leftovers", "on_disk", "taken", "zombies"]

TICKS = os.sysconf("SC_CLK_TCK")
ASIDE = ("scratch-*", ".new-*", "*.lock", "tmp*", ".*.new", ".packed-refs-*", ".HEAD-*")
"""What is made aside, and gone when it is done."""
_RELEASE = re.compile(r"[0-9a-f]{16}")


def taken(daemon: int, mount: Path) -> dict[str, float]:
    """Return what `daemon` takes now, with all that it started; its stores are below `mount`."""
    family = [daemon, *descendants(daemon)]
    open_files = list(_open_files(daemon))
    of_packs = sum("/objects/pack/" in path for path in open_files)
    packs = sum(1 for _ in (mount / ".gitopper/stores").glob("*.git/objects/pack/*.pack"))
    return {
        "memory": sum(_pss_bytes(pid, "Anon") for pid in family),
        "mapped files": sum(_pss_bytes(pid, "File") for pid in family),
        "descriptors": len(open_files) - of_packs,
        "descriptors of each pack": of_packs / max(1, packs),
        "threads": sum(1 for _ in Path(f"/proc/{daemon}/task").iterdir()),
        "children": len(family) - 1,
        "mounts": Path(f"/proc/{daemon}/mountinfo").read_bytes().count(b"\n"),
    }


def cpu_seconds(daemon: int) -> float:
    """Return the CPU time of the process `daemon`, and of all that it ever started."""
    ticks = 0
    for pid in (daemon, *descendants(daemon)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # its own, and that of children it waited for
    return ticks / TICKS


def descendants(daemon: int) -> list[int]:
    """Return the living processes that `daemon` started, and those that they did."""
    children, found, waiting = _children(), list[int](), [daemon]
    while waiting:
        below = children.get(waiting.pop(), {})
        living = [pid for pid, state in below.items() if state != "Z"]
        found += living
        waiting += living
    return found


def zombies(daemon: int) -> list[int]:
    """Return the children of `daemon` that ended, and that it has not waited for."""
    return [pid for pid, state in _children().get(daemon, {}).items() if state == "Z"]


def _children() -> dict[int, dict[int, str]]:
    """Return the children of each process, with the state that they are in."""
    found: dict[int, dict[int, str]] = {}
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdecimal():
                state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
                found.setdefault(int(parent), {})[int(process.name)] = state
    return found


def on_disk(mount: Path, state: Path) -> dict[str, float]:
    """Return what stands below the directories of mount and state now."""
    stores = list((mount / ".gitopper/stores").glob("*.git"))
    releases = [len(_releases(service)) for service in (mount / ".gitopper/releases").glob("*")]
    return {
        "releases of one service": max(releases, default=0),
        "packs of one store": max((len(list(s.glob("objects/pack/*.pack"))) for s in stores), default=0),
        "files of one store": max(map(_own_files, stores), default=0),
        "files of releases": sum(1 for _ in _files(mount / ".gitopper/releases")) / max(1, sum(releases)),
        "bytes of the stores": sum(map(_size_bytes, stores)),
        "bytes of the journal": _size_bytes(state / "state.db-wal"),
    }


def leftovers(mount: Path) -> list[str]:
    """Return what is aside below `mount`, or half made."""
    found = [path for pattern in ASIDE for path in mount.rglob(pattern)]
    return sorted(str(path.relative_to(mount)) for path in found)


def _releases(service: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [path.name for path in service.iterdir() if _RELEASE.fullmatch(path.name)]
    return []


def _own_files(store: Path) -> int:
    """How many files a store has, beside those by which git knows its releases."""
    return sum(1 for path in _files(store) if path.relative_to(store).parts[0] != "worktrees")


def _size_bytes(path: Path) -> int:
    if not path.is_dir():
        with contextlib.suppress(FileNotFoundError):
            return path.stat().st_size
        return 0
    return sum(map(_size_bytes, _files(path)))


def _files(directory: Path) -> Iterator[Path]:
    for where, _, names in os.walk(directory):
        yield from (Path(where, name) for name in names)


def _open_files(pid: int) -> Iterator[str]:
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield str(path.readlink())


def _pss_bytes(pid: int, kind: str) -> int:
    """Return a process's share of the memory of that kind."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"Pss_{kind}:"):
                return int(line.split()[1]) * 1024
    return 0
